//! Running a step, and carrying out what the protocol wants done.

use super::Mail;
use super::driver::Failure;
use super::errors::CallPart;
use super::surroundings::{Surroundings, TaskGuest};
use super::takeover::Instance;
use crate::clock::Now;
use crate::fail_point::{FailPoint, reached};
use crate::metrics as names;
use crate::partition::ProposedBatch;
use crate::processor::host::PartitionOutput;
use bytes::{Bytes, BytesMut};
use headwater_core::producer::{Admission, ProducerRefusal};
use headwater_core::replica::{Outcome, Refusal};
use headwater_core::task::commit::{OutputBatch, StateChange, TimerChange};
use headwater_core::task::{OutputAnswer, OutputReply, StepRun, StopReason, TaskCommand, TaskEvent};
use headwater_protocol::batch::{BatchError, BatchHeader};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{LeaderEpoch, PartitionEpoch, TopicPartition};
use headwater_protocol::messages::processor::LogLevel;
use headwater_protocol::messages::records::Acks;
use headwater_state::ChangelogPosition;
use headwater_wasm_host::{CallError, InputBatch, Stopper, encode_timers};
use parking_lot::Mutex;

pub(super) type GuestStopper = Mutex<Option<Stopper>>;

impl<S: Surroundings> Instance<S> {
    /// Hands an event to the protocol.
    pub(super) fn handle(&mut self, now_ms: u64, event: TaskEvent) {
        let acknowledged = if let TaskEvent::OutputReply(reply) = &event {
            matches!(reply.answer, OutputAnswer::Ok(_))
        } else {
            false
        };
        self.task.handle(now_ms, event);
        if acknowledged {
            reached(FailPoint::AfterOutputAcknowledged);
        }
    }

    /// Runs one step if there is input or a timer; otherwise the instance is idle until news come.
    pub(super) fn run_step(&mut self, now: Now, stopper: &GuestStopper) -> Result<(), Failure> {
        let timers_only = self.trouble.timers_only() && self.has_due_timers();
        if timers_only {
            self.input.clear();
        } else if !self.read()? && !self.has_due_timers() {
            self.idle = true;
            return Ok(());
        }
        match self.run_guest(now.unix_ms, stopper) {
            Ok(run) => self.commit(now, run),
            Err((part, error)) => self.call_failed(now, part, &error),
        }
    }

