//! Starts that read little: snapshots, indexes that are believed, the mark of an orderly stop.

use crate::format::names;
use crate::limits::CHECKPOINT_INTERVAL_BYTES;
use crate::snapshot::Derived;
use crate::storage::Storage;
use crate::storage::memory::{MemoryStorage, Survivors};
use crate::testing::{CONFIG, DATA, NAME, batch, batch_of, directory, fill, open, path_of, read_all};
use crate::{DataDirectory, Log, LogConfig, RecoveryReport};
use headwater_protocol::batch::RecordBatch;
use std::path::Path;

/// How many batches of 181 bytes lie behind the last entry of a sealed segment's index, at most.
const BATCHES_OF_AN_END: u64 = 2 * 2113 / 181;

/// The offsets of the batches seen; as a state, how many there were.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Seen {
    restored_at: Option<i64>,
    offsets: Vec<i64>,
    begun: usize,
}

impl Derived for Seen {
    fn begin(&mut self) {
        *self = Self { begun: self.begun + 1, ..Self::default() };
    }

    fn restore(&mut self, log_end: i64, state: &[u8]) -> Result<(), String> {
        if state != b"state" {
            return Err("it is not what was kept".to_owned());
        }
        *self = Self { restored_at: Some(log_end), begun: self.begun, ..Self::default() };
        Ok(())
    }

    fn observe(&mut self, batch: &RecordBatch) {
        self.offsets.push(batch.header().base_offset);
    }
}

fn open_derived(directory: &DataDirectory, config: LogConfig) -> (Log, RecoveryReport, Seen) {
    let mut seen = Seen::default();
    let (log, report) = Log::open_derived(directory, NAME, config, &mut seen).unwrap();
    (log, report, seen)
}

/// Segments that are longer than what lies between two entries of an index.
pub(super) const LONGER: LogConfig = LogConfig { segment_bytes: 16 << 10, ..CONFIG };

/// A disk whose log of `count` batches was closed in order.
fn closed(count: usize) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = Log::open(&directory, NAME, LONGER, &mut |_| {}).unwrap();
    fill(&mut log, count);
    log.keep_snapshot(b"state".to_vec());
    log.close().unwrap();
    directory.close_in_order().unwrap();
    storage
}

fn has_mark(storage: &MemoryStorage) -> bool {
    storage.contents(&Path::new(DATA).join(names::CLEAN_SHUTDOWN)).is_some()
}

// covers LOG-9, LOG-8
#[test]
fn after_an_orderly_stop_no_batch_is_read() {
    for count in [1, 5, 400] {
        let storage = closed(count);
        // Indexes are caches, which an orderly stop of the machine writes back as well.
        storage.power_cut(Survivors::All);
        assert!(has_mark(&storage));
        let directory = directory(&storage);
        assert!(!has_mark(&storage), "removed before anything is written");
        let (log, report, seen) = open_derived(&directory, LONGER);
        let end = 2 * count as i64;
        let sealed = log.segment_count() as u64 - 1;
        assert!(report.batches <= sealed * BATCHES_OF_AN_END, "of each sealed segment the end is read: {report:?}");
        assert_eq!((seen.restored_at, seen.offsets, log.log_end_offset()), (Some(end), vec![], end));
        assert_eq!(log.durable().next_offset(), end);
        assert_eq!(read_all(&log).len(), count);
    }
}

// covers LOG-9
#[test]
fn the_mark_says_nothing_about_a_second_opening() {
    let storage = closed(3);
    let directory = directory(&storage);
    let (mut log, _, _) = open_derived(&directory, CONFIG);
    fill(&mut log, 1);
    drop(log);
    let (log, report, seen) = open_derived(&directory, CONFIG);
    assert_eq!((log.log_end_offset(), seen.offsets), (8, vec![6]));
    assert!(report.batches > 0);
}

