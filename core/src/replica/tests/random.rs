//! Random producers, retries, slow writes, failures and flushes; the driver in `tests.rs` checks every command.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    /// Ordinary producer `who` sends its next batch, or (`back` > 0) an earlier one again.
    Produce {
        who: i64,
        back: usize,
        count: i32,
        acks: Acks,
    },
    /// The task sends its outputs from number `first` on, under `epoch`.
    Send {
        epoch: i32,
        first: u64,
        count: i32,
    },
    Plain(Acks),
    Write(usize),
    Fail,
    /// A flush round covers this share (of 4) of what is written and not durable.
    Flush(i64),
    Acknowledge(i64),
    Configure(Durability),
    /// To this share (of 4) of what is committed.
    Trim(i64),
}

fn acks() -> impl Strategy<Value = Acks> {
    prop_oneof![Just(Acks::None), Just(Acks::Leader), Just(Acks::All)]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..3_i64, prop_oneof![3 => Just(0), 2 => 1..8_usize], 1..4_i32, acks())
            .prop_map(|(who, back, count, acks)| Action::Produce { who, back, count, acks }),
        3 => (1..3_i32, 0..20_u64, 1..4_i32).prop_map(|(epoch, first, count)| Action::Send { epoch, first, count }),
        1 => acks().prop_map(Action::Plain),
        4 => (1..5_usize).prop_map(Action::Write),
        1 => Just(Action::Fail),
        4 => (0..5_i64).prop_map(Action::Flush),
        3 => (0..5_i64).prop_map(Action::Acknowledge),
        1 => (0..5_i64).prop_map(Action::Trim),
        1 => prop_oneof![Just(Durability::Fsync), Just(Durability::Os)].prop_map(Action::Configure),
    ]
}

/// What ordinary producers have sent: (sequence, count), and how they go on when a write failed.
#[derive(Default)]
struct Senders(BTreeMap<i64, Vec<(i32, i32)>>);

impl Senders {
    fn batch(&mut self, who: i64, back: usize, count: i32) -> (i32, i32) {
        let sent = self.0.entry(who).or_default();
        let again = back.checked_sub(1).and_then(|back| sent.len().checked_sub(back + 1)).map(|place| sent[place]);
        again.unwrap_or_else(|| {
            let next = sent.last().map_or(0, |last| last.0 + last.1);
            sent.push((next, count));
            (next, count)
        })
    }
}

fn run(partition: &mut Partition, senders: &mut Senders, action: &Action) {
    let share = |from: i64, to: i64, quarters: i64| from + (to - from) * quarters / 4;
    match *action {
        Action::Produce { who, back, count, acks } => {
            let (sequence, count) = senders.batch(who, back, count);
            partition.produce(who, sequence, count, acks);
        }
        Action::Send { epoch, first, count } => {
            let admission = Admission::TaskOutput {
                partition_epoch: PARTITION_EPOCH,
                generation: 0,
                epoch: LeaderEpoch(epoch),
                first,
            };
            partition.propose(batch(task_id(0), 1, first as i32, count), Acks::All, admission);
        }
        Action::Plain(acks) => drop(partition.produce_plain(1, acks)),
        Action::Write(count) => partition.write(count),
        Action::Fail if partition.in_hand.is_empty() => {}
        Action::Fail => partition.fail_append(AppendFailure::Storage),
        Action::Flush(quarters) if partition.flush_wanted => {
            partition.flush(share(partition.durable_end, partition.log_end, quarters.min(4)));
        }
        Action::Flush(_) => {}
        Action::Configure(durability) => partition.configure(durability),
        Action::Trim(quarters) => partition.trim(share(partition.log_start, partition.high_watermark, quarters.min(4))),
        Action::Acknowledge(quarters) => {
            let next_offset = share(0, partition.log_end, quarters.min(4));
            partition.handle(Event::Acknowledged { replica: BrokerId(2), leader_epoch: EPOCH, next_offset });
        }
    }
}

/// In the log each sequence of a producer is there at most once, and in order (IDP-1…3, STEP-9).
fn assert_once_and_in_order(log: &[(BatchHeader, i64)]) {
    let mut next: BTreeMap<i64, i32> = BTreeMap::new();
    for (header, _) in log.iter().filter(|(header, _)| header.producer_id >= 0 && !header.is_control()) {
        let expected = next.entry(header.producer_id).or_insert(header.base_sequence);
        assert_eq!(header.base_sequence, *expected, "producer {}", header.producer_id);
        *expected += header.record_count;
    }
}

proptest! {
    #[test]
    fn whatever_happens_answers_are_true_and_records_are_there_once(
        actions in prop::collection::vec(action(), 1..120),
        os: bool,
        follower: bool,
    ) {
        // covers IDP-1, IDP-2, IDP-3, IDP-4, STEP-9, STEP-10, STEP-11, REP-5, LOG-1
        let durability = if os { Durability::Os } else { Durability::Fsync };
        let mut config = config(durability);
        if follower {
            config.in_sync.push(BrokerId(2));
        }
        let mut partition = Partition::with(&config, recovered(PartitionKind::Records));
        let mut senders = Senders::default();
        for action in &actions {
            run(&mut partition, &mut senders, action);
            prop_assert_eq!(partition.leader.producers(), &partition.replayed());
        }
        assert_once_and_in_order(&partition.log);
        // No more faults: everybody is answered, and everything is committed.
        partition.write(usize::MAX);
        if partition.flush_wanted {
            partition.flush(partition.log_end);
        }
        let next_offset = partition.log_end;
        partition.handle(Event::Acknowledged { replica: BrokerId(2), leader_epoch: EPOCH, next_offset });
        prop_assert!(partition.open.is_empty() && partition.leader.is_idle());
        prop_assert_eq!(partition.high_watermark, partition.log_end);
    }
}
