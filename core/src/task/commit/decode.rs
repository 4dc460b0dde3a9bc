//! The bytes of a commit back to what the step did, checked to the last record.

use super::key::{Fields, Key, Kind};
use super::{CommitError, InputPosition, OutputForm, OutputTouched, StateChange, StepRecord, TimerChange};
use crate::producer::sequence::{low_bits, low_epoch};
use crate::task::limits::TIMER_ID_BYTES_MAX;
use bytes::Bytes;
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, BatchLimits, RecordBatch, Records};
use headwater_protocol::ids::{LeaderEpoch, TaskProducer, TopicPartition};
use std::collections::BTreeMap;

/// A framed batch of outputs, as a commit holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutboxBatch {
    /// The output partition.
    pub output: TopicPartition,
    /// Number of its first record.
    pub first: u64,
    /// Its records.
    pub count: u32,
    /// The batch, verbatim. Shares the commit's bytes.
    pub bytes: Bytes,
}

/// A commit that was read: its parts agree with each other and with the batch's header.
///
/// Memory is bounded by the batch: each part is a record of it, and what is large shares its bytes.
#[derive(Clone, Debug)]
pub struct Commit {
    header: BatchHeader,
    task: TaskProducer,
    step: StepRecord,
    positions: Vec<(TopicPartition, InputPosition)>,
    numbers: Vec<(TopicPartition, u64)>,
    stream_time: Option<i64>,
    timers: Vec<TimerChange>,
    outbox: Vec<OutboxBatch>,
    change_count: usize,
    records: Records,
}

impl Commit {
    /// Whether a batch of a changelog is a commit by its header; others (control batches) are not read by tasks.
    pub fn is_commit(header: &BatchHeader) -> bool {
        !header.is_control() && header.producer().is_some_and(|producer| producer.is_task())
    }

    /// Reads a commit.
    ///
    /// # Errors
    /// [`CommitError`] for bytes that no encoder wrote; never panics, allocates no more than the batch has room for.
    pub fn decode(batch: &RecordBatch) -> Result<Self, CommitError> {
        let header = *batch.header();
        if !Self::is_commit(&header) {
            return Err(CommitError::NotACommit(header.producer_id));
        }
        let task = header.producer().and_then(|producer| producer.task());
        let task = task.ok_or(CommitError::NotACommit(header.producer_id))?;
        let records = batch.records(&BatchLimits::INTERNAL)?;
        let mut iter = records.iter();
        let step = match iter.next().transpose()? {
            Some(record) if record.key.map(Key::decode).transpose()? == Some(Key::Step) => {
                StepRecord::decode(record.value.unwrap_or_default())?
            }
            _ => return Err(CommitError::Malformed("its first record is not the step record")),
        };
        let mut commit = Self {
            header,
            task,
            step,
            positions: Vec::new(),
            numbers: Vec::new(),
            stream_time: None,
            timers: Vec::new(),
            outbox: Vec::new(),
            change_count: 0,
            records: records.clone(),
        };
        commit.check_header()?;
        let mut kind = Kind::Step;
        for record in iter {
            let record = record?;
            let key = Key::decode(record.key.ok_or(CommitError::Malformed("a record has no key"))?)?;
            if key.kind() < kind || key.kind() == Kind::Step {
                return Err(CommitError::Malformed("its records are out of order"));
            }
            kind = key.kind();
            let value = record.value_range().map(|range| records.payload().slice(range));
            commit.take(key, value)?;
        }
        commit.check_whole()?;
        Ok(commit)
    }

    fn check_header(&self) -> Result<(), CommitError> {
        let StepRecord { step, generation, epoch, form: OutputForm::Inline, .. } = self.step;
        let agrees = self.header.base_sequence == low_bits(step)
            && self.header.producer_epoch == low_epoch(epoch)
            && self.task.generation == generation;
        if agrees { Ok(()) } else { Err(CommitError::Malformed("step record and batch header name different steps")) }
    }

