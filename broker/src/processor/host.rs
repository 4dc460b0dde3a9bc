//! What a guest's host calls do: state, outputs, timers, log lines of the step that runs now.
//!
//! Nothing here leaves the task before the step is committed; a step that fails is dropped with [`TaskHost::discard`].

use super::logs::ProcessorLog;
use crate::clock::MonotonicClock;
use bytes::Bytes;
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchBuilder, Compression};
use headwater_protocol::ids::TopicId;
use headwater_protocol::messages::processor::LogLevel;
use headwater_protocol::partitioner::{KeylessSpread, partition_for_key};
use headwater_state::{MemoryStore, Overlay, OverlayError, Scan, StoreNumber};
use headwater_wasm_host::{
    EmitError, EmittedRecord, EmittedRecords, HostFault, PackedEntries, PackedKeys, PackedTimers, PackedWriter,
    ProcessorHost, ScanRange, StateError, TimerError,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes that an output batch aims at; a single larger record gets a batch of its own.
const OUTPUT_BATCH_BYTES: usize = 256 << 10;
/// What a record takes in a batch beyond key, value and headers, at most: length, attributes, timestamp delta, offset
/// delta, key length, value length, header count.
const RECORD_OVERHEAD_BYTES_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
/// Timers that one step may set or cancel.
const TIMER_CHANGES_PER_STEP_MAX: usize = 100_000;
/// Bytes of a timer's id.
const TIMER_ID_BYTES_MAX: usize = 1024;

/// One output of the deployment, as the host needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputTopic {
    /// The topic.
    pub(crate) topic: TopicId,
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// The topic's `max.message.bytes`.
    pub(crate) batch_bytes_max: usize,
}

/// Records that one step emitted to one output partition, in order, cut into batches.
pub(crate) struct PartitionOutput {
    /// The topic.
    pub(crate) topic: TopicId,
    /// The partition.
    pub(crate) partition: u32,
    /// Batches to be numbered and built, in order; none is empty.
    pub(crate) batches: Vec<BatchBuilder>,
}

/// What a step did to a timer: set it to a stream time, or cancel it.
pub(crate) type TimerChanges = BTreeMap<Bytes, Option<i64>>;

/// What a step did, to be compared with what another guest did on the same input and state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct StepTrace {
    /// In the order of the calls.
    pub(crate) outputs: Vec<TracedRecord>,
    /// Store, key, and the new value, or none for a deletion; by store and key.
    pub(crate) changes: Vec<TracedChange>,
    /// Timers set and cancelled.
    pub(crate) timers: TimerChanges,
}

/// Store, key, new value.
pub(crate) type TracedChange = (u32, Vec<u8>, Option<Vec<u8>>);

/// An emitted record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TracedRecord {
    pub(crate) output: u32,
    pub(crate) partition: Option<u32>,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<u8>,
}

impl TracedRecord {
    fn of(output: u32, record: &EmittedRecord<'_>) -> Self {
        Self {
            output,
            partition: record.partition,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.to_vec(),
        }
    }
}

/// Limits of one task that the host calls keep.
pub(crate) struct HostLimits {
    /// Output bytes of one step.
    pub(crate) output_bytes_per_step_max: u64,
    /// Log lines a second.
    pub(crate) log_lines_per_second_max: u32,
}

/// The host side of one task.
pub struct TaskHost {
    task: u32,
    overlay: Overlay<MemoryStore>,
    stores: u32,
    outputs: Vec<OutputTopic>,
    emitted: BTreeMap<(u32, u32), Vec<BatchBuilder>>,
    emitted_bytes: u64,
    emitted_records: u64,
    spread: KeylessSpread,
    timers: TimerChanges,
    /// Copies of what was emitted, while two guests are compared.
    traced: Option<Vec<TracedRecord>>,
    limits: HostLimits,
    lines: LineBudget,
    log: Arc<ProcessorLog>,
}

impl TaskHost {
    /// The host of task `task` over its state.
    pub(crate) fn new(
        task: u32,
        overlay: Overlay<MemoryStore>,
        stores: u32,
        outputs: Vec<OutputTopic>,
        limits: HostLimits,
        log: Arc<ProcessorLog>,
    ) -> Self {
        let lines = LineBudget::new(limits.log_lines_per_second_max);
        Self {
            task,
            overlay,
            stores,
            outputs,
            emitted: BTreeMap::new(),
            emitted_bytes: 0,
            emitted_records: 0,
            spread: KeylessSpread::new(u64::from(task)),
            timers: BTreeMap::new(),
            traced: None,
            limits,
            lines,
            log,
        }
    }

    /// The task's state.
    #[must_use]
    pub fn overlay(&self) -> &Overlay<MemoryStore> {
        &self.overlay
    }

    /// The task's state, to push and settle steps.
    pub(crate) fn overlay_mut(&mut self) -> &mut Overlay<MemoryStore> {
        &mut self.overlay
    }

