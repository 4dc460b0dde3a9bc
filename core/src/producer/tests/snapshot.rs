//! LOG-8: what is kept beside the log.

use super::*;
use crate::producer::snapshot::SnapshotError;
use proptest::prelude::*;

/// A log with more batches of one producer than are remembered, another producer and a task.
fn log() -> Vec<(BatchHeader, i64)> {
    let mut headers: Vec<BatchHeader> = (0..7).map(|number| batch(1, 3, number * 2, 2)).collect();
    headers.push(batch(40, 0, 0, 1));
    headers.insert(3, batch(task_id(2), 5, 0, 4));
    let mut offset = 0;
    let placed = headers.into_iter().map(|header| {
        let base_offset = offset;
        offset += i64::from(header.last_offset_delta) + 1;
        (header, base_offset)
    });
    placed.collect()
}

fn seen(log: &[(BatchHeader, i64)]) -> Producers {
    let mut producers = Producers::new(PartitionKind::Records);
    log.iter().for_each(|(header, offset)| producers.observe(header, *offset));
    producers
}

#[test]
fn a_snapshot_has_these_bytes_for_ever() {
    // covers LOG-8
    let hex: String = seen(&log()).snapshot().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "010002020605080802140c021810021c1402201802500001240000018080c08080f080808001020a060c06";

#[test]
fn a_snapshot_and_the_batches_behind_it_give_what_the_whole_log_gives() {
    // covers LOG-8, IDP-4, STEP-11
    let log = log();
    for taken in 0..=log.len() {
        let before = seen(&log[..taken]);
        let log_end = log.get(taken).map_or(i64::MAX, |(_, offset)| *offset);
        let mut restored = Producers::restore(PartitionKind::Records, log_end, &before.snapshot()).unwrap();
        assert_eq!(restored, before);
        log[taken..].iter().for_each(|(header, offset)| restored.observe(header, *offset));
        assert_eq!(restored, seen(&log));
    }
}

#[test]
fn a_log_that_begins_later_gives_the_same_with_and_without_a_snapshot() {
    // covers LOG-8, IDP-5, STEP-11: found by the simulator
    let log = log();
    let log_end = i64::MAX;
    for start in 0..=log.len() {
        let log_start = log.get(start).map_or(19, |(_, offset)| *offset);
        let mut restored = Producers::restore(PartitionKind::Records, log_end, &seen(&log).snapshot()).unwrap();
        restored.forget_all_before(log_start);
        assert_eq!(restored, seen(&log[start..]), "from batch {start} on");
    }
}

#[test]
fn what_no_broker_wrote_is_refused() {
    // covers LOG-8
    let bytes = seen(&log()).snapshot();
    let restore = |bytes: &[u8]| Producers::restore(PartitionKind::Records, i64::MAX, bytes);
    for length in 0..bytes.len() {
        assert!(restore(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert!(restore(&[bytes.as_slice(), &[0]].concat()).is_err());
    assert_eq!(restore(&[9, 0, 0, 0]), Err(SnapshotError::Version(9)));
    let other = Producers::restore(PartitionKind::Changelog, i64::MAX, &bytes);
    assert!(other.unwrap_err().to_string().contains("another kind"));
    let shorter = Producers::restore(PartitionKind::Records, 3, &bytes);
    assert!(shorter.unwrap_err().to_string().contains("the log"), "it knows batches that the log does not have");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_make_a_sound_state(
        bytes: Vec<u8>,
        flips in prop::collection::vec(any::<(u8, u8)>(), 1..4),
    ) {
        let mut edited = seen(&log()).snapshot();
        for (place, value) in flips {
            let length = edited.len();
            edited[usize::from(place) % length] = value;
        }
        for bytes in [bytes, edited] {
            if let Ok(state) = Producers::restore(PartitionKind::Records, 1000, &bytes) {
                prop_assert_eq!(state.invariants(1000), Ok(()));
                prop_assert_eq!(Producers::restore(PartitionKind::Records, 1000, &state.snapshot()), Ok(state));
            }
        }
    }
}
