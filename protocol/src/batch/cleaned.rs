//! What cleaning leaves of a batch: some of its records where they were, its header alone, or a filler in its place.
//!
//! ```text
//!   before   │ 0..3 │ 4..6 │ 7..9 │ 10..13 │            offsets of four batches
//!   after    │ 0..3 with record 2 alone │ filler 4..9 │ 10..13 whole │
//! ```
//!
//! Offsets, producer fields and leader epochs stay. A **filler** is an empty batch without a producer that covers the
//! offsets of batches of one leader epoch of which nothing is left: so batches still follow one another without a gap,
//! and a gap still is damage (LOG-2, LOG-3).

use super::error::{BatchError, RecordFault};
use super::header::{BATCH_HEADER_BYTES, BatchHeader, COMPRESSION_MASK, CONTROL, DELETE_HORIZON, write_crc};
use super::record_batch::BatchLimits;
use super::records::{Record, Records};
use crate::compression::{Compression, Compressor, decompressed_bytes_max};
use crate::limits;
use crate::varint;
use bytes::{BufMut, BytesMut};
use std::fmt;

/// The timestamp fields of a batch without records.
const NO_TIMESTAMP: i64 = -1;

impl BatchHeader {
    /// Until when the batch's tombstones stay, ms since the Unix epoch, if that was stamped (KIP-534): attribute bit 6
    /// is set and the base timestamp says it. Timestamp deltas count from it as from any base timestamp.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Whether this is a batch that only covers offsets of which nothing is left.
    pub fn is_filler(&self) -> bool {
        self.record_count == 0 && self.producer_id < 0 && self.attributes & CONTROL == 0
    }

    /// The header as it is without any record: no compression, no timestamps, no horizon; a CRC is still to be written.
    fn emptied(self) -> Self {
        Self {
            batch_length: (BATCH_HEADER_BYTES - 12) as i32,
            attributes: self.attributes & !(COMPRESSION_MASK | DELETE_HORIZON),
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            record_count: 0,
            ..self
        }
    }

    fn into_empty_batch(self) -> [u8; BATCH_HEADER_BYTES] {
        let mut batch = [0; BATCH_HEADER_BYTES];
        self.emptied().write(&mut batch);
        write_crc(&mut batch);
        batch
    }
}

/// The batch of `header` without its records: what its producer wrote stays known (CMP-5).
pub fn empty_batch(header: &BatchHeader) -> [u8; BATCH_HEADER_BYTES] {
    header.into_empty_batch()
}

/// A filler for the offsets from `base_offset` up to and without `next_offset`, at least one and less than 2^31, all of
/// one leader epoch.
pub fn filler(base_offset: i64, next_offset: i64, partition_leader_epoch: i32) -> [u8; BATCH_HEADER_BYTES] {
    debug_assert!(base_offset >= 0 && next_offset > base_offset, "a filler covers offsets");
    let last_offset_delta = i32::try_from(next_offset - base_offset - 1).unwrap_or(i32::MAX);
    BatchHeader {
        base_offset,
        batch_length: 0,
        partition_leader_epoch,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta,
        base_timestamp: NO_TIMESTAMP,
        max_timestamp: NO_TIMESTAMP,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    }
    .into_empty_batch()
}

/// Makes batches of some of the records of other batches; keeps its memory from one to the next.
#[derive(Default)]
pub struct BatchRewriter {
    compressor: Compressor,
    /// Room for the header, then the records that stay.
    buffer: BytesMut,
}

impl fmt::Debug for BatchRewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchRewriter").finish_non_exhaustive()
    }
}

impl BatchRewriter {
    /// The batch of `records` with those that `keep` says yes to (by their index and themselves), compressed as it was.
    /// With a `horizon` (ms since the Unix epoch), that is stamped as the batch's delete horizon, unless it has one.
    /// Without any record left: [`empty_batch`].
    ///
    /// # Errors
    /// [`BatchError`] when the records can't be read, or the codec has no memory.
    pub fn rewrite(
        &mut self,
        records: &Records,
        mut keep: impl FnMut(usize, &Record<'_>) -> bool,
        horizon: Option<i64>,
    ) -> Result<BytesMut, BatchError> {
        let header = *records.header();
        let horizon = horizon.filter(|_| header.delete_horizon().is_none());
        self.buffer.clear();
        self.buffer.resize(BATCH_HEADER_BYTES, 0);
        let (mut kept, mut max_timestamp, mut start) = (0, i64::MIN, 0);
        let mut iter = records.iter();
        let mut index = 0;
        while let Some(record) = iter.next() {
            let record = record?;
            let end = iter.position();
            if keep(index, &record) {
                let bytes = records.payload().get(start..end).unwrap_or_default();
                match horizon {
                    None => self.buffer.extend_from_slice(bytes),
                    Some(horizon) => self.put_restamped(index, &record, horizon)?,
                }
                kept += 1;
                max_timestamp = max_timestamp.max(record.timestamp);
            }
            (start, index) = (end, index + 1);
        }
        if kept == 0 {
            return Ok(BytesMut::from(empty_batch(&header).as_slice()));
        }
        self.frame(BatchHeader {
            attributes: header.attributes | if horizon.is_some() { DELETE_HORIZON } else { 0 },
            base_timestamp: horizon.unwrap_or(header.base_timestamp),
            max_timestamp,
            record_count: kept,
            ..header
        })
    }

    /// Writes a record whose timestamp counts from `base_timestamp`.
    fn put_restamped(&mut self, index: usize, record: &Record<'_>, base_timestamp: i64) -> Result<(), BatchError> {
        let overflow = || BatchError::record(u32::try_from(index).unwrap_or(u32::MAX), RecordFault::TimestampOverflow);
        let timestamp_delta = record.timestamp.checked_sub(base_timestamp).ok_or_else(overflow)?;
        let offset_delta = i64::from(record.offset_delta);
        let rest = record.encoded_from_key();
        let body = 1 + varint::encoded_bytes(timestamp_delta) + varint::encoded_bytes(offset_delta) + rest.len();
        varint::put(&mut self.buffer, body as i64);
        self.buffer.put_u8(record.attributes().cast_unsigned());
        varint::put(&mut self.buffer, timestamp_delta);
        varint::put(&mut self.buffer, offset_delta);
        self.buffer.put_slice(rest);
        Ok(())
    }

    /// Puts a header before the records that were written.
    fn frame(&mut self, mut header: BatchHeader) -> Result<BytesMut, BatchError> {
        let mut batch = match header.compression()? {
            Compression::None => self.buffer.split(),
            codec => {
                let records = self.buffer.get(BATCH_HEADER_BYTES..).unwrap_or_default();
                let compressed = self.compressor.compress(codec, records)?;
                let readable = records.len() <= decompressed_bytes_max(compressed.len(), &BatchLimits::CLIENT);
                if readable && compressed.len() < records.len() {
                    let mut batch = BytesMut::with_capacity(BATCH_HEADER_BYTES + compressed.len());
                    batch.put_bytes(0, BATCH_HEADER_BYTES);
                    batch.put_slice(compressed);
                    batch
                } else {
                    header.attributes &= !COMPRESSION_MASK;
                    self.buffer.split()
                }
            }
        };
        if batch.len() > limits::INTERNAL_BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { bytes: batch.len(), max: limits::INTERNAL_BATCH_BYTES_MAX });
        }
        header.batch_length = i32::try_from(batch.len() - 12).unwrap_or(i32::MAX);
        if let Some(place) = batch.first_chunk_mut::<BATCH_HEADER_BYTES>() {
            header.write(place);
        }
        write_crc(&mut batch);
        Ok(batch)
    }
}
