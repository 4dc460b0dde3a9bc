//! A step's results become its commit.

use super::{Task, TaskCommand, without};
use crate::producer::sequence::{low_bits, low_epoch};
use crate::task::commit::{
    CommitContents, CommitError, Decision, InputPosition, InputRange, OutputBatch, OutputForm, OutputTouched,
    StateChange, StepRecord, TimerChange,
};
use crate::task::image::Pending;
use crate::task::limits::TIMER_ID_BYTES_MAX;
use crate::task::output::{OutputQueue, Queued};
use headwater_protocol::batch::{BatchError, BatchHeader};
use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;

/// What a step did, beside its state changes.
#[derive(Clone, Debug, Default)]
pub struct StepRun {
    /// Timestamp of the commit's records, in ms since the Unix epoch.
    pub timestamp: i64,
    /// What it read, all of it below the inputs' high watermarks (STEP-5). Empty for a step of timers alone.
    pub inputs: Vec<InputRange>,
    /// Largest timestamp of those records, if there are any.
    pub stream_time: Option<i64>,
    /// Timers that fired (as gone), then those that the guest set and cancelled; the last change of an id stands.
    pub timers: Vec<TimerChange>,
    /// Records that the error policy took out.
    pub decisions: Vec<Decision>,
    /// Framed outputs, numbered from [`Task::next_number`] and stamped with [`Task::stamp`].
    pub outputs: Vec<OutputBatch>,
}

