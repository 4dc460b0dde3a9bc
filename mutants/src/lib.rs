//! Rules that can be left out of the product, one at a time, to see that the simulator's checkers, or the crash points
//! of the storage engine, notice.
//!
//! ```text
//!   core, log, state, broker ── lacks(Mutant::X)? ──► false, known to the compiler   without the feature `mutants`
//!                                     │
//!                                     └─────────────► the one chosen on this thread  with it:
//!   the simulator ── without(Some(Mutant::X), run) ───────────┘                      the tests only
//! ```
//!
//! Each rule is left out at its own place, by one condition. The choice belongs to a thread and ends with the call
//! that made it: what runs beside it is whole. `docs/mutants.md` shows which checker catches which of them.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// One line per rule: its id, the mutant's name, and what the product does instead.
macro_rules! mutants {
    ($($variant:ident, $rule:literal, $name:literal, $instead:literal;)*) => {
        /// A rule left out. Each says what the product does instead.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mutant {
            $(#[doc = concat!($rule, ": ", $instead, ".")] $variant,)*
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Those of the storage engine alone, which the crash points in `log/tests` notice; the simulator, which
            /// runs a whole broker, seldom stops it between two calls.
            pub const OF_CRASH_POINTS: &[Self] =
                &[
                    Self::LogBeginsLater,
                    Self::CutNotKept,
                    Self::CutNotSynced,
                    Self::FilesBeforeStart,
                    Self::StartBeforeName,
                    Self::SnapshotBeforeSync,
                    Self::CleanMarkStays,
                ];

            /// Those of the cleaner, which its own tests in `log` notice: they crash it at every call, and fold what is
            /// left for every reader.
            pub const OF_CLEANER: &[Self] = &[
                Self::CleanedNotSynced,
                Self::SwapNotSynced,
                Self::RemovalsNotSynced,
                Self::OldestStays,
                Self::TombstonesGoAtOnce,
                Self::CleaningForgetsProducers,
            ];

            /// Its name on a command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The one of this name.
            ///
            /// # Errors
            /// All the names there are, where this is none.
            pub fn named(name: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().copied().find(|mutant| mutant.name() == name);
                found.ok_or_else(|| {
                    let names: Vec<&str> = Self::ALL.iter().map(|mutant| mutant.name()).collect();
                    format!("there is no mutant {name:?}; there are\n{}", names.join("\n"))
                })
            }

            /// The rule that is left out.
            #[must_use]
            pub fn rule(self) -> &'static str {
                match self { $(Self::$variant => $rule),* }
            }

            /// What the product does instead.
            #[must_use]
            pub fn instead(self) -> &'static str {
                match self { $(Self::$variant => $instead),* }
            }
        }
    };
}

