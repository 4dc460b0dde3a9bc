//! Disks that fill up or fail.

use crate::storage::memory::{Fault, FaultKind, MemoryStorage, Survivors};
use crate::storage::{Operation, Storage};
use crate::testing::{CONFIG, batch, directory, fill, open, path_of, read_all, reopen};
use crate::{Log, LogError};

// covers LOG-7: the half batch is cut away, reads go on, appends too when there is room
#[test]
fn a_full_disk_refuses_appends_and_recovers() {
    let whole = batch(0).len();
    for room in [0, 1, 60, 61, whole - 1] {
        let storage = MemoryStorage::new();
        let directory = directory(&storage);
        let (mut log, _) = open(&directory);
        let mut batches = fill(&mut log, 3);
        log.flush().unwrap();
        let used = storage.used_bytes();
        storage.set_capacity(Some(used + room as u64));
        for _ in 0..2 {
            let error = log.append(batch(6)).unwrap_err();
            assert!(matches!(error, LogError::DiskFull(_)), "{error}");
            assert!(error.to_string().contains("free space"), "{error}");
        }
        assert_eq!((log.log_end_offset(), read_all(&log)), (6, batches.clone()));
        let file = storage.contents(&path_of("00000000000000000000.log")).unwrap();
        assert_eq!(file, batches.concat(), "no half batch is left");
        directory.health().check().unwrap();
        log.flush().unwrap();
        storage.set_capacity(None);
        batches.extend(fill(&mut log, 10));
        assert_eq!(read_all(&log), batches);
        log.flush().unwrap();
        storage.power_cut(Survivors::None);
        assert_eq!(reopen(&storage).3, batches);
    }
}

// covers LOG-1, LOG-7: the bytes of a refused append don't come back in the middle of the log
#[test]
fn what_a_full_disk_refused_stays_cut_off() {
    for is_killed in [false, true] {
        for survivors in [Survivors::Prefix(1), Survivors::Prefix(2), Survivors::None, Survivors::All] {
            let storage = MemoryStorage::new();
            let data = directory(&storage);
            let (mut log, _) = open(&data);
            let mut batches = fill(&mut log, 4);
            log.flush().unwrap();
            data.checkpoint().unwrap();
            storage.set_capacity(Some(storage.used_bytes() + 70));
            log.append(batch(8)).unwrap_err();
            storage.set_capacity(None);
            let (data, mut log) = if is_killed {
                drop((log, data));
                let (data, log, ..) = reopen(&storage);
                (data, log)
            } else {
                (data, log)
            };
            // Goes to the next segment, and is acknowledged.
            let later = [batch(8), batch(10)];
            log.append_many(&later).unwrap();
            batches.extend(later);
            assert_eq!(log.segment_count(), 2);
            log.flush().unwrap();
            data.checkpoint().unwrap();
            drop((log, data));
            storage.power_cut(survivors);
            assert_eq!(reopen(&storage).3, batches, "{survivors:?}, killed: {is_killed}");
        }
    }
}

#[test]
fn a_disk_that_is_full_at_a_roll_costs_nothing() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    let mut batches = fill(&mut log, 4);
    log.flush().unwrap();
    storage.set_capacity(Some(storage.used_bytes()));
    for _ in 0..3 {
        assert!(matches!(log.append_many(&[batch(8), batch(10)]), Err(LogError::DiskFull(_))));
    }
    // A power cut now, or going on: both must do.
    log.flush().unwrap();
    let (mut other, _) = Log::open(&directory, "other-0", CONFIG, &mut |_| {}).unwrap();
    storage.inject(Fault::new(Operation::Open, "other-0", FaultKind::Full));
    assert!(matches!(other.append(batch(0)), Err(LogError::DiskFull(_))), "no room for a name");
    directory.health().check().unwrap();
    storage.set_capacity(None);
    storage.clear_faults();
    fill(&mut other, 1);
    batches.extend(fill(&mut log, 10));
    assert_eq!(read_all(&log), batches);
    drop((log, other, directory));
    assert_eq!(reopen(&storage).3, batches);
}

