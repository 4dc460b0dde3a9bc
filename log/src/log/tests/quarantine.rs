//! Damage below the recovery point: a range that is not served, and all others that are.

use crate::format::names;
use crate::log::tests::snapshots::{LONGER, Seen};
use crate::quarantine::BadRange;
use crate::storage::Storage;
use crate::storage::memory::{MemoryStorage, Survivors};
use crate::testing::{DATA, NAME, batch, directory, fill, path_of};
use crate::{DataDirectory, Log, LogError, RecoveryReport};
use bytes::Bytes;
use headwater_protocol::batch::RecordBatch;
use std::path::Path;

const FIRST: &str = "00000000000000000000.log";
const COUNT: usize = 120;

/// A disk whose log was closed in order, or not, and its batches.
fn log_of(in_order: bool) -> (MemoryStorage, Vec<Bytes>) {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = Log::open(&directory, NAME, LONGER, &mut |_| {}).unwrap();
    let batches = fill(&mut log, COUNT);
    log.keep_snapshot(b"state".to_vec());
    if in_order {
        log.close().unwrap();
        directory.close_in_order().unwrap();
    } else {
        log.flush().unwrap();
        directory.checkpoint().unwrap();
    }
    (storage, batches)
}

fn open(storage: &MemoryStorage) -> Result<(DataDirectory, Log, RecoveryReport), LogError> {
    let directory = directory(storage);
    let (log, report) = Log::open_derived(&directory, NAME, LONGER, &mut Seen::default())?;
    Ok((directory, log, report))
}

/// All batches that are served, each asked for by itself, and the ranges that are not.
fn served(log: &Log) -> (Vec<Bytes>, Vec<BadRange>) {
    let (reader, mut batches, mut bad) = (log.reader(), Vec::new(), Vec::new());
    let mut offset = reader.start_offset();
    while offset < reader.end_offset() {
        match reader.read(offset, i64::MAX, 1) {
            Ok(mut bytes) => {
                let batch = RecordBatch::split_first(&mut bytes).unwrap().unwrap();
                offset = batch.header().next_offset();
                batches.push(batch.into_bytes());
            }
            Err(LogError::Quarantined { range, .. }) => {
                offset = range.to;
                bad.push(*range);
            }
            Err(error) => panic!("{error}"),
        }
    }
    (batches, bad)
}

fn flip(storage: &MemoryStorage, position: usize) {
    let mut bytes = storage.contents(&path_of(FIRST)).unwrap();
    bytes[position] ^= 0x10;
    storage.overwrite(&path_of(FIRST), &bytes);
}

// covers LOG-3: any byte of a batch, found by whoever reads it
#[test]
fn a_batch_with_any_byte_flipped_is_not_served_and_all_others_are() {
    let length = batch(0).len();
    for (place, in_order) in (0..length).flat_map(|place| [(place, true), (place, false)]) {
        // The leader epoch is outside the CRC.
        if (12..16).contains(&place) {
            continue;
        }
        let (storage, batches) = log_of(in_order);
        storage.power_cut(Survivors::All);
        let bad = 17;
        flip(&storage, bad * length + place);
        for start in 0..2 {
            let (directory, log, _) = open(&storage).unwrap();
            let (found, ranges) = served(&log);
            let others: Vec<Bytes> = batches
                .iter()
                .enumerate()
                .filter(|(number, _)| *number != bad)
                .map(|(_, batch)| batch.clone())
                .collect();
            assert_eq!(ranges.len(), 1, "byte {place}, start {start}");
            assert_eq!((ranges[0].from, ranges[0].to), (34, 36), "byte {place}, start {start}");
            assert!(found == others, "byte {place}, start {start}: {} served", found.len());
            let error = log.reader().read(35, i64::MAX, 1).unwrap_err().to_string();
            assert!(error.contains("offsets 34 up to 36") && error.contains("go on at offset 36"), "{error}");
            drop((log, directory));
            storage.power_cut(Survivors::None);
        }
    }
}

