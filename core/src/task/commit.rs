//! A commit: everything one step does, in one record batch of the changelog (STEP-1).
//!
//! ```text
//!  batch header   producer id = the task's │ producer epoch = low 15 bits of its epoch │ base sequence = low 31 of n
//!  record 0       01                                    → step record: n, floor, input ranges, decisions, outputs …
//!  records …      02 topic id, partition                → next offset of this input
//!                 03 topic id, partition                → next number of this output partition
//!                 04                                    → stream time
//!                 05 timer id                           → when it fires, or null: it is gone
//!                 06 store, key                         → value, or null: it is gone
//!                 07 n, ordinal, topic id, partition, first number, count → the framed output batch, verbatim
//! ```
//!
//! Kinds come in ascending order. The newest record of each key is the task's state after the step, so a changelog can
//! be compacted by key below the durable floor. All integers in keys and values are big-endian; the step record is a
//! version byte and postcard. `docs/step-commit.md` has every byte.

mod decode;
mod encode;
mod key;
mod record;
mod remains;
#[cfg(test)]
mod tests;

pub use decode::{Commit, OutboxBatch};
pub use encode::{CommitContents, CommitEncoder, OutputBatch};
pub use record::{
    Decision, DecisionKind, InputPosition, InputRange, OutputForm, OutputTouched, Revision, StepRecord, TimerChange,
};
pub use remains::{ChangelogVerdict, CommitRemains, changelog_verdict};

use headwater_protocol::batch::BatchError;

/// One change of state: `value` is what the key has after the step, `None` deletes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateChange<'a> {
    /// Number of the store within the task.
    pub store: u32,
    /// The key.
    pub key: &'a [u8],
    /// The value, or `None` when the key is deleted.
    pub value: Option<&'a [u8]>,
}

/// Why bytes are no commit, or a step can't become one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommitError {
    /// Guest: the step is larger than one batch of an internal topic. It is discarded and run again on half its input.
    #[error("the step's commit needs more than {max} bytes: run it on fewer records")]
    TooLarge {
        /// Bytes that a commit may have.
        max: usize,
    },
    /// Disk or us: the changelog batch can't be read.
    #[error("a changelog batch can't be read: {0}")]
    Batch(#[from] BatchError),
    /// Disk or us: the batch is of another writer than a task.
    #[error("a changelog batch has producer id {0}, which is no task's: it is no commit")]
    NotACommit(
        /// The producer id.
        i64,
    ),
    /// Us: a newer version wrote it.
    #[error("a commit is of version {0}, which this broker can't read: update the broker")]
    UnknownVersion(
        /// The version byte.
        u8,
    ),
    /// Disk or us: the records contradict the format or each other.
    #[error("a commit makes no sense: {0}; the changelog is damaged, or this broker has a bug")]
    Malformed(
        /// What is wrong.
        &'static str,
    ),
}
