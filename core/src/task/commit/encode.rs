//! A step's results to the bytes of its commit.

use super::key::Key;
use super::{CommitError, OutputTouched, StateChange, StepRecord, TimerChange};
use bytes::{BufMut, Bytes, BytesMut};
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchBuilder, BatchError, Compression, ProducerStamp};
use headwater_protocol::ids::TopicPartition;

/// A framed batch of outputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputBatch {
    /// The output partition.
    pub output: TopicPartition,
    /// Number of its first record, as [`Task::next_number`](crate::task::Task::next_number) gave it out (STEP-8).
    pub first: u64,
    /// The batch, with the stamp of [`Task::stamp`](crate::task::Task::stamp).
    pub bytes: Bytes,
}

impl OutputBatch {
    /// As the step record lists it. `count` is what the batch's header says.
    pub(crate) fn touched(&self, count: u32) -> OutputTouched {
        let records = self.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
        OutputTouched { output: self.output, first: self.first, count, crc: crc32c::crc32c(records) }
    }
}

/// Everything a commit holds beside state changes.
#[derive(Clone, Copy, Debug)]
pub struct CommitContents<'a> {
    /// Timestamp of its records, in ms since the Unix epoch.
    pub timestamp: i64,
    /// Record 0.
    pub step: &'a StepRecord,
    /// Next number of each output partition that the step writes to.
    pub numbers: &'a [(TopicPartition, u64)],
    /// Stream time, if it moved.
    pub stream_time: Option<i64>,
    /// Timers set and gone; the last change of an id stands.
    pub timers: &'a [TimerChange],
    /// The outputs, one for each of the step record's, in order.
    pub outbox: &'a [OutputBatch],
}

/// Encodes commits one after the other into fresh buffers; nothing is allocated per record.
#[derive(Debug)]
pub struct CommitEncoder {
    builder: BatchBuilder,
    key: Vec<u8>,
    value: Vec<u8>,
    bytes_max: usize,
}

impl CommitEncoder {
    /// An encoder whose commits have at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { builder: BatchBuilder::new(Compression::None), key: Vec::new(), value: Vec::new(), bytes_max }
    }

    /// The commit, as one uncompressed batch with base offset 0 that whoever appends it stamps.
    ///
    /// # Errors
    /// [`CommitError::TooLarge`] when it would be larger than a commit may be; [`CommitError::Batch`].
    pub fn encode<'c>(
        &mut self,
        contents: &CommitContents<'_>,
        changes: impl IntoIterator<Item = StateChange<'c>>,
        stamp: ProducerStamp,
    ) -> Result<BytesMut, CommitError> {
        let written = self.write(contents, changes).and_then(|()| Ok(self.builder.build(stamp)?));
        if written.is_err() {
            // The half-written records must not run into the next commit.
            self.builder = BatchBuilder::new(Compression::None);
        }
        written
    }

    fn write<'c>(
        &mut self,
        contents: &CommitContents<'_>,
        changes: impl IntoIterator<Item = StateChange<'c>>,
    ) -> Result<(), CommitError> {
        let timestamp = contents.timestamp;
        self.value.clear();
        contents.step.encode(&mut self.value)?;
        self.put_value(timestamp, Key::Step)?;
        for range in &contents.step.inputs {
            self.value.clear();
            self.value.put_i64(range.to);
            self.value.put_i32(range.leader_epoch.0);
            self.put_value(timestamp, Key::Position(range.input))?;
        }
        for (output, next) in contents.numbers {
            self.value.clear();
            self.value.put_u64(*next);
            self.put_value(timestamp, Key::Number(*output))?;
        }
        if let Some(stream_time) = contents.stream_time {
            self.put(timestamp, Key::StreamTime, Some(&stream_time.to_be_bytes()))?;
        }
        for timer in contents.timers {
            let at = timer.at.map(i64::to_be_bytes);
            self.put(timestamp, Key::Timer(&timer.id), at.as_ref().map(<[u8; 8]>::as_slice))?;
        }
        for StateChange { store, key, value } in changes {
            self.put(timestamp, Key::State { store, key }, value)?;
        }
        for (ordinal, (batch, touched)) in (0..).zip(contents.outbox.iter().zip(&contents.step.outputs)) {
            let OutputTouched { output, first, count, .. } = *touched;
            let key = Key::Outbox { step: contents.step.step, ordinal, output, first, count };
            self.put(timestamp, key, Some(&batch.bytes))?;
        }
        Ok(())
    }

    /// Appends a record whose value is in `self.value`.
    fn put_value(&mut self, timestamp: i64, key: Key<'_>) -> Result<(), CommitError> {
        let value = std::mem::take(&mut self.value);
        let outcome = self.put(timestamp, key, Some(&value));
        self.value = value;
        outcome
    }

    fn put(&mut self, timestamp: i64, key: Key<'_>, value: Option<&[u8]>) -> Result<(), CommitError> {
        key.encode(&mut self.key);
        let too_large = CommitError::TooLarge { max: self.bytes_max };
        match self.builder.append(timestamp, Some(&self.key), value, &[]) {
            Ok(()) if self.builder.size_bytes() > self.bytes_max => Err(too_large),
            Ok(()) => Ok(()),
            Err(BatchError::TooLarge { .. } | BatchError::TooManyRecords { .. }) => Err(too_large),
            Err(error) => Err(error.into()),
        }
    }
}
