//! Offsets, limits, recovery.

use super::*;
use crate::cluster::{PartitionImage, ReplicaAssignment, TopicSettings};
use crate::limits;

#[test]
fn offsets_are_given_out_in_the_order_of_proposals() {
    let mut partition = Partition::new(Durability::Fsync);
    let tokens: Vec<u64> = [3, 1, 5].into_iter().map(|count| partition.produce_plain(count, Acks::All)).collect();
    assert!(tokens.iter().all(|token| partition.answer(*token).is_none()));
    partition.write_and_flush();
    let bases: Vec<_> = tokens.iter().map(|token| partition.answer(*token)).collect();
    assert_eq!(bases, [appended(0, 3), appended(3, 1), appended(4, 5)]);
    assert_eq!(partition.leader.log_end_offset(), 9);
    assert!(partition.leader.is_idle());
    assert_eq!(partition.leader.poll_deadline(), None);
}

#[test]
fn a_refused_proposal_takes_no_offset() {
    let mut partition = Partition::new(Durability::Os);
    let first = partition.produce(1, 0, 2, Acks::All);
    let gap = partition.produce(1, 3, 1, Acks::All);
    let next = partition.produce(1, 2, 1, Acks::All);
    let out_of_order = ProducerRefusal::OutOfOrder { producer: 1, expected: 2, got: 3 };
    assert_eq!(partition.refusal(gap), Refusal::Producer(out_of_order), "at once, against what is on its way");
    partition.write(2);
    assert_eq!((partition.answer(first), partition.answer(next)), (appended(0, 2), appended(2, 1)));
}

#[test]
fn too_many_batches_on_their_way_are_refused_and_nothing_else_is() {
    let mut partition = Partition::new(Durability::Os);
    partition.check_invariants = false;
    for _ in 0..limits::APPENDS_MAX {
        partition.produce_plain(1, Acks::None);
    }
    partition.check_invariants = true;
    assert!(!partition.leader.has_room(1));
    let over = partition.produce_plain(1, Acks::None);
    assert_eq!(partition.refusal(over), Refusal::Busy);
    partition.write(1);
    let fits = partition.produce_plain(1, Acks::None);
    assert_eq!(partition.answer(fits), None);
    partition.write(usize::MAX);
    assert_eq!(partition.answers.len(), limits::APPENDS_MAX + 2, "everybody has an answer");
}

#[test]
fn too_many_bytes_on_their_way_are_refused_but_one_batch_always_fits() {
    let mut partition = Partition::new(Durability::Os);
    let token = ReplyToken(0);
    let huge = u32::MAX;
    assert!(partition.leader.has_room(huge), "nothing is on its way");
    let header = batch(-1, -1, -1, 1);
    let proposal = Proposal { token, header, bytes: huge, acks: Acks::All, admission: Admission::Client };
    partition.open.insert(token, (proposal, partition.durability));
    partition.handle(Event::Propose(proposal));
    assert!(!partition.leader.has_room(0));
    partition.write(1);
    assert!(partition.leader.has_room(limits::APPEND_BYTES_MAX as u32));
}

#[test]
fn replies_that_wait_are_bounded_too() {
    let mut partition = Partition::new(Durability::Fsync);
    partition.check_invariants = false;
    for _ in 0..limits::WAITING_REPLIES_MAX {
        assert!(partition.leader.has_room(1));
        partition.produce_plain(1, Acks::All);
        if partition.in_hand.len() == limits::APPENDS_MAX / 2 {
            partition.write(usize::MAX);
        }
    }
    partition.check_invariants = true;
    assert!(!partition.leader.has_room(1));
    assert_eq!(partition.open.len(), limits::WAITING_REPLIES_MAX);
    let over = partition.produce_plain(1, Acks::All);
    assert_eq!(partition.refusal(over), Refusal::Busy);
    partition.write_and_flush();
    assert!(partition.leader.is_idle());
}

#[test]
fn a_reign_begins_with_the_log_that_recovery_found() {
    let mut found = recovered(PartitionKind::Records);
    found.producers.observe(&batch(1, 0, 0, 10), 10);
    (found.log_start, found.durable_end, found.log_end) = (10, 20, 20);
    found.leader_epoch = Some(LeaderEpoch(4));
    let mut partition = Partition::with(&config(Durability::Fsync), found);
    assert!(!partition.flush_wanted);
    assert_eq!(partition.high_watermark, 20, "a single replica has committed what it holds");
    let next = partition.produce(1, 10, 1, Acks::All);
    let gap = partition.produce(1, 0, 1, Acks::All);
    partition.write_and_flush();
    assert_eq!(partition.answer(next), appended(20, 1));
    assert!(matches!(partition.refusal(gap), Refusal::Producer(_)), "producers are known again (IDP-4)");
}

