//! IDP-1 to IDP-5.

use super::*;
use sequence::SEQUENCE_MAX;

fn partition() -> Partition {
    Partition::new(PartitionKind::Records)
}

#[test]
fn sequences_follow_each_other() {
    // covers IDP-1
    let mut partition = partition();
    assert_eq!(partition.client(1, 0, 0, 3), Verdict::Append);
    assert_eq!(partition.client(1, 0, 3, 1), Verdict::Append);
    assert_eq!(partition.client(2, 0, 0, 1), Verdict::Append, "producers don't know each other");
    assert_eq!(partition.client(1, 0, 4, 2), Verdict::Append);
}

#[test]
fn after_the_largest_sequence_comes_zero() {
    // covers IDP-1: a batch that ends at 2^31-1, and one that goes across
    let mut partition = partition();
    assert_eq!(partition.client(1, 0, SEQUENCE_MAX - 1, 2), Verdict::Append);
    assert_eq!(partition.client(1, 0, 0, 1), Verdict::Append);
    assert_eq!(partition.client(2, 0, SEQUENCE_MAX - 1, 4), Verdict::Append);
    assert_eq!(partition.client(2, 0, 1, 1), out_of_order(2, 2, 1));
    assert_eq!(partition.client(2, 0, 2, 1), Verdict::Append);
    assert_eq!(partition.client(2, 0, SEQUENCE_MAX - 1, 4), duplicate(3, 4), "known again across the wrap");
}

#[test]
fn a_retry_of_the_last_five_batches_is_known_again_with_its_offset() {
    // covers IDP-2, and IDP-3: a retry older than the five is refused, neither appended nor acknowledged
    let mut partition = partition();
    for sequence in 0..6 {
        assert_eq!(partition.client(1, 0, sequence * 10, 10), Verdict::Append);
    }
    let end = partition.log_end;
    assert_eq!(partition.client(1, 0, 0, 10), out_of_order(1, 60, 0));
    for sequence in 1..6 {
        assert_eq!(partition.client(1, 0, sequence * 10, 10), duplicate(i64::from(sequence) * 10, 10));
    }
    assert_eq!(partition.log_end, end, "nothing was appended");
}

#[test]
fn half_of_a_known_batch_is_no_retry() {
    // covers IDP-2
    let mut partition = partition();
    assert_eq!(partition.client(1, 0, 0, 10), Verdict::Append);
    assert_eq!(partition.client(1, 0, 0, 5), out_of_order(1, 10, 0));
    assert_eq!(partition.client(1, 0, 5, 5), out_of_order(1, 10, 5));
    assert_eq!(partition.client(1, 0, 5, 10), out_of_order(1, 10, 5));
}

#[test]
fn a_gap_is_refused() {
    // covers IDP-3
    let mut partition = partition();
    assert_eq!(partition.client(1, 0, 0, 2), Verdict::Append);
    assert_eq!(partition.client(1, 0, 3, 1), out_of_order(1, 2, 3));
    assert_eq!(partition.client(1, 0, 2, 1), Verdict::Append, "the refusal changed nothing");
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
    // covers IDP-1, IDP-3
    let mut partition = partition();
    assert_eq!(partition.client(1, 3, 0, 2), Verdict::Append);
    assert_eq!(partition.client(1, 4, 2, 1), out_of_order(1, 0, 2));
    assert_eq!(partition.client(1, 4, 0, 2), Verdict::Append);
    let invalid = Verdict::Refuse(ProducerRefusal::InvalidEpoch { producer: 1, current: 4, got: 3 });
    assert_eq!(partition.client(1, 3, 2, 1), invalid);
    assert_eq!(partition.client(1, 3, 0, 2), invalid, "even a retry");
    assert_eq!(partition.client(1, 4, 0, 2), duplicate(2, 2), "the retry of the new epoch, not of the old");
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    // covers IDP-5
    let mut partition = partition();
    assert_eq!(partition.client(1, 9, 1234, 1), Verdict::Append);
    assert_eq!(partition.client(1, 9, 1235, 1), Verdict::Append);
    let stale = partition.client(1, 8, 1236, 1);
    assert!(matches!(stale, Verdict::Refuse(ProducerRefusal::InvalidEpoch { .. })), "but is fenced from then on");
}

#[test]
fn the_producer_with_the_oldest_batch_is_forgotten_first() {
    // covers IDP-5: memory is bounded by count
    let mut partition = Partition::with_limit(PartitionKind::Records, 2);
    partition.client(1, 0, 0, 1);
    partition.client(2, 0, 0, 1);
    partition.client(1, 0, 1, 1);
    partition.client(3, 0, 0, 1);
    assert_eq!(partition.producers.len(), 2);
    assert!(matches!(partition.client(1, 0, 5, 1), Verdict::Refuse(_)), "1 wrote after 2 did");
    assert_eq!(partition.client(2, 0, 77, 1), Verdict::Append, "2 is unknown again");
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    let mut partition = partition();
    assert_eq!(partition.client(-1, -1, -1, 4), Verdict::Append, "no producer");
    assert!(partition.producers.is_empty());
    for (producer_id, epoch, sequence, count) in [(-2, 0, 0, 1), (1, 0, -1, 1), (1, -1, 0, 1), (1, 0, 0, 0)] {
        assert!(
            is_malformed(partition.client(producer_id, epoch, sequence, count)),
            "{producer_id} {epoch} {sequence}"
        );
    }
}

#[test]
fn nobody_takes_the_place_of_a_task() {
    // covers STEP-9: the rule set follows from the id
    let mut partition = partition();
    assert!(is_malformed(partition.client(task_id(0), 0, 0, 1)));
    let mut changelog = Partition::new(PartitionKind::Changelog);
    let internal = Verdict::Refuse(ProducerRefusal::InternalPartition);
    assert_eq!(changelog.client(1, 0, 0, 1), internal);
    assert_eq!(changelog.client(-1, -1, -1, 1), internal);
    assert_eq!(changelog.output(0, 5, 5, 0, 1), internal);
}
