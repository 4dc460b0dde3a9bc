use super::*;
use crate::MemoryStore;
use crate::contract::model::{Change, Model, any_changes, any_scan, change_model, model_bytes, model_scan, to_changes};
use crate::contract::{Literal, at, changes};
use proptest::prelude::*;

fn overlay() -> Overlay<MemoryStore> {
    Overlay::new(MemoryStore::new(), OverlayLimits::default())
}

fn put(overlay: &mut Overlay<MemoryStore>, list: &[Literal<'_>]) -> Result<(), OverlayError> {
    list.iter().try_for_each(|(store, key, value)| {
        let entry = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
        overlay.put_many(StoreNumber(*store), [entry])
    })
}

fn get(overlay: &Overlay<MemoryStore>, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = None;
    let mut keys = std::iter::once(key);
    overlay.get_many(StoreNumber(0), &mut keys, &mut |found| value = Some(found.map(<[u8]>::to_vec))).unwrap();
    value.unwrap()
}

fn scanned(overlay: &Overlay<MemoryStore>, scan: &Scan<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    overlay
        .scan(scan, &mut |key, value| {
            entries.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

#[test]
fn the_newest_layer_is_seen_and_the_store_holds_only_what_settled() {
    // covers STEP-4, STEP-13: nothing reaches the store before its step is below the high watermark
    let mut overlay = overlay();
    put(&mut overlay, &[(0, b"a", Some(b"1")), (0, b"b", Some(b"1"))]).unwrap();
    overlay.push(0).unwrap();
    put(&mut overlay, &[(0, b"a", Some(b"2")), (0, b"b", None)]).unwrap();
    overlay.push(1).unwrap();
    put(&mut overlay, &[(0, b"a", Some(b"3"))]).unwrap();
    assert_eq!((get(&overlay, b"a"), get(&overlay, b"b")), (Some(b"3".to_vec()), None));
    assert_eq!(overlay.store().position(), None);

    overlay.settle(at(0)).unwrap();
    assert_eq!(overlay.store().position(), Some(at(0)));
    assert_eq!(crate::contract::get(overlay.store(), 0, b"a"), Some(b"1".to_vec()));
    assert_eq!((get(&overlay, b"a"), get(&overlay, b"b")), (Some(b"3".to_vec()), None));
    overlay.settle(at(1)).unwrap();
    overlay.discard();
    assert_eq!((get(&overlay, b"a"), get(&overlay, b"b")), (Some(b"2".to_vec()), None));
    assert_eq!(overlay.state_bytes(), overlay.store().state_bytes());
}

#[test]
fn a_failed_step_leaves_nothing() {
    let mut overlay = overlay();
    put(&mut overlay, &[(0, b"a", Some(b"1"))]).unwrap();
    overlay.push(0).unwrap();
    put(&mut overlay, &[(0, b"a", Some(b"2"))]).unwrap();
    overlay.discard();
    assert_eq!(get(&overlay, b"a"), Some(b"1".to_vec()));
    put(&mut overlay, &[(0, b"a", Some(b"2"))]).unwrap();
    overlay.push(1).unwrap();
    assert!(matches!(overlay.drop_newest(0), Err(OverlayError::OutOfOrder { .. })));
    overlay.drop_newest(1).unwrap();
    assert_eq!(get(&overlay, b"a"), Some(b"1".to_vec()));
    assert_eq!(overlay.state_bytes(), entry_bytes(1, 1));
}

#[test]
fn steps_settle_in_order_and_empty_commits_move_the_position() {
    let mut overlay = overlay();
    put(&mut overlay, &[(0, b"a", Some(b"1"))]).unwrap();
    overlay.push(3).unwrap();
    overlay.settle(at(2)).unwrap();
    assert_eq!(overlay.uncommitted_steps(), 1, "step 2 had no layer");
    assert!(matches!(overlay.settle(at(4)), Err(OverlayError::OutOfOrder { .. })));
    assert!(matches!(overlay.push(3), Err(OverlayError::OutOfOrder { .. })));
    overlay.settle(at(3)).unwrap();
    assert!(matches!(overlay.push(3), Err(OverlayError::OutOfOrder { .. })), "it is in the store");
    assert!(matches!(overlay.settle(at(3)), Err(OverlayError::Store(StateError::PositionBehind { .. }))));
}

#[test]
fn at_most_eight_steps_are_uncommitted_but_a_takeover_takes_what_is_there() {
    let mut overlay = overlay();
    for step in 0..12 {
        overlay.push_inherited(step, changes(&[(0, b"a", Some(b"1"))])).unwrap();
    }
    assert!(overlay.push(12).is_err());
    for step in 0..5 {
        overlay.settle(at(step)).unwrap();
    }
    overlay.push(12).unwrap();
    assert!(overlay.push(13).is_err(), "eight are there");
}

#[test]
fn quotas_refuse_growth_whole_and_allow_shrinking() {
    let limits = OverlayLimits { state_bytes_max: 2 * entry_bytes(1, 1), ..OverlayLimits::default() };
    let mut overlay = Overlay::new(MemoryStore::new(), limits);
    let entry =
        |key: &'static [u8], value: Option<&'static [u8]>| (Bytes::from_static(key), value.map(Bytes::from_static));
    overlay.put_many(StoreNumber(0), [entry(b"a", Some(b"1")), entry(b"b", Some(b"2"))]).unwrap();
    overlay.push(0).unwrap();
    let refused = overlay.put_many(
        StoreNumber(0),
        [
            entry(b"a", Some(b"3")),
            entry(b"b", None),
            entry(b"c", Some(b"4")),
            entry(b"a", None),
            entry(b"a", Some(b"55")),
        ],
    );
    assert!(matches!(refused, Err(OverlayError::QuotaExceeded { .. })), "{refused:?}");
    assert!(overlay.open_changes().is_empty(), "all or nothing");
    assert_eq!(overlay.state_bytes(), 2 * entry_bytes(1, 1));
    assert_eq!(get(&overlay, b"a"), Some(b"1".to_vec()));
    overlay.put_many(StoreNumber(0), [entry(b"a", None), entry(b"c", Some(b"4"))]).unwrap();
    overlay.set_limits(OverlayLimits { state_bytes_max: 10, ..limits });
    overlay.put_many(StoreNumber(0), [entry(b"c", Some(b""))]).unwrap();
    assert!(overlay.put_many(StoreNumber(0), [entry(b"c", Some(b"4"))]).is_err());
}

#[test]
fn sizes_of_keys_values_and_steps_are_limited() {
    let limits = OverlayLimits { step_change_bytes_max: 100, ..OverlayLimits::default() };
    let mut overlay = Overlay::new(MemoryStore::new(), limits);
    assert!(matches!(put(&mut overlay, &[(0, &[0; 99], Some(b"12"))]), Err(OverlayError::StepTooLarge { .. })));
    put(&mut overlay, &[(0, &[0; 98], Some(b"12"))]).unwrap();
    put(&mut overlay, &[(0, &[0; 98], Some(b"21"))]).unwrap();
    overlay.discard();
    assert!(matches!(put(&mut overlay, &[(0, &[0; KEY_BYTES_MAX + 1], None)]), Err(OverlayError::KeyTooLong { .. })));
    let long = vec![0; VALUE_BYTES_MAX + 1];
    assert!(matches!(put(&mut overlay, &[(0, b"k", Some(&long))]), Err(OverlayError::ValueTooLong { .. })));
    assert_eq!(overlay.state_bytes(), 0);
}

/// What happens next to an overlay.
#[derive(Clone, Debug)]
enum Happening {
    Put(Vec<Change>),
    Push,
    Discard,
    DropNewest,
    Settle,
    Inherit(Vec<Change>),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Layered reads equal a plain map with the same history; the store beneath equals the settled prefix.
    #[test]
    fn layered_reads_match_a_plain_map(
        history in prop::collection::vec(
            (prop_oneof![
                6 => any_changes().prop_map(Happening::Put),
                4 => Just(Happening::Push),
                1 => Just(Happening::Discard),
                1 => Just(Happening::DropNewest),
                3 => Just(Happening::Settle),
                1 => any_changes().prop_map(Happening::Inherit),
            ], any_scan()),
            1..40,
        ),
    ) {
        let mut overlay = overlay();
        let mut models: Vec<Model> = vec![Model::new()];
        let mut open = Model::new();
        let (mut settled, mut next) = (0, 0);
        for (happening, random) in &history {
            match happening {
                Happening::Put(list) => {
                    for change in list {
                        let (store, key, value) = change.clone();
                        overlay.put_many(StoreNumber(store), [(key.into(), value.map(Bytes::from))]).unwrap();
                    }
                    change_model(&mut open, list);
                }
                Happening::Push if overlay.push(next).is_ok() => {
                    models.push(open.clone());
                    next += 1;
                }
                Happening::Push => prop_assert_eq!(overlay.uncommitted_steps(), 8),
                Happening::Discard => {
                    overlay.discard();
                    open = models.last().unwrap().clone();
                }
                Happening::DropNewest if next > settled => {
                    overlay.drop_newest(next - 1).unwrap();
                    models.pop();
                    open = models.last().unwrap().clone();
                    next -= 1;
                }
                Happening::Settle if settled < next => {
                    overlay.settle(at(settled)).unwrap();
                    models.remove(0);
                    settled += 1;
                    prop_assert_eq!(overlay.store().state_bytes(), model_bytes(&models[0]));
                }
                Happening::Inherit(list) if overlay.open_changes().is_empty() && overlay.uncommitted_steps() < 8 => {
                    overlay.push_inherited(next, to_changes(list)).unwrap();
                    change_model(&mut open, list);
                    models.push(open.clone());
                    next += 1;
                }
                _ => {}
            }
            prop_assert_eq!(scanned(&overlay, &random.scan()), model_scan(&open, &random.scan()));
            prop_assert_eq!(overlay.state_bytes(), model_bytes(&open));
        }
    }
}
