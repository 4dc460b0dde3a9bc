//! The door: what every batch of a client passes before it is appended.

use super::error::{BatchError, RecordFault};
use super::header::{
    BATCH_HEADER_BYTES, BatchHeader, COMPRESSION_MASK, CONTROL, DELETE_HORIZON, LOG_APPEND_TIME, TRANSACTIONAL,
    check_crc,
};
use super::record_batch::{BatchLimits, check_size};
use super::records::{Record, RecordIter, check_count, check_headers};
use crate::compression::{Compression, Decompressor};

/// What a topic asks of the batches produced to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProduceRules {
    /// Earliest timestamp of a record, ms since the Unix epoch.
    pub timestamp_min: i64,
    /// Latest timestamp of a record, ms since the Unix epoch: the caller's now plus what clocks may differ by.
    pub timestamp_max: i64,
    /// Whether records need a key: the topic is compacted (CMP-6).
    pub keys_required: bool,
    /// Whether the sender may use producer ids of the range reserved for tasks (STEP-9). Clients may not.
    pub task_producers_allowed: bool,
}

impl Default for ProduceRules {
    /// Any timestamp since 1970, keys optional, no task's producer id.
    fn default() -> Self {
        Self { timestamp_min: 0, timestamp_max: i64::MAX, keys_required: false, task_producers_allowed: false }
    }
}

/// Checks that `bytes` are one batch that may be appended, to its last record: size, header, checksum, attributes,
/// producer fields, compression (within the caps), and of each record structure, offset delta, timestamp, key, headers.
/// Nothing behind this door needs to expect a batch it cannot read.
///
/// # Errors
/// [`BatchError`], which says what to answer by [`BatchError::code`]. Nothing may be appended then.
pub fn check_produced_batch(
    bytes: &[u8],
    limits: &BatchLimits,
    rules: &ProduceRules,
) -> Result<BatchHeader, BatchError> {
    BatchChecker::default().check(bytes, limits, rules)
}

/// [`check_produced_batch`] for many batches: keeps the decompressor's memory from one to the next.
#[derive(Default)]
pub struct BatchChecker {
    decompressor: Decompressor,
}

impl BatchChecker {
    /// See [`check_produced_batch`].
    ///
    /// # Errors
    /// As [`check_produced_batch`].
    pub fn check(
        &mut self,
        bytes: &[u8],
        limits: &BatchLimits,
        rules: &ProduceRules,
    ) -> Result<BatchHeader, BatchError> {
        if bytes.len() > limits.batch_bytes_max {
            return Err(BatchError::TooLarge { bytes: bytes.len(), max: limits.batch_bytes_max });
        }
        let header = BatchHeader::decode(bytes)?;
        check_size(bytes.len(), &header)?;
        check_crc(bytes, &header)?;
        check_attributes(header.attributes)?;
        check_producer(&header, rules)?;
        check_full(&header, bytes.len())?;
        let payload = bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
        match header.compression()? {
            Compression::None => check_records(&header, payload, rules)?,
            codec => {
                let payload = self.decompressor.decompress(codec, payload, limits)?;
                check_records(&header, &payload, rules)?;
            }
        }
        Ok(header)
    }
}

fn check_attributes(attributes: i16) -> Result<(), BatchError> {
    let reason = if attributes & CONTROL != 0 {
        "control batches are the broker's own"
    } else if attributes & TRANSACTIONAL != 0 {
        "transactions are not supported"
    } else if attributes & LOG_APPEND_TIME != 0 {
        "log append time is the broker's to set"
    } else if attributes & DELETE_HORIZON != 0 {
        "the delete horizon is the broker's to set"
    } else if attributes & !COMPRESSION_MASK != 0 {
        "a bit without meaning is set"
    } else {
        return Ok(());
    };
    Err(BatchError::BadAttributes { attributes, reason })
}

fn check_producer(header: &BatchHeader, rules: &ProduceRules) -> Result<(), BatchError> {
    let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = *header;
    let reason = match header.producer() {
        None if (producer_id, producer_epoch, base_sequence) != (-1, -1, -1) => {
            "without a producer id all three are -1"
        }
        Some(_) if producer_epoch < 0 => "a producer id needs an epoch",
        Some(_) if base_sequence < 0 => "a producer id needs a sequence number",
        Some(producer) if producer.is_task() && !rules.task_producers_allowed => "this id is reserved for tasks",
        _ => return Ok(()),
    };
    Err(BatchError::BadProducer { producer_id, producer_epoch, base_sequence, reason })
}

/// A batch from a client has a record for each offset, and at least one. (A cleaned one may have fewer.)
fn check_full(header: &BatchHeader, bytes: usize) -> Result<(), BatchError> {
    if header.record_count == 0 {
        return Err(BatchError::Empty);
    }
    if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        return Err(BatchError::BadCount {
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
            bytes: bytes - BATCH_HEADER_BYTES,
        });
    }
    Ok(())
}

fn check_records(header: &BatchHeader, payload: &[u8], rules: &ProduceRules) -> Result<(), BatchError> {
    check_count(header, payload.len())?;
    let mut timestamp_max = i64::MIN;
    for (index, record) in (0..).zip(RecordIter::new(header, payload)) {
        let record = record?;
        check_record(&record, rules).map_err(|fault| BatchError::record(index, fault))?;
        timestamp_max = timestamp_max.max(record.timestamp);
    }
    if timestamp_max != header.max_timestamp {
        return Err(BatchError::BadMaxTimestamp { stored: header.max_timestamp, computed: timestamp_max });
    }
    Ok(())
}

/// What the iterator, which also reads cleaned batches, does not look at. It has seen that deltas rise and stay below
/// the count, and there are as many records as offsets: so they are consecutive from 0.
fn check_record(record: &Record<'_>, rules: &ProduceRules) -> Result<(), RecordFault> {
    if record.attributes() != 0 {
        return Err(RecordFault::BadAttributes(record.attributes()));
    }
    if !(rules.timestamp_min..=rules.timestamp_max).contains(&record.timestamp) {
        let (min, max) = (rules.timestamp_min, rules.timestamp_max);
        return Err(RecordFault::TimestampOutOfRange { timestamp: record.timestamp, min, max });
    }
    if record.key.is_none() && rules.keys_required {
        return Err(RecordFault::KeyMissing);
    }
    check_headers(record.headers)
}
