//! What follows a call that failed: the culprit is looked for, tried again, and then the error policy decides (STR-12).
//!
//! ```text
//!   a call fails ─► on many records: fewer of them (Bisection) ─► … ─► on one: again, `retries` times
//!                                                                        │
//!                  fail: the task stops in front of it ◄─────────────────┤
//!                  skip: a commit that reads past it and says so ◄───────┤
//!                  dead letter: the same, with the record as an output ◄─┘
//! ```
//!
//! Timers that fail are told apart from the records whose step they were called in: the records are committed alone,
//! then the timers are called alone, fewer and fewer of them.

use super::driver::Failure;
use super::guest::{Blame, Verdict, judge};
use super::surroundings::{Surroundings, TaskGuest};
use super::takeover::Instance;
use crate::clock::Now;
use crate::metrics as names;
use crate::processor::host::PartitionOutput;
use crate::processor::input::InputRecord;
use bytes::{BufMut, Bytes, BytesMut};
use headwater_core::cluster::ErrorEnd;
use headwater_core::task::commit::{Decision, DecisionKind, TimerChange};
use headwater_core::task::{Bisection, StepError, StepRun};
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchBuilder, Compression};
use headwater_protocol::ids::TopicId;
use headwater_protocol::messages::processor::{LogLevel, TaskError};
use headwater_protocol::varint;
use headwater_wasm_host::CallError;

/// Timers that one step runs; the rest have the next one.
const TIMERS_PER_STEP_MAX: usize = 1000;
/// Bytes of a dead letter's cause header; the rest is cut off.
const CAUSE_BYTES_MAX: usize = 4 << 10;

/// Which part of a step failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallPart {
    /// The call with records.
    Records,
    /// The call with timers behind it.
    Timers,
}

/// How steps are put together after timers failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Apart {
    /// Records and timers in one step, as usual.
    No,
    /// The step that comes has records and calls no timers.
    RecordsOnly,
    /// The steps that come have timers and no records, until none is due.
    TimersOnly,
}

/// What is known of the present trouble; none, most of the time.
pub(super) struct Trouble {
    /// How many records a call takes.
    pub(super) records: Bisection,
    /// How many timers.
    pub(super) timers: Bisection,
    /// Timers that the last call had.
    pub(super) timers_called: usize,
    apart: Apart,
    /// Calls on the culprit alone that failed.
    attempts: u32,
}

impl Trouble {
    /// No trouble, and at most so many records a call.
    pub(super) fn new(records_max: usize) -> Self {
        Self {
            records: Bisection::new(records_max),
            timers: Bisection::new(TIMERS_PER_STEP_MAX),
            timers_called: 0,
            apart: Apart::No,
            attempts: 0,
        }
    }

    /// Whether the next step calls no timers.
    pub(super) fn records_only(&self) -> bool {
        self.apart == Apart::RecordsOnly
    }

    /// Whether the next step reads no records while timers are due.
    pub(super) fn timers_only(&self) -> bool {
        self.apart == Apart::TimersOnly
    }

    /// A step is committed. Whether the search goes on at the same input.
    pub(super) fn committed(&mut self, records: usize, more_timers: bool) -> bool {
        self.attempts = 0;
        self.records.succeeded(records);
        self.timers.succeeded(std::mem::take(&mut self.timers_called));
        self.apart = if self.apart != Apart::No && more_timers { Apart::TimersOnly } else { Apart::No };
        self.records.is_searching()
    }
}

impl<S: Surroundings> Instance<S> {
    /// The guest's call failed: nothing of it stays.
    pub(super) fn call_failed(&mut self, now: Now, part: CallPart, error: &CallError) -> Result<(), Failure> {
        self.discard();
        let blame = match judge(error) {
            Verdict::Blame(blame) => blame,
            Verdict::Broken(message) => return Err(Failure::new(message)),
            Verdict::Stopped => return Ok(()),
        };
        let processor = self.setting.processor.name.to_string();
        metrics::counter!(names::GUEST_FAILURES, "processor" => processor, "kind" => blame.kind).increment(1);
        match part {
            CallPart::Records => self.records_failed(now, &blame),
            CallPart::Timers => self.timers_failed(now, &blame),
        }
    }

    fn records_failed(&mut self, now: Now, blame: &Blame) -> Result<(), Failure> {
        let records = self.input.assembly().len();
        if records > 1 {
            tracing::debug!(task = self.setting.task, error = blame.message, records, "a call failed: again on fewer");
            if blame.too_large {
                self.trouble.records.too_large(records);
            } else {
                self.trouble.records.failed(records, blame.named);
            }
            return Ok(());
        }
        self.trouble.records.alone();
        self.culprit(now, &blame.message)
    }

