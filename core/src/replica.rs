//! One partition as its leader sees it: offsets, order, what is durable, who may be answered.
//!
//! ```text
//!  Propose ─► producer rules ─► Append{offset} ─► (driver writes) ─► Appended ─► Flush ─► (driver syncs) ─► Flushed
//!                  │                                   │                                                      │
//!                  ▼                                   ▼                                                      ▼
//!             Reply: refused                    Reply: acks = none,                     high watermark = min over the
//!             (at once)                         acks = leader if durability = os        in-sync replicas; Reply: all
//!
//!   log start ≤ high watermark ≤ log end (written) ≤ assigned end (on their way)
//! ```
//!
//! **The driver's part.** It calls [`Leader::handle`] for each event and then runs what [`Leader::poll_command`] gives
//! out, in order. Several proposals may be handled before the first append is written, and one
//! [`Event::Appended`] or [`Event::Flushed`] may speak for many batches: it names the offset that was reached. Appends
//! are written in the order of their commands. When one fails, the driver writes none of the [`Command::Append`]s it
//! has already taken, reports what was written before it and then one [`Event::AppendFailed`]; the leader fails
//! everything on its way and begins again at the log's end. A refused proposal has no `Append`.
//!
//! Single replica today; the in-sync set, its acknowledgements and the leader epoch are those of REP-* and TRN-*.

mod clean;
mod invariants;
mod leader;
mod progress;
#[cfg(test)]
mod tests;
mod trim;
mod waiting;

pub use clean::Cleanable;
pub use leader::Leader;

use crate::cluster::{Durability, PartitionImage, TopicSettings};
use crate::producer::{Admission, ProducerRefusal, Producers, TaskCheckpoint};
use headwater_protocol::batch::BatchHeader;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{BrokerId, LeaderEpoch, PartitionEpoch};
use headwater_protocol::messages::records::Acks;

/// Names a proposal in commands; chosen by the driver, never looked into.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplyToken(
    /// The driver's number for it.
    pub u64,
);

/// A batch to append: checked to its last record already, not yet stamped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// Comes back in [`Command::Append`] and [`Command::Reply`].
    pub token: ReplyToken,
    /// The batch's header. Base offset and leader epoch are not looked at.
    pub header: BatchHeader,
    /// Bytes of the whole batch.
    pub bytes: u32,
    /// What the reply waits for. A task's batches always wait for the high watermark (STEP-10).
    pub acks: Acks,
    /// Who proposes.
    pub admission: Admission,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Somebody wants a batch appended.
    Propose(Proposal),
    /// The log holds all assigned batches below `next_offset`: write(2) is done (LOG-1). It is the end of a batch.
    Appended {
        /// One past the last offset written.
        next_offset: i64,
    },
    /// The oldest batch on its way could not be written, and nothing of it is in the log. All later ones fail with it.
    AppendFailed(AppendFailure),
    /// The disk holds everything below `next_offset`.
    Flushed {
        /// One past the last durable offset.
        next_offset: i64,
    },
    /// A follower holds everything below `next_offset` as durably as the topic asks. Ignored if it is of another leader
    /// epoch (REP-5), from a broker that is not in sync, or above our log end.
    Acknowledged {
        /// The follower.
        replica: BrokerId,
        /// The leader epoch in which it fetched.
        leader_epoch: LeaderEpoch,
        /// One past the last offset it holds.
        next_offset: i64,
    },
    /// The topic's settings changed.
    Configured {
        /// What counts as held from now on. What was accepted under `os` stays committed.
        durability: Durability,
        /// In-sync replicas that acks = all and the high watermark need from now on.
        min_insync_replicas: u16,
    },
    /// Retention, or an operator, wants the log to begin later. Answered by [`Command::Trim`] or
    /// [`Command::TrimRefused`], once.
    Trim {
        /// The log's new start; not above the high watermark, or that counts.
        to: i64,
        /// Now, ms since the Unix epoch: for the checkpoints of tasks.
        timestamp: i64,
    },
    /// The log begins here now, as [`Command::Trim`] asked for.
    Trimmed {
        /// Its start.
        log_start: i64,
    },
    /// The cleaner asks what it may clean. Answered by [`Command::Cleanable`] or [`Command::CleanRefused`], once.
    Clean,
    /// The data directory failed (LOG-7): whatever has not been answered never will be otherwise.
    StorageFailed,
    /// The broker stops: refuse what comes, finish what is here.
    Close,
}

/// Why a batch was not written. Nothing of it is in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendFailure {
    /// Disk: no space is left.
    #[error("no space is left in the data directory; nothing was written. Free space or add a directory")]
    DiskFull,
    /// Disk, or us: the log refused; the broker's log has the details.
    #[error("the partition's log could not be written; see the broker's log")]
    Storage,
}

