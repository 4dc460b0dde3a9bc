//! What comes out of a task.

use bytes::{Bytes, BytesMut};
use headwater_protocol::ids::{LeaderEpoch, TopicPartition};

/// What a task wants done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskCommand {
    /// Append this batch to the changelog, if the replica leads in `epoch` and `step` follows (STEP-2). Answered by
    /// [`CommitAppended`](super::TaskEvent::CommitAppended) or [`CommitRefused`](super::TaskEvent::CommitRefused).
    AppendCommit {
        /// The step.
        step: u64,
        /// The task's epoch.
        epoch: LeaderEpoch,
        /// The batch, for the log to stamp with base offset and leader epoch.
        bytes: BytesMut,
    },
    /// The step's commit is below the changelog's high watermark: settle its changes and this position in the store.
    ApplyState {
        /// The step.
        step: u64,
        /// Where to go on reading the changelog.
        next_offset: i64,
    },
    /// Send this batch to its partition; sends to one partition must arrive in order, else they are only repeated.
    Send {
        /// The output partition.
        output: TopicPartition,
        /// Names this send in its answer.
        token: u64,
        /// Number of the first record, all bits.
        first: u64,
        /// Records.
        count: u32,
        /// The framed batch, verbatim as committed.
        bytes: Bytes,
        /// The task's generation.
        generation: u32,
        /// The task's epoch: of this instance, not of the one that made the batch.
        epoch: LeaderEpoch,
    },
    /// This instance ends: nothing more comes from it.
    Stop(StopReason),
}

/// Why an instance ends.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StopReason {
    /// A newer instance works.
    #[error("a newer instance of this task wrote to {0}: this one ends")]
    Fenced(TopicPartition),
    /// The changelog did not take a commit.
    #[error("the changelog did not take step {step}: {reason}")]
    CommitRefused {
        /// The step.
        step: u64,
        /// Why.
        reason: String,
    },
    /// Peer or disk: an output partition lost records that it had acknowledged.
    #[error(
        "output lost acknowledged records: {output} expects number {expected}, {acknowledged} were acknowledged. \
         Was there an unclean election, or durability weaker than the changelog's?"
    )]
    OutputLostRecords {
        /// The output partition.
        output: TopicPartition,
        /// What it expects.
        expected: u64,
        /// What it had acknowledged, exclusive.
        acknowledged: u64,
    },
    /// Peer or disk: an output partition has more than this changelog ever committed.
    #[error(
        "changelog lost durable commits: {output} is at number {expected}, the changelog is at {next}. \
         Was there an unclean election, or durability weaker than the outputs'?"
    )]
    ChangelogLostCommits {
        /// The output partition.
        output: TopicPartition,
        /// What it expects.
        expected: u64,
        /// What the changelog says is next.
        next: u64,
    },
    /// Peer: an output partition's answer fits no batch of this task.
    #[error("{output} expects number {expected}, inside a batch: it holds part of a batch, which no leader appends")]
    OutputCutsBatch {
        /// The output partition.
        output: TopicPartition,
        /// What it expects.
        expected: u64,
    },
    /// A person has to decide: an output partition refuses what was committed.
    #[error("{output} refuses a committed output: {reason}")]
    OutputRefused {
        /// The output partition.
        output: TopicPartition,
        /// What its leader said.
        reason: String,
    },
    /// Us: the driver reported what can't be.
    #[error("{0}; this broker has a bug")]
    Bug(&'static str),
}
