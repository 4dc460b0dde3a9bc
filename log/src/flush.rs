//! Durability as a type: what was appended has a [`Position`], what survives a power cut is [`Durable`].
//!
//! ```text
//!   Log::append ──► Position          written: survives kill -9
//!        │
//!   Log::begin_flush ──► FlushJob ──run, on any thread──► FlushResult
//!                                                             │
//!   Log::complete_flush ◄─────────────────────────────────────┘
//!        └──► Durable                 synced: survives a power cut
//! ```

use crate::checkpoint_file;
use crate::error::LogError;
use crate::format::names;
use crate::limits;
use crate::log::PendingSnapshot;
use crate::segment::{self, Segment};
use crate::shared::{LogShared, SyncState};
use crate::snapshot;
use headwater_mutants::{Mutant, lacks};
use std::path::PathBuf;
use std::sync::Arc;

/// Where an append put its batches. They are with the operating system: they survive the death of this process (LOG-1),
/// not yet a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The first offset appended.
    pub base_offset: i64,
    /// The log's end offset after the append; higher with each one.
    pub next_offset: i64,
}

/// The proof that everything below an offset survives a power cut (LOG-1). Only [`Log`](crate::Log) makes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Durable {
    next_offset: i64,
}

impl Durable {
    pub(crate) fn below(next_offset: i64) -> Self {
        Self { next_offset }
    }

    /// All records below this offset are durable.
    pub fn next_offset(self) -> i64 {
        self.next_offset
    }

    /// Whether an append is durable as a whole.
    pub fn covers(self, position: Position) -> bool {
        position.next_offset <= self.next_offset
    }
}

/// The syncs that make durable all that was appended to a log up to a moment. May run on any thread; may also be
/// dropped, then nothing became durable and the next job has it all to do.
#[must_use = "nothing is synced before the job has run"]
#[derive(Debug)]
pub struct FlushJob {
    pub(crate) shared: Arc<LogShared>,
    pub(crate) plan: FlushPlan,
}

/// What a job is to sync.
#[derive(Debug)]
pub(crate) struct FlushPlan {
    /// The log's end offset when the job was made.
    pub(crate) next_offset: i64,
    /// What is to be synced.
    pub(crate) segments: Vec<PlannedSync>,
    /// How many names had been made in the partition's directory, if some of them are not synced.
    pub(crate) names_made: Option<u64>,
    /// Whether the name of the partition's directory is not synced.
    pub(crate) is_new: bool,
    /// The leader epochs' file and its version, if it has changed.
    pub(crate) epochs: Option<(u64, Vec<u8>)>,
    /// Files of the last segment's index, which is a cache: written, not synced.
    pub(crate) index: Vec<(PathBuf, Vec<u8>)>,
    /// What is derived from the log, to be written once the batches that it is derived from are durable (LOG-8).
    pub(crate) snapshot: Option<PendingSnapshot>,
}

/// A segment as it was when the job was made.
#[derive(Debug)]
pub(crate) struct PlannedSync {
    pub(crate) segment: Arc<Segment>,
    /// Its length.
    pub(crate) bytes: u64,
    /// How often it had been cut ([`Segment::cuts`]).
    pub(crate) cuts: u64,
}

impl PlannedSync {
    pub(crate) fn of(segment: &Arc<Segment>) -> Self {
        Self { segment: Arc::clone(segment), bytes: segment.bytes(), cuts: segment.cuts() }
    }
}

/// What became of a job; for [`Log::complete_flush`](crate::Log::complete_flush) of the log that made it.
#[must_use = "nothing is durable before the log has seen the result"]
#[derive(Debug)]
pub struct FlushResult {
    pub(crate) shared: Arc<LogShared>,
    pub(crate) plan: FlushPlan,
    pub(crate) outcome: Result<(), LogError>,
}

impl FlushJob {
    /// What will be durable: all records below this offset.
    pub fn next_offset(&self) -> i64 {
        self.plan.next_offset
    }

    /// Syncs. Blocks for milliseconds. A failure stops the whole data directory (LOG-7), whoever looks at the result.
    pub fn run(self) -> FlushResult {
        let outcome = self.sync();
        FlushResult { shared: self.shared, plan: self.plan, outcome }
    }

    fn sync(&self) -> Result<(), LogError> {
        let (shared, plan) = (&*self.shared, &self.plan);
        let directory = &shared.directory;
        let mut state = shared.sync.lock();
        shared.check_not_deleted()?;
        directory.health().check()?;
        let mut synced_bytes = 0;
        for planned in &plan.segments {
            synced_bytes += planned.bytes.saturating_sub(planned.segment.synced_bytes());
            match planned.segment.file().sync() {
                Err(_) if lacks(Mutant::FailedSyncIgnored) => {}
                synced => synced.map_err(|error| directory.failed(error))?,
            }
        }
        let mut names_synced = false;
        if let Some((version, bytes)) = &plan.epochs
            && state.epochs_version < *version
        {
            let path = shared.path.join(names::LEADER_EPOCHS);
            checkpoint_file::write(directory.storage().as_ref(), &path, bytes)
                .map_err(|error| directory.failed(error))?;
            state.epochs_version = *version;
            names_synced = true;
        }
        if plan.names_made.is_some() && !names_synced && !lacks(Mutant::SegmentNameNotSynced) {
            directory.storage().sync_directory(&shared.path).map_err(|error| directory.failed(error))?;
        }
        if plan.is_new && !lacks(Mutant::PartitionNameNotSynced) {
            directory.sync_names()?;
        }
        segment::save(directory.storage().as_ref(), &plan.index);
        self.keep_snapshot(&mut state)?;
        directory.note_synced(synced_bytes)
    }

    /// Writes the snapshot, and removes those that it makes superfluous. One for which there is no room is not missed.
    fn keep_snapshot(&self, state: &mut SyncState) -> Result<(), LogError> {
        let Some(snapshot) = &self.plan.snapshot else { return Ok(()) };
        let (offset, bytes) = &**snapshot;
        debug_assert!(*offset <= self.plan.next_offset, "what it is derived from is durable");
        if state.snapshots.back().is_some_and(|newest| newest >= offset) {
            return Ok(());
        }
        let (directory, path) = (&self.shared.directory, &self.shared.path);
        match snapshot::write(directory.storage().as_ref(), path, *offset, bytes) {
            Err(error) if error.is_full() => {
                tracing::warn!(partition = self.shared.name, %error, "no room for a snapshot");
                return Ok(());
            }
            written => written.map_err(|error| directory.failed(error))?,
        }
        state.snapshots.push_back(*offset);
        while state.snapshots.len() > limits::SNAPSHOTS_MAX
            && let Some(oldest) = state.snapshots.pop_front()
        {
            snapshot::remove(directory, path, &[oldest])?;
        }
        Ok(())
    }
}

impl FlushResult {
    /// Whether the syncs failed, and how.
    pub fn error(&self) -> Option<&LogError> {
        self.outcome.as_ref().err()
    }
}