/// What the driver must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Stamp the proposal's batch with this offset and epoch and write it, after all earlier appends.
    Append {
        /// The proposal.
        token: ReplyToken,
        /// Offset of its first record.
        base_offset: i64,
        /// The reign to stamp.
        leader_epoch: LeaderEpoch,
    },
    /// Make the task's checkpoint, stamp and write it; in order with all other appends, as an `Append`.
    AppendCheckpoint {
        /// What to make the batch of, with `timestamp`.
        checkpoint: TaskCheckpoint,
        /// ms since the Unix epoch.
        timestamp: i64,
        /// Its offset.
        base_offset: i64,
        /// The reign to stamp.
        leader_epoch: LeaderEpoch,
    },
    /// Nothing below this offset is needed any more: let the log begin there and report [`Event::Trimmed`], or, if the
    /// disk refuses, nothing.
    Trim(i64),
    /// The log's start stays where it is. It may be asked for again.
    TrimRefused(Refusal),
    /// Something may be cleaned: [`Leader::take_cleanable`] says what.
    Cleanable,
    /// Nothing may be cleaned. It may be asked for again.
    CleanRefused(Refusal),
    /// The log is dirty: include it in a flush round and report [`Event::Flushed`]. Not repeated until then.
    Flush,
    /// Offsets below this one are committed: readers may have them.
    HighWatermark(i64),
    /// Answer a proposal; each gets one answer. What the answer says is true already.
    Reply {
        /// The proposal.
        token: ReplyToken,
        /// What became of it.
        outcome: Outcome,
    },
}

/// What became of a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is in the log, as safe as its `acks` ask.
    Appended {
        /// Offset of its first record.
        base_offset: i64,
        /// One past the offset of its last record.
        next_offset: i64,
    },
    /// It was in the log already, and is as safe as its `acks` ask.
    Duplicate {
        /// As in [`crate::producer::Verdict::Duplicate`].
        base_offset: i64,
    },
    /// It was not appended, or (only [`Refusal::StorageFailed`]) nobody knows.
    Refused(Refusal),
}

/// Why a proposal failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The producer's rules refuse it.
    #[error(transparent)]
    Producer(#[from] ProducerRefusal),
    /// The sender knows the partition as it was, or as this leader does not know it yet (STEP-9 rule 1).
    #[error("the partition is at partition epoch {ours}, the sender is at {theirs}; read the metadata again")]
    PartitionEpoch {
        /// The leader's.
        ours: PartitionEpoch,
        /// The sender's.
        theirs: PartitionEpoch,
    },
    /// Too few replicas are in sync for acks = all (REP-6).
    #[error("{in_sync} replicas are in sync, acks=all needs {needed} (min.insync.replicas)")]
    NotEnoughReplicas {
        /// Size of the in-sync set.
        in_sync: u32,
        /// The topic's `min.insync.replicas`.
        needed: u32,
    },
    /// Us: too much is on its way to this partition.
    #[error("too many batches are on their way to this partition; try again")]
    Busy,
    /// Disk: nothing was written.
    #[error(transparent)]
    AppendFailed(#[from] AppendFailure),
    /// Disk: the data directory failed; the batch may or may not be in the log (LOG-7).
    #[error("the partition's data directory failed; whether the batch was written is not known")]
    StorageFailed,
    /// Us: the broker stops.
    #[error("the broker is stopping; try another")]
    Closing,
    /// Us: the partition has no offset left.
    #[error("the partition has no offsets left")]
    OffsetsExhausted,
}

impl Refusal {
    /// The code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Producer(refusal) => refusal.code(),
            Self::PartitionEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
            Self::Busy => ErrorCode::Busy,
            Self::AppendFailed(AppendFailure::DiskFull) => ErrorCode::DiskFull,
            Self::AppendFailed(AppendFailure::Storage) | Self::StorageFailed => ErrorCode::KafkaStorageError,
            Self::Closing => ErrorCode::ShuttingDown,
            Self::OffsetsExhausted => ErrorCode::UnknownServerError,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

/// A leader's part of the cluster's metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderConfig {
    /// This broker.
    pub local: BrokerId,
    /// The reign that begins.
    pub leader_epoch: LeaderEpoch,
    /// Version of leader and in-sync set that this reign began with.
    pub partition_epoch: PartitionEpoch,
    /// Brokers in sync, this one among them.
    pub in_sync: Vec<BrokerId>,
    /// In-sync replicas that acks = all and the high watermark need.
    pub min_insync_replicas: u16,
    /// What counts as held.
    pub durability: Durability,
}

impl LeaderConfig {
    /// What the image says of a partition that `local` leads.
    pub fn from_image(local: BrokerId, partition: &PartitionImage, settings: &TopicSettings) -> Self {
        Self {
            local,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            in_sync: partition.isr.clone(),
            min_insync_replicas: settings.min_insync_replicas,
            durability: settings.durability,
        }
    }
}

/// What recovery found in the partition's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// First offset.
    pub log_start: i64,
    /// One past the last offset.
    pub log_end: i64,
    /// Everything below it is known to be durable. Below `log_end` only if recovery ended without a flush.
    pub durable_end: i64,
    /// Leader epoch of the last batch, if there is one.
    pub leader_epoch: Option<LeaderEpoch>,
    /// State after every batch of the log was observed.
    pub producers: Producers,
}

/// What recovery found, or what metadata says, can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidRecovery {
    /// Disk: the offsets are not in order.
    #[error("damaged log: start {log_start}, durable end {durable_end}, end {log_end} are not in order")]
    Offsets {
        /// First offset.
        log_start: i64,
        /// Durable end.
        durable_end: i64,
        /// Log end.
        log_end: i64,
    },
    /// Disk: the log is from a later reign than metadata knows; one of the two is an older copy.
    #[error("the log holds batches of leader epoch {log}, metadata is at {metadata}: is the metadata log an old copy?")]
    Epoch {
        /// Newest epoch in the log.
        log: LeaderEpoch,
        /// The reign that metadata names.
        metadata: LeaderEpoch,
    },
    /// Us: metadata does not count this broker among the replicas in sync.
    #[error("broker {0} leads the partition without being in sync")]
    NotInSync(
        /// This broker.
        BrokerId,
    ),
}
