//! Random histories of a store against a plain map.

use super::{Fixture, at, scanned};
use crate::{Scan, StateChanges, StateStore, StoreNumber, entry_bytes};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;

/// A plain map from (store, key) to value.
pub(crate) type Model = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

/// One change: store, key, value or delete.
pub(crate) type Change = (u32, Vec<u8>, Option<Vec<u8>>);

/// What happens next.
#[derive(Clone, Debug)]
enum Happening {
    Apply(Vec<Change>),
    Reopen,
    Clear,
    Look(RandomScan),
}

/// A scan of a random range.
#[derive(Clone, Debug)]
pub(crate) struct RandomScan {
    store: u32,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    limit: usize,
    descending: bool,
}

impl RandomScan {
    pub(crate) fn scan(&self) -> Scan<'_> {
        let Self { store, start, end, limit, descending } = self;
        Scan { store: StoreNumber(*store), start, end: end.as_deref(), limit: *limit, descending: *descending }
    }
}

/// Keys from so small an alphabet that they meet.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..4)
}

/// Changes of one step.
pub(crate) fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..5));
    prop::collection::vec((0..3_u32, any_key(), value), 0..8)
}

/// A scan that often covers something.
pub(crate) fn any_scan() -> impl Strategy<Value = RandomScan> {
    (
        0..3_u32,
        any_key(),
        prop::option::of(any_key()),
        prop::sample::select(vec![0, 1, 2, 3, usize::MAX]),
        any::<bool>(),
    )
        .prop_map(|(store, start, end, limit, descending)| RandomScan { store, start, end, limit, descending })
}

/// `list` as a step's changes.
pub(crate) fn to_changes(list: &[Change]) -> StateChanges {
    let mut changes = StateChanges::new();
    changes
        .extend(list.iter().map(|(store, key, value)| {
            (StoreNumber(*store), Bytes::from(key.clone()), value.clone().map(Bytes::from))
        }));
    changes
}

/// Does to the model what `list` does to a store.
pub(crate) fn change_model(model: &mut Model, list: &[Change]) {
    for (store, key, value) in list {
        match value {
            Some(value) => drop(model.insert((*store, key.clone()), value.clone())),
            None => drop(model.remove(&(*store, key.clone()))),
        }
    }
}

/// What a scan of the model visits.
pub(crate) fn model_scan(model: &Model, scan: &Scan<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let inside = |(store, key): &(u32, Vec<u8>)| *store == scan.store.0 && scan.contains(key);
    let mut entries: Vec<_> =
        model.iter().filter(|(key, _)| inside(key)).map(|((_, key), value)| (key.clone(), value.clone())).collect();
    if scan.descending {
        entries.reverse();
    }
    entries.truncate(scan.limit);
    entries
}

/// Size of the model's entries.
pub(crate) fn model_bytes(model: &Model) -> u64 {
    model.iter().map(|((_, key), value)| entry_bytes(key.len(), value.len())).sum()
}

pub(super) fn random_histories_match_a_plain_map(fixture: &impl Fixture) {
    let happening = prop_oneof![
        6 => any_changes().prop_map(Happening::Apply),
        4 => any_scan().prop_map(Happening::Look),
        1 => Just(Happening::Reopen),
        1 => Just(Happening::Clear),
    ];
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(happening, 1..40), |history| {
        play(fixture, &history);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

fn play(fixture: &impl Fixture, history: &[Happening]) {
    let mut store = fixture.open();
    let mut model = Model::new();
    let mut steps = 0;
    for happening in history {
        match happening {
            Happening::Apply(list) => {
                store.apply(&to_changes(list), at(steps)).unwrap();
                change_model(&mut model, list);
                assert_eq!(store.position(), Some(at(steps)));
                steps += 1;
            }
            Happening::Reopen => store = fixture.reopen(store),
            Happening::Clear => {
                store.clear().unwrap();
                model.clear();
            }
            Happening::Look(random) => {
                assert_eq!(scanned(&store, &random.scan()), model_scan(&model, &random.scan()));
            }
        }
        assert_eq!(store.state_bytes(), model_bytes(&model));
    }
    for number in 0..3 {
        let all = Scan::all(StoreNumber(number));
        assert_eq!(scanned(&store, &all), model_scan(&model, &all));
    }
}
