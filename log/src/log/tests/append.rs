//! Appending, rolling, what is refused.

use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;
use crate::testing::{CONFIG, batch, batch_of, directory, fill, open, path_of, read_all, reopen};
use crate::{LogConfig, LogError, Position};
use bytes::Bytes;
use headwater_protocol::ids::LeaderEpoch;

#[test]
fn positions_go_up_and_readers_see_every_append_at_once() {
    let storage = MemoryStorage::new();
    let (mut log, report) = open(&directory(&storage));
    assert!(report.is_new);
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.segment_count()), (0, 0, 0));
    let reader = log.reader();
    assert_eq!(log.append(batch(0)).unwrap(), Position { base_offset: 0, next_offset: 2 });
    assert_eq!(reader.end_offset(), 2);
    assert_eq!(log.append(batch(2)).unwrap(), Position { base_offset: 2, next_offset: 4 });
    assert_eq!(reader.read(0, i64::MAX, 1 << 20).unwrap(), [batch(0), batch(2)].concat());
    assert_eq!(log.size_bytes(), 2 * batch(0).len() as u64);
}

#[test]
fn an_empty_log_has_no_segment_file() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    log.flush().unwrap();
    assert_eq!(log.append_many(&[]).unwrap(), Position { base_offset: 0, next_offset: 0 });
    log.close().unwrap();
    let (_, log, report, _) = reopen(&storage);
    assert!(!report.is_new);
    assert_eq!((log.segment_count(), log.log_end_offset()), (0, 0));
}

#[test]
fn a_segment_ends_before_the_batch_that_would_make_it_too_long() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    let bytes = batch(0).len();
    let per_segment = CONFIG.segment_bytes as usize / bytes;
    let batches = fill(&mut log, per_segment * 3 + 1);
    assert_eq!(log.segment_count(), 4);
    for number in 0..3 {
        let first = number * per_segment;
        let expected = batches[first..first + per_segment].concat();
        let name = format!("{:020}.log", first * 2);
        assert_eq!(storage.contents(&path_of(&name)), Some(expected), "byte for byte what was appended");
    }
    assert_eq!(read_all(&log), batches);
    log.close().unwrap();
    let (_, log, report, found) = reopen(&storage);
    assert_eq!((found, report.segments, report.indexes_written), (batches, 4, 0));
    assert_eq!(report.bytes, log.size_bytes());
}

#[test]
fn a_segment_ends_before_a_batch_that_is_too_young_for_it() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    log.set_config(LogConfig { segment_ms: 100, segment_bytes: 1 << 20, ..CONFIG }).unwrap();
    let mut segments = Vec::new();
    for timestamp in [1000, 1099, 900, 1100, 1150, 1199, 1200] {
        log.append(batch_of(log.log_end_offset(), 0, &[timestamp], 1)).unwrap();
        segments.push(log.segment_count());
    }
    assert_eq!(segments, [1, 1, 1, 2, 2, 2, 3]);
}

#[test]
fn a_batch_longer_than_a_segment_gets_one_of_its_own() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    let long = |offset| batch_of(offset, 0, &[1], 5000);
    for offset in 0..3 {
        log.append(long(offset)).unwrap();
    }
    assert_eq!(log.segment_count(), 3);
    assert_eq!(read_all(&log), [long(0), long(1), long(2)]);
}

#[test]
fn several_batches_go_into_one_segment_or_not_at_all() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    fill(&mut log, 2);
    let many: Vec<Bytes> = (2..20).map(|number| batch(number * 2)).collect();
    assert_eq!(log.append_many(&many).unwrap(), Position { base_offset: 4, next_offset: 40 });
    assert_eq!(log.segment_count(), 2);
    let gap = [batch(40), batch(44)];
    assert!(matches!(log.append_many(&gap), Err(LogError::OutOfOrder { expected: 42, found: 44 })));
    assert_eq!(log.log_end_offset(), 40);
    assert_eq!(read_all(&log).len(), 20);
}

#[test]
fn what_is_no_batch_in_its_place_is_refused() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    log.append(batch_of(0, 5, &[1], 1)).unwrap();
    let good = batch_of(1, 5, &[1], 1);
    let short = good.slice(..good.len() - 1);
    let long = Bytes::from([&good[..], b"!"].concat());
    for bytes in [Bytes::new(), good.slice(..60), short, long] {
        assert!(matches!(log.append(bytes), Err(LogError::NotABatch(_))));
    }
    assert!(matches!(log.append(batch(0)), Err(LogError::OutOfOrder { .. })));
    assert!(matches!(log.append(batch_of(1, 4, &[1], 1)), Err(LogError::EpochFellBack { asked: 4, newest: 5 })));
    let stamped: Vec<Bytes> = (1..6).map(|offset| batch_of(offset, 5, &[1], 15 << 20)).collect();
    assert!(matches!(log.append_many(&stamped), Err(LogError::AppendTooLarge { .. })));
    assert_eq!(log.log_end_offset(), 1);
    log.append(good).unwrap();
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    for (config, name) in [
        (LogConfig { segment_bytes: 10, ..CONFIG }, "segment.bytes=10"),
        (LogConfig { segment_bytes: u64::MAX, ..CONFIG }, "segment.bytes=1844"),
        (LogConfig { segment_ms: 0, ..CONFIG }, "segment.ms=0"),
        (LogConfig { index_interval_bytes: u64::MAX, ..CONFIG }, "index.interval.bytes="),
    ] {
        let error = log.set_config(config).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
        assert_eq!(log.config(), CONFIG);
    }
    LogConfig::default().check().unwrap();
}

// covers TRN-2: an epoch without a record is remembered; LOG-6: with its file, and without it
#[test]
fn leader_epochs_survive() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    log.begin_epoch(LeaderEpoch(3)).unwrap();
    log.append(batch_of(0, 3, &[1], 1)).unwrap();
    log.append(batch_of(1, 4, &[1], 1)).unwrap();
    log.begin_epoch(LeaderEpoch(7)).unwrap();
    assert!(matches!(log.begin_epoch(LeaderEpoch(6)), Err(LogError::EpochFellBack { asked: 6, newest: 7 })));
    let starts = |log: &crate::Log| -> Vec<(i32, i64)> {
        log.epochs().entries().iter().map(|entry| (entry.epoch, entry.start_offset)).collect()
    };
    assert_eq!(starts(&log), [(3, 0), (4, 1), (7, 2)]);
    log.close().unwrap();
    let (_, log, ..) = reopen(&storage);
    assert_eq!(starts(&log), [(3, 0), (4, 1), (7, 2)]);
    drop(log);
    storage.remove_file(&path_of("leader-epoch.checkpoint")).unwrap();
    let (_, mut log, ..) = reopen(&storage);
    assert_eq!(starts(&log), [(3, 0), (4, 1)], "the log's batches tell all but the epochs without one");
    log.begin_epoch(LeaderEpoch(8)).unwrap();
    log.close().unwrap();
    let (_, log, ..) = reopen(&storage);
    assert_eq!(starts(&log), [(3, 0), (4, 1), (8, 2)]);
}