    fn take(&mut self, key: Key<'_>, value: Option<Bytes>) -> Result<(), CommitError> {
        let present = value.as_deref().ok_or(CommitError::Malformed("a record has no value"));
        match key {
            Key::Step => return Err(CommitError::Malformed("its records are out of order")),
            Key::Position(input) => {
                let mut fields = Fields(present?);
                let (next_offset, leader_epoch) = (fields.i64()?, LeaderEpoch(fields.i32()?));
                self.positions.push((input, fields.end(InputPosition { next_offset, leader_epoch })?));
            }
            Key::Number(output) => {
                let mut fields = Fields(present?);
                let next = fields.u64()?;
                self.numbers.push((output, fields.end(next)?));
            }
            Key::StreamTime => {
                let mut fields = Fields(present?);
                let stream_time = fields.i64()?;
                self.stream_time = Some(fields.end(stream_time)?);
            }
            Key::Timer(id) => {
                if id.len() > TIMER_ID_BYTES_MAX {
                    return Err(CommitError::Malformed("a timer's id is too long"));
                }
                let at = value.as_deref().map(|value| {
                    let mut fields = Fields(value);
                    let at = fields.i64()?;
                    fields.end(at)
                });
                self.timers.push(TimerChange { id: self.records.payload().slice_ref(id), at: at.transpose()? });
            }
            Key::State { .. } => self.change_count += 1,
            Key::Outbox { step, ordinal, output, first, count } => {
                let bytes = value.ok_or(CommitError::Malformed("an output has no batch"))?;
                let touched = self.step.outputs.get(self.outbox.len());
                let touched =
                    touched.ok_or(CommitError::Malformed("it holds outputs that the step record does not"))?;
                let named = (touched.output, touched.first, touched.count) == (output, first, count);
                if step != self.step.step || usize::try_from(ordinal) != Ok(self.outbox.len()) || !named {
                    return Err(CommitError::Malformed("an output is not the one that the step record names"));
                }
                check_output(&self.header, touched, &bytes)?;
                self.outbox.push(OutboxBatch { output, first, count, bytes });
            }
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), CommitError> {
        let positions = self
            .step
            .inputs
            .iter()
            .map(|range| (range.input, InputPosition { next_offset: range.to, leader_epoch: range.leader_epoch }));
        if !positions.eq(self.positions.iter().copied()) {
            return Err(CommitError::Malformed("positions are not the ends of its input ranges"));
        }
        if self.outbox.len() != self.step.outputs.len() {
            return Err(CommitError::Malformed("it lacks outputs that the step record names"));
        }
        let mut numbers: BTreeMap<TopicPartition, u64> = BTreeMap::new();
        for touched in &self.step.outputs {
            let next = numbers.entry(touched.output).or_insert(touched.first);
            if *next != touched.first {
                return Err(CommitError::Malformed("output numbers leave a hole (STEP-8)"));
            }
            // The sum was checked when the step record was decoded.
            *next = touched.first.saturating_add(u64::from(touched.count));
        }
        if !numbers.into_iter().eq(self.numbers.iter().copied()) {
            return Err(CommitError::Malformed("next numbers do not follow its outputs (STEP-8)"));
        }
        Ok(())
    }

    /// Whose commit it is, and of which generation.
    pub fn task(&self) -> TaskProducer {
        self.task
    }

    /// Record 0.
    pub fn step(&self) -> &StepRecord {
        &self.step
    }

    /// Offset of its first record.
    pub fn base_offset(&self) -> i64 {
        self.header.base_offset
    }

    /// One past the offset of its last record: the commit is durable when the high watermark has reached it.
    pub fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// Timestamp of its records, in ms since the Unix epoch.
    pub fn timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// Bytes of the whole batch.
    pub fn size_bytes(&self) -> usize {
        self.header.total_bytes()
    }

    /// Where to go on reading the inputs that the step read.
    pub fn positions(&self) -> &[(TopicPartition, InputPosition)] {
        &self.positions
    }

    /// Next number of each output partition that the step wrote to, ordered by partition.
    pub fn numbers(&self) -> &[(TopicPartition, u64)] {
        &self.numbers
    }

    /// Stream time after the step, if it moved.
    pub fn stream_time(&self) -> Option<i64> {
        self.stream_time
    }

    /// Timers set and gone.
    pub fn timers(&self) -> &[TimerChange] {
        &self.timers
    }

    /// The outputs, in the order in which they were emitted.
    pub fn outbox(&self) -> &[OutboxBatch] {
        &self.outbox
    }

    /// Number of state changes.
    pub fn change_count(&self) -> usize {
        self.change_count
    }

    /// State changes, in order, borrowed.
    pub fn changes(&self) -> impl Iterator<Item = StateChange<'_>> {
        changes_of(&self.records)
    }

    /// State changes, in order, as (store, key, value or delete) that share the commit's bytes.
    pub fn shared_changes(&self) -> impl Iterator<Item = (u32, Bytes, Option<Bytes>)> {
        let payload = self.records.payload();
        self.changes().map(|StateChange { store, key, value }| {
            (store, payload.slice_ref(key), value.map(|value| payload.slice_ref(value)))
        })
    }
}

/// The state changes among records, in order.
pub(super) fn changes_of(records: &Records) -> impl Iterator<Item = StateChange<'_>> {
    // Decoding has read every record once, so errors can't occur here.
    records.iter().map_while(Result::ok).filter_map(|record| match Key::decode(record.key?) {
        Ok(Key::State { store, key }) => Some(StateChange { store, key, value: record.value }),
        _ => None,
    })
}

/// An output batch is one that the output partition will take, and the one whose digest the step record has (STEP-14).
fn check_output(commit: &BatchHeader, touched: &OutputTouched, bytes: &Bytes) -> Result<(), CommitError> {
    let header = *RecordBatch::decode(bytes.clone())?.header();
    if header.producer_id != commit.producer_id
        || header.producer_epoch != commit.producer_epoch
        || header.base_sequence != low_bits(touched.first)
        || i64::from(header.record_count) != i64::from(touched.count)
        || header.last_offset_delta != header.record_count - 1
        || header.record_count < 1
    {
        return Err(CommitError::Malformed("an output batch is not stamped as its step and number say"));
    }
    let records = bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
    if crc32c::crc32c(records) != touched.crc {
        return Err(CommitError::Malformed("an output batch is not the one that was committed (STEP-14)"));
    }
    Ok(())
}