    fn timers_failed(&mut self, now: Now, blame: &Blame) -> Result<(), Failure> {
        if !self.input.assembly().is_empty() {
            // The records are not to blame: they are committed first, and the timers called alone.
            self.trouble.apart = Apart::RecordsOnly;
            return Ok(());
        }
        let timers = self.trouble.timers_called;
        if timers > 1 {
            self.trouble.timers.failed(timers, blame.named);
            return Ok(());
        }
        self.trouble.apart = Apart::TimersOnly;
        self.trouble.timers.alone();
        self.culprit(now, &blame.message)
    }

    /// The step could not be committed.
    pub(super) fn not_committed(&mut self, now: Now, error: &StepError) -> Result<(), Failure> {
        self.discard();
        let records = self.input.assembly().len();
        match error {
            StepError::Stopped => return Ok(()),
            StepError::TooLarge { .. } | StepError::Timers { .. } => {}
            _ => return Err(Failure::new(format!("broker: {error}"))),
        }
        match (records, self.trouble.timers_called) {
            (2.., _) => self.trouble.records.too_large(records),
            // One record may fit where it and the timers behind it do not.
            (1, 1..) => self.trouble.apart = Apart::RecordsOnly,
            (0, timers @ 2..) => self.trouble.timers.too_large(timers),
            _ => return self.culprit(now, &format!("guest: {error}")),
        }
        Ok(())
    }

    /// One record, or one timer, is left, and it can't be processed.
    fn culprit(&mut self, now: Now, message: &str) -> Result<(), Failure> {
        self.trouble.attempts += 1;
        let errors = self.setting.processor.errors;
        if self.trouble.attempts <= errors.retries {
            return Ok(());
        }
        self.trouble.attempts = 0;
        let failure = self.failure(message);
        let what = match &failure.record {
            Some((topic, partition, offset)) => format!("record {topic}-{partition}@{offset}"),
            None => self.due_timer().map_or_else(|| "nothing".to_owned(), |(at, id)| timer_name(at, &id)),
        };
        let dead_letters = match errors.then {
            ErrorEnd::Fail => return Err(failure),
            ErrorEnd::Skip => None,
            ErrorEnd::DeadLetter(topic) => Some(topic),
        };
        let run = self.step_past(now, message, dead_letters)?;
        let step = self.task.next_step();
        self.commit(now, run)?;
        if self.task.next_step() == step {
            // Only a dead letter that no commit has room for; trying again would never end.
            return Err(failure);
        }
        self.trouble.records.found();
        self.trouble.timers.found();
        let (kind, metric) = if dead_letters.is_some() {
            self.dead_lettered += 1;
            ("written to the dead letter topic", names::DEAD_LETTERS)
        } else {
            self.skipped += 1;
            ("skipped", names::SKIPPED_RECORDS)
        };
        metrics::counter!(metric, "processor" => self.setting.processor.name.to_string()).increment(1);
        self.setting.log.write(self.setting.task, LogLevel::Error, &format!("{what} was {kind}: {}", failure.message));
        self.noted = Some(TaskError { message: failure.message, record: failure.record, at: now.unix_ms });
        Ok(())
    }

    fn failure(&self, message: &str) -> Failure {
        let record = self.input.offset(0).zip(self.inputs.get(self.turn));
        let record = record.map(|(offset, view)| (view.topic_name.clone(), view.id.partition, offset));
        let timer = if record.is_none() { self.due_timer() } else { None };
        let message = match timer {
            Some((at, id)) => format!("{}: {message}", timer_name(at, &id)),
            None => message.to_owned(),
        };
        Failure { message, record }
    }

    /// The step that leaves the culprit out. It does not move stream time: a record that can't be processed shall not
    /// close anybody's windows.
    fn step_past(&self, now: Now, message: &str, dead_letters: Option<TopicId>) -> Result<StepRun, Failure> {
        let kind = if dead_letters.is_some() { DecisionKind::DeadLettered } else { DecisionKind::Skipped };
        let mut run =
            StepRun { timestamp: now.unix_ms, inputs: self.input.range().into_iter().collect(), ..StepRun::default() };
        let record = self.input.record(0);
        let timer = if record.is_none() { self.due_timer() } else { None };
        if let (Some(range), Some(offset)) = (run.inputs.first(), self.input.offset(0)) {
            run.decisions.push(Decision::new(range.input, offset, kind, message));
        }
        if let Some(topic) = dead_letters {
            let timer_record =
                timer.as_ref().map(|(at, id)| InputRecord { timestamp: *at, key: Some(id), value: None, headers: &[] });
            if let Some(record) = record.or(timer_record) {
                let letter = self.dead_letter(topic, record, message)?;
                let framed = self.frame(vec![letter]);
                run.outputs = framed.map_err(|error| Failure::new(format!("broker: a dead letter: {error}")))?;
            }
        }
        run.timers.extend(timer.map(|(_, id)| TimerChange { id, at: None }));
        Ok(run)
    }

