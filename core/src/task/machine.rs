//! The machine: steps in, commits and sends out.

mod command;
mod event;
mod handle;
mod invariants;
mod step;

pub use command::{StopReason, TaskCommand};
pub use event::{OutputAnswer, OutputReply, TaskEvent};
pub use step::{StepError, StepRun};

use super::commit::{CommitEncoder, InputPosition, Revision};
use super::image::Pending;
use super::limits;
use super::output::OutputQueue;
use super::timers::Timers;
use super::window::Window;
use crate::producer::sequence::{low_bits, low_epoch};
use bytes::Bytes;
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
    // These two are left out in this crate's own histories only: contradictions come from losses that nothing but
    // unclean elections causes, and the other one is too rare for the simulator (docs/mutants.md).
    ($task:expr, BelieveAnyAnswer) => {
        false
    };
    ($task:expr, ExpectCountsAsAcknowledged) => {
        false
    };
    ($task:expr, $rule:ident) => {
        headwater_mutants::lacks(headwater_mutants::Mutant::$rule)
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
