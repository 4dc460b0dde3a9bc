//! What `Durable` promises, against power cuts (LOG-1), and who may make one.

use crate::storage::Storage;
use crate::storage::memory::{MemoryStorage, Survivors};
use crate::testing::{CONFIG, batch, directory, fill, open, reopen};
use crate::{Log, LogError, Position};
use headwater_protocol::ids::LeaderEpoch;

fn all_survivors(changes: usize) -> Vec<Survivors> {
    let prefixes = (0..=changes).map(Survivors::Prefix);
    let losses = (0..changes).map(Survivors::Without);
    let torn = (0..changes).flat_map(|changes| [1, 30, 61, 100].map(|bytes| Survivors::Torn { changes, bytes }));
    let seeded = (0..8).map(Survivors::Seeded);
    let sectors = (0..40).map(|seed| Survivors::Sectors { seed, sector_bytes: 64 << (seed % 4) });
    let all = [Survivors::None, Survivors::All].into_iter().chain(prefixes).chain(losses).chain(torn);
    all.chain(seeded).chain(sectors).collect()
}

// covers LOG-1: whatever else survives, what was promised is there, and what is there is a prefix of what was appended
#[test]
fn what_is_durable_survives_a_power_cut() {
    let build = || {
        let storage = MemoryStorage::new();
        let directory = directory(&storage);
        let (mut log, _) = open(&directory);
        let mut batches = fill(&mut log, 9);
        let durable = log.flush().unwrap();
        batches.extend(fill(&mut log, 9));
        (storage, batches, durable)
    };
    let changes = build().0.unsynced_changes();
    assert!(changes > 9, "appends, and names of segments and indexes");
    let mut longest = 0;
    for survivors in all_survivors(changes) {
        let (storage, batches, durable) = build();
        storage.power_cut(survivors);
        let (_, log, _, found) = reopen(&storage);
        assert!(log.log_end_offset() >= durable.next_offset(), "{survivors:?}");
        assert_eq!(found, batches[..found.len()], "{survivors:?}");
        longest = longest.max(found.len());
    }
    assert_eq!(longest, 18, "and more may be there");
}

// covers LOG-1, LOG-2: a crash at every call that changes the disk, for a whole life of a log
#[test]
fn a_crash_at_every_call_keeps_the_promise() {
    let live = |storage: &MemoryStorage| -> Result<i64, (i64, LogError)> {
        let mut promised = 0;
        let mut act = || -> Result<(), LogError> {
            let directory = crate::DataDirectory::open(std::sync::Arc::new(storage.clone()), "/data".as_ref())?;
            let (mut log, _) = Log::open(&directory, "topic-0", CONFIG, &mut |_| {})?;
            log.begin_epoch(LeaderEpoch(0))?;
            for _ in 0..3 {
                for _ in 0..4 {
                    log.append(batch(log.log_end_offset()))?;
                }
                promised = log.flush()?.next_offset();
                directory.checkpoint()?;
            }
            promised = log.close()?.next_offset();
            directory.checkpoint()
        };
        let outcome = act();
        outcome.map(|()| promised).map_err(|error| (promised, error))
    };
    let mut crashes = 0;
    for calls in 0.. {
        let mut ended = false;
        let sectors = Survivors::Sectors { seed: calls, sector_bytes: 128 };
        for survivors in [Survivors::None, Survivors::All, Survivors::Prefix(1), Survivors::Seeded(calls), sectors] {
            let storage = MemoryStorage::new();
            storage.halt_after(calls);
            let outcome = live(&storage);
            ended = outcome.is_ok();
            let promised = outcome.unwrap_or_else(|(promised, _)| promised);
            storage.power_cut(survivors);
            let (directory, mut log, _, found) = reopen(&storage);
            assert!(log.log_end_offset() >= promised, "{calls} calls, {survivors:?}");
            assert!(found.iter().zip((0..).step_by(2)).all(|(bytes, offset)| *bytes == batch(offset)));
            // And it goes on as if nothing had been.
            fill(&mut log, 5);
            log.flush().unwrap();
            directory.checkpoint().unwrap();
            drop((log, directory));
            storage.power_cut(Survivors::None);
            assert_eq!(reopen(&storage).3.len(), found.len() + 5);
            crashes += 1;
        }
        if ended {
            break;
        }
    }
    assert!(crashes > 100, "{crashes}");
}

