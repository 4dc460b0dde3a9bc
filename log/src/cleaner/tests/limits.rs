//! Memory: what is allowed is enough for any batch, and is not exceeded.

use super::{fill_keys, fold, open, order, rows_of};
use crate::cleaner::{ByRecordKey, CleanError, CleaningOrder};
use crate::limits::CLEANER_DEDUPE_BYTES_MIN;
use crate::storage::memory::MemoryStorage;
use headwater_protocol::limits::RECORDS_PER_BATCH_MAX;
use std::collections::BTreeSet;

#[test]
fn too_little_memory_for_all_keys_makes_several_passes() {
    let storage = MemoryStorage::new();
    let (_directory, mut log) = open(&storage);
    fill_keys(&mut log, (0..120).map(|number| number % 40));
    let written = fold(&rows_of(&log));
    let headers_kept = BTreeSet::new();
    let dedupe_bytes_max = 24 * 32;
    let order = CleaningOrder { dedupe_bytes_max, ..order(&headers_kept, log.log_end_offset(), 1000) };
    let report = log.cleaner().clean(&order, &mut ByRecordKey, &mut |_| Ok(())).unwrap();
    assert!(report.passes > 5, "{report:?}");
    assert!(report.dedupe_bytes <= dedupe_bytes_max, "{report:?}");
    let left = rows_of(&log);
    assert_eq!(fold(&left), written);
    let below: Vec<_> = left.iter().filter(|row| row.offset < report.first_dirty).map(|row| row.key.clone()).collect();
    assert_eq!(below.iter().collect::<BTreeSet<_>>().len(), below.len(), "no key is there twice");
}

#[test]
fn a_batch_that_does_not_fit_is_an_error_and_no_endless_loop() {
    let storage = MemoryStorage::new();
    let (_directory, mut log) = open(&storage);
    fill_keys(&mut log, 0..60);
    let headers_kept = BTreeSet::new();
    let order = CleaningOrder { dedupe_bytes_max: 24, ..order(&headers_kept, log.log_end_offset(), 1000) };
    let error = log.cleaner().clean(&order, &mut ByRecordKey, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, CleanError::NoRoom { offset: 0, bytes_max: 24 }), "{error}");
}

#[test]
fn the_least_memory_that_may_be_configured_holds_the_largest_batch() {
    let survey = super::super::survey::Survey::new(usize::MAX, CLEANER_DEDUPE_BYTES_MIN, 0);
    assert!(survey.keys.room() >= RECORDS_PER_BATCH_MAX as usize);
    assert!(survey.marks.fits(0, i64::from(RECORDS_PER_BATCH_MAX), survey.marks_max()));
    assert!(survey.bytes() <= CLEANER_DEDUPE_BYTES_MIN);
}
