//! STEP-2, STEP-8, STEP-9, STEP-11, STEP-16.

use super::*;

fn output_partition() -> Partition {
    Partition::new(PartitionKind::Records)
}

#[test]
fn numbers_count_records_from_zero_without_holes() {
    // covers STEP-8, STEP-9 rule 5
    let mut partition = output_partition();
    assert_eq!(partition.output(0, 1, 1, 0, 3), Verdict::Append);
    assert_eq!(partition.output(0, 1, 1, 3, 2), Verdict::Append);
    assert_eq!(partition.output(0, 1, 1, 6, 1), expect(5));
}

#[test]
fn an_unknown_task_begins_at_zero() {
    // covers STEP-9: unknown = last -1, never "accept any" (the row of §4: gap accepted)
    let mut partition = output_partition();
    assert_eq!(partition.output(0, 1, 1, 1, 1), expect(0));
    assert_eq!(partition.output(0, 1, 1, 1 << 31, 1), expect(0), "its low bits are those of 0");
    assert_eq!(partition.output(0, 1, 1, 0, 1), Verdict::Append);
}

#[test]
fn numbers_go_on_across_epochs() {
    // covers STEP-8 (the row of §4: numbers restart per epoch)
    let mut partition = output_partition();
    assert_eq!(partition.output(0, 1, 1, 0, 2), Verdict::Append);
    assert_eq!(partition.output(0, 2, 2, 0, 2), duplicate(0, 2));
    assert_eq!(partition.output(0, 2, 2, 2, 1), Verdict::Append);
}

#[test]
fn any_number_seen_is_a_duplicate_however_old() {
    // covers STEP-9 rule 4 (the row of §4: last-K window)
    let mut partition = output_partition();
    for first in 0..20 {
        assert_eq!(partition.output(0, 1, 1, first * 2, 2), Verdict::Append);
    }
    let (last, end) = (38, partition.log_end);
    for (first, count) in [(0, 2), (0, 1), (1, 2), (3, 30), (39, 1), (0, 40)] {
        assert_eq!(partition.output(0, 1, 1, first, count), duplicate(last, 2), "{first} + {count}");
    }
    assert_eq!(partition.log_end, end);
}

#[test]
fn a_batch_that_is_there_in_part_is_refused_with_the_number_expected() {
    // covers STEP-9 rule 6 (the rows of §4: partly duplicate batch dropped, appended whole)
    let mut partition = output_partition();
    assert_eq!(partition.output(0, 1, 1, 0, 2), Verdict::Append);
    assert_eq!(partition.output(0, 1, 1, 0, 3), expect(2));
    assert_eq!(partition.output(0, 1, 1, 1, 2), expect(2));
    assert_eq!(partition.output(0, 1, 1, 2, 1), Verdict::Append);
}

#[test]
fn an_older_epoch_is_fenced_before_anything_else_is_looked_at() {
    // covers STEP-9 rule 2: even for a duplicate, a gap, or the very next number
    let mut partition = output_partition();
    assert_eq!(partition.output(0, 3, 3, 0, 1), Verdict::Append);
    for first in [0, 1, 7] {
        assert_eq!(partition.output(0, 2, 2, first, 1), fenced(0, 3));
    }
}

#[test]
fn a_batch_is_sent_again_verbatim_by_a_newer_owner() {
    // covers STEP-9: the sender's epoch counts, not the one in the header
    let mut partition = output_partition();
    assert_eq!(partition.output(0, 1, 1, 0, 1), Verdict::Append);
    assert_eq!(partition.output(0, 3, 1, 1, 1), Verdict::Append, "made in 1, sent in 3");
    assert_eq!(partition.output(0, 3, 3, 2, 1), Verdict::Append);
    assert_eq!(partition.output(0, 3, 1, 0, 1), duplicate(2, 1));
    assert_eq!(partition.output(0, 1, 1, 3, 1), fenced(0, 3));
    assert!(is_malformed(partition.output(0, 3, 4, 3, 1)), "no owner has batches of a later one");
}

#[test]
fn a_new_generation_begins_again_at_zero_and_fences_the_old_one() {
    // covers STEP-16, STEP-9 rules 2 and 3
    let mut partition = output_partition();
    assert_eq!(partition.output(0, 9, 9, 0, 5), Verdict::Append);
    assert_eq!(partition.output(1, 2, 2, 5, 1), expect(0), "compared before the epoch, which may be lower");
    assert_eq!(partition.output(1, 2, 2, 0, 1), Verdict::Append);
    assert_eq!(partition.output(0, 9, 9, 0, 5), fenced(1, 2));
    assert_eq!(partition.output(0, 10, 10, 5, 1), fenced(1, 2));
    let header = batch(task_id(0), 2, 1, 1);
    let lie = Admission::TaskOutput {
        partition_epoch: headwater_protocol::ids::PartitionEpoch(0),
        generation: 1,
        epoch: LeaderEpoch(2),
        first: 1,
    };
    assert!(is_malformed(partition.offer(lie, header)), "the id's generation is the sender's");
}

#[test]
fn numbers_and_epochs_wrap() {
    // covers STEP-9: 31 bits of the number and 15 of the epoch lie in the header
    let mut partition = output_partition();
    let end = (1_u64 << 31) - 1;
    let header = batch(task_id(0), 0x7fff, sequence::low_bits(end - 2), 2);
    assert_eq!(partition.offer(Admission::Internal, header), Verdict::Append);
    assert_eq!(partition.output(0, 0x7fff, 0x7fff, end, 3), Verdict::Append, "goes across");
    assert_eq!(partition.output(0, 0x8000, 0, end + 3, 1), Verdict::Append, "epoch 2^15 is newer than 2^15 - 1");
    assert_eq!(partition.output(0, 0x8000, 0, end - 1, 2), duplicate(5, 1));
    assert_eq!(partition.output(0, 0x8000, 0, end + 9, 1), expect(end + 4));
    assert_eq!(partition.output(0, 0x8000, 0, end + 2, 3), expect(end + 4));
    assert_eq!(partition.output(0, 0x7fff, 0x7fff, end, 1), fenced(0, 0));
}