// covers LOG-9: points of another moment than the mark's
#[test]
fn a_mark_beside_other_recovery_points_is_not_believed() {
    let storage = closed(3);
    let mark = storage.contents(&Path::new(DATA).join(names::CLEAN_SHUTDOWN)).unwrap();
    let used = directory(&storage);
    let (mut log, _) = open(&used);
    fill(&mut log, 1);
    log.flush().unwrap();
    used.checkpoint().unwrap();
    drop((log, used));
    storage.plant(&Path::new(DATA).join(names::CLEAN_SHUTDOWN), &mark).unwrap();
    storage.power_cut(Survivors::All);
    let (log, report, _) = open_derived(&directory(&storage), CONFIG);
    assert_eq!((log.log_end_offset(), report.batches > 0), (8, true));
}

// covers LOG-2, LOG-8: below the recovery point nothing is read again but what the index leads to
#[test]
fn an_unclean_start_reads_from_the_snapshot_on() {
    let storage = MemoryStorage::new();
    let used = directory(&storage);
    let (mut log, _) = Log::open(&used, NAME, LONGER, &mut |_| {}).unwrap();
    fill(&mut log, 400);
    log.keep_snapshot(b"state".to_vec());
    log.flush().unwrap();
    used.checkpoint().unwrap();
    fill(&mut log, 4);
    let segments = log.segment_count();
    drop((log, used));
    storage.power_cut(Survivors::All);
    let (log, report, seen) = open_derived(&directory(&storage), LONGER);
    assert_eq!((seen.restored_at, seen.offsets), (Some(800), vec![800, 802, 804, 806]));
    let last = LONGER.segment_bytes / batch(0).len() as u64;
    assert!(
        report.batches <= last + segments as u64 * BATCHES_OF_AN_END,
        "the last segment's index was not saved: {report:?}"
    );
    assert_eq!((report.snapshot, log.log_end_offset(), read_all(&log).len()), (Some(800), 808, 404));
}

// covers LOG-8: torn, foreign or flipped, it is removed, and the one before, or the log, is read
#[test]
fn a_bad_snapshot_is_removed_and_an_older_one_used() {
    let build = || {
        let storage = MemoryStorage::new();
        let directory = directory(&storage);
        let (mut log, _) = open(&directory);
        for _ in 0..2 {
            fill(&mut log, 4);
            log.keep_snapshot(b"state".to_vec());
            log.flush().unwrap();
        }
        directory.checkpoint().unwrap();
        storage
    };
    let newest = path_of(&names::snapshot(16));
    let good = build().contents(&newest).unwrap();
    for place in 0..good.len() {
        let mut flipped = good.clone();
        flipped[place] ^= 0x20;
        for bad in [flipped, good[..place].to_vec()] {
            let storage = build();
            storage.plant(&newest, &bad).unwrap();
            let mut seen = Seen::default();
            match Log::open_derived(&directory(&storage), NAME, CONFIG, &mut seen) {
                Ok((log, _)) => {
                    assert_eq!((seen.restored_at, seen.offsets), (Some(8), vec![8, 10, 12, 14]), "byte {place}");
                    assert_eq!(storage.contents(&newest), None, "removed");
                    assert_eq!(log.log_end_offset(), 16);
                }
                // A version or a kind that no CRC covers alone: refused by name.
                Err(error) => assert!(error.to_string().contains(".snapshot"), "{error}"),
            }
        }
    }
}

// covers LOG-8: above the recovery point it may be of batches that are gone
#[test]
fn a_snapshot_above_the_recovery_point_is_stray() {
    let storage = MemoryStorage::new();
    let used = directory(&storage);
    let (mut log, _) = open(&used);
    fill(&mut log, 4);
    log.keep_snapshot(b"state".to_vec());
    log.flush().unwrap();
    drop((log, used));
    storage.power_cut(Survivors::All);
    let (_, report, seen) = open_derived(&directory(&storage), CONFIG);
    assert_eq!((report.snapshot, seen.offsets.len()), (None, 4));
    assert_eq!(storage.contents(&path_of(&names::snapshot(8))), None);
}

