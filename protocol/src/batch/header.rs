//! The 61 bytes in front of a batch's records.
//!
//! ```text
//!  0        8        12         16      17    21           23            27
//!  ┌────────┬────────┬──────────┬───────┬─────┬────────────┬─────────────┬───────
//!  │ base   │ batch  │ leader   │ magic │ CRC │ attributes │ last offset │ …
//!  │ offset │ length │ epoch    │ = 2   │     │            │ delta       │
//!  └────────┴────────┴──────────┴───────┴─────┴────────────┴─────────────┴───────
//!       27          35          43         51         53         57       61
//!    ───┬───────────┬───────────┬──────────┬──────────┬──────────┬────────┬─────────
//!     … │ base      │ max       │ producer │ producer │ base     │ record │ records …
//!       │ timestamp │ timestamp │ id       │ epoch    │ sequence │ count  │
//!    ───┴───────────┴───────────┴──────────┴──────────┴──────────┴────────┴─────────
//! ```
//! Big-endian. The length counts what follows its field; the CRC covers everything from the attributes on.

use super::error::BatchError;
use crate::compression::Compression;
use crate::ids::{LeaderEpoch, ProducerId};
use crate::limits;

/// Bytes of a batch's header.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Bytes of the fields that the length field does not count: base offset and the length itself.
const LENGTH_END: usize = 12;
const LEADER_EPOCH_START: usize = 12;
const MAGIC_START: usize = 16;
const CRC_START: usize = 17;
const CRC_END: usize = 21;
const MAGIC: i8 = 2;

/// Bytes of the smallest record: length, attributes, timestamp and offset delta, two null lengths, header count.
pub(crate) const RECORD_BYTES_MIN: usize = 7;

pub(crate) const COMPRESSION_MASK: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME: i16 = 1 << 3;
pub(crate) const TRANSACTIONAL: i16 = 1 << 4;
pub(crate) const CONTROL: i16 = 1 << 5;
pub(crate) const DELETE_HORIZON: i16 = 1 << 6;

