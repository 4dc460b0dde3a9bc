//! Writes batches.

use super::error::{BatchError, RecordFault};
use super::header::{BATCH_HEADER_BYTES, BatchHeader, CONTROL, write_crc};
use super::record_batch::BatchLimits;
use super::records::check_headers;
use crate::compression::{Compression, Compressor, decompressed_bytes_max};
use crate::limits;
use crate::varint;
use bytes::{BufMut, BytesMut};
use std::fmt;

/// Who made a batch, and its place among that producer's batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerStamp {
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the batch's first record, or -1.
    pub base_sequence: i32,
}

impl ProducerStamp {
    /// No idempotent producer.
    pub const NONE: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1 };

    fn is_sound(&self) -> bool {
        *self == Self::NONE || (self.producer_id >= 0 && self.producer_epoch >= 0 && self.base_sequence >= 0)
    }
}

/// Appends records and makes a batch of them; then the next. Appending does not allocate per record.
///
/// Records are written where they stay: behind room for the header. An uncompressed batch is that very buffer, a
/// compressed one is compressed from it into scratch memory and copied once.
pub struct BatchBuilder {
    compression: Compression,
    compressor: Compressor,
    control: bool,
    /// Room for the header, then records; empty while there are none.
    buffer: BytesMut,
    /// What the last uncompressed batch took along; the next one will be about as large.
    taken_bytes: usize,
    record_count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// A builder whose batches are compressed so. A codec that is not supported is refused by the first append.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            compressor: Compressor::default(),
            control: false,
            buffer: BytesMut::new(),
            taken_bytes: 0,
            record_count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
        }
    }

    /// A builder of control batches: the system's own records among a partition's, never shown to consumers.
    /// Uncompressed. What their keys and values mean is for whoever writes them.
    pub fn control() -> Self {
        Self { control: true, ..Self::new(Compression::None) }
    }

    /// Appends a record; `timestamp` is in ms since the Unix epoch. `headers` are in order and may repeat keys.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] and [`BatchError::TooManyRecords`] when the batch is full (build it, then append
    /// again), [`BatchError::Record`] when the record can't be written, [`BatchError::UnsupportedCompression`]. The
    /// batch is as it was.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        if headers.len() > limits::HEADERS_PER_RECORD_MAX as usize {
            let count = i32::try_from(headers.len()).unwrap_or(i32::MAX);
            return Err(self.fault(RecordFault::BadHeaderCount(count)));
        }
        let pairs = headers.iter().map(|(key, value)| encoded_bytes(Some(key.as_bytes())) + encoded_bytes(*value));
        let headers_bytes = pairs.fold(varint::encoded_bytes(headers.len() as i64), usize::saturating_add);
        self.append_up_to_headers(timestamp, key, value, headers_bytes)?;
        varint::put(&mut self.buffer, headers.len() as i64);
        for (key, value) in headers {
            put_nullable(&mut self.buffer, Some(key.as_bytes()));
            put_nullable(&mut self.buffer, *value);
        }
        Ok(())
    }

    /// Appends a record whose headers are encoded already (varint count, then pairs; no bytes for no headers), as
    /// they come out of another batch or from a guest. They are checked.
    ///
    /// # Errors
    /// As [`Self::append`].
    #[inline]
    pub fn append_raw_headers(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
    ) -> Result<(), BatchError> {
        let headers = if headers.is_empty() { &[0] } else { headers };
        check_headers(headers).map_err(|fault| self.fault(fault))?;
        self.append_up_to_headers(timestamp, key, value, headers.len())?;
        self.buffer.put_slice(headers);
        Ok(())
    }

    /// Writes all of a record but its headers, of which `headers_bytes` must follow.
    fn append_up_to_headers(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_bytes: usize,
    ) -> Result<(), BatchError> {
        self.compression.check_supported()?;
        if self.record_count >= limits::RECORDS_PER_BATCH_MAX {
            let count = self.record_count.saturating_add(1);
            return Err(BatchError::TooManyRecords { count, max: limits::RECORDS_PER_BATCH_MAX });
        }
        let base_timestamp = if self.record_count == 0 { timestamp } else { self.base_timestamp };
        let Some(timestamp_delta) = timestamp.checked_sub(base_timestamp) else {
            return Err(self.fault(RecordFault::TimestampOverflow));
        };
        let offset_delta = i64::from(self.record_count);
        let fixed = 1 + varint::encoded_bytes(timestamp_delta) + varint::encoded_bytes(offset_delta);
        let body =
            [encoded_bytes(key), encoded_bytes(value), headers_bytes].into_iter().fold(fixed, usize::saturating_add);
        let record = body.saturating_add(varint::encoded_bytes(body.min(i64::MAX as usize) as i64));
        let total = self.buffer.len().max(BATCH_HEADER_BYTES).saturating_add(record);
        if total > limits::INTERNAL_BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { bytes: total, max: limits::INTERNAL_BATCH_BYTES_MAX });
        }

        if self.buffer.is_empty() {
            self.buffer.reserve(self.taken_bytes);
            self.buffer.resize(BATCH_HEADER_BYTES, 0);
        }
        self.buffer.reserve(record);
        varint::put(&mut self.buffer, body as i64);
        self.buffer.put_u8(0);
        varint::put(&mut self.buffer, timestamp_delta);
        varint::put(&mut self.buffer, offset_delta);
        put_nullable(&mut self.buffer, key);
        put_nullable(&mut self.buffer, value);
        self.max_timestamp = if self.record_count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.base_timestamp = base_timestamp;
        self.record_count += 1;
        Ok(())
    }

    fn fault(&self, fault: RecordFault) -> BatchError {
        BatchError::record(self.record_count, fault)
    }

    /// Records appended since the last build.
    #[inline]
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether there is nothing to build.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// What the batch would have at most if it were built now, in bytes. 61 when it is empty.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.buffer.len().max(BATCH_HEADER_BYTES)
    }

    /// How the batches are compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Makes the batch, with base offset 0 and no leader epoch ([`stamp`](super::stamp) gives it its place), and
    /// starts over. Records that compression would not make smaller, or so small that a reader's
    /// [ratio cap](limits::DECOMPRESSION_RATIO_MAX) would take them for an attack, are stored uncompressed.
    ///
    /// # Errors
    /// [`BatchError::Empty`], [`BatchError::BadProducer`]; the codec's, which has no memory then. The records are
    /// still there.
    pub fn build(&mut self, stamp: ProducerStamp) -> Result<BytesMut, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        if !stamp.is_sound() {
            return Err(BatchError::BadProducer {
                producer_id: stamp.producer_id,
                producer_epoch: stamp.producer_epoch,
                base_sequence: stamp.base_sequence,
                reason: "either all three are -1 or none is negative",
            });
        }
        let (compression, mut batch) = match self.compressed()? {
            Some(batch) => {
                self.buffer.clear();
                (self.compression, batch)
            }
            None => {
                self.taken_bytes = self.buffer.len();
                (Compression::None, self.buffer.split())
            }
        };
        self.write_header(&mut batch, compression, stamp);
        self.record_count = 0;
        Ok(batch)
    }

    /// Room for a header and the compressed records, or `None` where they should stay as they are.
    fn compressed(&mut self) -> Result<Option<BytesMut>, BatchError> {
        if self.compression == Compression::None {
            return Ok(None);
        }
        let records = self.buffer.get(BATCH_HEADER_BYTES..).unwrap_or_default();
        let compressed = self.compressor.compress(self.compression, records)?;
        let readable = records.len() <= decompressed_bytes_max(compressed.len(), &BatchLimits::CLIENT);
        if compressed.len() >= records.len() || !readable {
            return Ok(None);
        }
        let mut batch = BytesMut::with_capacity(BATCH_HEADER_BYTES + compressed.len());
        batch.put_bytes(0, BATCH_HEADER_BYTES);
        batch.put_slice(compressed);
        Ok(Some(batch))
    }

    fn write_header(&self, batch: &mut BytesMut, compression: Compression, stamp: ProducerStamp) {
        // Both fit: a batch has at most `INTERNAL_BATCH_BYTES_MAX` bytes and `RECORDS_PER_BATCH_MAX` records.
        let batch_length = (batch.len() - 12) as i32;
        let record_count = self.record_count as i32;
        let header = BatchHeader {
            base_offset: 0,
            batch_length,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: i16::from(compression.bits()) | if self.control { CONTROL } else { 0 },
            last_offset_delta: record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            base_sequence: stamp.base_sequence,
            record_count,
        };
        if let Some(place) = batch.first_chunk_mut::<BATCH_HEADER_BYTES>() {
            header.write(place);
        }
        write_crc(batch);
    }
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("compression", &self.compression)
            .field("records", &self.record_count)
            .field("bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

/// Bytes of a nullable byte string with its length in front.
#[inline]
fn encoded_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::encoded_bytes(bytes.len() as i64).saturating_add(bytes.len()))
}

#[inline]
fn put_nullable(buffer: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(buffer, bytes.len() as i64);
            buffer.put_slice(bytes);
        }
        None => varint::put(buffer, -1),
    }
}
