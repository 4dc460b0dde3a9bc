use super::*;
use crate::storage::Open;
use crate::storage::memory::{Fault, FaultKind, MemoryStorage, Survivors};
use crate::testing::{
    CONFIG, DATA, NAME, batch, batch_of, directory, directory_on, fill, open, path_of, read_all, reopen,
};
use crate::{Log, LogError};
use headwater_protocol::ids::LeaderEpoch;

fn points(storage: &MemoryStorage) -> BTreeMap<String, RecoveryPoint> {
    let bytes = storage.contents(&Path::new(DATA).join(names::RECOVERY_POINTS));
    bytes.map_or_else(BTreeMap::new, |bytes| points::decode(&bytes).unwrap())
}

#[test]
fn one_process_at_a_time_has_a_directory() {
    let storage = MemoryStorage::new();
    let first = directory(&storage);
    let second = DataDirectory::open(Arc::new(storage.clone()), Path::new(DATA));
    assert!(matches!(second, Err(LogError::Locked(_))), "{second:?}");
    drop(first);
    directory(&storage);
}

// covers LOG-6: also of the directories above it, and also when a run was killed between making one and syncing it
#[test]
fn the_name_of_a_directory_survives_with_what_is_in_it() {
    let path = Path::new("/srv/headwater/one");
    for killed_after in 0..6 {
        let storage = MemoryStorage::new();
        storage.halt_after(killed_after);
        drop(DataDirectory::open(Arc::new(storage.clone()), path));
        storage.clear_faults();
        let directory = directory_on(Arc::new(storage.clone()), path);
        let (mut log, _) = open(&directory);
        let batches = fill(&mut log, 2);
        log.flush().unwrap();
        storage.power_cut(Survivors::None);
        let (log, _) = open(&directory_on(Arc::new(storage.clone()), path));
        assert_eq!(read_all(&log), batches, "killed after {killed_after} changes");
    }
}

#[test]
fn recovery_points_are_those_that_were_synced() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    fill(&mut log, 3);
    directory.checkpoint().unwrap();
    assert_eq!(points(&storage), BTreeMap::new(), "appended is not synced");
    log.flush().unwrap();
    directory.checkpoint().unwrap();
    let point = RecoveryPoint { next_offset: 6, start_offset: 0 };
    assert_eq!(points(&storage), BTreeMap::from([(NAME.to_owned(), point)]));
    let syncs = storage.syncs();
    directory.checkpoint().unwrap();
    assert_eq!(storage.syncs(), syncs, "nothing changed, nothing is written");
    drop(log);
    fill(&mut open(&directory).0, 1);
    directory.checkpoint().unwrap();
    assert_eq!(points(&storage)[NAME], point, "kept while it is closed, and after");
}

#[test]
fn a_name_that_could_lead_elsewhere_is_refused() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    for name in ["", "..", "a/b", "x.deleted", ".lock"] {
        let opened = Log::open(&directory, name, CONFIG, &mut |_| {});
        assert!(matches!(opened, Err(LogError::BadName(_))), "{name}");
    }
}

#[test]
fn a_partition_is_open_once() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (log, _) = open(&directory);
    assert!(matches!(Log::open(&directory, NAME, CONFIG, &mut |_| {}), Err(LogError::AlreadyOpen(_))));
    assert!(matches!(directory.delete_partition(NAME), Err(LogError::AlreadyOpen(_))));
    drop(log);
    open(&directory);
    directory.delete_partition(NAME).unwrap();
}

#[test]
fn a_deleted_partition_is_gone_and_may_come_anew() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    fill(&mut log, 30);
    log.flush().unwrap();
    directory.checkpoint().unwrap();
    let reader = log.reader();
    fill(&mut log, 1);
    let job = log.begin_flush().unwrap();
    assert_eq!(directory.partitions().unwrap(), [NAME]);
    log.delete().unwrap();
    assert_eq!(directory.partitions().unwrap(), Vec::<String>::new());
    assert_eq!(points(&storage), BTreeMap::new());
    assert!(matches!(reader.read(0, 1, 1), Err(LogError::Deleted(_))));
    assert!(matches!(job.run().error(), Some(LogError::Deleted(_))), "a flush that comes late harms nobody");
    directory.health().check().unwrap();
    let (log, report) = open(&directory);
    assert!(report.is_new);
    assert_eq!(log.log_end_offset(), 0);
}

