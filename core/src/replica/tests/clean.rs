//! What may be cleaned, and when.

use super::*;

fn kept(offsets: &[i64]) -> std::collections::BTreeSet<i64> {
    offsets.iter().copied().collect()
}

#[test]
fn what_is_durable_and_committed_may_be_cleaned_but_for_producers_last_batches() {
    // covers CMP-2, CMP-5
    let mut partition = Partition::new(Durability::Fsync);
    for sequence in 0..7 {
        partition.produce(7, sequence, 1, Acks::All);
    }
    partition.produce_plain(2, Acks::All);
    partition.produce(8, 0, 3, Acks::All);
    partition.write_and_flush();
    partition.handle(Event::Clean);
    let cleanable = Cleanable { upto: 12, headers_kept: kept(&[2, 3, 4, 5, 6, 9]) };
    assert_eq!(partition.cleanables, [Ok(cleanable)]);
    assert_eq!(partition.leader.take_cleanable(), None);
}

#[test]
fn a_producers_last_batch_counts_only_once_it_is_durable() {
    // covers STEP-11, CMP-5: "cleaning keeps the last *appended* batch" would lose the number with a power cut
    for durability in [Durability::Fsync, Durability::Os] {
        let mut partition = Partition::new(durability);
        let task = |partition: &mut Partition, first: u64| {
            let admission =
                Admission::TaskOutput { partition_epoch: PARTITION_EPOCH, generation: 0, epoch: LeaderEpoch(1), first };
            partition.propose(batch(task_id(0), 1, first as i32, 2), Acks::All, admission);
        };
        task(&mut partition, 0);
        partition.write_and_flush();
        task(&mut partition, 2);
        partition.write(1);
        partition.handle(Event::Clean);
        assert_eq!(partition.cleanables, [], "the batch at 2 may be lost, and that at 0 is what is known then");
        assert!(partition.flush_wanted, "somebody waits for it, whatever the topic's durability");
        // What comes later is not spoken of.
        task(&mut partition, 4);
        partition.write(1);
        partition.flush(4);
        assert_eq!(partition.cleanables, [Ok(Cleanable { upto: 4, headers_kept: kept(&[2]) })]);
    }
}

#[test]
fn one_question_at_a_time_and_none_of_a_partition_that_ends() {
    let mut partition = Partition::new(Durability::Fsync);
    partition.produce_plain(2, Acks::All);
    partition.write(1);
    partition.handle(Event::Clean);
    partition.handle(Event::Clean);
    assert_eq!(partition.cleanables, [Err(Refusal::Busy)]);
    partition.handle(Event::Close);
    partition.handle(Event::Clean);
    assert_eq!(partition.cleanables[1..], [Err(Refusal::Closing), Err(Refusal::Closing)]);
    partition.write_and_flush();
    assert!(partition.leader.is_idle() && partition.leader.take_cleanable().is_none());

    let mut partition = Partition::new(Durability::Fsync);
    partition.produce_plain(2, Acks::All);
    partition.write(1);
    partition.handle(Event::Clean);
    partition.handle(Event::StorageFailed);
    partition.handle(Event::Clean);
    assert_eq!(partition.cleanables, [Err(Refusal::StorageFailed), Err(Refusal::StorageFailed)]);
}
