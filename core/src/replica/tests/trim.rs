//! A log start that moves: who is waited for, and that no task is forgotten.

use super::*;

fn task_output(partition: &mut Partition, generation: u32, first: u64, count: i32) -> u64 {
    let admission =
        Admission::TaskOutput { partition_epoch: PARTITION_EPOCH, generation, epoch: LeaderEpoch(1), first };
    partition.propose(batch(task_id(generation), 1, first as i32, count), Acks::All, admission)
}

#[test]
fn without_tasks_what_is_durable_goes_at_once() {
    let mut partition = Partition::new(Durability::Fsync);
    partition.produce_plain(5, Acks::All);
    partition.write_and_flush();
    partition.trim(3);
    assert_eq!(partition.trims, [Ok(3)]);
    assert_eq!(partition.leader.log_start_offset(), 3);
    partition.trim(99);
    assert_eq!(partition.trims, [Ok(3), Ok(5)], "not above the high watermark");
    partition.trim(1);
    assert_eq!(partition.trims[2], Ok(5), "and never back");
}

#[test]
fn a_task_whose_last_batch_goes_leaves_a_checkpoint_that_is_durable_first() {
    // covers STEP-11, STEP-9
    let mut partition = Partition::new(Durability::Fsync);
    task_output(&mut partition, 0, 0, 4);
    partition.produce_plain(2, Acks::All);
    partition.write_and_flush();
    partition.trim(6);
    assert_eq!((partition.in_hand.len(), partition.trims.len()), (1, 0));
    partition.write(1);
    assert_eq!(partition.trims.len(), 0, "a checkpoint that a power cut may take keeps nothing");
    partition.flush(7);
    assert_eq!(partition.trims, [Ok(6)]);
    assert_eq!(partition.leader.producers(), &partition.replayed());

    let again = task_output(&mut partition, 0, 0, 4);
    partition.write_and_flush();
    assert!(matches!(partition.answer(again), Some(Outcome::Duplicate { .. })), "its numbers are still known");
    let gap = task_output(&mut partition, 0, 5, 1);
    assert!(matches!(partition.refusal(gap), Refusal::Producer(ProducerRefusal::Expect { number: 4 })));
    let next = task_output(&mut partition, 0, 4, 1);
    partition.write_and_flush();
    assert_eq!(partition.answer(next), appended(7, 1));
}

#[test]
fn a_task_that_goes_on_writing_needs_no_checkpoint_but_its_batch_is_waited_for() {
    // covers STEP-11: "retention keeps the last *appended* batch" is the rule's counter-example
    let mut partition = Partition::new(Durability::Fsync);
    task_output(&mut partition, 0, 0, 2);
    partition.write_and_flush();
    task_output(&mut partition, 0, 2, 2);
    partition.trim(2);
    assert_eq!(partition.in_hand.len(), 1, "no checkpoint");
    partition.write(1);
    assert_eq!(partition.trims, []);
    partition.flush(4);
    assert_eq!(partition.trims, [Ok(2)]);
}

#[test]
fn with_os_durability_a_new_start_waits_for_the_disk_all_the_same() {
    // covers STEP-11, STEP-18: the start is durable, so what it relies on must be
    let mut partition = Partition::new(Durability::Os);
    task_output(&mut partition, 0, 0, 2);
    partition.write(1);
    partition.trim(2);
    partition.write(1);
    assert_eq!(partition.trims, []);
    assert!(partition.flush_wanted);
    partition.flush(3);
    assert_eq!(partition.trims, [Ok(2)]);
}

