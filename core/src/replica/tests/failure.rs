//! Failed writes, failed disks, an orderly stop.

use super::*;
use headwater_protocol::error::{ApiError, ErrorCode};

#[test]
fn a_failed_append_fails_all_after_it_and_leaves_nothing_behind() {
    // covers LOG-7, IDP-4: nothing is half applied
    let mut partition = Partition::new(Durability::Fsync);
    let tokens: Vec<u64> = (0..4).map(|place| partition.produce(1, place * 2, 2, Acks::All)).collect();
    partition.produce(2, 0, 1, Acks::Leader);
    partition.write(2);
    partition.fail_append(AppendFailure::Storage);
    assert_eq!(partition.leader.log_end_offset(), 4);
    assert_eq!(partition.leader.producers(), &partition.replayed());
    partition.flush(4);
    assert_eq!((partition.answer(tokens[0]), partition.answer(tokens[1])), (appended(0, 2), appended(2, 2)));
    for token in &tokens[2..] {
        assert_eq!(partition.refusal(*token), Refusal::AppendFailed(AppendFailure::Storage));
    }
    assert!(partition.leader.is_idle());
    let next = partition.produce(1, 4, 2, Acks::All);
    let anywhere = partition.produce(2, 9, 1, Acks::All);
    partition.write_and_flush();
    assert_eq!((partition.answer(next), partition.answer(anywhere)), (appended(4, 2), appended(6, 1)));
}

#[test]
fn appends_that_were_not_taken_yet_are_taken_back() {
    let mut leader = Leader::new(&config(Durability::Fsync), recovered(PartitionKind::Records)).unwrap();
    let propose = |token| {
        let (header, admission) = (batch(-1, -1, -1, 1), Admission::Client);
        Event::Propose(Proposal { token: ReplyToken(token), header, bytes: 1, acks: Acks::All, admission })
    };
    leader.handle(0, propose(0));
    assert!(matches!(leader.poll_command(), Some(Command::Append { .. })));
    leader.handle(0, propose(1));
    leader.handle(0, Event::AppendFailed(AppendFailure::DiskFull));
    let refused = Outcome::Refused(Refusal::AppendFailed(AppendFailure::DiskFull));
    for token in 0..2 {
        let reply = Command::Reply { token: ReplyToken(token), outcome: refused };
        assert_eq!(leader.poll_command(), Some(reply));
    }
    assert_eq!(leader.poll_command(), None);
    assert_eq!(leader.invariants(), Ok(()));
}

#[test]
fn after_a_failed_disk_nobody_is_told_anything_good() {
    // covers LOG-7
    let mut partition = Partition::new(Durability::Fsync);
    let written = partition.produce(1, 0, 1, Acks::All);
    partition.write(1);
    let on_its_way = partition.produce(1, 1, 1, Acks::Leader);
    partition.handle(Event::StorageFailed);
    let late = partition.produce(1, 2, 1, Acks::All);
    for token in [written, on_its_way, late] {
        assert_eq!(partition.refusal(token), Refusal::StorageFailed);
    }
    // Completions that were under way change nothing any more.
    partition.handle(Event::Flushed { next_offset: 1 });
    partition.handle(Event::Appended { next_offset: 2 });
    partition.handle(Event::Close);
    assert_eq!(partition.high_watermark, 0);
}

#[test]
fn a_leader_that_closes_finishes_what_it_has() {
    let mut partition = Partition::new(Durability::Fsync);
    let before = partition.produce(1, 0, 1, Acks::All);
    partition.handle(Event::Close);
    let after = partition.produce(1, 1, 1, Acks::All);
    assert_eq!(partition.refusal(after), Refusal::Closing);
    assert!(!partition.leader.is_idle());
    partition.write_and_flush();
    assert_eq!(partition.answer(before), appended(0, 1));
    assert!(partition.leader.is_idle());
}

#[test]
fn refusals_have_their_codes() {
    let table = [
        (Refusal::Producer(ProducerRefusal::InternalPartition), ErrorCode::InternalTopic),
        (Refusal::NotEnoughReplicas { in_sync: 1, needed: 2 }, ErrorCode::NotEnoughReplicas),
        (Refusal::Busy, ErrorCode::Busy),
        (Refusal::AppendFailed(AppendFailure::DiskFull), ErrorCode::DiskFull),
        (Refusal::AppendFailed(AppendFailure::Storage), ErrorCode::KafkaStorageError),
        (Refusal::StorageFailed, ErrorCode::KafkaStorageError),
        (Refusal::Closing, ErrorCode::ShuttingDown),
        (Refusal::OffsetsExhausted, ErrorCode::UnknownServerError),
    ];
    for (refusal, code) in table {
        assert_eq!(ApiError::from(refusal).code, code);
    }
}