#[test]
fn without_a_flush_nothing_is_promised() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    let position = log.append(batch(0)).unwrap();
    assert!(!log.durable().covers(position));
    let job = log.begin_flush().unwrap();
    assert_eq!(job.next_offset(), position.next_offset);
    assert!(!log.durable().covers(position), "a job is no result");
    let result = job.run();
    assert!(!log.durable().covers(position), "nor is a result that the log has not seen");
    assert!(log.complete_flush(result).unwrap().covers(position));
    assert!(log.begin_flush().is_none(), "nothing is left to do");
    assert!(log.durable().covers(Position { base_offset: 0, next_offset: 0 }));
}

#[test]
fn a_flush_covers_what_was_appended_before_it_began() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    fill(&mut log, 8);
    let first = log.begin_flush().unwrap();
    fill(&mut log, 8);
    let second = log.begin_flush().unwrap();
    fill(&mut log, 8);
    let (first, second) = (first.run(), second.run());
    assert_eq!(log.complete_flush(second).unwrap().next_offset(), 32);
    assert_eq!(log.complete_flush(first).unwrap().next_offset(), 32, "a late result takes nothing back");
    drop(log.begin_flush().unwrap());
    assert_eq!(log.flush().unwrap().next_offset(), 48, "a job that was dropped leaves its work to the next");
    storage.power_cut(Survivors::None);
    assert_eq!(reopen(&storage).3.len(), 24);
}

#[test]
fn a_flush_says_nothing_of_what_was_appended_after_it_ran() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    fill(&mut log, 1);
    let result = log.begin_flush().unwrap().run();
    fill(&mut log, 1);
    assert_eq!(log.complete_flush(result).unwrap().next_offset(), 2);
    assert_eq!(log.flush().unwrap().next_offset(), 4);
    storage.power_cut(Survivors::None);
    assert_eq!(reopen(&storage).3.len(), 2, "the second flush synced the same file again");
}

#[test]
fn the_result_of_another_log_is_refused() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    let (mut other, _) = Log::open(&directory, "other-0", CONFIG, &mut |_| {}).unwrap();
    fill(&mut log, 1);
    fill(&mut other, 1);
    let result = other.begin_flush().unwrap().run();
    assert!(matches!(log.complete_flush(result), Err(LogError::ForeignFlush)));
    assert_eq!(log.durable().next_offset(), 0);
}

// What a killed process left with the operating system is there, but a power cut could still take it (STEP-4).
#[test]
fn what_recovery_found_is_durable_only_after_a_flush() {
    let storage = MemoryStorage::new();
    {
        let directory = directory(&storage);
        let (mut log, _) = open(&directory);
        fill(&mut log, 3);
        log.flush().unwrap();
        directory.checkpoint().unwrap();
        fill(&mut log, 9);
    }
    let (_directory, mut log, _, found) = reopen(&storage);
    assert_eq!((found.len(), log.durable().next_offset()), (12, 6));
    assert_eq!(log.flush().unwrap().next_offset(), 24);
    storage.power_cut(Survivors::None);
    assert_eq!(reopen(&storage).3.len(), 12);
}

// A process that is killed before its first sync leaves names, too, with the operating system only.
#[test]
fn names_that_a_killed_process_left_are_durable_after_a_flush() {
    let storage = MemoryStorage::new();
    storage.create_directory("/data".as_ref()).unwrap();
    storage.sync_directory("/".as_ref()).unwrap();
    let data = crate::DataDirectory::open(std::sync::Arc::new(storage.clone()), "/data".as_ref()).unwrap();
    fill(&mut open(&data).0, 3);
    drop(data);
    let (directory, mut log, ..) = reopen(&storage);
    log.flush().unwrap();
    drop((log, directory));
    storage.power_cut(Survivors::None);
    assert_eq!(reopen(&storage).3.len(), 3);
}

#[test]
fn a_clean_stop_needs_no_sync_at_the_next_start() {
    let storage = MemoryStorage::new();
    {
        let directory = directory(&storage);
        let (mut log, _) = open(&directory);
        fill(&mut log, 20);
        log.close().unwrap();
        directory.checkpoint().unwrap();
    }
    let (_directory, mut log, report, _) = reopen(&storage);
    assert_eq!(log.durable().next_offset(), 40);
    assert!(log.begin_flush().is_none());
    assert_eq!(report.indexes_written, 0);
}
