//! What can go wrong, who is to blame and what to do.

use crate::config::BadConfig;
use crate::format::checkpoint::CheckpointError;
use crate::health::DiskFailure;
use crate::quarantine::BadRange;
use crate::storage::StorageError;
use headwater_protocol::batch::BatchError;
use headwater_protocol::error::ErrorCode;
use std::path::PathBuf;

/// An operation of the storage engine failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Disk: no room is left. Nothing was appended; the log takes appends again when there is room.
    #[error("the disk is full ({0}): free space, lower retention or add a data directory")]
    DiskFull(#[source] StorageError),
    /// Disk: a sync or a write failed, so that nobody knows what is on it (LOG-7). Reads go on, appends do not.
    #[error(transparent)]
    DirectoryFailed(#[from] DiskFailure),
    /// Disk, or who administers it: an operation was refused, without harm to what is there.
    #[error("{0}: check the disk and the permissions of its files")]
    Storage(#[from] StorageError),
    /// Disk: what is stored is not what was written (LOG-3). Nothing was changed.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Disk: the offset lies in a range whose bytes are not what was written; others are served (LOG-3).
    #[error("offsets {} up to {} are damaged and in quarantine ({}, byte {}: {}): go on at offset {}, and restore the \
             partition from a replica or a backup", range.from, range.to, file.display(), range.position, range.reason,
            range.to)]
    Quarantined {
        /// The segment's file.
        file: PathBuf,
        /// The range.
        range: Box<BadRange>,
    },
    /// Us, or a replica: what was handed over is not what a range in quarantine lacks.
    #[error("offsets {from} up to {to} can't be repaired with that: {reason}")]
    NoRepair {
        /// The first offset of the range.
        from: i64,
        /// The offset behind it.
        to: i64,
        /// What is wrong with what was handed over.
        reason: &'static str,
    },
    /// A file that this version can't read; its error says why.
    #[error("{}: {source}", file.display())]
    Checkpoint {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A segment goes on with batches that a later version wrote. Nothing was changed.
    #[error("{}: from byte {position} on it has record batches of a later format (magic {magic}): use the version that \
             wrote it", file.display())]
    NewerBatch {
        /// The segment's file.
        file: PathBuf,
        /// Where the first of them begins.
        position: u64,
        /// Its format.
        magic: i8,
    },
    /// Client: the offset is below the log's start or above its end.
    #[error("offset {asked} is not in the log, which holds {start} up to {end}: start from one of these")]
    OffsetOutOfRange {
        /// What was asked for.
        asked: i64,
        /// The first offset there is.
        start: i64,
        /// The offset that the next record gets.
        end: i64,
    },
    /// Us: bytes were handed over for appending that are not one whole batch.
    #[error("not a batch to append: {0}; this is a bug of the broker")]
    NotABatch(#[from] BatchError),
    /// Us: a batch was stamped with another offset than the log's end.
    #[error("a batch with base offset {found} can't follow offset {expected}; this is a bug of the broker")]
    OutOfOrder {
        /// The log's end offset.
        expected: i64,
        /// The batch's base offset.
        found: i64,
    },
    /// Us: more bytes in one call than the engine takes.
    #[error("{bytes} bytes in one append, more than {bytes_max}; this is a bug of the broker")]
    AppendTooLarge {
        /// How many were handed over.
        bytes: usize,
        /// How many are taken.
        bytes_max: usize,
    },
    /// Us: a leader epoch older than one that is in the log.
    #[error("leader epoch {asked} after {newest}; this is a bug of the broker")]
    EpochFellBack {
        /// The epoch that was to begin.
        asked: i32,
        /// The newest one of the log.
        newest: i32,
    },
    /// The system: a limit of open files; nothing happened to the disk.
    #[error("{0}: too many files are open; raise the broker's limit of open files (ulimit -n) and start it again")]
    OutOfFiles(StorageError),
    /// Client: a setting is out of range.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// Us: the result of another log's flush.
    #[error("a flush result of another log; this is a bug of the broker")]
    ForeignFlush,
    /// Us: a name that is no plain directory name.
    #[error("{0:?} can't be the name of a partition's directory; this is a bug of the broker")]
    BadName(String),
    /// Us: the partition is open already.
    #[error("partition {0} is open already; this is a bug of the broker")]
    AlreadyOpen(String),
    /// The partition was deleted.
    #[error("partition {0} was deleted")]
    Deleted(String),
    /// The partition is not open here any more.
    #[error("partition {0} was closed")]
    Closed(String),
    /// Us, or the administrator: another process has the data directory.
    #[error("data directory {} is in use by another process: stop it, or give each broker its own", .0.display())]
    Locked(PathBuf),
    /// Us: a limit of the engine.
    #[error("more than {max} {what} in {}: use more data directories", directory.display())]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        max: usize,
        /// Where.
        directory: PathBuf,
    },
}

impl LogError {
    /// The error of a disk operation that did not poison anything: full, or refused.
    pub(crate) fn of_storage(error: StorageError) -> Self {
        if error.is_full() { Self::DiskFull(error) } else { Self::Storage(error) }
    }

    /// The number to answer a client with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::DiskFull(_) => ErrorCode::DiskFull,
            Self::DirectoryFailed(_) | Self::Storage(_) | Self::Locked(_) => ErrorCode::KafkaStorageError,
            Self::Damaged(_) | Self::Quarantined { .. } => ErrorCode::CorruptMessage,
            Self::Config(_) => ErrorCode::InvalidConfig,
            Self::NoRepair { .. } => ErrorCode::InvalidRequest,
            Self::Checkpoint { .. } | Self::NewerBatch { .. } => ErrorCode::KafkaStorageError,
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Deleted(_) => ErrorCode::UnknownTopicOrPartition,
            Self::Closed(_) => ErrorCode::NotLeaderOrFollower,
            Self::TooMany { .. } | Self::OutOfFiles(_) => ErrorCode::Busy,
            Self::NotABatch(_)
            | Self::OutOfOrder { .. }
            | Self::AppendTooLarge { .. }
            | Self::EpochFellBack { .. }
            | Self::ForeignFlush
            | Self::BadName(_)
            | Self::AlreadyOpen(_) => ErrorCode::UnknownServerError,
        }
    }
}

/// Stored bytes that should be good and are not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{} is damaged at byte {position} (offset {offset}): {reason}; restore the partition from a replica or a backup",
    file.display()
)]
pub struct Damage {
    /// The file, or the directory if a whole file is missing.
    pub file: PathBuf,
    /// The first bad byte, counted from 0.
    pub position: u64,
    /// The first offset that can't be had.
    pub offset: i64,
    /// What is wrong.
    pub reason: String,
}
