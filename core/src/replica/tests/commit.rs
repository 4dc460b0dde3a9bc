//! What an answer waits for; the high watermark.

use super::*;

#[test]
fn with_fsync_the_leader_s_own_copy_counts_when_it_is_durable() {
    // covers LOG-1
    let mut partition = Partition::new(Durability::Fsync);
    let none = partition.produce_plain(1, Acks::None);
    let leader = partition.produce_plain(1, Acks::Leader);
    let all = partition.produce_plain(1, Acks::All);
    assert_eq!(partition.answer(none), None);
    partition.write(3);
    assert_eq!(partition.answer(none), appended(0, 1));
    assert_eq!((partition.answer(leader), partition.answer(all)), (None, None));
    partition.flush(3);
    assert_eq!((partition.answer(leader), partition.answer(all)), (appended(1, 1), appended(2, 1)));
}

#[test]
fn with_os_it_counts_when_it_is_written_and_nothing_is_flushed() {
    // covers LOG-1
    let mut partition = Partition::new(Durability::Os);
    let leader = partition.produce_plain(1, Acks::Leader);
    let all = partition.produce_plain(1, Acks::All);
    assert_eq!((partition.answer(leader), partition.answer(all)), (None, None));
    partition.write(2);
    assert_eq!((partition.answer(leader), partition.answer(all)), (appended(0, 1), appended(1, 1)));
    assert!(!partition.flush_wanted);
}

#[test]
fn one_flush_answers_for_many_batches_and_only_for_those_it_covers() {
    // covers LOG-1: what was written while the flush ran waits for the next one
    let mut partition = Partition::new(Durability::Fsync);
    let early: Vec<u64> = (0..3).map(|_| partition.produce_plain(2, Acks::All)).collect();
    partition.write(3);
    let late = partition.produce_plain(2, Acks::All);
    partition.write(1);
    partition.flush(6);
    assert!(early.iter().all(|token| partition.answer(*token).is_some()));
    assert_eq!(partition.answer(late), None);
    assert!(partition.flush_wanted, "asked for again, the log is dirty");
    partition.flush(8);
    assert_eq!(partition.answer(late), appended(6, 2));
    assert!(!partition.flush_wanted);
}

const FOLLOWER: BrokerId = BrokerId(2);

fn two_replicas(min_insync_replicas: u16) -> LeaderConfig {
    let in_sync = vec![LOCAL, FOLLOWER];
    LeaderConfig { in_sync, min_insync_replicas, ..config(Durability::Fsync) }
}

fn acknowledged(replica: BrokerId, leader_epoch: LeaderEpoch, next_offset: i64) -> Event {
    Event::Acknowledged { replica, leader_epoch, next_offset }
}

#[test]
fn the_high_watermark_is_what_every_in_sync_replica_holds() {
    // covers REP-5 (a)
    let mut partition = Partition::with(&two_replicas(2), recovered(PartitionKind::Records));
    let leader = partition.produce_plain(2, Acks::Leader);
    let all = partition.produce_plain(2, Acks::All);
    partition.write_and_flush();
    assert_eq!((partition.answer(leader), partition.answer(all)), (appended(0, 2), None));
    partition.handle(acknowledged(FOLLOWER, EPOCH, 2));
    assert_eq!((partition.high_watermark, partition.answer(all)), (2, None));
    partition.handle(acknowledged(FOLLOWER, EPOCH, 1));
    assert_eq!(partition.high_watermark, 2, "it never falls");
    partition.handle(acknowledged(FOLLOWER, EPOCH, 4));
    assert_eq!((partition.high_watermark, partition.answer(all)), (4, appended(2, 2)));
}

#[test]
fn a_follower_ahead_of_our_own_flush_commits_nothing() {
    // covers REP-5, LOG-1
    let mut partition = Partition::with(&two_replicas(1), recovered(PartitionKind::Records));
    let all = partition.produce_plain(2, Acks::All);
    partition.write(1);
    partition.handle(acknowledged(FOLLOWER, EPOCH, 2));
    assert_eq!((partition.high_watermark, partition.answer(all)), (0, None));
    partition.flush(2);
    assert_eq!(partition.answer(all), appended(0, 2));
}