/// A batch's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record the batch was made with.
    pub base_offset: i64,
    /// Bytes after this field: the batch has 12 more.
    pub batch_length: i32,
    /// The leader's reign in which the batch was appended (KIP-101).
    pub partition_leader_epoch: i32,
    /// Format, 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Bits 0–2 compression, 3 timestamps are the broker's, 4 transactional, 5 control, 6 delete horizon.
    pub attributes: i16,
    /// Offset of the last record the batch was made with, less the base offset. Stays when records are cleaned away.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from, ms since the Unix epoch.
    pub base_timestamp: i64,
    /// Largest timestamp of the records, ms since the Unix epoch.
    pub max_timestamp: i64,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`, which may hold less than the whole batch.
    ///
    /// What returns `Ok` can be calculated with: lengths are within [`limits::INTERNAL_BATCH_BYTES_MAX`], offsets and
    /// counts are not negative and fit each other, magic is 2. Nothing is known about the checksum yet.
    ///
    /// # Errors
    /// [`BatchError`] for fewer than 61 bytes and for fields that make no sense.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(bytes) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::Truncated { needed: BATCH_HEADER_BYTES, have: bytes.len() });
        };
        let header = Self::read(bytes);
        header.check()?;
        Ok(header)
    }

    fn read(bytes: &[u8; BATCH_HEADER_BYTES]) -> Self {
        let mut fields = Fields { rest: bytes };
        Self {
            base_offset: i64::from_be_bytes(fields.take()),
            batch_length: i32::from_be_bytes(fields.take()),
            partition_leader_epoch: i32::from_be_bytes(fields.take()),
            magic: i8::from_be_bytes(fields.take()),
            crc: u32::from_be_bytes(fields.take()),
            attributes: i16::from_be_bytes(fields.take()),
            last_offset_delta: i32::from_be_bytes(fields.take()),
            base_timestamp: i64::from_be_bytes(fields.take()),
            max_timestamp: i64::from_be_bytes(fields.take()),
            producer_id: i64::from_be_bytes(fields.take()),
            producer_epoch: i16::from_be_bytes(fields.take()),
            base_sequence: i32::from_be_bytes(fields.take()),
            record_count: i32::from_be_bytes(fields.take()),
        }
    }

    fn check(&self) -> Result<(), BatchError> {
        if self.magic != MAGIC {
            return Err(BatchError::UnsupportedMagic(self.magic));
        }
        let Some(payload_bytes) = usize::try_from(self.batch_length)
            .ok()
            .and_then(|length| (length + LENGTH_END).checked_sub(BATCH_HEADER_BYTES))
        else {
            return Err(BatchError::BadLength(self.batch_length));
        };
        if self.total_bytes() > limits::INTERNAL_BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { bytes: self.total_bytes(), max: limits::INTERNAL_BATCH_BYTES_MAX });
        }
        let last_offset = self.base_offset.checked_add(i64::from(self.last_offset_delta));
        if self.base_offset < 0 || self.last_offset_delta < 0 || last_offset.is_none_or(|last| last == i64::MAX) {
            let (base_offset, last_offset_delta) = (self.base_offset, self.last_offset_delta);
            return Err(BatchError::BadOffsets { base_offset, last_offset_delta });
        }
        self.check_count(payload_bytes)
    }

    fn check_count(&self, payload_bytes: usize) -> Result<(), BatchError> {
        let bad = BatchError::BadCount {
            record_count: self.record_count,
            last_offset_delta: self.last_offset_delta,
            bytes: payload_bytes,
        };
        let Ok(count) = u32::try_from(self.record_count) else {
            return Err(bad);
        };
        if count > limits::RECORDS_PER_BATCH_MAX {
            return Err(BatchError::TooManyRecords { count, max: limits::RECORDS_PER_BATCH_MAX });
        }
        if i64::from(count) > i64::from(self.last_offset_delta) + 1 {
            return Err(bad);
        }
        let compressed = self.attributes & COMPRESSION_MASK != 0;
        if !compressed && count as usize * RECORD_BYTES_MIN > payload_bytes {
            return Err(bad);
        }
        Ok(())
    }

    /// Bytes of the whole batch, this header included.
    pub fn total_bytes(&self) -> usize {
        // A decoded header's length is not negative; one made by hand may be, and then has no more than its header.
        usize::try_from(self.batch_length).unwrap_or(0) + LENGTH_END
    }

    /// Offset of the last record the batch was made with.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset that follows the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence number of the last record; numbers wrap from 2^31 - 1 to 0 (IDP-1). -1 without a producer.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`].
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let bits = (self.attributes & COMPRESSION_MASK) as u8;
        Compression::from_bits(bits).ok_or(BatchError::UnknownCompression(bits))
    }

    /// Whether the records are the system's own (markers, checkpoints) and not for consumers.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether all records have the broker's time ([`Self::max_timestamp`]) instead of their own.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// The idempotent producer or task that made the batch.
    pub fn producer(&self) -> Option<ProducerId> {
        (self.producer_id >= 0).then_some(ProducerId(self.producer_id))
    }

    /// Writes the header with the CRC that it holds.
    pub(crate) fn write(&self, bytes: &mut [u8; BATCH_HEADER_BYTES]) {
        let mut places = Places { rest: bytes };
        places.put(self.base_offset.to_be_bytes());
        places.put(self.batch_length.to_be_bytes());
        places.put(self.partition_leader_epoch.to_be_bytes());
        places.put(self.magic.to_be_bytes());
        places.put(self.crc.to_be_bytes());
        places.put(self.attributes.to_be_bytes());
        places.put(self.last_offset_delta.to_be_bytes());
        places.put(self.base_timestamp.to_be_bytes());
        places.put(self.max_timestamp.to_be_bytes());
        places.put(self.producer_id.to_be_bytes());
        places.put(self.producer_epoch.to_be_bytes());
        places.put(self.base_sequence.to_be_bytes());
        places.put(self.record_count.to_be_bytes());
    }
}

/// Takes field after field off a header; what is not there reads as 0.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    #[inline]
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.rest = rest;
                *field
            }
            None => [0; N],
        }
    }
}

/// Fills field after field of a header.
struct Places<'a> {
    rest: &'a mut [u8],
}

impl Places<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        if let Some((place, rest)) = std::mem::take(&mut self.rest).split_first_chunk_mut::<N>() {
            *place = field;
            self.rest = rest;
        }
    }
}

/// Whether the bytes of a whole batch give the checksum that its header holds.
pub(crate) fn check_crc(bytes: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    let computed = crc_of(bytes);
    if computed != header.crc {
        return Err(BatchError::CrcMismatch { stored: header.crc, computed });
    }
    Ok(())
}

fn crc_of(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes.get(CRC_END..).unwrap_or_default())
}

/// Computes the checksum of a whole batch and writes it into its header.
pub(crate) fn write_crc(bytes: &mut [u8]) {
    let crc = crc_of(bytes);
    if let Some(place) = bytes.get_mut(CRC_START..CRC_END) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
}

/// Gives a batch its place in a log: writes base offset and leader epoch, which the checksum leaves out so that this
/// needs no new one. `bytes` begin with a checked batch.
pub fn stamp(bytes: &mut [u8], base_offset: i64, leader_epoch: LeaderEpoch) {
    debug_assert!(bytes.len() >= BATCH_HEADER_BYTES, "only whole batches are stamped");
    debug_assert!(base_offset >= 0, "offsets are not negative");
    if let Some(place) = bytes.first_chunk_mut::<8>() {
        *place = base_offset.to_be_bytes();
    }
    if let Some(place) = bytes.get_mut(LEADER_EPOCH_START..MAGIC_START) {
        place.copy_from_slice(&leader_epoch.0.to_be_bytes());
    }
}
