//! A cleaner beside readers, a writer, and retention.

use super::{clean, fill_keys, fold, open, order, rows_of};
use crate::cleaner::{ByRecordKey, ClassifierError, ClassifierIdentity, CleanError, Interrupted, Judgements};
use crate::cleaner::{CleaningOrder, RecordClassifier};
use crate::format::names;
use crate::storage::memory::{Fault, FaultKind, MemoryStorage, Survivors};
use crate::testing::path_of;
use crate::{Log, LogError};
use headwater_protocol::batch::{ProducerStamp, Records};
use std::collections::BTreeSet;

fn log_of_keys(storage: &MemoryStorage) -> (crate::DataDirectory, Log) {
    let (directory, mut log) = open(storage);
    fill_keys(&mut log, (0..36).map(|number| number % 5));
    (directory, log)
}

fn try_clean(
    log: &Log,
    classifier: &mut dyn RecordClassifier,
    pace: &mut dyn FnMut(u64) -> Result<(), Interrupted>,
) -> Result<crate::cleaner::CleaningReport, CleanError> {
    let headers_kept = BTreeSet::new();
    log.cleaner().clean(&order(&headers_kept, log.durable().next_offset(), 1000), classifier, pace)
}

#[test]
fn what_is_left_takes_less_room_and_a_second_time_changes_nothing() {
    let storage = MemoryStorage::new();
    let (_directory, log) = log_of_keys(&storage);
    let before = log.size_bytes();
    let report = clean(&log, 1000);
    assert_eq!((report.passes, report.bytes_before, report.bytes_after), (1, before, log.size_bytes()));
    assert!(report.bytes_after < before / 2 && report.bytes_read > before, "{report:?}");
    assert_eq!(
        clean(&log, 1000),
        crate::cleaner::CleaningReport {
            bytes_before: log.size_bytes(),
            bytes_after: log.size_bytes(),
            first_dirty: report.first_dirty,
            dedupe_bytes: clean(&log, 1000).dedupe_bytes,
            ..Default::default()
        }
    );
    // Nobody who was there before sees a difference when the log is opened again.
    let rows = rows_of(&log);
    drop(log);
    drop(_directory);
    let (_directory, log) = open(&storage);
    assert_eq!(rows_of(&log), rows);
}

// covers CMP-1: a read at an offset that is gone gives what follows
#[test]
fn a_reader_at_any_offset_gets_what_follows_it() {
    let storage = MemoryStorage::new();
    let (_directory, log) = log_of_keys(&storage);
    clean(&log, 1000);
    let all = rows_of(&log);
    for from in 0..log.log_end_offset() {
        let (mut offset, mut found) = (from, Vec::new());
        while offset < log.log_end_offset() {
            let mut bytes = log.reader().read(offset, i64::MAX, 1).unwrap();
            let batch = headwater_protocol::batch::RecordBatch::split_first(&mut bytes).unwrap().unwrap();
            assert!(batch.header().base_offset <= offset && batch.header().next_offset() > offset);
            offset = batch.header().next_offset();
            found.extend(super::rows(&[batch.into_bytes()]).into_iter().filter(|row| row.offset >= from));
        }
        let expected: Vec<_> = all.iter().filter(|row| row.offset >= from).cloned().collect();
        assert_eq!(found, expected, "from {from}");
    }
}

#[test]
fn a_segment_that_loses_nothing_is_not_written() {
    let storage = MemoryStorage::new();
    let (_directory, mut log) = open(&storage);
    fill_keys(&mut log, 0..40);
    let before = storage.contents(&path_of(&names::segment(0))).unwrap();
    let syncs = storage.syncs();
    let headers_kept = BTreeSet::new();
    let order = CleaningOrder { segment_bytes: 1, ..order(&headers_kept, log.log_end_offset(), 1000) };
    let report = log.cleaner().clean(&order, &mut ByRecordKey, &mut |_| Ok(())).unwrap();
    assert_eq!((report.passes, report.bytes_after), (1, report.bytes_before));
    assert_eq!(storage.syncs() - syncs, 2, "the checkpoint, and nothing else");
    assert_eq!(storage.contents(&path_of(&names::segment(0))).unwrap(), before);
}

#[test]
fn a_log_start_that_moves_meanwhile_wins() {
    // At every moment of the cleaning, and with the files of what was trimmed removed before or behind the swap.
    for step in 0..160 {
        for start in [8, 20, 50] {
            let storage = MemoryStorage::new();
            let (directory, mut log) = log_of_keys(&storage);
            let written = rows_of(&log);
            let cleaner = log.cleaner();
            let (mut steps, mut job) = (0, None);
            let headers_kept = BTreeSet::new();
            let order = CleaningOrder { segment_bytes: 3000, ..order(&headers_kept, 72, 1000) };
            cleaner
                .clean(&order, &mut ByRecordKey, &mut |_| {
                    if steps == step {
                        let trimmed = log.trim(start).unwrap();
                        if start == 8 {
                            trimmed.run().unwrap();
                        } else {
                            job = Some(trimmed);
                        }
                    }
                    steps += 1;
                    Ok(())
                })
                .unwrap();
            if let Some(job) = job {
                job.run().unwrap();
            }
            let start_now = log.log_start_offset();
            let kept = |log: &Log| fold(rows_of(log).iter().filter(|row| row.offset >= start_now));
            let expected = fold(written.iter().filter(|row| row.offset >= start_now));
            assert_eq!(kept(&log), expected, "{step} {start}");
            drop((log, directory));
            storage.power_cut(Survivors::None);
            let (_directory, log) = open(&storage);
            assert_eq!((log.log_start_offset(), kept(&log)), (start_now, expected), "{step} {start}");
        }
    }
}