#[test]
fn what_fails_on_the_way_leaves_the_start_where_it_is() {
    let mut partition = Partition::new(Durability::Fsync);
    task_output(&mut partition, 0, 0, 2);
    partition.write_and_flush();
    partition.trim(2);
    partition.trim(2);
    assert_eq!(partition.trims, [Err(Refusal::Busy)], "one at a time");
    partition.fail_append(AppendFailure::DiskFull);
    assert_eq!(partition.trims[1], Err(Refusal::AppendFailed(AppendFailure::DiskFull)));
    partition.trim(2);
    partition.handle(Event::Close);
    assert_eq!(partition.trims[2], Err(Refusal::Closing));
    partition.write_and_flush();
    assert!(partition.leader.is_idle());
    partition.trim(2);
    assert_eq!(partition.trims[3], Err(Refusal::Closing));

    let mut partition = Partition::new(Durability::Fsync);
    task_output(&mut partition, 0, 0, 2);
    partition.write_and_flush();
    partition.trim(2);
    partition.handle(Event::StorageFailed);
    partition.trim(2);
    assert_eq!(partition.trims, [Err(Refusal::StorageFailed); 2]);
    assert_eq!(partition.leader.log_start_offset(), 0);
}

#[test]
fn ordinary_producers_are_known_as_far_as_their_batches_are_there() {
    // covers IDP-4, IDP-5
    let mut partition = Partition::new(Durability::Fsync);
    for sequence in 0..3 {
        partition.produce(7, sequence, 1, Acks::All);
        partition.produce(8, sequence, 1, Acks::All);
    }
    partition.write_and_flush();
    partition.trim(5);
    assert_eq!(partition.leader.producers(), &partition.replayed());
    let any = partition.produce(7, 40, 1, Acks::All);
    let old = partition.produce(8, 1, 1, Acks::All);
    assert!(matches!(partition.refusal(old), Refusal::Producer(ProducerRefusal::OutOfOrder { .. })));
    partition.write_and_flush();
    assert_eq!(partition.answer(any), appended(6, 1));
}

#[test]
fn a_batch_on_its_way_keeps_no_memory_of_those_that_are_gone() {
    // covers IDP-4, IDP-5: found by random actions
    let mut partition = Partition::new(Durability::Fsync);
    partition.produce(2, 0, 1, Acks::All);
    partition.produce(2, 1, 1, Acks::All);
    partition.write_and_flush();
    partition.produce_plain(1, Acks::All);
    partition.trim(1);
    partition.produce(2, 2, 1, Acks::All);
    partition.write(1);
    partition.flush(3);
    assert_eq!((partition.trims.as_slice(), partition.in_hand.len()), ([Ok(1)].as_slice(), 1));
    let again = partition.produce(2, 0, 1, Acks::All);
    assert!(matches!(partition.refusal(again), Refusal::Producer(_)), "its original is not there");
    let again = partition.produce(2, 1, 1, Acks::All);
    assert_eq!(partition.answer(again), duplicate(1));
}

#[test]
fn a_deleted_processor_s_tasks_need_no_checkpoint() {
    let mut partition = Partition::new(Durability::Fsync);
    task_output(&mut partition, 0, 0, 2);
    partition.write_and_flush();
    let task = headwater_protocol::ids::ProducerId(task_id(0)).task().unwrap();
    partition.leader.forget_processor(task.processor);
    partition.trim(2);
    assert_eq!(partition.trims, [Ok(2)]);
}

#[test]
fn a_checkpoint_has_these_bytes_for_ever() {
    let mut producers = crate::producer::StagedProducers::new(Producers::new(PartitionKind::Records));
    let header = batch(task_id(3), 2, 41, 2);
    producers.stage(&header, 0);
    producers.settle(&header, 0);
    let checkpoint = producers.tasks_before(1).next().unwrap();
    let (header, bytes) = checkpoint.batch(NOW).unwrap();
    assert!(header.is_control());
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (task_id(3), 2, 42));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "00000000000000000000003cffffffff02",   // base offset, length, leader epoch, magic
        "79c7b02c0020000000000000018bcfe56800", // CRC, attributes: control, last offset delta, base timestamp
        "0000018bcfe56800400001c00008000300020000002a", // max timestamp, producer id, epoch, sequence = last number
        "000000011400000008000000640100",       // one record: key 0, 100, no value, no headers
    ];
    assert_eq!(hex, expected.concat());
}
