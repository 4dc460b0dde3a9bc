//! A batch that is known to be whole and undamaged.

use super::error::BatchError;
use super::header::{BATCH_HEADER_BYTES, BatchHeader, check_crc};
use super::records::Records;
use crate::compression::{self, Compression};
use crate::limits;
use bytes::Bytes;
use std::fmt;

/// How large a batch may be, as it is and after decompression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimits {
    /// Bytes of the batch as it travels, header included. Looked at by the door, not by readers of what is stored.
    pub batch_bytes_max: usize,
    /// Bytes of records after decompression.
    pub decompressed_bytes_max: usize,
    /// Bytes of records per compressed byte, beyond the first [`limits::RATIO_FREE_BYTES_MAX`].
    pub decompression_ratio_max: usize,
}

impl BatchLimits {
    /// For batches of clients, under a topic's default settings.
    pub const CLIENT: Self = Self {
        batch_bytes_max: limits::BATCH_BYTES_MAX,
        decompressed_bytes_max: limits::DECOMPRESSED_BYTES_MAX,
        decompression_ratio_max: limits::DECOMPRESSION_RATIO_MAX,
    };
    /// For batches of internal topics.
    pub const INTERNAL: Self = Self { batch_bytes_max: limits::INTERNAL_BATCH_BYTES_MAX, ..Self::CLIENT };
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self::CLIENT
    }
}

/// A batch whose header and CRC have been checked. Cheap to clone and to slice: clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Takes `bytes` as exactly one batch and checks header and CRC. The records are not looked at.
    ///
    /// # Errors
    /// [`BatchError`] of the header, the size or the checksum.
    pub fn decode(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::decode(&bytes)?;
        check_size(bytes.len(), &header)?;
        check_crc(&bytes, &header)?;
        Ok(Self { header, bytes })
    }

    /// Takes the first whole batch off `bytes`, or `None` when less than a whole batch is left (a fetch may end inside
    /// one). On an error `bytes` are as they were.
    ///
    /// # Errors
    /// [`BatchError`] of the header or the checksum.
    pub fn split_first(bytes: &mut Bytes) -> Result<Option<Self>, BatchError> {
        if bytes.len() < BATCH_HEADER_BYTES {
            return Ok(None);
        }
        let header = BatchHeader::decode(bytes)?;
        let Some(batch) = bytes.get(..header.total_bytes()) else {
            return Ok(None);
        };
        check_crc(batch, &header)?;
        Ok(Some(Self { header, bytes: bytes.split_to(header.total_bytes()) }))
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch, header included.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The records. Uncompressed ones share this batch's bytes; compressed ones are decompressed within `limits`.
    ///
    /// # Errors
    /// [`BatchError`] of the codec, or of a record count that the bytes can't hold.
    pub fn records(&self, limits: &BatchLimits) -> Result<Records, BatchError> {
        RecordsReader::default().records(self, limits)
    }
}

/// Reads the records of many batches: keeps the decompressor's memory from one to the next.
#[derive(Default)]
pub struct RecordsReader {
    decompressor: compression::Decompressor,
}

impl RecordsReader {
    /// See [`RecordBatch::records`].
    ///
    /// # Errors
    /// As [`RecordBatch::records`].
    pub fn records(&mut self, batch: &RecordBatch, limits: &BatchLimits) -> Result<Records, BatchError> {
        let payload = batch.bytes.slice(BATCH_HEADER_BYTES..);
        let payload = match batch.header.compression()? {
            Compression::None => payload,
            codec => Bytes::from(self.decompressor.decompress(codec, &payload, limits)?),
        };
        Records::new(batch.header, payload)
    }
}

impl fmt::Debug for RecordsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordsReader").finish_non_exhaustive()
    }
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch").field("header", &self.header).field("bytes", &self.bytes.len()).finish()
    }
}

/// Whether `have` bytes are exactly the batch that `header` declares.
pub(crate) fn check_size(have: usize, header: &BatchHeader) -> Result<(), BatchError> {
    let needed = header.total_bytes();
    if have < needed {
        return Err(BatchError::Truncated { needed, have });
    }
    if have > needed {
        return Err(BatchError::TrailingBytes { bytes: have - needed });
    }
    Ok(())
}