mutants! {
    AcknowledgeBeforeFlush, "LOG-1", "acknowledge-before-flush",
        "the high watermark covers what is written, synced or not";
    LeaderAckBeforeFlush, "LOG-1", "leader-ack-before-flush",
        "acks=leader with `durability=fsync` is answered once written";
    FlushCoversLater, "LOG-1", "flush-covers-later",
        "a flush vouches for what was appended while it ran";
    CrcSkippedAtRecovery, "LOG-2", "crc-skipped-at-recovery",
        "recovery takes a batch whose CRC is wrong";
    CrcSkippedOnRead, "LOG-3", "crc-skipped-on-read",
        "readers are given a batch whose CRC is wrong";
    CutBelowRecoveryPoint, "LOG-3", "cut-below-recovery-point",
        "a bad batch that was synced ends the log, and what lies behind it is cut off";
    LogBeginsLater, "LOG-2", "log-begins-later",
        "a log whose first segment is lost begins with the second";
    PointAheadOfSync, "LOG-3", "point-ahead-of-sync",
        "recovery points name what is written, synced or not";
    SegmentNameNotSynced, "LOG-6", "segment-name-not-synced",
        "the directory is not synced after a segment was made";
    PartitionNameNotSynced, "LOG-6", "partition-name-not-synced",
        "the directory is not synced after a partition was made";
    RenameNotSynced, "LOG-6", "rename-not-synced",
        "the directory is not synced after a file was renamed";
    CheckpointNotSynced, "LOG-6", "checkpoint-not-synced",
        "a checkpoint file is renamed before it is synced";
    FailedSyncIgnored, "LOG-7", "failed-sync-ignored",
        "a failed sync counts as done";
    FailedSyncRetried, "LOG-7", "failed-sync-retried",
        "a failed sync does not end the use of its directory";
    NotWrittenAgain, "LOG-7", "not-written-again",
        "after a restart what may not be synced is synced, and not written again";
    HalfBatchStays, "LOG-7", "half-batch-stays",
        "what a failed write left behind is not cut off";
    CutNotKept, "LOG-2", "cut-not-kept",
        "what recovery cuts off a log is not kept in lost+found";
    CutNotSynced, "LOG-2", "cut-not-synced",
        "what recovery cut off can come back behind what is appended in its place";
    FilesBeforeStart, "LOG-2", "files-before-start",
        "retention removes files before the log's new start is durable";
    StartBeforeName, "LOG-6", "start-before-name",
        "a log's new start is durable before the name of the segment that it lies in";
    CleanedNotSynced, "LOG-5", "cleaned-not-synced",
        "a cleaned segment takes its place before it is synced";
    SwapNotSynced, "LOG-5", "swap-not-synced",
        "segments go before the one in their place has its name for certain";
    RemovalsNotSynced, "LOG-5", "removals-not-synced",
        "a cleaned segment gets its last name before what it replaces is gone for certain";
    OldestStays, "CMP-1", "oldest-stays",
        "cleaning keeps the oldest record of a key";
    TombstonesGoAtOnce, "CMP-3", "tombstones-go-at-once",
        "cleaning removes tombstones without waiting";
    CleaningForgetsProducers, "CMP-5", "cleaning-forgets-producers",
        "cleaning keeps no header of what producers wrote last";
    SnapshotBeforeSync, "LOG-8", "snapshot-before-sync",
        "a snapshot is kept before the batches below it are durable, and believed";
    CleanMarkStays, "LOG-9", "clean-mark-stays",
        "the mark of an orderly stop is still there while the directory is in use";
    RetryAppended, "IDP-2", "retry-appended",
        "a retry of a remembered batch is appended";
    OneBatchRemembered, "IDP-2", "one-batch-remembered",
        "only the last batch of a producer is known again";
    SequenceGapAccepted, "IDP-3", "sequence-gap-accepted",
        "a batch behind a hole in its producer's sequence is appended";
    OlderEpochAccepted, "IDP-3", "older-epoch-accepted",
        "a batch of an older producer epoch is appended";
    DedupeForgotten, "IDP-4", "dedupe-forgotten",
        "what was seen of producers does not survive a restart";
    StagedKept, "IDP-4", "staged-kept",
        "a batch that could not be written counts as seen";
    InputAboveHighWatermark, "STEP-5", "input-above-high-watermark",
        "a task reads its input up to the log's end";
    CommitOutOfTurn, "STEP-2", "commit-out-of-turn",
        "a commit need not be the last step + 1";
    ChangesApartFromPosition, "STEP-1", "changes-apart-from-position",
        "a store's position moves before its changes, which are lost";
    SendBeforeDurable, "STEP-4", "send-before-durable",
        "outputs leave before their commit is durable";
    TrustInheritedTail, "STEP-4", "trust-inherited-tail",
        "a takeover believes that its whole changelog is durable";
    NumbersRestart, "STEP-8", "numbers-restart",
        "output numbers begin at 0 after a takeover";
    OutputGapAccepted, "STEP-9", "output-gap-accepted",
        "an output partition takes a number out of turn";
    LastBatchOnly, "STEP-9", "last-batch-only",
        "an output partition knows only a task's last batch again";
    UnknownTaskAccepted, "STEP-11", "unknown-task-accepted",
        "an output partition forgets tasks and takes any number of an unknown one";
    RetentionForgetsTasks, "STEP-11", "retention-forgets-tasks",
        "retention takes a task's last batch and leaves no checkpoint of it";
    RetentionTrustsAppended, "STEP-11", "retention-trusts-appended",
        "retention takes a task's last durable batch because a later one was appended";
    TaskReplyOnAppend, "STEP-10", "task-reply-on-append",
        "a task's batch is acknowledged once it is written";
    DuplicateAnsweredAtOnce, "STEP-10", "duplicate-answered-at-once",
        "a duplicate is acknowledged whether or not it is durable";
    FloorCountsSends, "STEP-12", "floor-counts-sends",
        "the floor counts what was sent, not what was acknowledged";
    OutboxTrimmed, "STEP-12", "outbox-trimmed",
        "outputs are dropped from the outbox before they are acknowledged";
    ReplayNothing, "STEP-12", "replay-nothing",
        "a takeover sends nothing again";
    ReplayLastStepOnly, "STEP-12", "replay-last-step-only",
        "a takeover sends the last step's outputs again only";
    CleanedAboveFloor, "STEP-13", "cleaned-above-floor",
        "a changelog is cleaned above its durable floor";
    ApplyBeforeDurable, "STEP-13", "apply-before-durable",
        "a store gets changes above the changelog's high watermark";
    ServeAboveHighWatermark, "REP-18", "serve-above-high-watermark",
        "readers are shown what is not committed";
    MetadataBeforeSync, "RAFT-4", "metadata-before-sync",
        "a change of metadata counts before it is synced";
}

/// Whether this rule is left out here and now.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn lacks(_rule: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
thread_local! {
    static LEFT_OUT: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Whether this rule is left out here and now.
#[cfg(feature = "mutants")]
#[must_use]
pub fn lacks(rule: Mutant) -> bool {
    LEFT_OUT.get() == Some(rule)
}

/// What is left out here and now.
#[cfg(feature = "mutants")]
#[must_use]
pub fn chosen() -> Option<Mutant> {
    LEFT_OUT.get()
}

/// Runs something on this thread with a rule left out.
#[cfg(feature = "mutants")]
pub fn without<T>(mutant: Option<Mutant>, run: impl FnOnce() -> T) -> T {
    /// Puts back what was chosen before, panic or not.
    struct Before(Option<Mutant>);
    impl Drop for Before {
        fn drop(&mut self) {
            LEFT_OUT.set(self.0);
        }
    }
    let _before = Before(LEFT_OUT.replace(mutant));
    run()
}
