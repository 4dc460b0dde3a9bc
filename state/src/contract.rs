//! What every [`StateStore`] has to keep, as tests that run on any implementation.
//!
//! A store's crate calls [`run`] from a test with a [`Fixture`]; each case panics with what it saw. The last case
//! plays random histories against a plain map.

pub(crate) mod model;

use crate::{ChangelogPosition, Scan, StateChanges, StateError, StateStore, StoreNumber, entry_bytes};
use bytes::Bytes;
use std::ops::ControlFlow;

/// How the suite gets at stores of the kind under test.
pub trait Fixture {
    /// The kind under test.
    type Store: StateStore;

    /// A new, empty store.
    fn open(&self) -> Self::Store;

    /// What a new process finds where `store` was: a durable store reopens its files, one in memory stays as it is.
    fn reopen(&self, store: Self::Store) -> Self::Store;
}

/// Runs every case.
///
/// # Panics
/// When the store breaks the contract.
pub fn run(fixture: &impl Fixture) {
    a_new_store_is_empty(fixture);
    changes_and_position_arrive_together(fixture);
    nothing_is_applied_twice(fixture);
    deletes_remove_and_tolerate_absence(fixture);
    stores_are_apart(fixture);
    scans_keep_range_order_and_limit(fixture);
    answers_come_in_the_order_of_the_keys(fixture);
    odd_keys_and_values_are_kept(fixture);
    a_cleared_store_is_as_new(fixture);
    model::random_histories_match_a_plain_map(fixture);
}

/// Position of step `step` in these tests.
pub(crate) fn at(step: u64) -> ChangelogPosition {
    ChangelogPosition { next_offset: step as i64 * 10 + 5, step }
}

/// Store, key, value or delete.
pub(crate) type Literal<'a> = (u32, &'a [u8], Option<&'a [u8]>);

/// Changes from literals: (store, key, value or delete).
pub(crate) fn changes(list: &[Literal<'_>]) -> StateChanges {
    let mut changes = StateChanges::new();
    changes.extend(list.iter().map(|(store, key, value)| {
        (StoreNumber(*store), Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice))
    }));
    changes
}

/// The value of one key.
pub(crate) fn get(store: &impl StateStore, number: u32, key: &[u8]) -> Option<Vec<u8>> {
    let mut values = Vec::new();
    let mut keys = std::iter::once(key);
    store.get_many(StoreNumber(number), &mut keys, &mut |value| values.push(value.map(<[u8]>::to_vec))).unwrap();
    assert_eq!(values.len(), 1, "one answer for one key");
    values.remove(0)
}

