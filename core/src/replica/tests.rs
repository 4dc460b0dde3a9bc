//! A leader with a driver that keeps its log in memory and checks every command against it.

mod append;
mod clean;
mod commit;
mod duplicate;
mod failure;
mod random;
mod trim;

use super::*;
use crate::producer::PartitionKind;
use crate::producer::tests::{batch, task_id};
use headwater_protocol::ids::DirectoryId;
use std::collections::{BTreeMap, VecDeque};

const LOCAL: BrokerId = BrokerId(1);
const EPOCH: LeaderEpoch = LeaderEpoch(5);
const PARTITION_EPOCH: PartitionEpoch = PartitionEpoch(3);
/// ms since the Unix epoch.
const NOW: i64 = 1_700_000_000_000;

fn config(durability: Durability) -> LeaderConfig {
    LeaderConfig {
        local: LOCAL,
        leader_epoch: EPOCH,
        partition_epoch: PARTITION_EPOCH,
        in_sync: vec![LOCAL],
        min_insync_replicas: 1,
        durability,
    }
}

fn recovered(kind: PartitionKind) -> Recovered {
    Recovered { log_start: 0, log_end: 0, durable_end: 0, leader_epoch: None, producers: Producers::new(kind) }
}

/// What an `Append` or `AppendCheckpoint` command asked for, until it is written.
#[derive(Clone, Copy, Debug)]
struct InHand {
    header: BatchHeader,
    base_offset: i64,
}

/// The leader, its driver and its disk.
struct Partition {
    leader: Leader,
    durability: Durability,
    kind: PartitionKind,
    /// What was proposed and not answered, and the topic's durability at that time.
    open: BTreeMap<ReplyToken, (Proposal, Durability)>,
    /// `Append` commands not carried out.
    in_hand: VecDeque<InHand>,
    /// What is written.
    log: Vec<(BatchHeader, i64)>,
    log_end: i64,
    durable_end: i64,
    high_watermark: i64,
    flush_wanted: bool,
    answers: BTreeMap<u64, Outcome>,
    log_start: i64,
    /// What became of trims, in order: the new start, or why not.
    trims: Vec<Result<i64, Refusal>>,
    /// What may be cleaned, or why not, in order.
    cleanables: Vec<Result<Cleanable, Refusal>>,
    next_token: u64,
    /// Off while a test fills a queue to its limit: the check looks at everything, after every event.
    check_invariants: bool,
}

impl Partition {
    fn new(durability: Durability) -> Self {
        Self::with(&config(durability), recovered(PartitionKind::Records))
    }

    fn changelog() -> Self {
        Self::with(&config(Durability::Fsync), recovered(PartitionKind::Changelog))
    }

    fn with(config: &LeaderConfig, recovered: Recovered) -> Self {
        let (kind, log_end, durable_end) = (recovered.producers.kind(), recovered.log_end, recovered.durable_end);
        let high_watermark = recovered.log_start;
        let leader = Leader::new(config, recovered).unwrap();
        let mut partition = Self {
            leader,
            durability: config.durability,
            kind,
            open: BTreeMap::new(),
            in_hand: VecDeque::new(),
            log: Vec::new(),
            log_end,
            durable_end,
            high_watermark,
            flush_wanted: false,
            answers: BTreeMap::new(),
            log_start: high_watermark,
            trims: Vec::new(),
            cleanables: Vec::new(),
            next_token: 0,
            check_invariants: true,
        };
        partition.run_commands();
        partition
    }

    fn handle(&mut self, event: Event) {
        self.leader.handle(0, event);
        self.run_commands();
    }

    fn run_commands(&mut self) {
        if self.check_invariants {
            assert_eq!(self.leader.invariants(), Ok(()));
        }
        while let Some(command) = self.leader.poll_command() {
            match command {
                Command::Cleanable => self.cleanables.push(Ok(self.leader.take_cleanable().unwrap())),
                Command::CleanRefused(refusal) => self.cleanables.push(Err(refusal)),
                Command::Append { token, base_offset, leader_epoch } => {
                    assert_eq!(leader_epoch, EPOCH);
                    let header = self.open[&token].0.header;
                    self.in_hand.push_back(InHand { header, base_offset });
                }
                Command::AppendCheckpoint { checkpoint, timestamp, base_offset, leader_epoch } => {
                    assert_eq!(leader_epoch, EPOCH);
                    let (header, bytes) = checkpoint.batch(timestamp).unwrap();
                    assert_eq!((header.total_bytes(), header.max_timestamp), (bytes.len(), NOW));
                    self.in_hand.push_back(InHand { header, base_offset });
                }
                Command::Trim(to) => self.trim_log(to),
                Command::TrimRefused(refusal) => self.trims.push(Err(refusal)),
                Command::Flush => {
                    assert!(!self.flush_wanted, "asked once until flushed");
                    self.flush_wanted = true;
                }
                Command::HighWatermark(offset) => {
                    // covers REP-5, REP-18: monotone, never above the log's end
                    assert!(offset > self.high_watermark && offset <= self.log_end);
                    self.high_watermark = offset;
                }
                Command::Reply { token, outcome } => self.answered(token, outcome),
            }
        }
        assert_eq!(self.leader.high_watermark(), self.high_watermark);
    }