// A crash at each call of a removal: afterwards the partition is there with all its records, or it is gone for good.
#[test]
fn a_crash_while_deleting_leaves_all_or_nothing() {
    let mut outcomes = [0, 0];
    for calls in 0..40 {
        for survivors in [Survivors::None, Survivors::All, Survivors::Prefix(1), Survivors::Seeded(calls)] {
            let storage = MemoryStorage::new();
            let directory = directory(&storage);
            let (mut log, _) = open(&directory);
            let batches = fill(&mut log, 12);
            log.flush().unwrap();
            directory.checkpoint().unwrap();
            storage.halt_after(calls);
            let deleted = log.delete();
            drop(directory);
            storage.power_cut(survivors);
            let (directory, log, report, found) = reopen(&storage);
            let doomed = |entry: Entry| entry.name.ends_with(names::DELETED_SUFFIX);
            assert!(!storage.list(Path::new(DATA)).unwrap().into_iter().any(doomed), "leftovers are removed");
            if report.is_new {
                assert!(found.is_empty());
            } else {
                assert_eq!(found, batches);
                assert!(deleted.is_err(), "what was deleted does not come back");
            }
            outcomes[usize::from(report.is_new)] += 1;
            drop((log, directory));
        }
    }
    assert!(outcomes.iter().all(|count| *count > 4), "both were seen: {outcomes:?}");
}

#[test]
fn a_full_disk_does_not_stand_in_the_way_of_freeing_it() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    fill(&mut log, 12);
    log.flush().unwrap();
    directory.checkpoint().unwrap();
    storage.set_capacity(Some(1000));
    assert!(matches!(log.append(crate::testing::batch(24)), Err(LogError::DiskFull(_))));
    log.delete().unwrap();
    let (mut log, _) = open(&directory);
    fill(&mut log, 1);
}

// covers LOG-10, LOG-3
#[test]
fn a_partition_that_vanished_is_not_made_anew() {
    let storage = MemoryStorage::new();
    let data = directory(&storage);
    let (mut log, _) = open(&data);
    fill(&mut log, 3);
    log.close().unwrap();
    data.checkpoint().unwrap();
    storage.rename(&Path::new(DATA).join(NAME), Path::new("/elsewhere")).unwrap();
    let opened = Log::open(&data, NAME, CONFIG, &mut |_| {});
    assert!(matches!(opened, Err(LogError::Damaged(_))), "{opened:?}");
    assert!(storage.list(&Path::new(DATA).join(NAME)).is_err(), "nothing was made");
}

#[test]
fn a_newer_recovery_file_is_refused_by_name() {
    let storage = MemoryStorage::new();
    drop(directory(&storage));
    let newer = crate::format::checkpoint::encode(points::KIND, points::VERSION + 1, b"");
    storage.plant(&Path::new(DATA).join(names::RECOVERY_POINTS), &newer).unwrap();
    let error = DataDirectory::open(Arc::new(storage), Path::new(DATA)).unwrap_err();
    assert!(error.to_string().contains("recovery-points.checkpoint: recovery file of version 2"), "{error}");
}

// covers LOG-6: a torn file counts as missing; then everything is scanned, nothing is taken for damage
#[test]
fn a_torn_recovery_file_counts_as_missing() {
    let storage = MemoryStorage::new();
    let data = directory(&storage);
    let (mut log, _) = open(&data);
    let batches = fill(&mut log, 12);
    log.close().unwrap();
    data.checkpoint().unwrap();
    drop(data);
    let path = Path::new(DATA).join(names::RECOVERY_POINTS);
    let whole = storage.contents(&path).unwrap();
    for length in 0..whole.len() {
        storage.plant(&path, &whole[..length]).unwrap();
        let (_, log, report, found) = reopen(&storage);
        assert_eq!((found, report.lost_tail), (batches.clone(), None));
        assert_eq!(log.durable().next_offset(), 0, "what is not known to be durable is not called so");
    }
}

