//! What must hold, whatever happens. One file a rule.
//!
//! | checker | holds | rules |
//! |---|---|---|
//! | `acknowledged` | what was acknowledged survives, as its topic's durability promises | LOG-1, reliability §1.5 |
//! | `offsets` | an offset never means another record | LOG-2, LOG-3 |
//! | `order` | a producer's records are in the order in which it sent them | IDP-1, IDP-6 |
//! | `twice` | no record of an idempotent producer is there twice | IDP-2, IDP-6 |
//! | `served` | what a consumer was given is whole, in order, committed, and stays | REP-7, LOG-3 |
//! | `steps` | commits tile the input; state and outputs are the fold of it; floors are true | OUT-1, 3, 4, 5, 6 |
//! | `history` | sends and polls, as Jepsen's Kafka checker sees them: none lost, twice, skipped, unseen | IDP-6 |
//! | `metadata` | a change that was answered survives; no producer id is given out twice | RAFT-4, IDP-7 |
//! | `liveness` | after the faults everything is done and acknowledged in time | OUT-2 |

pub mod acknowledged;
pub mod history;
pub mod liveness;
pub mod metadata;
pub mod offsets;
pub mod order;
pub mod served;
pub mod steps;
#[cfg(test)]
mod tests;
pub mod twice;

use bytes::Bytes;
use headwater_log::{LogError, LogReader};
use headwater_protocol::batch::{BatchLimits, RecordBatch};
use std::fmt;

/// Something that must hold does not.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule: a checker's name, or `panic`.
    pub rule: &'static str,
    /// What was found.
    pub found: String,
}

impl Violation {
    /// A violation of `rule`.
    pub fn new(rule: &'static str, found: impl Into<String>) -> Self {
        Self { rule, found: found.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.found)
    }
}

/// A record as it lies in a log.
#[derive(Clone, Debug)]
pub struct LoggedRecord {
    /// Its offset.
    pub offset: i64,
    /// A hash of key and value.
    pub meaning: u64,
    /// The number that a producing client gave it, if it is one's.
    pub number: Option<u64>,
    /// The producer id of its batch.
    pub producer_id: i64,
    /// Whether it is the broker's own, which nobody is shown.
    pub is_control: bool,
    /// Its timestamp.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
}

/// A hash of what a record says.
#[must_use]
pub fn meaning(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [key, value] {
        for byte in part.unwrap_or(&[0xff]).iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// The number in a value that a producing client made: `#17 some words`.
#[must_use]
pub fn number_in(value: Option<&[u8]>) -> Option<u64> {
    let first = value?.strip_prefix(b"#")?.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(first).ok()?.parse().ok()
}

/// The records of some batches, from `offset` on.
///
/// # Errors
/// What is wrong with them, in words.
pub fn records_of(mut batches: Bytes, offset: i64) -> Result<Vec<LoggedRecord>, String> {
    let mut records = Vec::new();
    while let Some(batch) = RecordBatch::split_first(&mut batches).map_err(|error| error.to_string())? {
        let decoded = batch.records(&BatchLimits::INTERNAL).map_err(|error| error.to_string())?;
        for record in decoded.iter() {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset >= offset {
                records.push(LoggedRecord {
                    offset: record.offset,
                    meaning: meaning(record.key, record.value),
                    number: number_in(record.value),
                    producer_id: batch.header().producer_id,
                    is_control: batch.header().is_control(),
                    timestamp: record.timestamp,
                    key: record.key.map(Bytes::copy_from_slice),
                    value: record.value.map(Bytes::copy_from_slice),
                });
            }
        }
    }
    if batches.is_empty() { Ok(records) } else { Err(format!("{} bytes are no whole batch", batches.len())) }
}

/// Every batch of a log, from its start to `end`.
///
/// # Errors
/// The log's.
pub fn read_batches(reader: &LogReader, end: i64) -> Result<Vec<RecordBatch>, LogError> {
    let mut offset = reader.start_offset();
    let mut batches = Vec::new();
    while offset < end {
        // What lies on the disk, not what is in memory for readers.
        let mut bytes = reader.read(offset, end, 1 << 20)?;
        let before = offset;
        while let Some(batch) = RecordBatch::split_first(&mut bytes)? {
            offset = batch.header().next_offset();
            batches.push(batch);
        }
        if offset == before {
            break;
        }
    }
    Ok(batches)
}
