//! What goes into a task.

use headwater_protocol::ids::TopicPartition;

/// What happens to a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskEvent {
    /// The commit of a step is in the changelog, not durable yet.
    CommitAppended {
        /// The step.
        step: u64,
        /// One past the offset of its last record.
        next_offset: i64,
    },
    /// The changelog did not take the commit: another leader, another epoch, another step (STEP-2).
    CommitRefused {
        /// The step.
        step: u64,
        /// Why, for the operator.
        reason: String,
    },
    /// The changelog's high watermark, exclusive.
    ChangelogHighWatermark(i64),
    /// The answer to a [`TaskCommand::Send`](super::TaskCommand::Send).
    OutputReply(OutputReply),
    /// Time has come to [`Task::poll_deadline`](super::Task::poll_deadline).
    Deadline,
}

/// The answer to one send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputReply {
    /// The output partition.
    pub output: TopicPartition,
    /// The send's token.
    pub token: u64,
    /// What the partition's leader said.
    pub answer: OutputAnswer,
}

/// What an output partition's leader says to a send. Each send is answered once; a lost answer is [`Self::Retry`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutputAnswer {
    /// All numbers up to this one are below the partition's high watermark, appended now or before (STEP-10).
    Ok(u64),
    /// This number comes next.
    Expect(u64),
    /// A newer generation or epoch of the task wrote there.
    Fenced,
    /// Not now: no leader, a time-out, too few replicas.
    Retry,
    /// Never: the topic is gone, or refuses what was committed. A person has to decide.
    Refused(String),
}