    /// Goes on for another deployment, between two steps.
    pub(crate) fn adopt(&mut self, outputs: Vec<OutputTopic>, limits: HostLimits) {
        debug_assert!(self.emitted.is_empty() && self.timers.is_empty(), "no step is open");
        self.outputs = outputs;
        self.lines.per_second_max = limits.log_lines_per_second_max;
        self.limits = limits;
    }

    /// Takes what the step emitted, by output partition.
    pub(crate) fn take_outputs(&mut self) -> Vec<PartitionOutput> {
        self.emitted_bytes = 0;
        self.emitted_records = 0;
        self.spread.batch_full();
        let outputs = &self.outputs;
        std::mem::take(&mut self.emitted)
            .into_iter()
            .filter_map(|((output, partition), batches)| {
                let topic = outputs.get(output as usize)?.topic;
                Some(PartitionOutput { topic, partition, batches })
            })
            .collect()
    }

    /// From here to [`Self::trace`] what is emitted is copied, for a comparison.
    pub(crate) fn begin_trace(&mut self) {
        self.traced = Some(Vec::new());
    }

    /// What the open step did so far; nothing of it is taken away.
    pub(crate) fn trace(&mut self) -> StepTrace {
        let changes = self.overlay.open_changes().iter();
        let changes = changes.map(|change| (change.store.0, change.key.to_vec(), change.value.map(<[u8]>::to_vec)));
        StepTrace {
            outputs: self.traced.take().unwrap_or_default(),
            changes: changes.collect(),
            timers: self.timers.clone(),
        }
    }

    /// Takes what the step did to timers.
    pub(crate) fn take_timers(&mut self) -> TimerChanges {
        std::mem::take(&mut self.timers)
    }

    /// Records that the step emitted so far.
    pub(crate) fn emitted_records(&self) -> u64 {
        self.emitted_records
    }

    /// Undoes the step that ran: nothing of it was committed.
    pub(crate) fn discard(&mut self) {
        self.overlay.discard();
        self.emitted.clear();
        self.emitted_bytes = 0;
        self.emitted_records = 0;
        self.timers.clear();
        self.traced = None;
    }

    fn store(&self, store: u32) -> Result<StoreNumber, StateError> {
        if store < self.stores { Ok(StoreNumber(store)) } else { Err(StateError::UnknownStore) }
    }

    /// Refuses a call as a whole before any record of it is taken.
    fn check_emit(&self, output: u32, records: EmittedRecords<'_>) -> Result<(), EmitError> {
        let topic = self.outputs.get(output as usize).ok_or(EmitError::UnknownOutput)?;
        let overhead = records.len() as u64 * RECORD_OVERHEAD_BYTES_MAX as u64;
        let bytes = records.data_bytes() as u64 + overhead;
        if self.emitted_bytes.saturating_add(bytes) > self.limits.output_bytes_per_step_max {
            return Err(EmitError::TooLarge);
        }
        for record in records.iter() {
            if record.partition.is_some_and(|partition| partition >= topic.partitions) {
                return Err(EmitError::UnknownPartition);
            }
            if record_bytes(&record) + BATCH_HEADER_BYTES > topic.batch_bytes_max {
                return Err(EmitError::TooLarge);
            }
        }
        Ok(())
    }
}

/// An upper bound of what a record takes in a batch.
fn record_bytes(record: &EmittedRecord<'_>) -> usize {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    length(record.key) + length(record.value) + record.headers.len() + RECORD_OVERHEAD_BYTES_MAX
}

impl ProcessorHost for TaskHost {
    fn emit(&mut self, output: u32, records: EmittedRecords<'_>) -> Result<(), EmitError> {
        self.check_emit(output, records)?;
        let topic = &self.outputs[output as usize];
        let batch_bytes = OUTPUT_BATCH_BYTES.min(topic.batch_bytes_max);
        for record in records.iter() {
            let partition = match (record.partition, record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partition_for_key(key, topic.partitions),
                (None, None) => self.spread.partition(topic.partitions),
            };
            let batches = self.emitted.entry((output, partition)).or_default();
            let full =
                |batch: &BatchBuilder| !batch.is_empty() && batch.size_bytes() + record_bytes(&record) > batch_bytes;
            if batches.last().is_none_or(full) {
                batches.push(BatchBuilder::new(Compression::None));
            }
            let Some(batch) = batches.last_mut() else { continue };
            batch
                .append_raw_headers(record.timestamp, record.key, record.value, record.headers)
                .map_err(|error| EmitError::Host(HostFault(format!("an emitted record can't be framed: {error}"))))?;
            if let Some(traced) = &mut self.traced {
                traced.push(TracedRecord::of(output, &record));
            }
            self.emitted_bytes += record_bytes(&record) as u64;
            self.emitted_records += 1;
        }
        Ok(())
    }

    fn get_many(&mut self, store: u32, keys: PackedKeys<'_>, values: &mut PackedWriter) -> Result<(), StateError> {
        let store = self.store(store)?;
        let mut full = false;
        self.overlay
            .get_many(store, &mut keys.iter(), &mut |value| full |= values.push(value).is_err())
            .map_err(|error| StateError::Host(HostFault(error.to_string())))?;
        if full { Err(StateError::TooLarge) } else { Ok(()) }
    }

