//! What is asked of a partition's producer rules, and what they answer.

use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{LeaderEpoch, PartitionEpoch};

/// What a partition's batches are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionKind {
    /// Records of clients and of processors' outputs.
    Records,
    /// Commits of one task; only that task writes (STEP-2).
    Changelog,
}

/// Who proposes a batch, and what they vouch for beside the batch's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// A client; the rules IDP-1…5 hold if the batch has a producer id.
    Client,
    /// A task that sends outputs. Batches are re-sent verbatim, with the epoch they were made under in their header; so
    /// the sender's own generation and epoch come beside it (STEP-9).
    TaskOutput {
        /// The partition as the sender knows it; a leader of another partition epoch refuses (STEP-9 rule 1).
        partition_epoch: PartitionEpoch,
        /// The sender's generation; that in the batch's producer id must be the same.
        generation: u32,
        /// The sender's epoch: leader epoch of its changelog partition, all bits.
        epoch: LeaderEpoch,
        /// Number of the batch's first record, all bits; the header has the low 31 (STEP-8).
        first: u64,
    },
    /// A task that commits a step to its changelog partition (STEP-2).
    TaskCommit {
        /// The leader epoch under which the task began to run.
        epoch: LeaderEpoch,
        /// The step's number, all bits; the header has the low 31. The first step is number 0.
        step: u64,
    },
    /// The broker itself; nothing is checked.
    Internal,
}

/// What becomes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the next one.
    Append,
    /// It is in the log already (or about to be), below `next_offset`. Say so only when that is below the high
    /// watermark (STEP-10).
    Duplicate {
        /// Offset of the first record of the original batch (IDP-2). For a task: of the last batch of that task, which
        /// is the original or a later one.
        base_offset: i64,
        /// One past the last offset of that same batch.
        next_offset: i64,
    },
    /// It must not be appended.
    Refuse(ProducerRefusal),
}

/// Why a batch must not be appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProducerRefusal {
    /// Client: a hole, or a retry older than what is remembered (IDP-3).
    #[error(
        "producer {producer}: sequence {got} does not follow; the next is {expected}. A batch before it was lost or \
         came too late; start a new producer"
    )]
    OutOfOrder {
        /// The producer id.
        producer: i64,
        /// First sequence of the next batch.
        expected: i32,
        /// First sequence of this batch.
        got: i32,
    },
    /// Client: a newer epoch of this producer exists (IDP-3).
    #[error("producer {producer}: epoch {got} is over, {current} has begun; another instance took this id")]
    InvalidEpoch {
        /// The producer id.
        producer: i64,
        /// The newest epoch seen.
        current: i16,
        /// The batch's epoch.
        got: i16,
    },
    /// Task: a hole, or a batch that is there in part; send from `number` (STEP-9). For a commit: the next step.
    #[error("number {number} comes next")]
    Expect {
        /// The next number, all bits.
        number: u64,
    },
    /// Task: a newer generation or epoch wrote here (STEP-9, STEP-2).
    #[error("a newer instance of this task, generation {generation}, epoch {epoch} (low 15 bits), wrote here")]
    Fenced {
        /// Its generation.
        generation: u32,
        /// Low 15 bits of its epoch.
        epoch: i16,
    },
    /// Task: the commit is of a leader epoch that this replica has not reached.
    #[error("the commit is of leader epoch {got}, this replica leads in {current}")]
    UnknownEpoch {
        /// This replica's leader epoch.
        current: LeaderEpoch,
        /// The commit's.
        got: LeaderEpoch,
    },
    /// Client: only its own task writes to a changelog.
    #[error("this is a changelog partition; only its own task writes to it")]
    InternalPartition,
    /// Client, or us for a task: the header contradicts itself or what was vouched for.
    #[error("{0}")]
    Malformed(
        /// What is wrong.
        &'static str,
    ),
}

impl ProducerRefusal {
    /// The code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::Expect { .. } => ErrorCode::Expect,
            Self::Fenced { .. } => ErrorCode::Fenced,
            Self::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::InternalPartition => ErrorCode::InternalTopic,
            Self::Malformed(_) => ErrorCode::InvalidRecord,
        }
    }
}

impl From<ProducerRefusal> for ApiError {
    fn from(refusal: ProducerRefusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}