// covers LOG-3, LOG-4: without an index, too; and what is appended later is served
#[test]
fn damage_and_a_lost_index_leave_the_rest_of_the_segment() {
    let (storage, batches) = log_of(false);
    let length = batch(0).len();
    for place in [3 * length + 9, 4 * length + 70, 40 * length + 80] {
        flip(&storage, place);
    }
    for name in [names::offset_index(0), names::time_index(0)] {
        storage.remove_file(&path_of(&name)).unwrap();
    }
    let (_directory, mut log, _) = open(&storage).unwrap();
    let more = fill(&mut log, 2);
    let (found, ranges) = served(&log);
    let offsets: Vec<(i64, i64)> = ranges.iter().map(|range| (range.from, range.to)).collect();
    assert_eq!(offsets, [(6, 10), (80, 82)], "two bad batches in a row are one range");
    assert_eq!(found.len(), COUNT - 3 + more.len());
    assert_eq!(found.last(), more.last());
    assert_eq!(found[..3], batches[..3]);
    assert_eq!(log.reader().bad_ranges(), ranges);
}

// covers LOG-3
#[test]
fn verify_finds_what_nobody_has_read() {
    let (storage, _) = log_of(true);
    flip(&storage, 80 * batch(0).len() + 100);
    let (_directory, log, _) = open(&storage).unwrap();
    let (reader, mut bad, mut count, mut bytes, mut calls) = (log.reader(), Vec::new(), 0, 0, 0);
    let mut next = 0;
    while next < reader.end_offset() {
        let verified = reader.verify(next, 1000).unwrap();
        assert!(verified.next_offset > next);
        next = verified.next_offset;
        (count, bytes, calls) = (count + verified.batches, bytes + verified.bytes, calls + 1);
        bad.extend(verified.bad);
    }
    assert_eq!((count as usize, bytes, bad.len()), (COUNT - 1, log.size_bytes(), 1));
    assert_eq!((bad[0].from, bad[0].position), (160, 80 * batch(0).len() as u64));
    assert!(calls > 10, "in pieces");
}

// covers LOG-3: the seam for a replica
#[test]
fn what_a_replica_hands_over_is_checked_and_served_again() {
    let (storage, batches) = log_of(true);
    flip(&storage, 5 * batch(0).len() + 100);
    let (directory, log, _) = open(&storage).unwrap();
    let range = served(&log).1.remove(0);
    let good = &batches[5..6];
    let refused = |batches: &[Bytes]| log.repair(&range, batches).unwrap_err().to_string();
    assert!(refused(&[]).contains("end at another offset"));
    assert!(refused(&batches[6..7]).contains("do not follow"));
    assert!(refused(&batches[5..7]).contains("end at another offset"));
    let mut flipped = good[0].to_vec();
    flipped[70] ^= 1;
    assert!(refused(&[flipped.into()]).contains("CRC"));
    let longer = crate::testing::batch_of(10, 0, &[10, 11], 51);
    assert!(refused(&[longer]).contains("not as long"));
    assert_eq!(served(&log).1.as_slice(), std::slice::from_ref(&range), "nothing has changed");

    log.repair(&range, good).unwrap();
    assert_eq!(served(&log), (batches.clone(), vec![]));
    assert!(log.repair(&range, good).is_err(), "it is not in quarantine any more");
    drop((log, directory));
    storage.power_cut(Survivors::None);
    let (_directory, log, _) = open(&storage).unwrap();
    assert_eq!(served(&log), (batches, vec![]));
}

// covers LOG-3: a reader passes over batches unchecked on its way; one that lies about its length, or how many records
// it has, is the one that is bad, and not the good one that is not found where it says
#[test]
fn a_batch_that_lies_on_the_way_is_the_one_to_blame() {
    let (length, last_offset_delta) = (11, 26);
    for field in [length, last_offset_delta] {
        for asked in [12, 13, 14, 20] {
            let (storage, batches) = log_of(true);
            flip(&storage, 5 * batch(0).len() + field);
            let (_directory, log, _) = open(&storage).unwrap();
            let first = log.reader().read(asked, i64::MAX, 1).unwrap();
            assert_eq!(first, batches[asked as usize / 2], "asked for {asked}");
            let (found, bad) = served(&log);
            assert_eq!(bad.iter().map(|range| (range.from, range.to)).collect::<Vec<_>>(), [(10, 12)]);
            assert_eq!(found.len(), COUNT - 1);
        }
    }
}

