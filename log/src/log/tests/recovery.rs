//! Opening logs whose files are not what they should be.

use crate::storage::memory::{MemoryStorage, Survivors};
use crate::storage::{Open, Storage};
use crate::testing::{CONFIG, DATA, batch, batch_of, directory, fill, open, path_of, read_all, reopen};
use crate::{Log, LogError, LostTail};
use std::path::Path;

const FIRST: &str = "00000000000000000000.log";

/// A disk with a log of `count` batches that was not closed; whether its recovery point was written.
fn log_of(count: usize, is_checkpointed: bool) -> (MemoryStorage, Vec<bytes::Bytes>) {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    let batches = fill(&mut log, count);
    log.flush().unwrap();
    if is_checkpointed {
        directory.checkpoint().unwrap();
    }
    (storage, batches)
}

fn lost_bytes(storage: &MemoryStorage, lost: &LostTail) -> Vec<u8> {
    lost.files.iter().flat_map(|path| storage.contents(path).unwrap()).collect()
}

// covers LOG-2
#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_kept() {
    let (_, batches) = log_of(3, false);
    let whole = batches.concat();
    let good = batches[..2].concat();
    for length in good.len() + 1..whole.len() {
        let (storage, _) = log_of(3, false);
        storage.plant(&path_of(FIRST), &whole[..length]).unwrap();
        let (_, mut log, report, found) = reopen(&storage);
        assert_eq!(found, batches[..2], "cut at {length}");
        let lost = report.lost_tail.unwrap();
        assert_eq!((lost.end_offset, lost.bytes), (4, (length - good.len()) as u64));
        assert_eq!(lost_bytes(&storage, &lost), whole[good.len()..length]);
        assert!(lost.reason.contains(&format!("byte {}", good.len())), "{}", lost.reason);
        assert_eq!(storage.contents(&path_of(FIRST)).unwrap(), good);
        fill(&mut log, 1);
        assert_eq!(read_all(&log), batches);
    }
}

// covers LOG-2: any byte of the last batch may be wrong
#[test]
fn a_last_batch_with_any_byte_flipped_ends_the_log() {
    let (_, batches) = log_of(2, false);
    let whole = batches.concat();
    let first = batches[0].len();
    for place in first..whole.len() {
        // The leader epoch is outside the CRC, and any epoch that doesn't fall is possible.
        if (first + 12..first + 16).contains(&place) {
            continue;
        }
        let (storage, _) = log_of(2, false);
        let mut flipped = whole.clone();
        flipped[place] ^= 0x40;
        storage.plant(&path_of(FIRST), &flipped).unwrap();
        let (_, _, report, found) = reopen(&storage);
        assert_eq!(found, batches[..1], "byte {place}");
        assert_eq!(lost_bytes(&storage, &report.lost_tail.unwrap()), flipped[first..], "byte {place}");
    }
}

// covers LOG-2
#[test]
fn everything_behind_a_bad_batch_goes_with_it() {
    let (storage, batches) = log_of(20, false);
    let second = "00000000000000000010.log";
    let mut flipped = storage.contents(&path_of(second)).unwrap();
    flipped[batches[0].len() + 70] ^= 1;
    storage.plant(&path_of(second), &flipped).unwrap();
    let (_, mut log, report, found) = reopen(&storage);
    assert_eq!(found, batches[..6]);
    let lost = report.lost_tail.unwrap();
    assert_eq!((lost.end_offset, lost.bytes as usize), (12, batches[6..].concat().len()));
    let expected = [&flipped[batches[0].len()..], &batches[10..].concat()].concat();
    assert_eq!(lost_bytes(&storage, &lost), expected);
    assert_eq!(log.segment_count(), 2);
    fill(&mut log, 14);
    log.flush().unwrap();
    drop(log);
    storage.power_cut(Survivors::None);
    let (_, log, report, _) = reopen(&storage);
    assert_eq!((read_all(&log), report.lost_tail), (batches, None));
}

// covers LOG-2: a middle segment that lost its end at a batch boundary leaves a gap, which no reader may step over
#[test]
fn a_gap_between_segments_ends_the_log() {
    let (storage, batches) = log_of(20, false);
    storage.plant(&path_of("00000000000000000010.log"), &batches[5..7].concat()).unwrap();
    let (_, _, report, found) = reopen(&storage);
    assert_eq!(found, batches[..7]);
    let lost = report.lost_tail.unwrap();
    assert_eq!(lost.files.len(), 2, "{lost:?}");
    assert!(lost.reason.contains("begins at offset 20 where 14 is due"), "{}", lost.reason);
}

#[test]
fn an_overlap_ends_the_log() {
    let (storage, batches) = log_of(7, false);
    storage.plant(&path_of("00000000000000000012.log"), &batches[6]).unwrap();
    let (_, _, report, found) = reopen(&storage);
    assert_eq!(found, batches);
    assert_eq!(lost_bytes(&storage, &report.lost_tail.unwrap()), batches[6]);
}