    /// Whatever an answer says must be true at this moment.
    fn answered(&mut self, token: ReplyToken, outcome: Outcome) {
        let (proposal, durability) = self.open.remove(&token).expect("each proposal is answered once");
        let until = match outcome {
            Outcome::Appended { base_offset, next_offset } => {
                assert_eq!(self.batch_at(base_offset), Some(&proposal.header), "an answer's batch is in the log");
                next_offset
            }
            Outcome::Duplicate { base_offset } => {
                let original = self.batch_at(base_offset).expect("what is duplicated is in the log");
                base_offset + i64::from(original.last_offset_delta) + 1
            }
            Outcome::Refused(_) => i64::MIN,
        };
        let from_task = matches!(proposal.admission, Admission::TaskOutput { .. } | Admission::TaskCommit { .. });
        let reached = match proposal.acks {
            _ if from_task => self.high_watermark, // covers STEP-10
            Acks::All => self.high_watermark,
            // covers LOG-1
            Acks::Leader if durability == Durability::Fsync => self.durable_end,
            Acks::Leader | Acks::None => self.log_end,
        };
        assert!(until <= reached, "{proposal:?} was told {outcome:?} too early");
        self.answers.insert(token.0, outcome);
    }

    fn batch_at(&self, base_offset: i64) -> Option<&BatchHeader> {
        let place = self.log.binary_search_by_key(&base_offset, |(_, offset)| *offset).ok()?;
        self.log.get(place).map(|(header, _)| header)
    }

    fn propose(&mut self, header: BatchHeader, acks: Acks, admission: Admission) -> u64 {
        let token = ReplyToken(self.next_token);
        self.next_token += 1;
        let proposal = Proposal { token, header, bytes: 100, acks, admission };
        self.open.insert(token, (proposal, self.durability));
        self.handle(Event::Propose(proposal));
        token.0
    }

    /// A client's batch with a producer id.
    fn produce(&mut self, producer: i64, sequence: i32, count: i32, acks: Acks) -> u64 {
        self.propose(batch(producer, 0, sequence, count), acks, Admission::Client)
    }

    /// A client's batch without one.
    fn produce_plain(&mut self, count: i32, acks: Acks) -> u64 {
        self.propose(batch(-1, -1, -1, count), acks, Admission::Client)
    }

    /// Writes the `count` oldest appends in hand and reports them in one event.
    fn write(&mut self, count: usize) {
        for _ in 0..count.min(self.in_hand.len()) {
            let InHand { header, base_offset } = self.in_hand.pop_front().unwrap();
            assert_eq!(base_offset, self.log_end, "offsets have no holes and no overlaps");
            self.log.push((header, base_offset));
            self.log_end = end_of(&header, base_offset);
        }
        if self.log_end > self.leader.log_end_offset() {
            self.handle(Event::Appended { next_offset: self.log_end });
        }
    }

    fn fail_append(&mut self, failure: AppendFailure) {
        self.in_hand.clear();
        self.handle(Event::AppendFailed(failure));
    }

    /// A flush round that began when the log ended at `upto`.
    fn flush(&mut self, upto: i64) {
        assert!(self.flush_wanted);
        self.flush_wanted = false;
        self.durable_end = self.durable_end.max(upto);
        self.handle(Event::Flushed { next_offset: upto });
    }

    fn configure(&mut self, durability: Durability) {
        self.durability = durability;
        self.handle(Event::Configured { durability, min_insync_replicas: 1 });
    }

    fn write_and_flush(&mut self) {
        self.write(usize::MAX);
        if self.flush_wanted {
            self.flush(self.log_end);
        }
    }

    fn trim(&mut self, to: i64) {
        self.handle(Event::Trim { to, timestamp: NOW });
    }

    /// covers STEP-11: what each task said last is in what stays, durable and committed
    fn trim_log(&mut self, to: i64) {
        let safe = self.durable_end.min(self.high_watermark);
        assert!(to <= safe, "what is not durable is not given up");
        let mut before = Producers::new(self.kind);
        let mut after = Producers::new(self.kind);
        for (header, base_offset) in self.log.iter().filter(|(header, offset)| end_of(header, *offset) <= safe) {
            before.observe(header, *base_offset);
            if end_of(header, *base_offset) > to {
                after.observe(header, *base_offset);
            }
        }
        for (task, ..) in self.leader.producers().tasks() {
            // Far ahead: the answer tells which number is next.
            let next = |producers: &Producers| {
                let ahead = batch(task.producer_id().unwrap().0, 9, 1 << 20, 1);
                let (generation, epoch, first) = (task.generation, LeaderEpoch(9), 1 << 20);
                let admission = Admission::TaskOutput { partition_epoch: PARTITION_EPOCH, generation, epoch, first };
                producers.check(admission, &ahead, EPOCH)
            };
            assert_eq!(next(&before), next(&after), "{task:?}");
        }
        self.log.retain(|(header, base_offset)| end_of(header, *base_offset) > to);
        self.log_start = to;
        self.trims.push(Ok(to));
        self.leader.handle(0, Event::Trimmed { log_start: to });
    }

    fn answer(&self, token: u64) -> Option<Outcome> {
        self.answers.get(&token).copied()
    }

    fn refusal(&self, token: u64) -> Refusal {
        match self.answer(token) {
            Some(Outcome::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// What producers look like after a replay of the log.
    fn replayed(&self) -> Producers {
        let mut producers = Producers::new(self.kind);
        self.log.iter().for_each(|(header, base_offset)| producers.observe(header, *base_offset));
        producers
    }
}

fn end_of(header: &BatchHeader, base_offset: i64) -> i64 {
    base_offset + i64::from(header.last_offset_delta) + 1
}

fn appended(base_offset: i64, count: i64) -> Option<Outcome> {
    Some(Outcome::Appended { base_offset, next_offset: base_offset + count })
}

fn duplicate(base_offset: i64) -> Option<Outcome> {
    Some(Outcome::Duplicate { base_offset })
}
