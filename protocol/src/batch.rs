//! Kafka's record batch v2 (magic 2), byte for byte: on disk, on the wire, between brokers.
//!
//! [`RecordBatch`] is a batch whose header and checksum are known to be good; [`Records`] are its records, read in
//! place; [`BatchBuilder`] writes batches, [`BatchRewriter`] what cleaning leaves of them; [`check_produced_batch`] is
//! the door that every batch of a client passes.

mod builder;
mod check;
mod cleaned;
mod error;
mod header;
mod record_batch;
mod records;

#[cfg(test)]
mod tests;

pub use crate::compression::Compression;
pub use builder::{BatchBuilder, ProducerStamp};
pub use check::{BatchChecker, ProduceRules, check_produced_batch};
pub use cleaned::{BatchRewriter, empty_batch, filler};
pub use error::{BatchError, RecordFault};
pub use header::{BATCH_HEADER_BYTES, BatchHeader, stamp};
pub use record_batch::{BatchLimits, RecordBatch, RecordsReader};
pub use records::{HeaderIter, Record, RecordHeader, RecordIter, RecordSpan, Records};
