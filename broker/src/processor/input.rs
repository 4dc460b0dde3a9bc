//! What a step reads: committed records of one input partition, as many as are there, up to the limits.

use crate::partition::PartitionView;
use headwater_core::task::commit::InputRange;
use headwater_log::LogError;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::{BatchError, BatchLimits, RecordBatch};
use headwater_protocol::ids::LeaderEpoch;
use headwater_wasm_host::{InputAssembly, InputError};

/// Bytes of batches that a step reads; a first batch that is larger is read all the same.
const STEP_BYTES_MAX: usize = 1 << 20;

/// Why an input can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Disk: damage that its checksum did not show.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Us.
    #[error(transparent)]
    Assembly(#[from] InputError),
    /// The operator, or retention: what comes next is gone.
    #[error(
        "offset {position} is gone, the input begins at {log_start}: delete the processor and deploy it \
         again to begin anew there"
    )]
    Gone {
        /// The task's position.
        position: i64,
        /// First offset that is left.
        log_start: i64,
    },
}

/// A record of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputRecord<'a> {
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp: i64,
    /// Key, or null.
    pub(crate) key: Option<&'a [u8]>,
    /// Value, or null.
    pub(crate) value: Option<&'a [u8]>,
    /// Headers as they are in a record batch.
    pub(crate) headers: &'a [u8],
}

/// Records for one guest call; reused from step to step.
#[derive(Default)]
pub(crate) struct StepInput {
    assembly: InputAssembly,
    range: Option<InputRange>,
}

impl StepInput {
    /// Reads from `position` up to the high watermark, at most `records_max` records. Whether there is anything to
    /// do: `false` only when nothing is committed behind `position` (a range may hold no record after compaction).
    pub(crate) fn read(&mut self, view: &PartitionView, position: i64, records_max: usize) -> Result<bool, ReadError> {
        self.assembly.clear();
        self.range = None;
        let above = lacks(Mutant::InputAboveHighWatermark);
        let high_watermark = if above { view.reader().end_offset() } else { view.high_watermark() };
        if position >= high_watermark {
            return Ok(false);
        }
        let log_start = view.log_start_offset();
        if position < log_start {
            return Err(ReadError::Gone { position, log_start });
        }
        let mut bytes = view.read(position, high_watermark, STEP_BYTES_MAX)?;
        let (mut to, mut leader_epoch) = (position, LeaderEpoch(0));
        while self.assembly.len() < records_max
            && let Some(batch) = RecordBatch::split_first(&mut bytes)?
        {
            let header = batch.header();
            leader_epoch = LeaderEpoch(header.partition_leader_epoch);
            let left = i64::try_from(records_max - self.assembly.len()).unwrap_or(i64::MAX);
            // So many offsets hold at most so many records.
            let end = header.next_offset().min(to.max(header.base_offset).saturating_add(left));
            if !header.is_control() {
                self.assembly.push(&batch.records(&BatchLimits::INTERNAL)?, to..end)?;
            }
            to = end;
            if end < header.next_offset() {
                break;
            }
        }
        let record_count = u32::try_from(self.assembly.len()).unwrap_or(u32::MAX);
        let crc = crc_of(&self.assembly);
        self.range = Some(InputRange { input: view.id, from: position, to, leader_epoch, record_count, crc });
        Ok(true)
    }

    /// Nothing is read: a step of timers alone.
    pub(crate) fn clear(&mut self) {
        self.assembly.clear();
        self.range = None;
    }

    /// A record of the call, as it lies in its batch.
    pub(crate) fn record(&self, number: usize) -> Option<InputRecord<'_>> {
        if number >= self.assembly.len() {
            return None;
        }
        let (entry, data) = (self.assembly.index().slice(number..number + 1), self.assembly.data());
        let word = |at: usize| entry.get(at..)?.first_chunk().map(|bytes| i32::from_le_bytes(*bytes));
        let field = |at: usize| {
            let length = usize::try_from(word(at + 4)?).ok()?;
            data.get(usize::try_from(word(at)?).ok()?..)?.get(..length)
        };
        let timestamp = i64::from_le_bytes(*entry.first_chunk()?);
        Some(InputRecord { timestamp, key: field(12), value: field(20), headers: field(28).unwrap_or_default() })
    }

    /// The records, for the guest.
    pub(crate) fn assembly(&self) -> &InputAssembly {
        &self.assembly
    }

    /// The offsets, for the commit. `None` before the first read that found something.
    pub(crate) fn range(&self) -> Option<InputRange> {
        self.range
    }

    /// Offset of a record of the call.
    pub(crate) fn offset(&self, number: usize) -> Option<i64> {
        self.assembly.index().offset(self.assembly.base_offset(), number)
    }
}

/// CRC-32C from the first record's key to the last record's end, in the data as the guest got it.
fn crc_of(assembly: &InputAssembly) -> u32 {
    let (index, data) = (assembly.index(), assembly.data());
    let field = |record: usize, place: usize| {
        let entry = index.slice(record..record + 1);
        entry.get(place..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
    };
    let Some(last) = index.len().checked_sub(1) else { return 0 };
    let (start, end) = (field(0, 12), field(last, 28) + field(last, 32));
    data.get(start..end).map_or(0, crc32c::crc32c)
}
