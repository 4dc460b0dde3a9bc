//! What the tests of this crate share: batches to append, logs on simulated disks.

use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;
use crate::{DataDirectory, Log, LogConfig, RecoveryReport};
use bytes::Bytes;
use headwater_protocol::batch::{BatchBuilder, Compression, ProducerStamp, RecordBatch, stamp};
use headwater_protocol::ids::LeaderEpoch;
use std::path::Path;
use std::sync::Arc;

pub(crate) const DATA: &str = "/data";
pub(crate) const NAME: &str = "topic-0";

/// Small segments, dense indexes.
pub(crate) const CONFIG: LogConfig =
    LogConfig { segment_bytes: 1024, segment_ms: i64::MAX as u64, index_interval_bytes: 1 };

/// A batch with one record per timestamp; values of `value_bytes`.
pub(crate) fn batch_of(base_offset: i64, epoch: i32, timestamps: &[i64], value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (number, timestamp) in timestamps.iter().enumerate() {
        let value: Vec<u8> = (0..value_bytes).map(|place| (place * 7 + number) as u8).collect();
        builder.append(*timestamp, Some(b"key"), Some(&value), &[]).unwrap();
    }
    let mut bytes = builder.build(ProducerStamp::NONE).unwrap();
    stamp(&mut bytes, base_offset, LeaderEpoch(epoch));
    bytes.freeze()
}

/// A batch of two records.
pub(crate) fn batch(base_offset: i64) -> Bytes {
    batch_of(base_offset, 0, &[base_offset, base_offset + 1], 50)
}

pub(crate) fn directory(storage: &MemoryStorage) -> DataDirectory {
    DataDirectory::open(Arc::new(storage.clone()), Path::new(DATA)).unwrap()
}

pub(crate) fn directory_on(storage: Arc<dyn Storage>, path: &Path) -> DataDirectory {
    DataDirectory::open(storage, path).unwrap()
}

pub(crate) fn open(directory: &DataDirectory) -> (Log, RecoveryReport) {
    Log::open(directory, NAME, CONFIG, &mut |_| {}).unwrap()
}

/// Opens a log on a disk that was on before, and reads it all: the log, its batches.
pub(crate) fn reopen(storage: &MemoryStorage) -> (DataDirectory, Log, RecoveryReport, Vec<Bytes>) {
    let directory = directory(storage);
    let mut visited = Vec::new();
    let (log, report) = Log::open(&directory, NAME, CONFIG, &mut |batch| visited.push(batch.bytes().clone())).unwrap();
    assert_eq!(read_all(&log), visited, "readers and recovery see the same batches");
    (directory, log, report, visited)
}

/// Appends `count` batches of two records and gives them back.
pub(crate) fn fill(log: &mut Log, count: usize) -> Vec<Bytes> {
    (0..count)
        .map(|_| {
            let bytes = batch(log.log_end_offset());
            log.append(bytes.clone()).unwrap();
            bytes
        })
        .collect()
}

pub(crate) fn read_all(log: &Log) -> Vec<Bytes> {
    let reader = log.reader();
    let mut batches = Vec::new();
    let mut offset = reader.start_offset();
    while offset < reader.end_offset() {
        let mut bytes = reader.read(offset, i64::MAX, 500).unwrap();
        assert!(!bytes.is_empty(), "nothing at {offset}");
        while let Some(batch) = RecordBatch::split_first(&mut bytes).unwrap() {
            offset = batch.header().next_offset();
            batches.push(batch.into_bytes());
        }
        assert!(bytes.is_empty(), "only whole batches");
    }
    batches
}

/// The path of a file in the partition's directory.
pub(crate) fn path_of(name: &str) -> std::path::PathBuf {
    Path::new(DATA).join(NAME).join(name)
}
