//! LOG-5, CMP-7: a crash at every call that changes the disk leaves the old segments or the new one, never a mix.

use super::{DEDUPE_BYTES, Row, clean, fill_keys, fold, open, order, rows_of};
use crate::cleaner::{ByRecordKey, CleanError, CleaningOrder};
use crate::format::names;
use crate::storage::memory::{Fault, FaultKind, MemoryStorage, Survivors};
use crate::storage::{Operation, Storage};
use crate::testing::{DATA, NAME, path_of};
use crate::{DataDirectory, Log, LogError};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// A synced log of some segments; what was written.
fn log_of_keys() -> (MemoryStorage, Vec<Row>) {
    let storage = MemoryStorage::new();
    let (directory, mut log) = open(&storage);
    fill_keys(&mut log, (0..36).map(|number| number % 5));
    assert!(log.segment_count() > 4);
    let written = rows_of(&log);
    log.close().unwrap();
    directory.checkpoint().unwrap();
    (storage, written)
}

fn clean_once(storage: &MemoryStorage, segment_bytes: u64, dedupe_bytes_max: usize) -> Result<(), CleanError> {
    let directory = DataDirectory::open(Arc::new(storage.clone()), Path::new(DATA))?;
    let (mut log, _) = Log::open(&directory, NAME, super::CONFIG, &mut |_| {})?;
    log.flush()?;
    let headers_kept = BTreeSet::new();
    let order = CleaningOrder { segment_bytes, dedupe_bytes_max, ..order(&headers_kept, log.log_end_offset(), 1000) };
    log.cleaner().clean(&order, &mut ByRecordKey, &mut |_| Ok(()))?;
    Ok(())
}