    fn put_many(&mut self, store: u32, entries: PackedEntries<'_>) -> Result<(), StateError> {
        let store = self.store(store)?;
        // One copy out of the guest for all of them; keys and values share it.
        let packed = entries.bytes();
        let shared = Bytes::copy_from_slice(packed);
        let part = |bytes: &[u8]| {
            let start = bytes.as_ptr() as usize - packed.as_ptr() as usize;
            shared.slice(start..start + bytes.len())
        };
        let changes = entries.iter().map(|(key, value)| (part(key), value.map(part)));
        self.overlay.put_many(store, changes).map_err(|error| match error {
            OverlayError::QuotaExceeded { .. } => StateError::QuotaExceeded,
            OverlayError::StepTooLarge { .. } | OverlayError::KeyTooLong { .. } | OverlayError::ValueTooLong { .. } => {
                StateError::TooLarge
            }
            OverlayError::OutOfOrder { .. } | OverlayError::Store(_) => StateError::Host(HostFault(error.to_string())),
        })
    }

    fn scan(&mut self, store: u32, range: ScanRange<'_>, entries: &mut PackedWriter) -> Result<bool, StateError> {
        let store = self.store(store)?;
        // One entry more than asked for tells whether the range goes on.
        let limit = range.limit as usize;
        let scan = Scan {
            store,
            start: range.start,
            end: range.end,
            limit: limit.saturating_add(1),
            descending: range.descending,
        };
        let (mut visited, mut more) = (0_usize, false);
        self.overlay
            .scan(&scan, &mut |key, value| {
                if visited == limit || entries.push_entry(key, value).is_err() {
                    more = true;
                    return ControlFlow::Break(());
                }
                visited += 1;
                ControlFlow::Continue(())
            })
            .map_err(|error| StateError::Host(HostFault(error.to_string())))?;
        // A page that holds nothing would be asked for again for ever.
        if more && visited == 0 && limit > 0 { Err(StateError::TooLarge) } else { Ok(more) }
    }

    fn set_timers(&mut self, timers: PackedTimers<'_>) -> Result<(), TimerError> {
        if self.timers.len() + timers.len() > TIMER_CHANGES_PER_STEP_MAX {
            return Err(TimerError::QuotaExceeded);
        }
        if timers.iter().any(|(_, id)| id.len() > TIMER_ID_BYTES_MAX) {
            return Err(TimerError::TooLarge);
        }
        for (at, id) in timers.iter() {
            self.timers.insert(Bytes::copy_from_slice(id), Some(at));
        }
        Ok(())
    }

    fn cancel_timers(&mut self, ids: PackedKeys<'_>) -> Result<(), TimerError> {
        if self.timers.len() + ids.len() > TIMER_CHANGES_PER_STEP_MAX {
            return Err(TimerError::QuotaExceeded);
        }
        for id in ids.iter() {
            self.timers.insert(Bytes::copy_from_slice(id), None);
        }
        Ok(())
    }

    fn log(&mut self, level: LogLevel, message: &str) {
        match self.lines.take() {
            Line::Write => self.log.write(self.task, level, message),
            Line::WriteAfterDropping(dropped) => {
                let note = format!("{dropped} lines were dropped: over {} a second", self.lines.per_second_max);
                self.log.write(self.task, LogLevel::Warn, &note);
                self.log.write(self.task, level, message);
            }
            Line::Drop => {}
        }
    }
}

/// Lets so many lines a second through and counts the rest.
struct LineBudget {
    clock: MonotonicClock,
    per_second_max: u32,
    second: u64,
    written: u32,
    dropped: u64,
}

enum Line {
    Write,
    WriteAfterDropping(u64),
    Drop,
}

impl LineBudget {
    fn new(per_second_max: u32) -> Self {
        Self { clock: MonotonicClock::start(), per_second_max, second: 0, written: 0, dropped: 0 }
    }

    fn take(&mut self) -> Line {
        self.take_at(self.clock.now_ms() / 1000)
    }

    fn take_at(&mut self, second: u64) -> Line {
        if second != self.second {
            self.second = second;
            self.written = 0;
        }
        if self.written >= self.per_second_max {
            self.dropped += 1;
            return Line::Drop;
        }
        self.written += 1;
        match std::mem::take(&mut self.dropped) {
            0 => Line::Write,
            dropped => Line::WriteAfterDropping(dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_budget_are_dropped_and_counted() {
        let mut lines = LineBudget::new(2);
        assert!(matches!(lines.take_at(0), Line::Write));
        assert!(matches!(lines.take_at(0), Line::Write));
        assert!(matches!(lines.take_at(0), Line::Drop));
        assert!(matches!(lines.take_at(0), Line::Drop));
        assert!(matches!(lines.take_at(1), Line::WriteAfterDropping(2)));
        assert!(matches!(lines.take_at(1), Line::Write));
    }
}