// covers LOG-7: found by the simulator. A sync fails, the process is started anew on a machine that stays up: the page
// cache still shows the bytes, calls them clean, and the new process's sync has nothing to write. What it then calls
// durable must be durable all the same.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again_by_the_next_run() {
    for fails_in_the_last in [false, true] {
        let storage = MemoryStorage::new();
        let directory = directory(&storage);
        let (mut log, _) = open(&directory);
        let mut batches = fill(&mut log, 2);
        log.flush().unwrap();
        directory.checkpoint().unwrap();
        batches.extend(fill(&mut log, 6));
        let segments = log.shared.segments();
        assert!(segments.len() > 1, "the failure may concern a sealed segment, too");
        let place = if fails_in_the_last { segments.len() - 1 } else { 0 };
        let path = segments[place].file().path().to_str().unwrap();
        storage.inject(Fault::new(Operation::Sync, path, FaultKind::InputOutput).times(1));
        assert!(log.flush().is_err());
        drop((log, directory));
        let (directory, mut log, _, found) = reopen(&storage);
        assert_eq!(found, batches, "the cache still shows all of it");
        assert_eq!(log.flush().unwrap().next_offset(), log.log_end_offset());
        drop((log, directory));
        storage.power_cut(Survivors::None);
        assert_eq!(reopen(&storage).3, batches, "what was called durable is there");
    }
}

// covers LOG-7: fail-stop for the whole directory; a second try would "succeed" without the data
#[test]
fn a_failed_sync_stops_the_whole_directory() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    let (mut other, _) = Log::open(&directory, "other-0", CONFIG, &mut |_| {}).unwrap();
    let batches = fill(&mut log, 3);
    fill(&mut other, 1);
    let earlier = other.begin_flush().unwrap().run();
    storage.inject(Fault::new(Operation::Sync, "topic-0", FaultKind::InputOutput).times(1));
    let failed = log.begin_flush().unwrap();
    let queued = log.begin_flush().unwrap();
    let error = log.complete_flush(failed.run()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, LogError::DirectoryFailed(_)));
    assert!(text.contains("/data failed") && text.contains("input/output") && text.contains("replace"), "{text}");
    // The disk answers again, but nobody may believe it.
    let syncs = storage.syncs();
    assert!(matches!(log.complete_flush(queued.run()), Err(LogError::DirectoryFailed(_))));
    assert!(matches!(log.flush(), Err(LogError::DirectoryFailed(_))));
    assert_eq!(storage.syncs(), syncs, "not even tried");
    for log in [&mut log, &mut other] {
        assert!(matches!(log.append(batch(log.log_end_offset())), Err(LogError::DirectoryFailed(_))));
        assert!(matches!(log.flush(), Err(LogError::DirectoryFailed(_))));
        assert_eq!(log.durable().next_offset(), 0);
    }
    assert!(matches!(other.complete_flush(earlier), Err(LogError::DirectoryFailed(_))));
    assert!(matches!(directory.checkpoint(), Err(LogError::DirectoryFailed(_))));
    assert!(matches!(Log::open(&directory, "new-0", CONFIG, &mut |_| {}), Err(LogError::DirectoryFailed(_))));
    assert_eq!(read_all(&log), batches, "reads go on");
    assert!(directory.health().failure().is_some());
    // A restart reads back what is there, and it is less.
    drop((log, other, directory));
    storage.power_cut(Survivors::All);
    let (_, mut log, _, found) = reopen(&storage);
    assert_eq!(found, Vec::<bytes::Bytes>::new());
    fill(&mut log, 1);
}

// covers LOG-7
#[test]
fn a_failed_sync_of_a_directory_stops_it_too() {
    for (skipped, which) in [(0, "the partition's"), (1, "the data directory")] {
        let storage = MemoryStorage::new();
        let directory = directory(&storage);
        let (mut log, _) = open(&directory);
        log.append(crate::testing::batch_of(0, -1, &[1], 1)).unwrap();
        storage.inject(Fault::new(Operation::SyncDirectory, "/data", FaultKind::InputOutput).after(skipped).times(1));
        assert!(matches!(log.flush(), Err(LogError::DirectoryFailed(_))), "{which}");
        assert!(matches!(log.append(batch(1)), Err(LogError::DirectoryFailed(_))), "{which}");
    }
}

// covers LOG-7, LOG-6
#[test]
fn a_failed_sync_of_the_leader_epochs_stops_it_too() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    fill(&mut log, 1);
    storage.inject(Fault::new(Operation::Sync, "leader-epoch", FaultKind::InputOutput).times(1));
    assert!(matches!(log.flush(), Err(LogError::DirectoryFailed(_))));
    assert!(directory.health().failure().is_some());
}

#[test]
fn a_disk_too_full_for_the_leader_epochs_promises_nothing_yet() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    fill(&mut log, 1);
    storage.set_capacity(Some(storage.used_bytes() + 3));
    assert!(matches!(log.flush(), Err(LogError::DiskFull(_))));
    directory.health().check().unwrap();
    storage.set_capacity(None);
    assert_eq!(log.flush().unwrap().next_offset(), 2);
}

