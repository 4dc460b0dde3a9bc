use super::*;
use crate::storage::Operation;
use crate::storage::file::FileStorage;
use crate::storage::memory::{Fault, FaultKind, MemoryStorage, Survivors};
use crate::testing::{CONFIG, batch, directory, directory_on, fill};
use crate::{DataDirectory, Log, LogError};
use std::sync::mpsc;

fn logs_of(directory: &DataDirectory, count: usize) -> Vec<Log> {
    let open = |number| Log::open(directory, &format!("topic-{number}"), CONFIG, &mut |_| {}).unwrap().0;
    (0..count).map(open).collect()
}

fn jobs(logs: &mut [Log]) -> Vec<(usize, FlushJob)> {
    logs.iter_mut().enumerate().filter_map(|(number, log)| Some((number, log.begin_flush()?))).collect()
}

#[test]
fn every_job_is_done_once_and_what_it_promises_is_there() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let mut logs = logs_of(&directory, 40);
    let (sender, results) = mpsc::channel();
    let pool = FlushPool::start(4, move |number, result| sender.send((number, result)).unwrap()).unwrap();
    for round in 1..=5 {
        logs.iter_mut().for_each(|log| drop(fill(log, 2)));
        pool.submit(jobs(&mut logs)).unwrap();
        let mut done: Vec<usize> = Vec::new();
        for (number, result) in results.iter().take(logs.len()) {
            assert_eq!(logs[number].complete_flush(result).unwrap().next_offset(), round * 4);
            done.push(number);
        }
        done.sort_unstable();
        assert_eq!(done, (0..logs.len()).collect::<Vec<_>>());
    }
    assert_eq!(pool.rounds(), 5);
    drop(pool);
    assert!(results.recv().is_err(), "nobody is left to send");
    storage.power_cut(Survivors::None);
    let directory = crate::testing::directory(&storage);
    assert!(logs_of(&directory, 40).iter().all(|log| log.log_end_offset() == 20));
}

/// A pool of one thread whose first job is held until the returned sender is used.
fn held_pool() -> (FlushPool<usize>, mpsc::Receiver<usize>, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (sender, done) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    let held = Mutex::new(held);
    let pool = FlushPool::start(1, move |number, _| {
        started.send(()).unwrap();
        // The end of the test lets go of everything.
        if held.lock().recv().is_ok() {
            sender.send(number).unwrap();
        }
    });
    (pool.unwrap(), done, release, has_started)
}

#[test]
fn what_is_submitted_during_a_round_joins_the_next() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let mut logs = logs_of(&directory, 5);
    logs.iter_mut().for_each(|log| drop(fill(log, 1)));
    let mut jobs = jobs(&mut logs).into_iter();
    let (pool, done, release, has_started) = held_pool();
    pool.submit(jobs.next()).unwrap();
    has_started.recv().unwrap();
    for job in jobs {
        pool.submit([job]).unwrap();
    }
    assert_eq!(pool.rounds(), 1);
    (0..5).for_each(|_| release.send(()).unwrap());
    let order: Vec<usize> = done.iter().take(5).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    assert_eq!(pool.rounds(), 2, "four submissions, one round");
}

#[test]
fn closing_does_what_was_submitted_and_takes_no_more() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let mut logs = logs_of(&directory, 6);
    logs.iter_mut().for_each(|log| drop(fill(log, 1)));
    let mut jobs = jobs(&mut logs);
    let late = jobs.split_off(4);
    let (sender, results) = mpsc::channel();
    let pool = FlushPool::start(2, move |number, _| sender.send(number).unwrap()).unwrap();
    pool.submit(jobs).unwrap();
    pool.close();
    assert_eq!(results.try_iter().count(), 4);
    let refused = pool.submit(late).unwrap_err();
    assert_eq!(refused.len(), 2, "they come back");
    pool.close();
}

#[test]
fn the_last_owner_may_be_one_of_its_own_threads() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let mut logs = logs_of(&directory, 1);
    fill(&mut logs[0], 1);
    let place: Arc<Mutex<Option<FlushPool<usize>>>> = Arc::default();
    let (sender, done) = mpsc::channel();
    let own = Arc::clone(&place);
    let pool = FlushPool::start(3, move |_, _| {
        drop(own.lock().take());
        sender.send(()).unwrap();
    });
    let pool = pool.unwrap();
    let mut held = place.lock();
    pool.submit(jobs(&mut logs)).unwrap();
    *held = Some(pool);
    drop(held);
    done.recv().unwrap();
}

// covers LOG-7
#[test]
fn a_failed_sync_fails_all_that_come_after_it() {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let mut logs = logs_of(&directory, 10);
    logs.iter_mut().for_each(|log| drop(fill(log, 1)));
    storage.inject(Fault::new(Operation::Sync, "topic-3", FaultKind::InputOutput).times(1));
    let (sender, results) = mpsc::channel();
    let pool = FlushPool::start(4, move |number, result| sender.send((number, result)).unwrap()).unwrap();
    pool.submit(jobs(&mut logs)).unwrap();
    pool.close();
    let done: Vec<(usize, FlushResult)> = results.try_iter().collect();
    assert_eq!(done.len(), 10, "everybody is told");
    for (number, result) in done {
        // By now the failure is known, so that even those that were synced before it are not believed.
        assert!(matches!(logs[number].complete_flush(result), Err(LogError::DirectoryFailed(_))));
        assert!(matches!(logs[number].append(batch(2)), Err(LogError::DirectoryFailed(_))));
    }
}

#[test]
fn real_files_are_flushed_side_by_side() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = directory_on(Arc::new(FileStorage), temporary.path());
    let mut logs = logs_of(&directory, 30);
    let (sender, results) = mpsc::channel();
    let pool = FlushPool::start(FLUSH_THREADS_DEFAULT, move |number, result| {
        sender.send((number, result)).unwrap();
    });
    let pool = pool.unwrap();
    for round in 1..=3 {
        logs.iter_mut().for_each(|log| drop(fill(log, 1)));
        pool.submit(jobs(&mut logs)).unwrap();
        for (number, result) in results.iter().take(30) {
            assert_eq!(logs[number].complete_flush(result).unwrap().next_offset(), round * 2);
        }
    }
}

#[test]
fn a_number_of_threads_out_of_range_is_refused() {
    for threads in [0, limits::FLUSH_THREADS_MAX + 1] {
        let error = FlushPool::<()>::start(threads, |(), _| ()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("{threads} flush threads: 1 to ")), "{error}");
    }
}