/// Everything that a scan visits.
pub(crate) fn scanned(store: &impl StateStore, scan: &Scan<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    store
        .scan(scan, &mut |key, value| {
            entries.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

fn a_new_store_is_empty(fixture: &impl Fixture) {
    let store = fixture.reopen(fixture.open());
    assert_eq!(store.position(), None);
    assert_eq!(store.state_bytes(), 0);
    assert_eq!(get(&store, 0, b"key"), None);
    assert_eq!(scanned(&store, &Scan::all(StoreNumber(0))), []);
}

// covers STEP-1 (changes and position are one write) and STEP-13 (a store knows how far it is)
fn changes_and_position_arrive_together(fixture: &impl Fixture) {
    let mut store = fixture.open();
    store.apply(&changes(&[(0, b"a", Some(b"1")), (0, b"b", Some(b"2"))]), at(0)).unwrap();
    assert_eq!(store.position(), Some(at(0)));
    store.apply(&changes(&[]), at(1)).unwrap();
    let store = fixture.reopen(store);
    assert_eq!(store.position(), Some(at(1)), "an empty commit moves the position too");
    assert_eq!((get(&store, 0, b"a"), get(&store, 0, b"b")), (Some(b"1".to_vec()), Some(b"2".to_vec())));
    assert_eq!(store.state_bytes(), 2 * entry_bytes(1, 1));
}

// covers STEP-1 (counted twice)
fn nothing_is_applied_twice(fixture: &impl Fixture) {
    let mut store = fixture.open();
    store.apply(&changes(&[(0, b"n", Some(b"1"))]), at(3)).unwrap();
    for position in
        [at(3), at(2), ChangelogPosition { next_offset: 99, step: 3 }, ChangelogPosition { next_offset: 35, step: 4 }]
    {
        let error = store.apply(&changes(&[(0, b"n", Some(b"2"))]), position).unwrap_err();
        assert!(matches!(error, StateError::PositionBehind { .. }), "{error}");
        assert_eq!(get(&store, 0, b"n"), Some(b"1".to_vec()));
        assert_eq!(store.position(), Some(at(3)));
    }
    store.apply(&changes(&[(0, b"n", Some(b"2"))]), at(9)).unwrap();
    assert_eq!(get(&store, 0, b"n"), Some(b"2".to_vec()), "steps may be missing after compaction");
}

fn deletes_remove_and_tolerate_absence(fixture: &impl Fixture) {
    let mut store = fixture.open();
    store.apply(&changes(&[(0, b"a", Some(b"1")), (0, b"b", Some(b"2"))]), at(0)).unwrap();
    store.apply(&changes(&[(0, b"a", None), (0, b"none", None), (7, b"none", None)]), at(1)).unwrap();
    let store = fixture.reopen(store);
    assert_eq!(get(&store, 0, b"a"), None);
    assert_eq!(scanned(&store, &Scan::all(StoreNumber(0))), [(b"b".to_vec(), b"2".to_vec())]);
    assert_eq!(store.state_bytes(), entry_bytes(1, 1));
}

fn stores_are_apart(fixture: &impl Fixture) {
    let mut store = fixture.open();
    // Numbers whose little-endian and big-endian orders differ, and keys that could run into the next store.
    store
        .apply(&changes(&[(1, b"\xff\xff", Some(b"1")), (2, b"", Some(b"2")), (256, b"k", Some(b"3"))]), at(0))
        .unwrap();
    assert_eq!(scanned(&store, &Scan::all(StoreNumber(1))), [(b"\xff\xff".to_vec(), b"1".to_vec())]);
    assert_eq!(scanned(&store, &Scan::all(StoreNumber(2))), [(vec![], b"2".to_vec())]);
    assert_eq!(get(&store, 2, b"\xff\xff"), None);
    let down = Scan { descending: true, ..Scan::all(StoreNumber(2)) };
    assert_eq!(scanned(&store, &down).len(), 1);
    assert_eq!(scanned(&store, &Scan::all(StoreNumber(u32::MAX))), []);
}

fn scans_keep_range_order_and_limit(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let keys: [&[u8]; 6] = [b"a", b"b", b"ba", b"bb", b"c", b"d"];
    let list: Vec<_> = keys.iter().map(|key| (0, *key, Some(*key))).collect();
    store.apply(&changes(&list), at(0)).unwrap();
    let visited = |scan: Scan<'_>| -> Vec<Vec<u8>> { scanned(&store, &scan).into_iter().map(|(key, _)| key).collect() };
    let all = Scan::all(StoreNumber(0));
    let middle = Scan { start: b"b", end: Some(b"c"), ..all };
    assert_eq!(visited(middle), [&b"b"[..], b"ba", b"bb"], "start is in, end is not");
    assert_eq!(visited(Scan { descending: true, ..middle }), [&b"bb"[..], b"ba", b"b"]);
    assert_eq!(visited(Scan { limit: 2, ..middle }), [&b"b"[..], b"ba"]);
    assert_eq!(visited(Scan { limit: 2, descending: true, ..middle }), [&b"bb"[..], b"ba"], "from the end");
    assert_eq!(visited(Scan { limit: 0, ..all }).len(), 0);
    assert_eq!(visited(Scan { start: b"bb", ..all }), [&b"bb"[..], b"c", b"d"]);
    for (start, end) in [(&b"c"[..], &b"b"[..]), (b"b", b"b"), (b"", b"")] {
        assert_eq!(visited(Scan { start, end: Some(end), ..all }).len(), 0, "an empty range is no error");
    }
    let mut seen = 0;
    store
        .scan(&all, &mut |_, _| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 3, "the visitor ends the scan");
}

fn answers_come_in_the_order_of_the_keys(fixture: &impl Fixture) {
    let mut store = fixture.open();
    store.apply(&changes(&[(0, b"a", Some(b"1")), (0, b"b", Some(b"2"))]), at(0)).unwrap();
    let keys: [&[u8]; 5] = [b"b", b"x", b"a", b"b", b""];
    let mut answers = Vec::new();
    let mut found = |value: Option<&[u8]>| answers.push(value.map(<[u8]>::to_vec));
    store.get_many(StoreNumber(0), &mut keys.into_iter(), &mut found).unwrap();
    assert_eq!(answers, [Some(b"2".to_vec()), None, Some(b"1".to_vec()), Some(b"2".to_vec()), None]);
}

fn odd_keys_and_values_are_kept(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let long_key = vec![7; crate::limits::KEY_BYTES_MAX];
    let long_value = vec![8; 1 << 20];
    store
        .apply(&changes(&[(0, b"", Some(b"")), (0, b"\0", Some(b"\0")), (0, &long_key, Some(&long_value))]), at(0))
        .unwrap();
    let mut store = fixture.reopen(store);
    assert_eq!(get(&store, 0, b""), Some(vec![]), "an empty value is a value");
    assert_eq!(get(&store, 0, b"\0"), Some(vec![0]));
    assert_eq!(get(&store, 0, &long_key), Some(long_value));
    store.apply(&changes(&[(0, &long_key, Some(b"short"))]), at(1)).unwrap();
    assert_eq!(get(&store, 0, &long_key), Some(b"short".to_vec()));
    assert_eq!(store.state_bytes(), entry_bytes(0, 0) + entry_bytes(1, 1) + entry_bytes(long_key.len(), 5));
}

fn a_cleared_store_is_as_new(fixture: &impl Fixture) {
    let mut store = fixture.open();
    store.apply(&changes(&[(0, b"a", Some(b"1")), (9, b"b", Some(b"2"))]), at(5)).unwrap();
    store.clear().unwrap();
    let mut store = fixture.reopen(store);
    assert_eq!((store.position(), store.state_bytes()), (None, 0));
    assert_eq!((get(&store, 0, b"a"), get(&store, 9, b"b")), (None, None));
    store.apply(&changes(&[(0, b"a", Some(b"3"))]), at(0)).unwrap();
    assert_eq!(get(&store, 0, b"a"), Some(b"3".to_vec()));
}
