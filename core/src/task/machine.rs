//! The machine: steps in, commits and sends out.

mod events;
mod invariants;
mod step;

pub use step::{StepError, StepRun};

use super::commit::{CommitEncoder, InputPosition, Revision};
use super::image::Pending;
use super::limits;
use super::output::OutputQueue;
use super::timers::Timers;
use super::window::Window;
use crate::producer::sequence::{low_bits, low_epoch};
use bytes::{Bytes, BytesMut};
use headwater_protocol::batch::ProducerStamp;
use headwater_protocol::ids::{LeaderEpoch, ProducerId, TaskProducer, TopicPartition};
use std::collections::{BTreeMap, VecDeque};

/// Limits of a task; the defaults are those of [`limits`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskLimits {
    /// Bytes of one commit.
    pub commit_bytes_max: usize,
    /// Steps that are not below the changelog's high watermark.
    pub uncommitted_steps_max: usize,
    /// Steps from floor to tip.
    pub unacknowledged_steps_max: u64,
    /// Bytes of outputs not acknowledged.
    pub unacknowledged_bytes_max: usize,
    /// Batches on their way to one output partition.
    pub inflight_batches_max: usize,
    /// Milliseconds after which an empty commit records a floor that moved.
    pub floor_delay_ms: u64,
    /// Timers.
    pub timers_max: usize,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self {
            commit_bytes_max: headwater_protocol::limits::INTERNAL_BATCH_BYTES_MAX,
            uncommitted_steps_max: limits::UNCOMMITTED_STEPS_MAX,
            unacknowledged_steps_max: limits::UNACKNOWLEDGED_STEPS_MAX,
            unacknowledged_bytes_max: limits::UNACKNOWLEDGED_BYTES_MAX,
            inflight_batches_max: limits::INFLIGHT_BATCHES_MAX,
            floor_delay_ms: limits::FLOOR_DELAY_MS,
            timers_max: limits::TIMERS_MAX,
        }
    }
}

/// What a task is told about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskConfig {
    /// Its producer identity, with the processor's current generation.
    pub producer: TaskProducer,
    /// What is deployed.
    pub revision: Revision,
    /// Limits in force.
    pub limits: TaskLimits,
}

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
    /// The answer to a [`TaskCommand::Send`].
    OutputReply(OutputReply),
    /// Time has come to [`Task::poll_deadline`].
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

/// What a task wants done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskCommand {
    /// Append this batch to the changelog, if the replica leads in `epoch` and `step` follows (STEP-2). Answered by
    /// [`TaskEvent::CommitAppended`] or [`TaskEvent::CommitRefused`].
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
        "changelog lost durable commits: {output} is at number {expected}, the changelog gave out numbers below {next}. \
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

/// One instance of a task: from a takeover to its end. See [`crate::task`] for the order of events.
#[derive(Debug)]
pub struct Task {
    pub(super) config: TaskConfig,
    pub(super) producer_id: ProducerId,
    pub(super) epoch: LeaderEpoch,
    pub(super) encoder: CommitEncoder,
    pub(super) window: Window,
    pub(super) outputs: BTreeMap<TopicPartition, OutputQueue>,
    /// Floor in the newest commit made, durable or not.
    pub(super) recorded_floor: u64,
    pub(super) durable_floor: u64,
    /// Commits made and not below the high watermark, oldest first.
    pub(super) pending: VecDeque<Pending>,
    pub(super) high_watermark: i64,
    pub(super) positions: BTreeMap<TopicPartition, InputPosition>,
    pub(super) stream_time: Option<i64>,
    pub(super) timestamp: i64,
    pub(super) timers: Timers,
    pub(super) next_token: u64,
    pub(super) floor_due_ms: Option<u64>,
    pub(super) commands: VecDeque<TaskCommand>,
    pub(super) stopped: Option<StopReason>,
    #[cfg(test)]
    pub(super) mutant: Option<super::tests::Mutant>,
}

