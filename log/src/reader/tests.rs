use super::*;
use crate::storage::Storage;
use crate::storage::file::FileStorage;
use crate::storage::memory::MemoryStorage;
use crate::testing::{CONFIG, batch, batch_of, directory, directory_on, fill, open, path_of, reopen};
use crate::{DataDirectory, Log, LogConfig};
use headwater_protocol::batch::{BatchBuilder, Compression, ProducerStamp, RecordBatch};
use proptest::prelude::*;

/// A log on an otherwise idle disk, with `count` batches of two records.
fn log_of(count: usize) -> (MemoryStorage, Log, Vec<Bytes>) {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    let batches = fill(&mut log, count);
    (storage, log, batches)
}

fn base_offsets(mut bytes: Bytes) -> Vec<i64> {
    let mut offsets = Vec::new();
    while let Some(batch) = RecordBatch::split_first(&mut bytes).unwrap() {
        offsets.push(batch.header().base_offset);
    }
    assert!(bytes.is_empty(), "only whole batches");
    offsets
}

#[test]
fn a_read_begins_with_the_batch_that_holds_the_offset() {
    let (_, log, batches) = log_of(12);
    let reader = log.reader();
    for offset in 0..24 {
        let bytes = reader.read(offset, i64::MAX, 1).unwrap();
        assert_eq!(bytes, batches[offset as usize / 2], "one batch at least, whatever the limit");
    }
    assert_eq!(reader.read(24, i64::MAX, 1000).unwrap(), Bytes::new());
}

#[test]
fn a_read_gives_what_fits() {
    let (_, log, batches) = log_of(5);
    let reader = log.reader();
    let bytes = batches[0].len();
    for (max_bytes, expected) in [(0, 1), (bytes, 1), (2 * bytes - 1, 1), (2 * bytes, 2), (usize::MAX, 5)] {
        assert_eq!(base_offsets(reader.read(0, i64::MAX, max_bytes).unwrap()).len(), expected, "{max_bytes}");
    }
}

#[test]
fn a_read_ends_below_the_offset_it_is_told() {
    let (_, log, _) = log_of(5);
    let reader = log.reader();
    assert_eq!(base_offsets(reader.read(0, 6, 1 << 20).unwrap()), [0, 2, 4]);
    assert_eq!(base_offsets(reader.read(0, 5, 1 << 20).unwrap()), [0, 2], "a batch is served as a whole or not");
    assert_eq!(base_offsets(reader.read(4, 5, 1 << 20).unwrap()), Vec::<i64>::new());
    assert_eq!(base_offsets(reader.read(4, 4, 1 << 20).unwrap()), Vec::<i64>::new());
    assert_eq!(base_offsets(reader.read(4, -3, 1 << 20).unwrap()), Vec::<i64>::new());
}

#[test]
fn offsets_that_are_not_there_are_refused_with_those_that_are() {
    let (_, log, _) = log_of(5);
    for asked in [-1, 11, i64::MAX, i64::MIN] {
        let error = log.reader().read(asked, i64::MAX, 100).unwrap_err();
        assert!(matches!(error, LogError::OffsetOutOfRange { start: 0, end: 10, .. }), "{error}");
    }
    let empty = open(&directory(&MemoryStorage::new())).0.reader();
    assert_eq!(empty.read(0, i64::MAX, 100).unwrap(), Bytes::new());
    assert_eq!(empty.offset_for_timestamp(0, i64::MAX).unwrap(), None);
    assert_eq!(empty.max_timestamp(i64::MAX).unwrap(), None);
    assert!(empty.read(1, i64::MAX, 100).is_err());
}

#[test]
fn a_read_is_one_read_of_the_file() {
    let (storage, mut log, _) = log_of(3);
    log.set_config(LogConfig { segment_bytes: 1 << 20, ..CONFIG }).unwrap();
    fill(&mut log, 200);
    let reads = storage.reads();
    let bytes = log.reader().read(100, i64::MAX, 10_000).unwrap();
    assert!(bytes.len() > 9000);
    assert_eq!(storage.reads() - reads, 1);
}

#[test]
fn a_batch_longer_than_what_was_asked_for_is_served() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    log.set_config(LogConfig { segment_bytes: 1 << 20, ..CONFIG }).unwrap();
    let long = batch_of(0, 0, &[1, 2], 100_000);
    log.append(long.clone()).unwrap();
    log.append(batch(2)).unwrap();
    assert_eq!(log.reader().read(1, i64::MAX, 10).unwrap(), long);
    assert_eq!(log.reader().read(2, i64::MAX, 10).unwrap(), batch(2));
}