#[test]
fn acknowledgements_of_another_reign_or_from_strangers_or_of_the_future_do_not_count() {
    // covers REP-5: in the current leader epoch
    let mut partition = Partition::with(&two_replicas(1), recovered(PartitionKind::Records));
    partition.produce_plain(2, Acks::All);
    partition.write_and_flush();
    for event in [
        acknowledged(FOLLOWER, LeaderEpoch(4), 2),
        acknowledged(FOLLOWER, LeaderEpoch(6), 2),
        acknowledged(BrokerId(3), EPOCH, 2),
        acknowledged(FOLLOWER, EPOCH, 3),
        acknowledged(LOCAL, EPOCH, 2),
    ] {
        partition.handle(event);
        assert_eq!(partition.high_watermark, 0, "{event:?}");
    }
    partition.handle(acknowledged(FOLLOWER, EPOCH, 2));
    assert_eq!(partition.high_watermark, 2);
}

#[test]
fn with_too_few_in_sync_acks_all_is_refused_and_nothing_is_committed() {
    // covers REP-5 (b), REP-6
    let mut partition = Partition::with(&two_replicas(3), recovered(PartitionKind::Records));
    let all = partition.produce_plain(1, Acks::All);
    assert_eq!(partition.refusal(all), Refusal::NotEnoughReplicas { in_sync: 2, needed: 3 });
    let leader = partition.produce_plain(1, Acks::Leader);
    partition.write_and_flush();
    assert_eq!(partition.answer(leader), appended(0, 1));
    partition.handle(acknowledged(FOLLOWER, EPOCH, 1));
    assert_eq!(partition.high_watermark, 0);
}

fn configured(durability: Durability) -> Event {
    Event::Configured { durability, min_insync_replicas: 1 }
}

#[test]
fn a_reply_that_was_promised_the_disk_waits_for_it_also_when_the_topic_no_longer_does() {
    // covers LOG-1
    let mut partition = Partition::new(Durability::Fsync);
    let (leader, all) = (partition.produce_plain(1, Acks::Leader), partition.produce_plain(1, Acks::All));
    partition.write(2);
    partition.configure(Durability::Os);
    assert_eq!((partition.answer(leader), partition.answer(all)), (None, appended(1, 1)));
    assert!(partition.flush_wanted);
    partition.flush(1);
    assert_eq!(partition.answer(leader), appended(0, 1));
    assert!(!partition.flush_wanted, "nobody waits for the rest");
    let late = partition.produce_plain(1, Acks::Leader);
    partition.write(1);
    assert_eq!(partition.answer(late), appended(2, 1));
}

#[test]
fn what_was_accepted_in_the_page_cache_stays_committed_and_what_comes_waits_for_the_disk() {
    // covers LOG-1, REP-18
    let mut partition = Partition::new(Durability::Os);
    partition.produce_plain(2, Acks::All);
    partition.write(1);
    assert_eq!(partition.high_watermark, 2);
    partition.configure(Durability::Fsync);
    assert_eq!(partition.high_watermark, 2);
    assert!(partition.flush_wanted, "it is made up for");
    let all = partition.produce_plain(1, Acks::All);
    partition.write(1);
    partition.flush(1);
    assert_eq!((partition.high_watermark, partition.answer(all)), (2, None));
    partition.flush(3);
    assert_eq!((partition.high_watermark, partition.answer(all)), (3, appended(2, 1)));
}

#[test]
fn more_replicas_that_are_needed_take_nothing_back() {
    // covers REP-5, REP-18
    let mut partition = Partition::new(Durability::Os);
    partition.produce_plain(1, Acks::All);
    partition.write(1);
    partition.handle(Event::Configured { durability: Durability::Os, min_insync_replicas: 2 });
    assert_eq!(partition.high_watermark, 1);
    let refused = partition.produce_plain(1, Acks::All);
    assert!(matches!(partition.refusal(refused), Refusal::NotEnoughReplicas { in_sync: 1, needed: 2 }));
    partition.handle(configured(Durability::Os));
    let taken = partition.produce_plain(1, Acks::All);
    partition.write(1);
    assert_eq!(partition.answer(taken), appended(1, 1));
}