#[test]
fn a_tail_that_is_not_durable_is_not_committed_until_it_is() {
    // covers STEP-4: an inherited tail is not durable because it is in the log; STEP-10 for its duplicates
    let mut found = recovered(PartitionKind::Records);
    let tail = batch(1, 0, 0, 5);
    found.producers.observe(&tail, 0);
    found.log_end = 5;
    let mut partition = Partition::with(&config(Durability::Fsync), found);
    partition.log.push((tail, 0));
    assert!(partition.flush_wanted, "asked for at once");
    assert_eq!(partition.high_watermark, 0);
    let retry = partition.produce(1, 0, 5, Acks::All);
    assert_eq!(partition.answer(retry), None);
    partition.flush(5);
    assert_eq!(partition.answer(retry), duplicate(0));
    assert_eq!(partition.high_watermark, 5);
}

#[test]
fn what_contradicts_itself_is_no_recovery() {
    let fails = |change: fn(&mut LeaderConfig, &mut Recovered)| {
        let (mut config, mut found) = (config(Durability::Fsync), recovered(PartitionKind::Records));
        change(&mut config, &mut found);
        Leader::new(&config, found).map(drop).unwrap_err()
    };
    let offsets = |error| matches!(error, InvalidRecovery::Offsets { .. });
    assert!(offsets(fails(|_, found| found.log_start = -1)));
    assert!(offsets(fails(|_, found| found.log_start = 1)));
    assert!(offsets(fails(|_, found| found.durable_end = 1)));
    let epoch = fails(|_, found| found.leader_epoch = Some(LeaderEpoch(6)));
    assert_eq!(epoch, InvalidRecovery::Epoch { log: LeaderEpoch(6), metadata: EPOCH });
    assert_eq!(fails(|config, _| config.in_sync = vec![BrokerId(2)]), InvalidRecovery::NotInSync(LOCAL));
}

#[test]
fn offsets_do_not_run_over() {
    let mut found = recovered(PartitionKind::Records);
    (found.log_start, found.durable_end, found.log_end) = (i64::MAX - 2, i64::MAX - 2, i64::MAX - 2);
    let mut partition = Partition::with(&config(Durability::Fsync), found);
    let over = partition.produce_plain(3, Acks::All);
    assert_eq!(partition.refusal(over), Refusal::OffsetsExhausted);
}

#[test]
fn a_leader_s_part_comes_from_the_image() {
    let replicas = [1, 2].map(|id| ReplicaAssignment { broker: BrokerId(id), directory: DirectoryId([9; 16]) });
    let image = PartitionImage {
        leader: Some(LOCAL),
        leader_epoch: EPOCH,
        partition_epoch: PARTITION_EPOCH,
        replicas: replicas.to_vec(),
        isr: vec![LOCAL],
    };
    let settings = TopicSettings::parse(&[("durability".into(), "os".into())], false, 1).unwrap();
    assert_eq!(LeaderConfig::from_image(LOCAL, &image, &settings), config(Durability::Os));
}

#[test]
fn a_commit_is_appended_in_its_own_reign_only() {
    // covers STEP-2: checked in the replica's loop, at append, against what is on its way
    let mut partition = Partition::changelog();
    let mut commit = |epoch: i32, step: u64| {
        let header = batch(task_id(0), epoch as i16, step as i32, 4);
        partition.propose(header, Acks::None, Admission::TaskCommit { epoch: LeaderEpoch(epoch), step })
    };
    let (first, second, stale, gap) = (commit(5, 0), commit(5, 1), commit(4, 2), commit(5, 3));
    let fenced = ProducerRefusal::Fenced { generation: 0, epoch: 5 };
    assert_eq!(partition.refusal(stale), Refusal::Producer(fenced));
    assert_eq!(partition.refusal(gap), Refusal::Producer(ProducerRefusal::Expect { number: 2 }));
    partition.write(2);
    assert_eq!(partition.answer(first), None, "a commit waits for the high watermark whatever acks says");
    partition.flush(4);
    assert_eq!((partition.answer(first), partition.answer(second)), (appended(0, 4), None));
    partition.flush(8);
    assert_eq!(partition.answer(second), appended(4, 4));
}