#[test]
fn a_log_that_is_closed_or_deleted_ends_its_cleaning_and_is_left_alone() {
    for step in 0..120 {
        for is_deleted in [false, true] {
            let storage = MemoryStorage::new();
            let (directory, log) = log_of_keys(&storage);
            let written = fold(&rows_of(&log));
            let (cleaner, mut log, mut steps) = (log.cleaner(), Some(log), 0);
            let headers_kept = BTreeSet::new();
            let cleaned = cleaner.clean(&order(&headers_kept, 72, 1000), &mut ByRecordKey, &mut |_| {
                if steps == step
                    && let Some(log) = log.take()
                {
                    if is_deleted { log.delete() } else { log.close().map(|_| ()) }.unwrap();
                }
                steps += 1;
                Ok(())
            });
            drop(cleaner);
            let has_struck = log.is_none();
            assert_eq!(cleaned.is_err(), has_struck, "{step} {cleaned:?}");
            drop(log);
            assert!(directory.health().check().is_ok(), "nothing of this is the disk's fault");
            drop(directory);
            let (_directory, log) = open(&storage);
            match has_struck && is_deleted {
                true => assert_eq!(log.log_end_offset(), 0),
                false => assert_eq!(fold(&rows_of(&log)), written),
            }
        }
    }
}

#[test]
fn an_interrupted_cleaning_keeps_what_is_in_place_and_goes_on_later() {
    for steps in 0..140 {
        let storage = MemoryStorage::new();
        let (_directory, log) = log_of_keys(&storage);
        let written = fold(&rows_of(&log));
        let mut left = steps;
        let cleaned = try_clean(&log, &mut ByRecordKey, &mut |_| {
            left -= 1;
            if left < 0 { Err(Interrupted) } else { Ok(()) }
        });
        assert!(cleaned.is_ok() || matches!(cleaned, Err(CleanError::Interrupted(_))));
        assert_eq!(fold(&rows_of(&log)), written);
        clean(&log, 1000);
        assert_eq!(fold(&rows_of(&log)), written);
    }
}

/// By the first byte of the key; trips over a value; has another identity when told so.
struct Odd {
    version: u8,
    trips_over: Option<u8>,
    judged: usize,
}

impl RecordClassifier for Odd {
    fn identity(&self) -> ClassifierIdentity {
        [self.version; 32]
    }

    fn classify(&mut self, records: &Records, judgements: &mut Judgements) -> Result<(), ClassifierError> {
        for record in records {
            let record = record.unwrap();
            self.judged += 1;
            let value = record.value.and_then(<[u8]>::first).copied();
            if value.is_some() && value == self.trips_over {
                return Err(ClassifierError("it trapped".to_owned()));
            }
            match (self.version, record.key.unwrap()[0] % 5) {
                (1, _) => judgements.key(record.key.unwrap()),
                (_, 0) => judgements.dead(),
                (_, 1) => judgements.keep(),
                (_, key) => judgements.key(&[key]),
            }
        }
        Ok(())
    }
}