#[test]
fn two_snapshots_are_kept() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    for _ in 0..5 {
        fill(&mut log, 1);
        log.keep_snapshot(b"state".to_vec());
        log.flush().unwrap();
    }
    let names: Vec<String> = storage.list(&path_of("")).unwrap().into_iter().map(|entry| entry.name).collect();
    let kept: Vec<&String> = names.iter().filter(|name| name.ends_with("snapshot")).collect();
    assert_eq!(kept, [&names::snapshot(8), &names::snapshot(10)]);
}

#[test]
fn a_snapshot_is_due_after_a_roll_and_after_many_bytes() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    assert!(!log.wants_snapshot(), "there is nothing to keep");
    fill(&mut log, 2);
    assert!(!log.wants_snapshot() || log.segment_count() > 1);
    log.keep_snapshot(b"state".to_vec());
    fill(&mut log, 6);
    assert!(log.wants_snapshot(), "rolled");
    log.keep_snapshot(b"state".to_vec());
    assert!(!log.wants_snapshot() && !log.has_outgrown_snapshot());
    log.set_config(LogConfig::default()).unwrap();
    log.keep_snapshot(b"state".to_vec());
    append_bytes(&mut log, CHECKPOINT_INTERVAL_BYTES);
    assert!(log.wants_snapshot());
}

fn append_bytes(log: &mut Log, bytes: u64) {
    let begin = log.size_bytes();
    while log.size_bytes() < begin + bytes {
        log.append(batch_of(log.log_end_offset(), 0, &[7], 1 << 20)).unwrap();
    }
}

// covers LOG-2: every 64 MiB the recovery point moves, and the index of the last segment is saved
#[test]
fn what_is_read_again_of_a_long_segment_has_a_bound() {
    let storage = MemoryStorage::new();
    let used = directory(&storage);
    let (mut log, _) = Log::open(&used, NAME, LogConfig::default(), &mut |_| {}).unwrap();
    append_bytes(&mut log, CHECKPOINT_INTERVAL_BYTES);
    log.keep_snapshot(b"state".to_vec());
    log.flush().unwrap();
    // The next flush knows that the one before has ended.
    append_bytes(&mut log, CHECKPOINT_INTERVAL_BYTES);
    log.keep_snapshot(b"state".to_vec());
    log.flush().unwrap();
    append_bytes(&mut log, 4 << 20);
    let (end, whole) = (log.log_end_offset(), log.size_bytes() >> 20);
    drop((log, used));
    storage.power_cut(Survivors::All);
    let (log, report, _) = open_derived(&directory(&storage), LogConfig::default());
    assert_eq!(log.log_end_offset(), end);
    assert!(report.batches < whole / 2 + 8, "{} of {whole} MiB", report.batches);
}

// covers LOG-4: an index that was saved for batches that a power cut took
#[test]
fn an_index_of_batches_that_are_gone_is_made_again() {
    let storage = closed(4);
    let first = path_of(&names::segment(0));
    let contents = storage.contents(&first).unwrap();
    // As if other batches had been written in their place; the recovery points are older than the index.
    let used = directory(&storage);
    drop(open(&used));
    drop(used);
    let others: Vec<u8> = [0, 2].iter().flat_map(|offset| batch(*offset).to_vec()).collect();
    let replaced = [others.as_slice(), &batch_of(4, 0, &[9, 9], 50), &batch_of(6, 0, &[9, 9], 50)].concat();
    assert_eq!(replaced.len(), contents.len());
    storage.plant(&first, &replaced).unwrap();
    let (log, _, seen) = open_derived(&directory(&storage), CONFIG);
    assert_eq!((log.log_end_offset(), read_all(&log).concat()), (8, replaced));
    assert_eq!(seen.restored_at, Some(8), "the snapshot is older than the damage, and below the recovery point");
    let found = log.reader().offset_for_timestamp(8, i64::MAX).unwrap();
    assert_eq!(found.map(|found| found.offset), Some(4), "asked of the batches, not of the old index");
}