// Never serve a byte that fails its CRC (DESIGN §4).
#[test]
fn a_damaged_batch_is_never_served_and_those_around_it_are() {
    let bytes = log_of(1).2[0].len();
    for place in bytes..2 * bytes {
        // The leader epoch is not covered.
        if (bytes + 12..bytes + 16).contains(&place) {
            continue;
        }
        let (storage, log, _) = log_of(20);
        let reader = log.reader();
        let second = path_of("00000000000000000010.log");
        let mut flipped = storage.contents(&second).unwrap();
        flipped[place] ^= 4;
        storage.overwrite(&second, &flipped);
        let LogError::Quarantined { file, range } = reader.read(12, i64::MAX, 1 << 20).unwrap_err() else {
            panic!("byte {place}");
        };
        assert_eq!((file, range.position, range.from, range.to), (second, bytes as u64, 12, 14));
        assert_eq!(base_offsets(reader.read(10, i64::MAX, 1 << 20).unwrap()), [10], "up to the damage");
        assert_eq!(base_offsets(reader.read(20, i64::MAX, 1 << 20).unwrap()).len(), 5, "other segments");
        assert_eq!(base_offsets(reader.read(14, i64::MAX, 1 << 20).unwrap()), [14, 16, 18], "behind it");
        assert!(reader.offset_for_timestamp(13, i64::MAX).is_err(), "byte {place}");
        assert!(reader.max_timestamp(18).is_err(), "byte {place}");
    }
}

fn spoil_index(storage: &MemoryStorage, name: &str, what: &str) {
    match what {
        "deleted" => storage.remove_file(&path_of(name)).unwrap(),
        "torn" => storage.overwrite(&path_of(name), b"HWCP"),
        // A good frame whose entry points between batches.
        "lying" => {
            let base_offset: i64 = name[..20].parse().unwrap();
            let bytes = storage.contents(&path_of(&format!("{base_offset:020}.log"))).unwrap().len() as u64;
            let identity = [base_offset.to_be_bytes(), bytes.to_be_bytes()].concat();
            let (kind, rest) = if name.ends_with("timeindex") {
                (crate::format::index::TIMES_KIND, [0_u8; 16].to_vec())
            } else {
                (crate::format::index::OFFSETS_KIND, [2_u32.to_be_bytes(), 77_u32.to_be_bytes()].concat())
            };
            let payload = [identity, rest].concat();
            storage.overwrite(&path_of(name), &crate::format::checkpoint::encode(kind, 1, &payload));
        }
        _ => {}
    }
}

// covers LOG-4: sealed segments are read through their index files, without them, and with bad ones
#[test]
fn readers_get_the_same_answers_whatever_becomes_of_the_indexes() {
    for what in ["as it is", "deleted", "torn", "lying"] {
        let (storage, log, batches) = log_of(20);
        let reader = log.reader();
        let entries = storage.list(&path_of("")).unwrap();
        let names = entries.iter().map(|entry| entry.name.as_str()).filter(|name| name.ends_with("index"));
        names.for_each(|name| spoil_index(&storage, name, what));
        for offset in (0..40).rev() {
            let bytes = reader.read(offset, i64::MAX, 1).unwrap();
            assert_eq!(bytes, batches[offset as usize / 2], "{what}");
            let found = reader.offset_for_timestamp(offset, i64::MAX).unwrap();
            assert_eq!(found, Some(TimestampedOffset { offset, timestamp: offset }), "{what}");
        }
    }
}

#[test]
fn few_indexes_are_in_memory_at_a_time() {
    let (storage, log, _) = log_of(100);
    let reader = log.reader();
    let sealed = log.segment_count() as i64 - 1;
    assert!(sealed > 2 * limits::LOADED_INDEXES_MAX as i64);
    let reads_for = |offset: i64| {
        let reads = storage.reads();
        reader.read(offset, i64::MAX, 1).unwrap();
        storage.reads() - reads
    };
    assert_eq!((reads_for(0), reads_for(0)), (3, 1), "two index files, once");
    (1..sealed).for_each(|segment| drop(reader.read(segment * 10, i64::MAX, 1).unwrap()));
    assert_eq!(reads_for(0), 3, "gone meanwhile");
}

