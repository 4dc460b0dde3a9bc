//! Moving a log's start: what goes, what stays, and what a crash in the middle leaves.

use crate::storage::memory::{MemoryStorage, Survivors};
use crate::testing::{batch, directory, fill, open, path_of, read_all, reopen};
use crate::{LogError, format::names};
use headwater_protocol::ids::LeaderEpoch;

fn is_there(storage: &MemoryStorage, base_offset: i64) -> bool {
    storage.contents(&path_of(&names::segment(base_offset))).is_some()
}

#[test]
fn segments_below_the_new_start_go_and_readers_are_told_so() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    let batches = fill(&mut log, 20);
    log.flush().unwrap();
    let segments = log.segment_count();
    assert!(segments > 3);
    let job = log.trim(21).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), job.log_start_offset()), (21, 40, 21));
    assert_eq!(read_all(&log), batches[10..], "the first batch holds the start");
    let error = log.reader().read(20, 40, 100).unwrap_err();
    assert!(matches!(error, LogError::OffsetOutOfRange { asked: 20, start: 21, end: 40 }), "{error}");
    assert!(is_there(&storage, 0), "files go when the job runs");
    assert!(job.run().unwrap() > 0);
    assert!(!is_there(&storage, 0) && log.segment_count() < segments);

    // Nothing of it comes back: not to readers, not to whoever rebuilds state from the log.
    drop(log);
    let (_, mut log, _, visited) = reopen(&storage);
    assert_eq!((log.log_start_offset(), visited), (21, batches[10..].to_vec()));
    assert_eq!(log.trim(5).unwrap().log_start_offset(), 21, "a start never falls");
}

#[test]
fn a_log_without_records_left_goes_on_where_it_ended() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    fill(&mut log, 5);
    log.flush().unwrap();
    log.trim(10).unwrap().run().unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size_bytes()), (10, 10, 0));
    storage.power_cut(Survivors::None);
    let (_, mut log, _, visited) = reopen(&storage);
    assert_eq!((log.log_start_offset(), log.log_end_offset(), visited.len()), (10, 10, 0));
    log.append(batch(10)).unwrap();
    log.flush().unwrap();
    storage.power_cut(Survivors::None);
    drop(log);
    assert_eq!(reopen(&storage).3, [batch(10)]);
}

#[test]
fn what_is_not_durable_stays() {
    // covers LOG-1
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    fill(&mut log, 3);
    log.flush().unwrap();
    fill(&mut log, 3);
    assert_eq!(log.trim(12).unwrap().log_start_offset(), 6);
}

#[test]
fn readers_in_the_middle_of_a_segment_that_goes_finish() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&directory(&storage));
    let batches = fill(&mut log, 20);
    log.flush().unwrap();
    let bytes = log.reader().read(0, 40, 1 << 20).unwrap();
    let job = log.trim(30).unwrap();
    job.run().unwrap();
    assert!(bytes.starts_with(&batches[0]), "it shares nothing with the file");
}

// covers LOG-2, LOG-4, LOG-6: at each call that changes the disk, and whatever part of it survives
#[test]
fn a_crash_anywhere_leaves_the_old_start_or_the_new_one_and_every_record_behind_it() {
    let live = |storage: &MemoryStorage, to: i64| -> Result<(), LogError> {
        let directory = crate::DataDirectory::open(std::sync::Arc::new(storage.clone()), "/data".as_ref())?;
        let (mut log, _) = crate::Log::open(&directory, "topic-0", crate::testing::CONFIG, &mut |_| {})?;
        log.begin_epoch(LeaderEpoch(0))?;
        log.flush()?;
        log.trim(to)?.run()?;
        Ok(())
    };
    let (mut crashes, mut starts) = (0, std::collections::BTreeSet::new());
    for to in [7, 16, 40] {
        for calls in 0.. {
            let survivors = [Survivors::None, Survivors::All].into_iter();
            let survivors = survivors.chain((1..16).map(Survivors::Prefix)).chain((0..16).map(Survivors::Without));
            let mut ended = false;
            for survivors in survivors.chain((0..8).map(Survivors::Seeded)) {
                let storage = MemoryStorage::new();
                let first = directory(&storage);
                let (mut log, _) = open(&first);
                let batches = fill(&mut log, 20);
                log.close().unwrap();
                first.checkpoint().unwrap();
                drop(first);
                storage.halt_after(calls);
                ended = live(&storage, to).is_ok();
                storage.power_cut(survivors);
                let (directory, mut log, report, visited) = reopen(&storage);
                let start = log.log_start_offset();
                assert!(start == to || (start == 0 && !ended), "{to} {calls} {survivors:?}: {start}");
                assert_eq!(visited, batches[usize::try_from(start / 2).unwrap()..], "{to} {calls} {survivors:?}");
                assert_eq!(report.lost_tail, None);
                starts.insert(start);
                // And it goes on.
                fill(&mut log, 2);
                log.flush().unwrap();
                drop((log, directory));
                storage.power_cut(Survivors::None);
                assert_eq!(reopen(&storage).3.len(), visited.len() + 2);
                crashes += 1;
            }
            if ended {
                break;
            }
        }
    }
    assert!(crashes > 500 && starts.len() == 4, "{crashes} {starts:?}");
}