/// Why a step can't be committed. Nothing has changed; drop its changes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StepError {
    /// The instance has ended.
    #[error("the task has stopped")]
    Stopped,
    /// Us: [`Task::may_run`] was false.
    #[error("the task has no room for another uncommitted step; this broker has a bug")]
    WindowFull,
    /// Guest: see [`CommitError::TooLarge`]. With one record, the error policy decides.
    #[error("the step's commit of {records} records needs more than {max} bytes: run it on fewer records")]
    TooLarge {
        /// Bytes that a commit may have.
        max: usize,
        /// Records that the step read.
        records: u64,
    },
    /// Guest: more timers than a task may have, or one with too long an id.
    #[error(
        "the step sets too many timers, or one whose id is too long; the limits are {timers_max} and {id_bytes_max}"
    )]
    Timers {
        /// Timers of a task.
        timers_max: usize,
        /// Bytes of an id.
        id_bytes_max: usize,
    },
    /// Us: it does not read on where the last step ended (OUT-3).
    #[error("the step reads {input} from offset {from}, it should be {position}; this broker has a bug")]
    InputHole {
        /// The input partition.
        input: TopicPartition,
        /// Where it reads from.
        from: i64,
        /// Where it should.
        position: i64,
    },
    /// Us: an output batch is not numbered or stamped as it was told.
    #[error("an output batch for {output} is not number {expected} of this task; this broker has a bug")]
    WrongNumber {
        /// The output partition.
        output: TopicPartition,
        /// The number that comes next.
        expected: u64,
    },
    /// Us: an output is no batch.
    #[error("an output is no record batch ({0}); this broker has a bug")]
    Output(#[source] BatchError),
    /// Us: the step can't be encoded.
    #[error("the step can't be encoded: {0}")]
    Commit(#[source] CommitError),
}

/// Output batches that were checked, and the numbers they lead to.
type Numbered = (Vec<OutputTouched>, BTreeMap<TopicPartition, u64>);

impl Task {
    /// Takes a finished step: allocates its number and those of its outputs, encodes its commit
    /// ([`TaskCommand::AppendCommit`]) and queues its outputs until the commit is durable. Answers with the step's
    /// number, under which the overlay keeps its changes until [`TaskCommand::ApplyState`].
    ///
    /// # Errors
    /// [`StepError`]; nothing has changed.
    pub fn run_step<'c>(
        &mut self,
        now_ms: u64,
        run: StepRun,
        changes: impl IntoIterator<Item = StateChange<'c>>,
    ) -> Result<u64, StepError> {
        if self.stopped.is_some() {
            return Err(StepError::Stopped);
        }
        if self.pending.len() >= self.config.limits.uncommitted_steps_max {
            return Err(StepError::WindowFull);
        }
        self.check_inputs(&run.inputs)?;
        self.check_timers(&run.timers)?;
        let numbered = self.check_outputs(&run.outputs)?;
        let step = self.commit(run, numbered, changes)?;
        self.pump(now_ms);
        Ok(step)
    }

    fn check_inputs(&self, ranges: &[InputRange]) -> Result<(), StepError> {
        let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for InputRange { input, from, to, .. } in ranges {
            let before = ends.get(input).copied();
            let before = before.or_else(|| self.positions.get(input).map(|position| position.next_offset));
            let position = before.unwrap_or(*from);
            if position != *from || to < from {
                return Err(StepError::InputHole { input: *input, from: *from, position });
            }
            ends.insert(*input, *to);
        }
        Ok(())
    }

    fn check_timers(&self, timers: &[TimerChange]) -> Result<(), StepError> {
        let timers_max = self.config.limits.timers_max;
        let too_long = timers.iter().any(|timer| timer.id.len() > TIMER_ID_BYTES_MAX);
        if too_long || (!timers.is_empty() && self.timers.len_after(timers) > timers_max) {
            return Err(StepError::Timers { timers_max, id_bytes_max: TIMER_ID_BYTES_MAX });
        }
        Ok(())
    }

    fn check_outputs(&self, outputs: &[OutputBatch]) -> Result<Numbered, StepError> {
        let mut touched = Vec::with_capacity(outputs.len());
        let mut numbers = BTreeMap::new();
        for batch in outputs {
            let next = numbers.entry(batch.output).or_insert_with(|| self.next_number(batch.output));
            let header = BatchHeader::decode(&batch.bytes).map_err(StepError::Output)?;
            let stamp = self.stamp(*next);
            let told = batch.first == *next
                && header.producer_id == stamp.producer_id
                && header.producer_epoch == stamp.producer_epoch
                && header.base_sequence == stamp.base_sequence
                && header.last_offset_delta == header.record_count - 1
                && header.total_bytes() == batch.bytes.len();
            let count = u32::try_from(header.record_count).ok().filter(|count| told && *count > 0);
            let count = count.ok_or(StepError::WrongNumber { output: batch.output, expected: *next })?;
            touched.push(batch.touched(count));
            *next += u64::from(count);
        }
        Ok((touched, numbers))
    }

    fn commit<'c>(
        &mut self,
        run: StepRun,
        (touched, numbers): Numbered,
        changes: impl IntoIterator<Item = StateChange<'c>>,
    ) -> Result<u64, StepError> {
        let step = self.next_step();
        let record = StepRecord {
            step,
            generation: self.config.producer.generation,
            epoch: self.epoch,
            revision: self.config.revision,
            floor: self.floor_with(!touched.is_empty()),
            form: OutputForm::Inline,
            inputs: run.inputs,
            decisions: run.decisions,
            outputs: touched,
        };
        let numbers: Vec<_> = numbers.into_iter().collect();
        // STR-7: stream time never goes back.
        let stream_time = run.stream_time.filter(|time| self.stream_time.is_none_or(|before| *time > before));
        let contents = CommitContents {
            timestamp: run.timestamp,
            step: &record,
            numbers: &numbers,
            stream_time,
            timers: &run.timers,
            outbox: &run.outputs,
        };
        let mut stamp = self.stamp(0);
        (stamp.producer_epoch, stamp.base_sequence) = (low_epoch(self.epoch), low_bits(step));
        let bytes = self.encoder.encode(&contents, changes, stamp).map_err(|error| match error {
            CommitError::TooLarge { max } => {
                let records = record.inputs.iter().map(|range| u64::from(range.record_count)).sum();
                StepError::TooLarge { max, records }
            }
            error => StepError::Commit(error),
        })?;
        // Nothing can fail from here on.
        self.timestamp = run.timestamp;
        self.stream_time = stream_time.or(self.stream_time);
        for timer in &run.timers {
            self.timers.apply(timer);
        }
        for range in &record.inputs {
            let position = InputPosition { next_offset: range.to, leader_epoch: range.leader_epoch };
            self.positions.insert(range.input, position);
        }
        self.queue(&record, run.outputs);
        self.recorded_floor = record.floor;
        self.pending.push_back(Pending { step, next_offset: None, floor: record.floor });
        self.commands.push_back(TaskCommand::AppendCommit { step, epoch: self.epoch, bytes });
        Ok(step)
    }

    /// The floor that the next commit records, given whether its step has outputs.
    fn floor_with(&self, has_outputs: bool) -> u64 {
        let next_step = self.next_step();
        if without!(self, FloorCountsSends) {
            return next_step + u64::from(!has_outputs);
        }
        let floor = self.window.floor();
        debug_assert!(floor >= self.recorded_floor, "the floor never falls (STEP-12)");
        if floor == next_step && !has_outputs { next_step + 1 } else { floor }
    }

    fn queue(&mut self, record: &StepRecord, outputs: Vec<OutputBatch>) {
        let bytes = outputs.iter().map(|batch| batch.bytes.len()).sum();
        // A commit has less than 2^31 records, so the count fits.
        self.window.push(outputs.len() as u32, bytes);
        for (batch, touched) in outputs.into_iter().zip(&record.outputs) {
            let queue = self.outputs.entry(batch.output).or_insert_with(|| OutputQueue::new(0));
            queue.push(Queued { step: record.step, first: batch.first, count: touched.count, bytes: batch.bytes });
        }
    }

    /// Whether a floor that moved may be recorded by an empty commit. One place is left for the step that may be
    /// running meanwhile.
    pub(super) fn may_record_floor(&self) -> bool {
        self.pending.len() + 1 < self.config.limits.uncommitted_steps_max
    }

    /// Appends an empty commit, for its floor (STEP-12).
    pub(super) fn record_floor(&mut self) -> Result<u64, StepError> {
        let run = StepRun { timestamp: self.timestamp, ..StepRun::default() };
        self.commit(run, Numbered::default(), std::iter::empty())
    }
}
