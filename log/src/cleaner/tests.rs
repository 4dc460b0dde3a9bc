//! Logs of keys on simulated disks, cleaned.

mod crash;
mod fold;
mod limits;
mod mutants;
mod running;

use super::{ByRecordKey, CleaningOrder, CleaningPolicy, CleaningReport};
use crate::storage::memory::MemoryStorage;
use crate::testing::{NAME, directory, read_all};
use crate::{DataDirectory, Log, LogConfig};
use bytes::Bytes;
use headwater_protocol::batch::{BatchBuilder, BatchLimits, Compression, ProducerStamp, RecordBatch, stamp};
use headwater_protocol::ids::LeaderEpoch;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const POLICY: CleaningPolicy =
    CleaningPolicy { dirty_ratio_min: 0.0, lag_ms_min: 0, lag_ms_max: None, delete_retention_ms: 1000 };
pub(super) const CONFIG: LogConfig =
    LogConfig { segment_bytes: 1024, segment_ms: i64::MAX as u64, index_interval_bytes: 1 };
/// Enough for a few hundred keys.
pub(super) const DEDUPE_BYTES: usize = 16 * 1024;

/// A record: its offset, key and value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Row {
    pub(super) offset: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
}

/// What a table has after all of these.
pub(super) fn fold<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<Bytes, Bytes> {
    let mut table = BTreeMap::new();
    for row in rows {
        match (&row.key, &row.value) {
            (Some(key), Some(value)) => drop(table.insert(key.clone(), value.clone())),
            (Some(key), None) => drop(table.remove(key)),
            (None, _) => {}
        }
    }
    table
}

/// A batch of (key, value) pairs.
pub(super) fn batch_of_rows(
    base_offset: i64,
    epoch: i32,
    compression: Compression,
    producer: ProducerStamp,
    rows: &[(Option<u8>, Option<u8>)],
) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for (key, value) in rows {
        let key = key.map(|key| [key; 3]);
        let value = value.map(|value| [value; 20]);
        builder.append(base_offset, key.as_ref().map(|key| &key[..]), value.as_ref().map(|it| &it[..]), &[]).unwrap();
    }
    let mut bytes = builder.build(producer).unwrap();
    stamp(&mut bytes, base_offset, LeaderEpoch(epoch));
    bytes.freeze()
}

pub(super) fn rows(batches: &[Bytes]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let batch = RecordBatch::decode(batch.clone()).unwrap();
        let records = batch.records(&BatchLimits::CLIENT).unwrap();
        for record in &records {
            let record = record.unwrap();
            let own = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
            rows.push(Row { offset: record.offset, key: own(record.key), value: own(record.value) });
        }
    }
    rows
}

pub(super) fn open(storage: &MemoryStorage) -> (DataDirectory, Log) {
    let directory = directory(storage);
    let (log, report) = Log::open(&directory, NAME, CONFIG, &mut |_| {}).unwrap();
    assert_eq!((report.lost_tail, report.foreign_names), (None, vec![]));
    (directory, log)
}

/// Appends a batch for each key, the values counting up.
pub(super) fn fill_keys(log: &mut Log, keys: impl IntoIterator<Item = u8>) -> Vec<Bytes> {
    let mut batches = Vec::new();
    for (value, key) in (0_u8..).zip(keys) {
        let rows = [(Some(key), Some(value)), (Some(100 + key), Some(value))];
        let batch = batch_of_rows(log.log_end_offset(), 0, Compression::None, ProducerStamp::NONE, &rows);
        log.append(batch.clone()).unwrap();
        batches.push(batch);
    }
    log.flush().unwrap();
    batches
}

pub(super) fn order(headers_kept: &BTreeSet<i64>, upto: i64, now_ms: i64) -> CleaningOrder<'_> {
    CleaningOrder {
        policy: POLICY,
        upto,
        headers_kept,
        segment_bytes: CONFIG.segment_bytes,
        dedupe_bytes_max: DEDUPE_BYTES,
        seed: 7,
        now_ms,
    }
}

/// Cleans all of a log but its last segment.
pub(super) fn clean(log: &Log, now_ms: i64) -> CleaningReport {
    let headers_kept = BTreeSet::new();
    let order = order(&headers_kept, log.durable().next_offset(), now_ms);
    log.cleaner().clean(&order, &mut ByRecordKey, &mut |_| Ok(())).unwrap()
}

pub(super) fn rows_of(log: &Log) -> Vec<Row> {
    rows(&read_all(log))
}