// covers LOG-3: who puts the bytes back, with the broker off, gets them served again; a part of them is not enough
#[test]
fn a_range_that_is_whole_again_at_a_start_is_served_again() {
    for in_order in [true, false] {
        let (storage, batches) = log_of(in_order);
        let places = [5 * batch(0).len() + 100, 6 * batch(0).len() + 3];
        places.iter().for_each(|place| flip(&storage, *place));
        let (directory, log, _) = open(&storage).unwrap();
        let bad = served(&log).1;
        assert_eq!(bad.iter().map(|range| (range.from, range.to)).collect::<Vec<_>>(), [(10, 14)]);
        drop((log, directory));

        flip(&storage, places[0]);
        let (directory, log, _) = open(&storage).unwrap();
        assert!(!served(&log).1.is_empty(), "the other batch is as bad as before");
        drop((log, directory));

        flip(&storage, places[1]);
        let (directory, log, _) = open(&storage).unwrap();
        assert_eq!(served(&log), (batches.clone(), vec![]));
        drop((log, directory));
        storage.power_cut(Survivors::None);
        assert_eq!(served(&open(&storage).unwrap().1), (batches, vec![]));
    }
}

// covers LOG-3, LOG-8: what was derived without a bad batch is not kept, so that it is whole when the batch is
#[test]
fn no_snapshot_is_kept_of_what_lacks_a_batch() {
    let (storage, batches) = log_of(false);
    let snapshots = || {
        let names = storage.list(&path_of("")).unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.ends_with(".snapshot")).collect::<Vec<_>>()
    };
    for snapshot in snapshots() {
        storage.remove_file(&path_of(&snapshot)).unwrap();
    }
    flip(&storage, 5 * batch(0).len() + 100);
    let (directory, mut log, _) = open(&storage).unwrap();
    assert!(!log.wants_snapshot());
    log.keep_snapshot(b"lacks one".to_vec());
    log.close().unwrap();
    directory.close_in_order().unwrap();
    drop(directory);
    assert_eq!(snapshots(), Vec::<String>::new());

    flip(&storage, 5 * batch(0).len() + 100);
    let directory = self::directory(&storage);
    let mut seen = Seen::default();
    let (mut log, _) = Log::open_derived(&directory, NAME, LONGER, &mut seen).unwrap();
    assert_eq!(served(&log), (batches, vec![]));
    assert!(log.wants_snapshot());
    log.keep_snapshot(b"whole".to_vec());
    log.close().unwrap();
    assert_eq!(snapshots().len(), 1);
}

// covers LOG-3: at each call of a repair, with any survivors, the range is good or in quarantine
#[test]
fn a_crash_while_repairing_costs_nothing() {
    let mut seen = [0, 0];
    for calls in 0..8 {
        for seed in 0..12 {
            let (storage, batches) = log_of(true);
            flip(&storage, 5 * batch(0).len() + 100);
            let (directory, log, _) = open(&storage).unwrap();
            let range = served(&log).1.remove(0);
            storage.halt_after(calls);
            let repaired = log.repair(&range, &batches[5..6]);
            drop((log, directory));
            storage.power_cut(Survivors::Sectors { seed, sector_bytes: 64 });
            let (_directory, log, _) = open(&storage).unwrap();
            let (found, bad) = served(&log);
            assert!(repaired.is_err() || bad.is_empty(), "once it has returned it stays");
            assert_eq!(found.len() + bad.len(), COUNT);
            seen[bad.len()] += 1;
        }
    }
    assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
}

// covers LOG-3: where nothing good follows there is nothing to go on with, and nothing is cut
#[test]
fn a_log_that_is_shorter_than_it_was_synced_is_refused() {
    let (storage, _) = log_of(false);
    let last = storage.list(&path_of("")).unwrap().into_iter().rfind(|entry| entry.name.ends_with(".log")).unwrap();
    let contents = storage.contents(&path_of(&last.name)).unwrap();
    storage.plant(&path_of(&last.name), &contents[..batch(0).len()]).unwrap();
    let Err(error) = open(&storage) else { panic!("it opened") };
    assert!(matches!(error, LogError::Damaged(_)) && error.to_string().contains(&last.name), "{error}");
}

#[test]
fn a_quarantine_of_a_newer_version_is_refused_by_name() {
    let (storage, _) = log_of(true);
    let newer = crate::format::checkpoint::encode(crate::quarantine::KIND, 9, b"");
    storage.plant(&path_of(names::QUARANTINE), &newer).unwrap();
    let Err(error) = open(&storage) else { panic!("it opened") };
    let error = error.to_string();
    assert!(error.contains("quarantine.checkpoint: badrange file of version 9"), "{error}");
    assert!(storage.list(&Path::new(DATA).join("lost+found")).is_err());
}