/// Whether a test has taken a rule out of this task, to see what breaks without it.
#[cfg(test)]
macro_rules! without {
    ($task:expr, $rule:ident) => {
        $task.mutant == Some(crate::task::tests::Mutant::$rule)
    };
}
#[cfg(not(test))]
macro_rules! without {
    ($task:expr, $rule:ident) => {
        false
    };
}
use without;

impl Task {
    /// Whether the next step may be run: the windows have room (STEP-15).
    pub fn may_run(&self) -> bool {
        let limits = &self.config.limits;
        self.stopped.is_none()
            && self.pending.len() < limits.uncommitted_steps_max
            && self.window.steps() < limits.unacknowledged_steps_max
            && self.window.unacknowledged_bytes() < limits.unacknowledged_bytes_max
    }

    /// The number of the next record to `output` (STEP-8). A step that writes `k` records in a batch writes its next
    /// batch for the same partition from this number + `k`.
    pub fn next_number(&self, output: TopicPartition) -> u64 {
        self.outputs.get(&output).map_or(0, OutputQueue::next)
    }

    /// What a batch of outputs whose first record has number `first` is stamped with.
    pub fn stamp(&self, first: u64) -> ProducerStamp {
        ProducerStamp {
            producer_id: self.producer_id.0,
            producer_epoch: low_epoch(self.epoch),
            base_sequence: low_bits(first),
        }
    }

    /// Timers that `stream_time` has reached, the earliest first: time and id. The step that runs them removes them,
    /// unless it sets them again.
    pub fn due_timers(&self, stream_time: i64) -> impl Iterator<Item = (i64, &Bytes)> {
        self.timers.due(stream_time)
    }

    /// Timers that are set.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// Largest timestamp that the task has seen, as of its newest step; `None` before the first record.
    pub fn stream_time(&self) -> Option<i64> {
        self.stream_time
    }

    /// Where the next step reads each input on; partitions that were never read are missing.
    pub fn positions(&self) -> &BTreeMap<TopicPartition, InputPosition> {
        &self.positions
    }

    /// The number of the next step, which is how many steps the generation has.
    pub fn next_step(&self) -> u64 {
        self.window.next_step()
    }

    /// Lowest step with an output not known acknowledged; the next step if there is none (STEP-12).
    pub fn floor(&self) -> u64 {
        self.window.floor()
    }

    /// The floor in the newest commit below the changelog's high watermark: nothing from that step on may be
    /// destroyed, neither its commit nor its input (STEP-13).
    pub fn durable_floor(&self) -> u64 {
        self.durable_floor
    }

    /// Steps that are not below the changelog's high watermark.
    pub fn uncommitted_steps(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of outputs that are not acknowledged.
    pub fn unacknowledged_bytes(&self) -> usize {
        self.window.unacknowledged_bytes()
    }

    /// What is deployed.
    pub fn revision(&self) -> Revision {
        self.config.revision
    }

    /// Another module or configuration from the next step on.
    pub fn set_revision(&mut self, revision: Revision) {
        self.config.revision = revision;
    }

    /// The task's epoch.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Its producer identity.
    pub fn producer(&self) -> TaskProducer {
        self.config.producer
    }

    /// Why the instance has ended, if it has.
    pub fn stopped(&self) -> Option<&StopReason> {
        self.stopped.as_ref()
    }

    /// The next command, to be run in this order.
    pub fn poll_command(&mut self) -> Option<TaskCommand> {
        self.commands.pop_front()
    }

    /// When to call [`Self::handle`] with [`TaskEvent::Deadline`], in milliseconds of the same clock.
    pub fn poll_deadline(&self) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let floor = self.floor_due_ms.filter(|_| self.may_record_floor());
        let retries = self.outputs.values().filter_map(OutputQueue::retry_at_ms);
        retries.chain(floor).min()
    }
}