#[test]
fn what_a_sender_says_of_itself_must_fit_the_batch() {
    let mut partition = output_partition();
    let header = batch(task_id(0), 1, 7, 1);
    let admission = Admission::TaskOutput {
        partition_epoch: headwater_protocol::ids::PartitionEpoch(0),
        generation: 0,
        epoch: LeaderEpoch(1),
        first: 8,
    };
    assert!(is_malformed(partition.offer(admission, header)));
    let ordinary = batch(4, 1, 8, 1);
    assert!(is_malformed(partition.offer(admission, ordinary)), "not a task's id");
    let commit = Admission::TaskCommit { epoch: EPOCH, step: 8 };
    assert!(is_malformed(partition.offer(commit, batch(task_id(0), 5, 8, 1))), "not a changelog");
}

#[test]
fn a_commit_is_the_next_step_of_the_replicas_own_epoch() {
    // covers STEP-2 (the row of §4: stale append accepted)
    let mut changelog = Partition::new(PartitionKind::Changelog);
    assert_eq!(changelog.commit(0, 5, 1), expect(0));
    assert_eq!(changelog.commit(0, 5, 0), Verdict::Append);
    assert_eq!(changelog.commit(0, 5, 1), Verdict::Append, "a batch of nine records is one step");
    assert_eq!(changelog.commit(0, 5, 1), expect(2), "a step is never a duplicate");
    assert_eq!(changelog.commit(0, 5, 3), expect(2));
    assert_eq!(changelog.commit(0, 4, 2), fenced(0, 5));
    let early = ProducerRefusal::UnknownEpoch { current: EPOCH, got: LeaderEpoch(6) };
    assert_eq!(changelog.commit(0, 6, 2), Verdict::Refuse(early));
    let mut header = batch(task_id(0), 5, 2, 1);
    header.producer_epoch = 4;
    assert!(is_malformed(changelog.offer(Admission::TaskCommit { epoch: EPOCH, step: 2 }, header)));
    assert_eq!(changelog.commit(0, 5, 2), Verdict::Append);
}

#[test]
fn a_commit_of_the_former_reign_is_refused_before_the_new_one_has_committed() {
    // covers STEP-2 (the row of §4): nothing of the new reign is in the log yet, only the replica knows of it
    let mut changelog = Partition::new(PartitionKind::Changelog);
    let former = batch(task_id(0), 4, 0, 1);
    assert_eq!(changelog.offer(Admission::Internal, former), Verdict::Append);
    assert_eq!(changelog.commit(0, 4, 1), fenced(0, 5));
    assert_eq!(changelog.commit(0, 5, 1), Verdict::Append);
    let mut empty = Partition::new(PartitionKind::Changelog);
    assert_eq!(empty.commit(0, 4, 0), fenced(0, 5));
}

#[test]
fn a_reset_task_commits_from_step_zero() {
    // covers STEP-16
    let mut changelog = Partition::new(PartitionKind::Changelog);
    assert_eq!(changelog.commit(0, 5, 0), Verdict::Append);
    assert_eq!(changelog.commit(1, 5, 1), expect(0));
    assert_eq!(changelog.commit(1, 5, 0), Verdict::Append);
    assert_eq!(changelog.commit(0, 5, 1), fenced(1, 5));
}

#[test]
fn a_task_is_not_forgotten_while_its_processor_exists() {
    // covers STEP-11 (the rows of §4: expired)
    let mut partition = Partition::with_limit(PartitionKind::Records, 1);
    assert_eq!(partition.output(0, 1, 1, 0, 4), Verdict::Append);
    for producer in 0..50 {
        assert_eq!(partition.client(producer, 0, 0, 1), Verdict::Append);
    }
    assert_eq!(partition.output(0, 1, 1, 0, 4), duplicate(0, 4));
    let task = TaskProducer { processor: ProcessorNumber(7), task: 2, generation: 0 };
    assert_eq!(partition.producers.tasks().collect::<Vec<_>>(), [(task, 0, 4)]);
    partition.producers.forget_processor(ProcessorNumber(8));
    assert_eq!(partition.producers.tasks().count(), 1);
    partition.producers.forget_processor(ProcessorNumber(7));
    assert_eq!(partition.producers.tasks().count(), 0);
    assert_eq!(partition.producers.len(), 1, "the ordinary producer stays");
}

#[test]
fn refusals_have_their_codes() {
    let refusals = [
        (ProducerRefusal::OutOfOrder { producer: 1, expected: 0, got: 3 }, ErrorCode::OutOfOrderSequenceNumber),
        (ProducerRefusal::InvalidEpoch { producer: 1, current: 2, got: 1 }, ErrorCode::InvalidProducerEpoch),
        (ProducerRefusal::Expect { number: 3 }, ErrorCode::Expect),
        (ProducerRefusal::Fenced { generation: 1, epoch: 2 }, ErrorCode::Fenced),
        (ProducerRefusal::UnknownEpoch { current: EPOCH, got: EPOCH }, ErrorCode::UnknownLeaderEpoch),
        (ProducerRefusal::InternalPartition, ErrorCode::InternalTopic),
        (ProducerRefusal::Malformed("x"), ErrorCode::InvalidRecord),
    ];
    for (refusal, code) in refusals {
        let error = ApiError::from(refusal);
        assert_eq!(error.code, code);
        assert!(!error.message.is_empty());
    }
}