#[test]
fn a_write_that_fails_stops_the_directory() {
    for kind in [FaultKind::InputOutput, FaultKind::ReadOnly] {
        let storage = MemoryStorage::new();
        let directory = directory(&storage);
        let (mut log, _) = open(&directory);
        let batches = fill(&mut log, 2);
        storage.inject(Fault::new(Operation::Write, ".log", kind).times(1).with_bytes_written(70));
        assert!(matches!(log.append(batch(4)), Err(LogError::DirectoryFailed(_))));
        assert!(matches!(log.append(batch(4)), Err(LogError::DirectoryFailed(_))));
        assert_eq!(read_all(&log), batches);
        assert_eq!(storage.contents(&path_of("00000000000000000000.log")).unwrap(), batches.concat());
    }
}

#[test]
fn a_half_batch_that_can_not_be_cut_away_stops_the_directory() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    let batches = fill(&mut log, 2);
    storage.inject(Fault::new(Operation::Write, ".log", FaultKind::Full).times(1).with_bytes_written(70));
    storage.inject(Fault::new(Operation::Truncate, ".log", FaultKind::InputOutput).times(1));
    assert!(matches!(log.append(batch(4)), Err(LogError::DirectoryFailed(_))));
    assert_eq!(read_all(&log), batches, "readers never see it");
    drop((log, directory));
    let (_, _, report, found) = reopen(&storage);
    assert_eq!(found, batches);
    assert_eq!(report.lost_tail.map(|lost| lost.bytes), Some(70));
}

#[test]
fn a_read_that_fails_concerns_nobody_else() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    let batches = fill(&mut log, 2);
    storage.inject(Fault::new(Operation::Read, ".log", FaultKind::InputOutput).times(1));
    assert!(matches!(log.reader().read(0, 4, 100), Err(LogError::Storage(_))));
    assert_eq!(read_all(&log), batches);
    fill(&mut log, 1);
    directory.health().check().unwrap();
}

#[test]
fn a_partition_that_can_not_be_read_does_not_open_and_others_do() {
    for operation in [Operation::Open, Operation::Read, Operation::List] {
        let storage = MemoryStorage::new();
        {
            let (mut log, _) = open(&directory(&storage));
            fill(&mut log, 2);
        }
        let directory = directory(&storage);
        storage.inject(Fault::new(operation, "topic-0", FaultKind::Forbidden).times(1));
        let error = Log::open(&directory, "topic-0", CONFIG, &mut |_| {}).unwrap_err();
        assert!(matches!(error, LogError::Storage(_)), "{error}");
        assert!(error.to_string().contains("/data/topic-0"), "{error}");
        Log::open(&directory, "other-0", CONFIG, &mut |_| {}).unwrap();
        assert_eq!(open(&directory).0.log_end_offset(), 4, "and later it does");
    }
}

#[test]
fn an_index_that_can_not_be_written_is_not_missed() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    storage.inject(Fault::new(Operation::Open, "index", FaultKind::InputOutput));
    let batches = fill(&mut log, 30);
    assert_eq!(read_all(&log), batches);
    assert!(storage.list(&path_of("")).unwrap().iter().all(|entry| !entry.name.ends_with("index")));
    directory.health().check().unwrap();
}

// covers LOG-7: a limit of the process is no failure of the disk
#[test]
fn too_many_open_files_refuse_what_needs_another_one_and_nothing_else() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    let mut batches = fill(&mut log, 2);
    log.flush().unwrap();
    storage.inject(Fault::new(Operation::Open, "/data", FaultKind::OutOfFiles));
    let error = std::iter::repeat_with(|| log.append(batch(log.log_end_offset())))
        .take(20)
        .inspect(|outcome| batches.extend(outcome.is_ok().then(|| batch(2 * batches.len() as i64))))
        .find_map(Result::err)
        .expect("a new segment needs a file");
    assert!(matches!(error, LogError::OutOfFiles(_)) && error.to_string().contains("ulimit"), "{error}");
    directory.health().check().unwrap();
    assert_eq!(read_all(&log), batches, "reads go on");
    storage.clear_faults();
    batches.extend(fill(&mut log, 3));
    log.flush().unwrap();
    storage.power_cut(Survivors::None);
    drop((log, directory));
    assert_eq!(reopen(&storage).3, batches);
}