// covers LOG-2: a crash at each call of a recovery, and again
#[test]
fn a_crash_while_recovering_costs_nothing() {
    let mut crashes = 0;
    for calls in 0..60 {
        for survivors in [Survivors::None, Survivors::All, Survivors::Prefix(1), Survivors::Seeded(calls)] {
            let (storage, batches) = log_of(20, false);
            let second = path_of("00000000000000000010.log");
            let mut flipped = storage.contents(&second).unwrap();
            flipped[batches[0].len() + 70] ^= 1;
            storage.plant(&second, &flipped).unwrap();
            storage.halt_after(calls);
            let halted = crate::DataDirectory::open(std::sync::Arc::new(storage.clone()), Path::new(DATA))
                .and_then(|directory| Log::open(&directory, "topic-0", CONFIG, &mut |_| {}).map(drop));
            crashes += usize::from(halted.is_err());
            storage.power_cut(survivors);
            let (_, _, _, found) = reopen(&storage);
            assert_eq!(found, batches[..6], "{calls} calls, {survivors:?}");
            let kept: u64 =
                storage.list(&Path::new(DATA).join("lost+found")).unwrap().iter().map(|entry| entry.bytes).sum();
            assert!(kept as usize >= batches[6..].concat().len(), "nothing is lost on the way: {kept}");
        }
    }
    assert!(crashes > 20, "{crashes}");
}

// covers LOG-2: the cut is certain before anything is appended, or else a batch that was cut off could come back behind
// one that was written in its place
#[test]
fn what_was_cut_off_does_not_come_back() {
    let build = || {
        let (storage, batches) = log_of(3, false);
        let mut flipped = batches.concat();
        flipped[batches[0].len() + 70] ^= 1;
        storage.plant(&path_of(FIRST), &flipped).unwrap();
        let (_, mut log, report, _) = reopen(&storage);
        assert!(report.lost_tail.is_some());
        let other = batch_of(2, 0, &[8, 9], 50);
        assert_eq!(other.len(), batches[1].len());
        log.append(other.clone()).unwrap();
        (storage, [batches[0].clone(), other])
    };
    for lost in 0..build().0.unsynced_changes() {
        let (storage, expected) = build();
        storage.power_cut(Survivors::Without(lost));
        let found = reopen(&storage).3;
        assert_eq!(found, expected[..found.len().min(2)], "without change {lost}");
    }
}

// covers LOG-3: damage below the recovery point is never cut; other partitions are not concerned
#[test]
fn damage_below_the_recovery_point_is_refused_with_its_place() {
    let (storage, batches) = log_of(20, true);
    let second = path_of("00000000000000000010.log");
    let mut flipped = storage.contents(&second).unwrap();
    let position = batches[0].len();
    flipped[position + 70] ^= 1;
    storage.plant(&second, &flipped).unwrap();
    let directory = directory(&storage);
    let error = Log::open(&directory, "topic-0", CONFIG, &mut |_| {}).unwrap_err();
    let LogError::Damaged(damage) = &error else {
        panic!("{error}");
    };
    assert_eq!((damage.file.as_path(), damage.position, damage.offset), (second.as_path(), position as u64, 12));
    assert!(error.to_string().contains("CRC") && error.to_string().contains("synced up to offset 40"), "{error}");
    assert_eq!(storage.contents(&second).unwrap(), flipped, "nothing was changed");
    assert!(storage.list(&Path::new(DATA).join("lost+found")).is_err());
    let (mut other, _) = Log::open(&directory, "other-0", CONFIG, &mut |_| {}).unwrap();
    fill(&mut other, 1);
}

// covers LOG-3
#[test]
fn a_log_that_ends_below_its_recovery_point_is_damaged() {
    for kept in [0, 1, 4] {
        let (storage, batches) = log_of(5, true);
        storage.plant(&path_of(FIRST), &batches[..kept].concat()).unwrap();
        let opened = Log::open(&directory(&storage), "topic-0", CONFIG, &mut |_| {});
        assert!(matches!(opened, Err(LogError::Damaged(_))), "{kept}: {opened:?}");
    }
    let (storage, _) = log_of(20, true);
    storage.remove_file(&path_of(FIRST)).unwrap();
    let opened = Log::open(&directory(&storage), "topic-0", CONFIG, &mut |_| {});
    assert!(matches!(opened, Err(LogError::Damaged(_))), "{opened:?}");
}

// covers LOG-2, LOG-3: above the recovery point a bad batch is a torn tail, though the point is not 0
#[test]
fn a_tail_above_the_recovery_point_is_cut() {
    let (storage, batches) = log_of(3, true);
    let garbage = [batches.concat(), vec![0; 100]].concat();
    storage.plant(&path_of(FIRST), &garbage).unwrap();
    let (_, log, report, found) = reopen(&storage);
    assert_eq!((found, log.durable().next_offset()), (batches, 6));
    assert_eq!(report.lost_tail.unwrap().bytes, 100);
}