fn names_in(storage: &MemoryStorage) -> Vec<String> {
    let entries = storage.list(&Path::new(DATA).join(NAME)).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// Stops the cleaner at every call, and looks at every disk that may come back; counts them, and how many records each
/// has left.
pub(super) fn crash_everywhere(segment_bytes: u64, dedupe_bytes: usize) -> (usize, BTreeSet<usize>) {
    let (mut crashes, mut outcomes) = (0, BTreeSet::new());
    for calls in 0..400 {
        let survivors = [Survivors::None, Survivors::All].into_iter();
        let survivors = survivors.chain((1..12).map(Survivors::Prefix)).chain((0..12).map(Survivors::Without));
        let mut has_ended = false;
        for survivors in survivors.chain((0..12).map(Survivors::Seeded)) {
            let (storage, written) = log_of_keys();
            storage.halt_after(calls);
            has_ended = clean_once(&storage, segment_bytes, dedupe_bytes).is_ok();
            storage.power_cut(survivors);
            let at = format!("{segment_bytes} {calls} {survivors:?}");

            let (directory, mut log) = open(&storage);
            let found = rows_of(&log);
            assert_eq!(fold(&found), fold(&written), "{at}");
            assert!(found.iter().all(|row| written.contains(row)), "{at}");
            assert_eq!(log.log_end_offset(), 72, "{at}");
            let is_left = |name: &String| name.contains("swap") || name.ends_with("cleaned");
            assert!(!names_in(&storage).iter().any(is_left), "{at}");
            outcomes.insert(found.len());

            // And it goes on: with appends, with the next cleaning.
            fill_keys(&mut log, [3]);
            clean(&log, 2000);
            let table = fold(&rows_of(&log));
            assert_eq!(table.len(), 10, "{at}");
            assert!(log.size_bytes() < 3000, "{at}: {}", log.size_bytes());
            drop((log, directory));
            crashes += 1;
        }
        if has_ended {
            return (crashes, outcomes);
        }
    }
    panic!("it never ends");
}

/// Groups of one segment and of several; one pass and several.
pub(super) const SIZES: [(u64, usize); 3] = [(1, DEDUPE_BYTES), (3000, DEDUPE_BYTES), (1 << 20, 24 * 8)];

// covers LOG-5, CMP-7
#[test]
fn a_crash_anywhere_leaves_all_keys_as_they_were() {
    let (mut crashes, mut outcomes) = (0, BTreeSet::new());
    for (segment_bytes, dedupe_bytes) in SIZES {
        let (count, left) = crash_everywhere(segment_bytes, dedupe_bytes);
        crashes += count;
        outcomes.extend(left);
    }
    assert!(crashes > 1500 && outcomes.len() > 4, "{crashes} {outcomes:?}");
}

#[test]
fn killed_twice_in_a_swap_it_is_finished_the_third_time() {
    // covers LOG-5
    for calls in (0..60).step_by(2) {
        for more_calls in 0..12 {
            let (storage, written) = log_of_keys();
            storage.halt_after(calls);
            drop(clean_once(&storage, 1 << 20, DEDUPE_BYTES));
            storage.power_cut(Survivors::All);
            storage.halt_after(more_calls);
            drop(clean_once(&storage, 1 << 20, DEDUPE_BYTES));
            storage.power_cut(Survivors::None);
            let (_directory, log) = open(&storage);
            assert_eq!(fold(&rows_of(&log)), fold(&written), "{calls} {more_calls}");
        }
    }
}

#[test]
fn a_full_disk_ends_the_cleaning_and_nothing_else() {
    // covers LOG-7
    for skipped in 0..4 {
        let (storage, written) = log_of_keys();
        let (_directory, mut log) = open(&storage);
        log.flush().unwrap();
        storage.inject(Fault::new(Operation::Write, ".cleaned", FaultKind::Full).after(skipped).with_bytes_written(9));
        let headers_kept = BTreeSet::new();
        let order = order(&headers_kept, 72, 1000);
        let cleaned = log.cleaner().clean(&order, &mut ByRecordKey, &mut |_| Ok(()));
        assert!(matches!(cleaned, Err(CleanError::Log(LogError::DiskFull(_)))), "{cleaned:?}");
        assert!(!names_in(&storage).iter().any(|name| name.ends_with("cleaned")), "its bytes are given back");
        assert_eq!(fold(&rows_of(&log)), fold(&written));
        fill_keys(&mut log, [1]);
        storage.clear_faults();
        clean(&log, 1000);
        assert_eq!(fold(&rows_of(&log)).len(), 10);
    }
}

#[test]
fn a_failed_sync_ends_the_use_of_the_directory() {
    // covers LOG-7
    for (operation, part) in [(Operation::Sync, ".cleaned"), (Operation::SyncDirectory, NAME)] {
        let (storage, written) = log_of_keys();
        let (directory, mut log) = open(&storage);
        log.flush().unwrap();
        storage.inject(Fault::new(operation, part, FaultKind::InputOutput));
        let order_kept = BTreeSet::new();
        let order = order(&order_kept, 72, 1000);
        let clean = || log.cleaner().clean(&order, &mut ByRecordKey, &mut |_| Ok(()));
        assert!(matches!(clean(), Err(CleanError::Log(LogError::DirectoryFailed(_)))));
        storage.clear_faults();
        assert!(clean().is_err(), "it is not just tried again");
        assert!(directory.health().check().is_err());
        assert_eq!(fold(&rows_of(&log)), fold(&written), "reads go on");
        drop((log, directory));
        storage.power_cut(Survivors::None);
        assert_eq!(fold(&rows_of(&open(&storage).1)), fold(&written));
    }
}

// covers LOG-3: a cleaner does not carry damage along
#[test]
fn a_damaged_batch_ends_the_cleaning_before_its_segment_changes() {
    let (storage, _) = log_of_keys();
    let (_directory, mut log) = open(&storage);
    log.flush().unwrap();
    let first = path_of(&names::segment(0));
    let mut bytes = storage.contents(&first).unwrap();
    bytes[100] ^= 1;
    storage.overwrite(&first, &bytes);
    let headers_kept = BTreeSet::new();
    let cleaned = log.cleaner().clean(&order(&headers_kept, 72, 1000), &mut ByRecordKey, &mut |_| Ok(()));
    assert!(matches!(cleaned, Err(CleanError::Log(LogError::Damaged(_)))), "{cleaned:?}");
    assert_eq!(storage.contents(&first).unwrap(), bytes);
}