    fn due_timer(&self) -> Option<(i64, Bytes)> {
        let stream_time = self.task.stream_time()?;
        self.task.due_timers(stream_time).next().map(|(at, id)| (at, id.clone()))
    }

    /// The record as it came, with the reason in its headers (as Kafka Connect's dead letters have it).
    fn dead_letter(&self, id: TopicId, record: InputRecord<'_>, cause: &str) -> Result<PartitionOutput, Failure> {
        let setting = &self.setting;
        let topic = setting.image.topic(id);
        let topic = topic.ok_or_else(|| Failure::new(format!("the dead letter topic {id} is gone")))?;
        let place = self.input.offset(0).zip(self.inputs.get(self.turn));
        let (offset, input) = match place {
            Some((offset, view)) => (offset.to_string(), view.topic_name.clone()),
            None => (String::new(), String::new()),
        };
        let (task, revision) = (setting.task.to_string(), setting.processor.revision.to_string());
        let digest = setting.processor.module.digest.to_string();
        let cause = cause.get(..cause.floor_char_boundary(CAUSE_BYTES_MAX)).unwrap_or_default();
        let added = [
            ("__headwater.errors.topic", input.as_str()),
            ("__headwater.errors.partition", task.as_str()),
            ("__headwater.errors.offset", offset.as_str()),
            ("__headwater.errors.cause", cause),
            ("__headwater.errors.processor", setting.processor.name.as_ref()),
            ("__headwater.errors.revision", revision.as_str()),
            ("__headwater.errors.module.digest", digest.as_str()),
        ];
        let headers = with_headers(record.headers, &added)
            .ok_or_else(|| Failure::new("broker: a record's headers can't be read, this broker has a bug"))?;
        let mut batch = BatchBuilder::new(Compression::None);
        batch
            .append_raw_headers(record.timestamp, record.key, record.value, &headers)
            .map_err(|error| Failure::new(format!("broker: a dead letter can't be framed: {error}")))?;
        let (bytes, bytes_max) = (batch.size_bytes(), topic.settings.max_message_bytes as usize);
        if bytes.max(BATCH_HEADER_BYTES) > bytes_max {
            let name = &topic.name;
            let message = format!(
                "a dead letter has {bytes} bytes, topic {name} takes {bytes_max}: raise its max.message.bytes; \
                 the cause was: {cause}"
            );
            return Err(self.failure(&message));
        }
        // Where a reader of the input's partition looks for it, while there are as many.
        let partition = setting.task % topic.partition_count().max(1);
        Ok(PartitionOutput { topic: id, partition, batches: vec![batch] })
    }

    /// Nothing of the call may stay: neither what it did nor what its instance remembers of it.
    pub(super) fn discard(&mut self) {
        if let Some(shadow) = &mut self.shadow {
            shadow.forget();
        }
        self.host.lock().discard();
        self.guest.drop_instance();
    }
}

/// How people are told of a timer.
fn timer_name(at: i64, id: &[u8]) -> String {
    format!("timer {:?} at {at}", String::from_utf8_lossy(id))
}

/// Encoded headers with more of them behind; `None` if they are none.
fn with_headers(headers: &[u8], added: &[(&str, &str)]) -> Option<Vec<u8>> {
    let (count, count_bytes) = if headers.is_empty() { (0, 0) } else { varint::read_i32(headers).ok()? };
    let mut encoded = BytesMut::with_capacity(headers.len() + CAUSE_BYTES_MAX);
    varint::put(&mut encoded, i64::from(count) + i64::try_from(added.len()).ok()?);
    encoded.put_slice(headers.get(count_bytes..)?);
    for (name, value) in added {
        for part in [name, value] {
            varint::put(&mut encoded, i64::try_from(part.len()).ok()?);
            encoded.put_slice(part.as_bytes());
        }
    }
    Some(encoded.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::batch::{BatchLimits, ProducerStamp, RecordBatch};

    #[test]
    fn headers_are_added_behind_those_that_are_there() {
        let read = |raw: &[u8]| -> Vec<(String, Option<Vec<u8>>)> {
            let mut batch = BatchBuilder::new(Compression::None);
            batch.append_raw_headers(5, None, None, raw).unwrap();
            let bytes = batch.build(ProducerStamp::NONE).unwrap().freeze();
            let batch = RecordBatch::decode(bytes).unwrap();
            let records = batch.records(&BatchLimits::INTERNAL).unwrap();
            let record = records.iter().next().unwrap().unwrap();
            record
                .headers()
                .map(|header| header.unwrap())
                .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                .collect()
        };
        let added = with_headers(&[], &[("a", "1")]).unwrap();
        assert_eq!(read(&added), [("a".to_owned(), Some(b"1".to_vec()))]);
        let both = with_headers(&added, &[("b", ""), ("c", "é")]).unwrap();
        let names: Vec<String> = read(&both).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(with_headers(&[0x80], &[]), None);
    }
}