// covers LOG-2: a power cut may take the first segment and leave a later one, when neither was synced
#[test]
fn what_lies_behind_a_lost_beginning_is_cut_off() {
    let (storage, batches) = log_of(20, false);
    storage.remove_file(&path_of(FIRST)).unwrap();
    let later: Vec<String> = storage.list(&path_of("")).unwrap().into_iter().map(|entry| entry.name).collect();
    let (_, mut log, report, found) = reopen(&storage);
    assert!(found.is_empty(), "nothing of it may be handed on");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 0));
    let lost = report.lost_tail.unwrap();
    assert!(lost.reason.contains("where 0 is due"), "{}", lost.reason);
    assert_eq!(lost.files.len(), later.iter().filter(|name| name.ends_with(".log")).count());
    assert_eq!(fill(&mut log, 1), batches[..1], "the log begins anew");
}

#[test]
fn a_log_of_garbage_is_empty_afterwards() {
    let (storage, _) = log_of(3, false);
    storage.plant(&path_of(FIRST), &[7; 3000]).unwrap();
    let (_, mut log, report, found) = reopen(&storage);
    assert!(found.is_empty());
    assert_eq!((log.log_end_offset(), report.lost_tail.unwrap().bytes), (0, 3000));
    fill(&mut log, 1);
    // Again: what is in lost+found already stays.
    drop(log);
    storage.plant(&path_of(FIRST), &[8; 10]).unwrap();
    reopen(&storage);
    assert_eq!(storage.list(&Path::new(DATA).join("lost+found")).unwrap().len(), 2);
}

// covers LOG-4
#[test]
fn indexes_may_be_deleted_or_torn_or_foreign() {
    let (storage, batches) = log_of(20, false);
    let is_index = |name: &str| name.ends_with("index");
    let names: Vec<String> = storage.list(&path_of("")).unwrap().into_iter().map(|entry| entry.name).collect();
    let indexes: Vec<&String> = names.iter().filter(|name| is_index(name)).collect();
    assert!(indexes.len() >= 6, "{indexes:?}");
    let good: Vec<Vec<u8>> = indexes.iter().map(|name| storage.contents(&path_of(name)).unwrap()).collect();
    for contents in [None, Some(vec![]), Some(good[0][..30].to_vec()), Some(good[0].clone()), Some(vec![9; 200])] {
        for name in &indexes {
            match &contents {
                Some(contents) => storage.plant(&path_of(name), contents).unwrap(),
                None => storage.remove_file(&path_of(name)).unwrap(),
            }
        }
        let (_, _, report, found) = reopen(&storage);
        assert_eq!(found, batches);
        assert!(report.indexes_written >= 2);
        let again: Vec<Vec<u8>> = indexes.iter().map(|name| storage.contents(&path_of(name)).unwrap()).collect();
        assert_eq!(again, good, "made again as they were");
    }
}

#[test]
fn leader_epochs_of_a_newer_version_are_refused_by_name() {
    let (storage, _) = log_of(3, false);
    let newer = crate::format::checkpoint::encode(crate::format::epochs::KIND, 9, b"");
    storage.plant(&path_of("leader-epoch.checkpoint"), &newer).unwrap();
    let error = Log::open(&directory(&storage), "topic-0", CONFIG, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("leader-epoch.checkpoint: epochs file of version 9"), "{error}");
}

// covers LOG-6
#[test]
fn leader_epochs_torn_at_any_byte_are_built_again_from_the_log() {
    let (storage, batches) = log_of(3, false);
    let path = path_of("leader-epoch.checkpoint");
    let whole = storage.contents(&path).unwrap();
    for length in 0..whole.len() {
        storage.plant(&path, &whole[..length]).unwrap();
        let (_, mut log, _, found) = reopen(&storage);
        assert_eq!((found, log.epochs().newest()), (batches.clone(), Some(0)), "cut at {length}");
        log.flush().unwrap();
        assert_eq!(storage.contents(&path).unwrap(), whole, "and written again");
    }
}

#[test]
fn a_segment_that_is_a_directory_is_foreign() {
    let (storage, batches) = log_of(3, false);
    storage.create_directory(&path_of("00000000000000000006.log")).unwrap();
    let (_, _, report, found) = reopen(&storage);
    assert_eq!((found, report.foreign_names), (batches, vec!["00000000000000000006.log".to_owned()]));
}

#[test]
fn an_empty_last_segment_says_where_the_log_ends() {
    let (storage, batches) = log_of(5, false);
    storage.open(&path_of("00000000000000000010.log"), Open::Create).unwrap();
    let (_, mut log, report, found) = reopen(&storage);
    assert_eq!((found, report.lost_tail, log.log_end_offset()), (batches, None, 10));
    log.append(batch(10)).unwrap();
    assert_eq!(log.segment_count(), 2);
}