#[test]
fn readers_on_other_threads_see_a_growing_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let data: DataDirectory = directory_on(Arc::new(FileStorage), directory.path());
    let config = LogConfig { segment_bytes: 4096, ..CONFIG };
    let (mut log, _) = Log::open(&data, "topic-0", config, &mut |_| {}).unwrap();
    const BATCHES: i64 = 500;
    let readers: Vec<LogReader> = (0..3).map(|_| log.reader()).collect();
    std::thread::scope(|scope| {
        for reader in readers {
            scope.spawn(move || {
                let mut offset = 0;
                while offset < BATCHES * 2 {
                    let end = reader.end_offset();
                    let mut bytes = reader.read(offset, i64::MAX, 3000).unwrap();
                    assert!(!bytes.is_empty() || offset >= end, "what was seen to be there can be read");
                    while let Some(found) = RecordBatch::split_first(&mut bytes).unwrap() {
                        assert_eq!(found.bytes(), &batch(offset));
                        offset = found.header().next_offset();
                    }
                }
            });
        }
        for number in 0..BATCHES / 2 {
            log.append_many(&[batch(number * 4), batch(number * 4 + 2)]).unwrap();
            if number % 50 == 0 {
                log.flush().unwrap();
            }
        }
    });
    log.close().unwrap();
    data.checkpoint().unwrap();
}

#[test]
fn timestamps_lead_to_the_first_record_that_reaches_them() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    let timestamps = [[10, 30], [20, 20], [15, 50], [40, 40], [10, 10]];
    for (number, pair) in timestamps.iter().enumerate() {
        log.append(batch_of(number as i64 * 2, 0, pair, 300)).unwrap();
    }
    assert!(log.segment_count() > 2);
    let flat: Vec<i64> = timestamps.concat();
    let reader = log.reader();
    for upto in (0..=10).step_by(2) {
        for wanted in 0..60 {
            let expected = flat[..upto].iter().position(|timestamp| *timestamp >= wanted);
            let found = reader.offset_for_timestamp(wanted, upto as i64).unwrap();
            assert_eq!(found.map(|found| found.offset as usize), expected, "{wanted} below {upto}");
        }
        let largest = flat[..upto].iter().max();
        let found = reader.max_timestamp(upto as i64).unwrap();
        assert_eq!(found.map(|found| found.timestamp).as_ref(), largest, "below {upto}");
    }
    assert_eq!(reader.max_timestamp(i64::MAX).unwrap(), Some(TimestampedOffset { offset: 5, timestamp: 50 }));
}

#[test]
fn timestamps_are_found_in_compressed_batches() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    let mut builder = BatchBuilder::new(Compression::Lz4);
    for timestamp in [100, 200, 300] {
        builder.append(timestamp, None, Some(&[7; 100]), &[]).unwrap();
    }
    log.append(builder.build(ProducerStamp::NONE).unwrap().freeze()).unwrap();
    let found = log.reader().offset_for_timestamp(150, i64::MAX).unwrap();
    assert_eq!(found, Some(TimestampedOffset { offset: 1, timestamp: 200 }));
}

proptest! {
    // Any appends, any reads: the log is what was appended, before and after it is opened again.
    #[test]
    fn a_log_is_what_was_appended(
        sizes in prop::collection::vec((1_usize..4, 0_usize..700, 0_i64..100), 1..30),
        reads in prop::collection::vec((0_i64..100, 0_i64..100, 0_usize..4000), 10),
        is_closed in any::<bool>(),
    ) {
        let storage = MemoryStorage::new();
        let (mut log, _) = open(&directory(&storage));
        let mut batches: Vec<(i64, i64, Bytes)> = Vec::new();
        for (records, value_bytes, timestamp) in sizes {
            let base_offset = log.log_end_offset();
            let bytes = batch_of(base_offset, 0, &vec![timestamp; records], value_bytes);
            let position = log.append(bytes.clone()).unwrap();
            batches.push((base_offset, position.next_offset, bytes));
        }
        if is_closed {
            log.close().unwrap();
            log = reopen(&storage).1;
        }
        let end = log.log_end_offset();
        for (from, upto, max_bytes) in reads {
            let found = log.reader().read(from, upto, max_bytes);
            if from > end {
                prop_assert!(found.is_err());
                continue;
            }
            let found = found.unwrap();
            let wanted: Vec<u8> = batches
                .iter()
                .filter(|(_, next_offset, _)| *next_offset > from && *next_offset <= upto)
                .flat_map(|(.., bytes)| bytes.to_vec())
                .collect();
            prop_assert!(wanted.starts_with(&found), "nothing else, and from the beginning");
            prop_assert_eq!(found.is_empty(), wanted.is_empty());
            prop_assert!(found.len() <= max_bytes || base_offsets(found).len() == 1);
        }
    }
}
