//! IDP-4 and STEP-11: the state is a function of the log; and the rules against simpler models of them.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A batch somebody offers; small numbers, so that retries, gaps and fences are frequent.
fn offers() -> impl Strategy<Value = Vec<(u8, u32, i16, i32, i32)>> {
    prop::collection::vec((0..5_u8, 0..2_u32, 0..3_i16, 0..12_i32, 1..4_i32), 1..60)
}

/// Sequence, count and offset of a batch in the log.
type SentBatch = (i32, i32, i64);

/// Producers 0 to 3 are ordinary ones, 4 is a task.
fn offer(
    kind: PartitionKind,
    (who, generation, epoch, sequence, count): (u8, u32, i16, i32, i32),
) -> (Admission, BatchHeader) {
    let first = u64::from(sequence.unsigned_abs());
    match (kind, who) {
        (PartitionKind::Records, 0..=3) => (Admission::Client, batch(i64::from(who), epoch, sequence, count)),
        (PartitionKind::Records, _) => {
            let admission = Admission::TaskOutput {
                partition_epoch: headwater_protocol::ids::PartitionEpoch(0),
                generation,
                epoch: LeaderEpoch(epoch.into()),
                first,
            };
            (admission, batch(task_id(generation), epoch, sequence, count))
        }
        (PartitionKind::Changelog, _) => {
            let admission = Admission::TaskCommit { epoch: LeaderEpoch(1), step: first };
            (admission, batch(task_id(generation), 1, sequence, count))
        }
    }
}

#[test]
fn a_batch_that_no_leader_would_append_brings_nobody_back() {
    // covers IDP-4, STEP-9: whatever lies in the log, epochs and generations don't go back
    let mut partition = Partition::new(PartitionKind::Records);
    for header in [batch(1, 2, 0, 1), batch(1, 1, 7, 1), batch(task_id(1), 4, 0, 3), batch(task_id(0), 9, 9, 1)] {
        assert_eq!(partition.offer(Admission::Internal, header), Verdict::Append);
    }
    assert_eq!(partition.client(1, 2, 1, 1), Verdict::Append);
    assert!(matches!(partition.client(1, 1, 8, 1), Verdict::Refuse(ProducerRefusal::InvalidEpoch { .. })));
    assert_eq!(partition.output(0, 9, 9, 10, 1), fenced(1, 4));
    assert_eq!(partition.output(1, 4, 4, 3, 1), Verdict::Append);
}

proptest! {
    #[test]
    fn replaying_any_prefix_gives_the_state_that_was_there(
        offers in offers(),
        changelog: bool,
        clients_max in 1..4_usize,
    ) {
        // covers IDP-4, STEP-11
        let kind = if changelog { PartitionKind::Changelog } else { PartitionKind::Records };
        let mut live = StagedProducers::new(Producers::with_limit(kind, clients_max));
        let mut log: Vec<(BatchHeader, i64)> = Vec::new();
        let mut log_end = 0;
        for one in offers {
            let (admission, header) = offer(kind, one);
            if live.check(admission, &header, LeaderEpoch(1)) == Verdict::Append {
                live.stage(&header, log_end);
                live.settle(&header, log_end);
                log.push((header, log_end));
                log_end += i64::from(header.last_offset_delta) + 1;
            }
            prop_assert_eq!(live.invariants(log_end, std::iter::empty()), Ok(()));
            let mut replayed = Producers::with_limit(kind, clients_max);
            log.iter().for_each(|(header, base_offset)| replayed.observe(header, *base_offset));
            prop_assert_eq!(&replayed, live.settled());
        }
    }

    #[test]
    fn a_task_s_records_are_in_the_log_once_each_and_in_order(offers in offers()) {
        // covers STEP-9 against a model that knows whole numbers: (generation, epoch, last)
        let mut partition = Partition::new(PartitionKind::Records);
        let mut model: Option<(u32, i16, u64)> = None;
        for (_, generation, epoch, first, count) in offers {
            let (first, len) = (u64::from(first.unsigned_abs()), u64::from(count.unsigned_abs()));
            let verdict = partition.output(generation, epoch.into(), epoch, first, count);
            let next = model.filter(|seen| seen.0 == generation).map_or(0, |seen| seen.2 + 1);
            match model {
                Some((g, e, _)) if (generation, epoch) < (g, e) => prop_assert_eq!(verdict, fenced(g, e)),
                _ if first + len <= next => {
                    let known = matches!(verdict, Verdict::Duplicate { .. });
                    prop_assert!(known, "{verdict:?}");
                }
                _ if first == next => {
                    prop_assert_eq!(verdict, Verdict::Append);
                    model = Some((generation, epoch, first + len - 1));
                }
                _ => prop_assert_eq!(verdict, expect(next)),
            }
        }
    }

    #[test]
    fn an_ordinary_producer_s_records_are_in_the_log_once_each_and_in_order(offers in offers()) {
        // covers IDP-1, IDP-2, IDP-3 against a model that remembers everything
        let mut partition = Partition::new(PartitionKind::Records);
        let mut model: BTreeMap<(u8, i16), Vec<SentBatch>> = BTreeMap::new();
        for (who, _, epoch, sequence, count) in offers {
            let end = partition.log_end;
            let verdict = partition.client(who.into(), epoch, sequence, count);
            let newest = model.keys().filter(|key| key.0 == who).map(|key| key.1).max();
            let seen = model.entry((who, epoch)).or_default();
            let next = seen.last().map(|last| last.0 + last.1);
            let retry = seen.iter().rev().take(5).find(|batch| (batch.0, batch.1) == (sequence, count));
            match newest {
                Some(newest) if epoch < newest => {
                    let refused = ProducerRefusal::InvalidEpoch { producer: who.into(), current: newest, got: epoch };
                    prop_assert_eq!(verdict, Verdict::Refuse(refused));
                }
                // IDP-5: with no epoch known any sequence will do; with one, a new epoch begins at 0.
                _ if newest.is_none() || sequence == next.unwrap_or(0) => {
                    prop_assert_eq!(verdict, Verdict::Append);
                    seen.push((sequence, count, end));
                }
                _ => match retry {
                    Some((.., offset)) => prop_assert_eq!(verdict, duplicate(*offset, count.into())),
                    None => prop_assert_eq!(verdict, out_of_order(who.into(), next.unwrap_or(0), sequence)),
                },
            }
            model.retain(|_, batches| !batches.is_empty());
        }
    }
}