    /// Reads from the first input, in turn, that has something.
    fn read(&mut self) -> Result<bool, Failure> {
        for place in 0..self.inputs.len() {
            let number = (self.turn + place) % self.inputs.len();
            let position = self.position(number);
            let read = self.input.read(&self.inputs[number], position, self.trouble.records.records());
            let found = read.map_err(|error| {
                let topic = &self.inputs[number].topic_name;
                Failure::new(format!("the input {topic}-{} can't be read: {error}", self.setting.task))
            })?;
            if found {
                self.turn = number;
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn has_due_timers(&self) -> bool {
        let stream_time = self.task.stream_time();
        stream_time.is_some_and(|stream_time| self.task.due_timers(stream_time).next().is_some())
    }

    /// Calls the guest: the records, then the timers that stream time has reached.
    fn run_guest(&mut self, unix_ms: i64, stopper: &GuestStopper) -> Result<StepRun, (CallPart, CallError)> {
        let assembly = self.input.assembly();
        let before = self.task.stream_time();
        let newest = assembly.index().timestamp_max().filter(|_| self.input.range().is_some());
        let has_records = self.input.range().is_some() && !assembly.is_empty();
        let batch = has_records.then(|| InputBatch {
            input: u32::try_from(self.turn).unwrap_or(u32::MAX),
            partition: self.setting.task,
            base_offset: assembly.base_offset(),
            stream_time: before.unwrap_or(-1),
            index: assembly.index().bytes(),
            data: assembly.data(),
        });
        let stream_time = before.max(newest);
        let due = self.due(stream_time.filter(|_| !self.trouble.records_only()));
        let timers = stream_time.zip(packed(&due));
        let timers = timers.as_ref().map(|(stream_time, packed)| (*stream_time, packed.as_slice()));
        self.trouble.timers_called = due.len();
        if let Some(shadow) = &mut self.shadow {
            shadow.run(&self.host, batch, timers, stopper);
        }
        if let Some(batch) = batch {
            self.guest.process(batch, stopper).map_err(|error| (CallPart::Records, error))?;
        }
        if let Some((stream_time, packed)) = timers {
            self.guest.on_timers(stream_time, packed, stopper).map_err(|error| (CallPart::Timers, error))?;
        }
        let mut run = StepRun {
            timestamp: unix_ms,
            inputs: self.input.range().into_iter().collect(),
            stream_time: newest,
            // Gone first: a guest that sets one of them again means a new time.
            timers: due.into_iter().map(|(_, id)| TimerChange { id, at: None }).collect(),
            ..StepRun::default()
        };
        let mut host = self.host.lock();
        if let Some(shadow) = &mut self.shadow {
            shadow.expect(host.trace());
        }
        run.timers.extend(host.take_timers().into_iter().map(|(id, at)| TimerChange { id, at }));
        Ok(run)
    }

    /// Timers that the step calls.
    fn due(&self, stream_time: Option<i64>) -> Vec<(i64, Bytes)> {
        let Some(stream_time) = stream_time else { return Vec::new() };
        let due = self.task.due_timers(stream_time).take(self.trouble.timers.records());
        due.map(|(at, id)| (at, id.clone())).collect()
    }

    /// Frames what the step emitted and hands all of it to the protocol.
    pub(super) fn commit(&mut self, now: Now, mut run: StepRun) -> Result<(), Failure> {
        let (records_in, records_out) = {
            let host = self.host.lock();
            (self.input.assembly().len() as u64, host.emitted_records())
        };
        let outputs = self.host.lock().take_outputs();
        let framed = self.frame(outputs).map_err(|error| {
            self.discard();
            Failure::new(format!("broker: an output can't be framed: {error}"))
        })?;
        run.outputs.extend(framed);
        let mut host = self.host.lock();
        let changes = host.overlay().open_changes();
        let changes =
            changes.iter().map(|change| StateChange { store: change.store.0, key: change.key, value: change.value });
        let step = self.task.run_step(now.ms, run, changes);
        match step {
            Ok(step) => {
                let pushed = host.overlay_mut().push(step);
                drop(host);
                pushed.map_err(|error| Failure::new(format!("broker: {error}")))?;
                self.committed(records_in, records_out);
                Ok(())
            }
            Err(error) => {
                drop(host);
                self.not_committed(now, &error)
            }
        }
    }

    fn committed(&mut self, records_in: u64, records_out: u64) {
        self.records_in += records_in;
        self.records_out += records_out;
        let more_timers = self.has_due_timers();
        let looking = self.trouble.committed(self.input.assembly().len(), more_timers);
        if !looking {
            self.turn = (self.turn + 1) % self.inputs.len().max(1);
        }
        if let Some(difference) = self.shadow.as_mut().and_then(|shadow| shadow.compare(records_in)) {
            let line = format!("the shadow differs, for the first time: {difference}");
            self.setting.log.write(self.setting.task, LogLevel::Warn, &line);
        }
        let processor = self.setting.processor.name.to_string();
        metrics::counter!(names::STEPS, "processor" => processor.clone()).increment(1);
        metrics::counter!(names::PROCESSED_RECORDS, "processor" => processor.clone()).increment(records_in);
        metrics::counter!(names::EMITTED_RECORDS, "processor" => processor.clone()).increment(records_out);
        let cpu_us = self.guest.cpu_us();
        metrics::counter!(names::GUEST_CPU_US, "processor" => processor)
            .increment(cpu_us.saturating_sub(self.cpu_us_counted));
        self.cpu_us_counted = cpu_us;
    }

    /// Numbers the records (STEP-8) and builds the batches.
    pub(super) fn frame(&self, outputs: Vec<PartitionOutput>) -> Result<Vec<OutputBatch>, BatchError> {
        let mut framed = Vec::new();
        for PartitionOutput { topic, partition, batches } in outputs {
            let output = TopicPartition { topic, partition };
            let mut first = self.task.next_number(output);
            for mut batch in batches {
                let count = u64::from(batch.record_count());
                let bytes = batch.build(self.task.stamp(first))?.freeze();
                framed.push(OutputBatch { output, first, bytes });
                first += count;
            }
        }
        Ok(framed)
    }

    /// Carries out every command; says why if the protocol ended this instance.
    pub(super) fn run_commands(&mut self, now_ms: u64) -> Option<StopReason> {
        while let Some(command) = self.task.poll_command() {
            match command {
                TaskCommand::AppendCommit { step, epoch, bytes } => self.append_commit(now_ms, step, epoch, bytes),
                TaskCommand::ApplyState { step, next_offset } => {
                    let settled = self.host.lock().overlay_mut().settle(ChangelogPosition { next_offset, step });
                    if let Err(error) = settled {
                        tracing::error!(%error, step, "a step's changes could not be applied");
                        return Some(StopReason::Bug("a step's changes could not be applied to the store"));
                    }
                    reached(FailPoint::AfterCommitDurable);
                }
                TaskCommand::Send { output, token, first, count, bytes, generation, epoch } => {
                    let upto = first + u64::from(count) - 1;
                    let sending = Sending { output, token, upto };
                    let admission =
                        |partition_epoch| Admission::TaskOutput { partition_epoch, generation, epoch, first };
                    self.send(sending, bytes, admission);
                    reached(FailPoint::AfterFirstOutputSent);
                }
                TaskCommand::Stop(reason) => return Some(reason),
            }
        }
        None
    }

    fn append_commit(&mut self, now_ms: u64, step: u64, epoch: LeaderEpoch, bytes: BytesMut) {
        reached(FailPoint::BeforeCommitAppend);
        let refused = move |reason: String| TaskEvent::CommitRefused { step, reason };
        let header = match BatchHeader::decode(&bytes) {
            Ok(header) => header,
            Err(error) => return self.task.handle(now_ms, refused(error.to_string())),
        };
        let mails = self.mails.clone();
        let reply = Box::new(move |outcome| {
            let event = match outcome {
                Outcome::Appended { next_offset, .. } => TaskEvent::CommitAppended { step, next_offset },
                Outcome::Duplicate { .. } => refused("the changelog has this step already".to_owned()),
                Outcome::Refused(refusal) => refused(refusal.to_string()),
            };
            mails.send_internal(Mail::Event(event));
        });
        let admission = Admission::TaskCommit { epoch, step };
        let proposed = ProposedBatch { header, bytes, acks: Acks::All, admission, permit: None, reply };
        if let Err(error) = self.changelog.propose(proposed) {
            self.task.handle(now_ms, TaskEvent::CommitRefused { step, reason: error.message });
        }
    }

    /// Sends outputs to their partition; the answer comes as mail.
    fn send(&self, sending: Sending, bytes: Bytes, admission: impl Fn(PartitionEpoch) -> Admission) {
        let answer = |answer| Mail::Event(sending.answered(answer));
        let found = self.surroundings.led(sending.output);
        let (led, admission) = match found.and_then(|led| Ok((led, self.surroundings.partition_epoch(sending.output)?)))
        {
            Ok((led, partition_epoch)) => (led, admission(partition_epoch)),
            Err(error) => return self.mails.send_internal(answer(unreachable(error))),
        };
        // The batch is kept until it is acknowledged, so its leader stamps a copy.
        let bytes = BytesMut::from(&bytes[..]);
        let header = match BatchHeader::decode(&bytes) {
            Ok(header) => header,
            Err(error) => return self.mails.send_internal(answer(OutputAnswer::Refused(error.to_string()))),
        };
        let mails = self.mails.clone();
        let reply = Box::new(move |outcome| {
            reached(FailPoint::BeforeOutputAcknowledged);
            mails.send_internal(Mail::Event(sending.answered(sending.answer(outcome))));
        });
        let proposed = ProposedBatch { header, bytes, acks: Acks::All, admission, permit: None, reply };
        if let Err(error) = led.propose(proposed) {
            self.mails.send_internal(answer(unreachable(error)));
        }
    }
}

/// Due timers as a guest is told of them; none if there are none.
fn packed(due: &[(i64, Bytes)]) -> Option<Vec<u8>> {
    if due.is_empty() {
        return None;
    }
    let mut packed = Vec::new();
    let encoded = encode_timers(due.iter().map(|(at, id)| (*at, id.as_ref())), &mut packed);
    #[expect(clippy::expect_used, reason = "no id is longer than TIMER_ID_BYTES_MAX")]
    encoded.expect("ids are checked when they are set");
    Some(packed)
}

/// One send on its way.
#[derive(Clone, Copy)]
struct Sending {
    output: TopicPartition,
    token: u64,
    /// Number of its last record.
    upto: u64,
}

impl Sending {
    fn answered(self, answer: OutputAnswer) -> TaskEvent {
        TaskEvent::OutputReply(OutputReply { output: self.output, token: self.token, answer })
    }

    fn answer(self, outcome: Outcome) -> OutputAnswer {
        match outcome {
            Outcome::Appended { .. } | Outcome::Duplicate { .. } => OutputAnswer::Ok(self.upto),
            Outcome::Refused(Refusal::Producer(ProducerRefusal::Expect { number })) => OutputAnswer::Expect(number),
            Outcome::Refused(Refusal::Producer(ProducerRefusal::Fenced { .. })) => OutputAnswer::Fenced,
            Outcome::Refused(
                Refusal::Busy
                | Refusal::Closing
                | Refusal::NotEnoughReplicas { .. }
                | Refusal::PartitionEpoch { .. }
                | Refusal::AppendFailed(_),
            ) => OutputAnswer::Retry,
            Outcome::Refused(refusal) => OutputAnswer::Refused(refusal.to_string()),
        }
    }
}

/// What it means that a partition can't be asked.
fn unreachable(error: ApiError) -> OutputAnswer {
    match error.code {
        ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition => OutputAnswer::Refused(error.message),
        _ => OutputAnswer::Retry,
    }
}