// covers LOG-7
#[test]
fn a_failed_sync_of_names_fails_all_who_wait_for_it() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let logs: Vec<Log> =
        ["a", "b"].iter().map(|name| Log::open(&directory, name, CONFIG, &mut |_| {}).unwrap().0).collect();
    let begin = |mut log: Log| {
        fill(&mut log, 1);
        log.begin_flush().unwrap()
    };
    let jobs: Vec<_> = logs.into_iter().map(begin).collect();
    storage.inject(Fault::new(Operation::SyncDirectory, DATA, FaultKind::InputOutput).after(1).times(1));
    let errors: Vec<bool> =
        jobs.into_iter().map(|job| matches!(job.run().error(), Some(LogError::DirectoryFailed(_)))).collect();
    assert_eq!(errors, [true, true]);
}

// covers LOG-7: whoever waits while a sync fails must not try again, as that would succeed without having synced
// anything
#[test]
fn a_failed_sync_of_names_is_not_tried_again() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    directory.note_name();
    storage.inject(Fault::new(Operation::SyncDirectory, DATA, FaultKind::InputOutput).times(1));
    for _ in 0..2 {
        assert!(matches!(directory.sync_names(), Err(LogError::DirectoryFailed(_))));
    }
}

#[test]
fn one_sync_serves_all_names_made_before_it() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let mut logs: Vec<Log> =
        (0..5).map(|number| Log::open(&directory, &format!("p-{number}"), CONFIG, &mut |_| {}).unwrap().0).collect();
    let before = storage.syncs();
    directory.sync_names().unwrap();
    assert_eq!(storage.syncs() - before, 1, "all that is there of them");
    for log in &mut logs {
        log.flush().unwrap();
    }
    assert_eq!(storage.syncs() - before, 1, "they hold nothing");
    for log in &mut logs {
        log.append(batch(0)).unwrap();
        log.flush().unwrap();
    }
    // Of each the segment, its epochs, its own directory.
    assert_eq!(storage.syncs() - before, 1 + 5 * 3);
    drop(logs);
    storage.power_cut(Survivors::None);
    let directory = self::directory(&storage);
    assert_eq!(directory.partitions().unwrap().len(), 5);
}

// What a stop has to write does not grow with partitions that nobody wrote to.
#[test]
fn a_reign_without_a_record_is_not_synced_at_a_stop() {
    let storage = MemoryStorage::new();
    let data = directory(&storage);
    let (mut log, _) = open(&data);
    log.begin_epoch(LeaderEpoch(1)).unwrap();
    data.sync_names().unwrap();
    let before = storage.syncs();
    log.close().unwrap();
    assert_eq!(storage.syncs(), before, "a new one");
    let (mut log, _) = open(&data);
    log.begin_epoch(LeaderEpoch(2)).unwrap();
    log.append(batch_of(0, 2, &[1], 1)).unwrap();
    log.close().unwrap();
    data.close_in_order().unwrap();
    drop(data);
    let (data, mut log, ..) = reopen(&storage);
    log.begin_epoch(LeaderEpoch(3)).unwrap();
    let before = storage.syncs();
    log.close().unwrap();
    assert_eq!(storage.syncs(), before, "an old one");
    // Whoever asks where an epoch ended hears the same.
    let (log, _) = open(&data);
    assert_eq!(log.epochs().newest(), Some(2));
    assert_eq!(log.epochs().end_offset_of(2, log.log_end_offset()), Some((2, 1)));
}

#[test]
fn foreign_files_are_left_alone() {
    let storage = MemoryStorage::new();
    let data = directory(&storage);
    let (mut log, _) = open(&data);
    fill(&mut log, 2);
    log.close().unwrap();
    drop(data);
    storage.plant(&path_of("notes.txt"), b"mine").unwrap();
    storage.plant(&path_of("leader-epoch.checkpoint.tmp"), b"torn").unwrap();
    storage.plant(&path_of("00000000000000000777.index"), b"orphan").unwrap();
    storage.open(&Path::new(DATA).join("README"), Open::Create).unwrap();
    let (_, _, report, found) = reopen(&storage);
    assert_eq!((report.foreign_names, found.len()), (vec!["notes.txt".to_owned()], 2));
    assert_eq!(storage.contents(&path_of("notes.txt")), Some(b"mine".to_vec()));
    assert_eq!(storage.contents(&path_of("leader-epoch.checkpoint.tmp")), None);
    assert_eq!(storage.contents(&path_of("00000000000000000777.index")), None);
}