#[test]
fn verdicts_decide_and_those_of_the_first_pass_are_kept_for_the_second() {
    let storage = MemoryStorage::new();
    let (_directory, log) = log_of_keys(&storage);
    let written = rows_of(&log);
    let mut odd = Odd { version: 2, trips_over: None, judged: 0 };
    let report = try_clean(&log, &mut odd, &mut |_| Ok(())).unwrap();
    let below = |rows: &[super::Row], kind: u8| -> Vec<super::Row> {
        let is_of = |row: &&super::Row| row.key.as_ref().unwrap()[0] % 5 == kind && row.offset < report.first_dirty;
        rows.iter().filter(is_of).cloned().collect()
    };
    assert_eq!(i64::try_from(odd.judged), Ok(report.first_dirty), "each record was judged once");
    let left = rows_of(&log);
    assert_eq!(below(&left, 0), []);
    assert_eq!(below(&left, 1), below(&written, 1));
    for key in 2..5 {
        assert_eq!(below(&left, key), below(&written, key).last().cloned().into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn another_classifier_cleans_again_from_the_start() {
    let storage = MemoryStorage::new();
    let (directory, log) = log_of_keys(&storage);
    let mut first = Odd { version: 1, trips_over: None, judged: 0 };
    let report = try_clean(&log, &mut first, &mut |_| Ok(())).unwrap();
    let looked = |log: &Log, version: u8| log.cleaner().look(&super::POLICY, [version; 32], 72, 1000).unwrap().0;
    assert_eq!(looked(&log, 1).first_dirty, report.first_dirty);
    assert_eq!(looked(&log, 2).first_dirty, 0);
    drop((log, directory));
    let (_directory, mut log) = open(&storage);
    log.flush().unwrap();
    assert_eq!(looked(&log, 1).first_dirty, report.first_dirty, "it is on the disk");
    let mut second = Odd { version: 2, trips_over: None, judged: 0 };
    try_clean(&log, &mut second, &mut |_| Ok(())).unwrap();
    assert_eq!(rows_of(&log).iter().filter(|row| row.key.as_ref().unwrap()[0] % 5 == 0 && row.offset < 60).count(), 0);
    assert_eq!(looked(&log, 1).first_dirty, 0);
}

#[test]
fn a_classifier_that_fails_stops_the_cleaning_and_loses_nothing() {
    let storage = MemoryStorage::new();
    let (_directory, log) = log_of_keys(&storage);
    let written = rows_of(&log);
    let mut odd = Odd { version: 2, trips_over: Some(17), judged: 0 };
    let error = try_clean(&log, &mut odd, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, CleanError::Classifier { offset: 34, .. }), "{error}");
    assert_eq!(rows_of(&log), written);
}

#[test]
fn one_log_is_cleaned_by_one_at_a_time() {
    let storage = MemoryStorage::new();
    let (_directory, log) = log_of_keys(&storage);
    let mut busy = 0;
    try_clean(&log, &mut ByRecordKey, &mut |_| {
        let other = try_clean(&log, &mut ByRecordKey, &mut |_| Ok(()));
        busy += usize::from(matches!(other, Err(CleanError::Busy)));
        Ok(())
    })
    .unwrap();
    assert!(busy > 10);
}

#[test]
fn a_swap_that_could_not_be_finished_is_left_to_the_next_open() {
    let storage = MemoryStorage::new();
    let (directory, log) = log_of_keys(&storage);
    let written = fold(&rows_of(&log));
    storage.inject(Fault::new(crate::storage::Operation::Rename, ".swap", FaultKind::Full));
    let error = try_clean(&log, &mut ByRecordKey, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, CleanError::Log(LogError::DiskFull(_))), "{error}");
    storage.clear_faults();
    assert!(matches!(try_clean(&log, &mut ByRecordKey, &mut |_| Ok(())), Err(CleanError::Busy)));
    assert_eq!(fold(&rows_of(&log)), written);
    drop((log, directory));
    let (_directory, log) = open(&storage);
    assert_eq!(fold(&rows_of(&log)), written);
    assert!(storage.contents(&path_of(&names::swap(0, 20))).is_none());
}

#[test]
fn timestamps_of_what_is_left_are_found() {
    let storage = MemoryStorage::new();
    let (_directory, log) = log_of_keys(&storage);
    clean(&log, 1000);
    let rows = rows_of(&log);
    let all = super::rows(&crate::testing::read_all(&log));
    assert_eq!(rows, all);
    // A batch's timestamp is its base offset.
    for timestamp in 0..72 {
        let found = log.reader().offset_for_timestamp(timestamp, 72).unwrap().map(|found| found.offset);
        let expected = rows.iter().find(|row| row.offset / 2 * 2 >= timestamp).map(|row| row.offset);
        assert_eq!(found, expected, "{timestamp}");
    }
    let newest = log.reader().max_timestamp(72).unwrap().unwrap();
    assert_eq!(newest.offset, 70);
}

#[test]
fn a_control_batch_stays_as_long_as_its_producer_needs_it() {
    // covers CMP-5, STEP-11
    let storage = MemoryStorage::new();
    let (_directory, mut log) = open(&storage);
    let mut control = headwater_protocol::batch::BatchBuilder::control();
    control.append(5, Some(b"c"), None, &[]).unwrap();
    let stamp_of = ProducerStamp { producer_id: 9, producer_epoch: 0, base_sequence: 3 };
    let mut bytes = control.build(stamp_of).unwrap();
    headwater_protocol::batch::stamp(&mut bytes, 0, headwater_protocol::ids::LeaderEpoch(0));
    let control = bytes.freeze();
    log.append(control.clone()).unwrap();
    fill_keys(&mut log, (0..30).map(|_| 1));
    let kept = BTreeSet::from([0]);
    let upto = log.log_end_offset();
    log.cleaner().clean(&order(&kept, upto, 1000), &mut ByRecordKey, &mut |_| Ok(())).unwrap();
    assert_eq!(crate::testing::read_all(&log)[0], control);
    fill_keys(&mut log, (0..30).map(|_| 2));
    clean(&log, 1000);
    assert_ne!(crate::testing::read_all(&log)[0], control);
}
