//! Retries: acknowledged only when what they duplicate is as safe as they ask (STEP-10).

use super::*;

#[test]
fn a_retry_of_an_ordinary_producer_waits_for_its_original() {
    // covers STEP-10, IDP-2 (the row of §4: duplicate acked at once)
    let mut partition = Partition::new(Durability::Fsync);
    let original = partition.produce(1, 0, 3, Acks::All);
    let later = partition.produce(1, 3, 1, Acks::All);
    let on_its_way = partition.produce(1, 0, 3, Acks::All);
    partition.write(2);
    let written = partition.produce(1, 0, 3, Acks::All);
    assert_eq!(partition.in_hand.len(), 0, "a retry appends nothing");
    assert!(partition.answers.is_empty());
    partition.flush(3);
    assert_eq!(partition.answer(original), appended(0, 3));
    assert_eq!((partition.answer(on_its_way), partition.answer(written)), (duplicate(0), duplicate(0)));
    assert_eq!(partition.answer(later), None);
    let committed = partition.produce(1, 0, 3, Acks::All);
    assert_eq!(partition.answer(committed), duplicate(0), "at once");
}

#[test]
fn a_retry_waits_for_what_its_own_acks_ask() {
    // covers LOG-1, IDP-2
    let mut partition = Partition::new(Durability::Fsync);
    partition.produce(1, 0, 3, Acks::All);
    partition.write(1);
    let none = partition.produce(1, 0, 3, Acks::None);
    let leader = partition.produce(1, 0, 3, Acks::Leader);
    assert_eq!((partition.answer(none), partition.answer(leader)), (duplicate(0), None));
    partition.flush(3);
    assert_eq!(partition.answer(leader), duplicate(0));
}

fn send(partition: &mut Partition, epoch: i32, first: u64, count: i32) -> u64 {
    let header = batch(task_id(0), 1, first as i32, count);
    let admission =
        Admission::TaskOutput { partition_epoch: PARTITION_EPOCH, generation: 0, epoch: LeaderEpoch(epoch), first };
    // Even acks = none: what a task is told is true of what is below the high watermark.
    partition.propose(header, Acks::None, admission)
}

#[test]
fn a_task_is_answered_below_the_high_watermark_only() {
    // covers STEP-10: for an append and for a duplicate (two rows of §4)
    let mut partition = Partition::new(Durability::Fsync);
    let first = send(&mut partition, 1, 0, 2);
    let retry = send(&mut partition, 2, 0, 1);
    partition.write(1);
    let again = send(&mut partition, 2, 1, 1);
    assert!(partition.answers.is_empty());
    partition.flush(2);
    assert_eq!(partition.answer(first), appended(0, 2));
    assert_eq!((partition.answer(retry), partition.answer(again)), (duplicate(0), duplicate(0)));
}

#[test]
fn expect_and_fenced_are_answered_at_once_and_count_what_is_on_its_way() {
    // covers STEP-9
    let mut partition = Partition::new(Durability::Fsync);
    send(&mut partition, 3, 0, 2);
    let gap = send(&mut partition, 3, 5, 1);
    assert_eq!(partition.refusal(gap), Refusal::Producer(ProducerRefusal::Expect { number: 2 }));
    let stale = send(&mut partition, 1, 2, 1);
    assert_eq!(partition.answer(stale), None, "the log has seen epoch 1 only: batches were re-sent verbatim");
    partition.write_and_flush();
    assert_eq!(partition.answer(stale), appended(2, 1));
}

#[test]
fn a_retry_fails_with_an_original_that_was_not_written() {
    // covers STEP-10
    let mut partition = Partition::new(Durability::Fsync);
    let kept = partition.produce(1, 0, 3, Acks::All);
    partition.write(1);
    let lost = partition.produce(1, 3, 2, Acks::All);
    let retries = [Acks::None, Acks::Leader, Acks::All].map(|acks| partition.produce(1, 3, 2, acks));
    let retry_of_kept = partition.produce(1, 0, 3, Acks::All);
    partition.fail_append(AppendFailure::DiskFull);
    for token in retries.into_iter().chain([lost]) {
        assert_eq!(partition.refusal(token), Refusal::AppendFailed(AppendFailure::DiskFull));
    }
    partition.flush(3);
    assert_eq!((partition.answer(kept), partition.answer(retry_of_kept)), (appended(0, 3), duplicate(0)));
    let again = partition.produce(1, 3, 2, Acks::All);
    partition.write_and_flush();
    assert_eq!(partition.answer(again), appended(3, 2), "what failed is not remembered");
}

#[test]
fn a_task_s_output_goes_to_the_partition_epoch_it_was_meant_for() {
    // covers STEP-9: rule 1, before what the producer's state says, even of a duplicate
    let mut partition = Partition::new(Durability::Fsync);
    let first = send(&mut partition, 1, 0, 2);
    partition.write_and_flush();
    assert_eq!(partition.answer(first), appended(0, 2));
    let mut send_at = |theirs: u32, first: u64| {
        let header = batch(task_id(0), 1, first as i32, 2);
        let (generation, epoch, partition_epoch) = (0, LeaderEpoch(1), PartitionEpoch(theirs));
        let admission = Admission::TaskOutput { partition_epoch, generation, epoch, first };
        partition.propose(header, Acks::All, admission)
    };
    let (older, newer, again) = (send_at(2, 2), send_at(4, 2), send_at(2, 0));
    for (token, theirs) in [(older, 2), (newer, 4), (again, 2)] {
        let refusal = Refusal::PartitionEpoch { ours: PARTITION_EPOCH, theirs: PartitionEpoch(theirs) };
        assert_eq!(partition.refusal(token), refusal);
    }
    let right = send(&mut partition, 1, 2, 2);
    partition.write_and_flush();
    assert_eq!(partition.answer(right), appended(2, 2), "a refused batch changed nothing");
}
