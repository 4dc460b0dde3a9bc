//! The leader of one partition.

use super::clean::Cleanable;
use super::progress::Progress;
use super::trim::Trimming;
use super::waiting::{Condition, Waiter, Waiting};
use super::{
    AppendFailure, Command, Event, InvalidRecovery, LeaderConfig, Outcome, Proposal, Recovered, Refusal, ReplyToken,
};
use crate::cluster::Durability;
use crate::limits;
use crate::producer::{Admission, PartitionKind, Producers, StagedProducers, Verdict};
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::BatchHeader;
use headwater_protocol::ids::{BrokerId, LeaderEpoch, PartitionEpoch, ProcessorNumber};
use std::collections::VecDeque;

/// A batch that has its offset and is not yet in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OnItsWay {
    pub(super) header: BatchHeader,
    pub(super) base_offset: i64,
    pub(super) next_offset: i64,
    pub(super) bytes: u32,
}

/// Whether proposals are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Open,
    /// Refuses what comes, finishes what is here.
    Closing,
    /// The storage failed: nothing more is true.
    Failed,
}

/// Leads one partition for one reign. See the [module](super) for what its driver owes it.
#[derive(Debug)]
pub struct Leader {
    pub(super) local: BrokerId,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) durability: Durability,
    /// Offsets below it were accepted when the topic had `durability=os`: they count as held, synced or not.
    pub(super) held_by_os: i64,
    pub(super) mode: Mode,
    pub(super) log_start: i64,
    pub(super) high_watermark: i64,
    pub(super) durable_end: i64,
    pub(super) log_end: i64,
    /// One past the last offset given out: `log_end` when nothing is on its way.
    pub(super) assigned_end: i64,
    pub(super) flush_wanted: bool,
    pub(super) trimming: Option<Trimming>,
    pub(super) cleaning: Option<Cleanable>,
    /// [`Command::Cleanable`] was given out for it.
    pub(super) cleaning_told: bool,
    pub(super) on_their_way: VecDeque<OnItsWay>,
    pub(super) on_their_way_bytes: u64,
    pub(super) progress: Progress,
    pub(super) producers: StagedProducers,
    pub(super) waiting: Waiting,
    pub(super) commands: VecDeque<Command>,
    now_ms: u64,
}

impl Leader {
    /// Begins a reign over the log that recovery found.
    ///
    /// With one replica the high watermark is at once what that replica holds as durably as the topic asks. If that is
    /// less than the whole log, the first command is [`Command::Flush`].
    ///
    /// # Errors
    /// [`InvalidRecovery`] when log and metadata contradict each other.
    pub fn new(config: &LeaderConfig, recovered: Recovered) -> Result<Self, InvalidRecovery> {
        let Recovered { log_start, log_end, durable_end, leader_epoch, producers } = recovered;
        if log_start < 0 || durable_end < log_start || log_end < durable_end {
            return Err(InvalidRecovery::Offsets { log_start, durable_end, log_end });
        }
        if let Some(log) = leader_epoch.filter(|log| *log > config.leader_epoch) {
            return Err(InvalidRecovery::Epoch { log, metadata: config.leader_epoch });
        }
        let progress = Progress::new(&config.in_sync, config.min_insync_replicas, log_start);
        if !progress.contains(config.local) {
            return Err(InvalidRecovery::NotInSync(config.local));
        }
        let forgets = lacks(Mutant::DedupeForgotten) || lacks(Mutant::UnknownTaskAccepted);
        let producers = if forgets && producers.kind() == PartitionKind::Records {
            Producers::new(producers.kind())
        } else {
            producers
        };
        let mut leader = Self {
            local: config.local,
            leader_epoch: config.leader_epoch,
            partition_epoch: config.partition_epoch,
            durability: config.durability,
            held_by_os: log_start,
            mode: Mode::Open,
            log_start,
            high_watermark: log_start,
            durable_end,
            log_end,
            assigned_end: log_end,
            flush_wanted: false,
            trimming: None,
            cleaning: None,
            cleaning_told: false,
            on_their_way: VecDeque::new(),
            on_their_way_bytes: 0,
            progress,
            producers: StagedProducers::new(producers),
            waiting: Waiting::default(),
            commands: VecDeque::new(),
            now_ms: 0,
        };
        leader.want_flush();
        leader.advance();
        Ok(leader)
    }

    /// Takes in what happened. `now_ms` must not go back.
    pub fn handle(&mut self, now_ms: u64, event: Event) {
        debug_assert!(now_ms >= self.now_ms, "time went back");
        self.now_ms = now_ms;
        match event {
            Event::Propose(proposal) => self.propose(&proposal),
            Event::Close => self.close(),
            Event::Trim { to, timestamp } => self.begin_trim(to, timestamp),
            Event::Trimmed { log_start } => self.trimmed(log_start),
            Event::Clean => self.begin_clean(),
            Event::StorageFailed => self.storage_failed(),
            // Completions of work begun before the failure.
            _ if self.mode == Mode::Failed => {}
            Event::Appended { next_offset } => self.appended(next_offset),
            Event::AppendFailed(failure) => self.append_failed(failure),
            Event::Flushed { next_offset } => self.flushed(next_offset),
            Event::Acknowledged { replica, leader_epoch, next_offset } => {
                self.acknowledged(replica, leader_epoch, next_offset);
            }
            Event::Configured { durability, min_insync_replicas } => self.configured(durability, min_insync_replicas),
        }
    }

    /// What to do next, in order; `None` when there is nothing to do until the next event.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::handle`] again though nothing happens: never. What a leader waits for are events; a
    /// client's own time-out is kept by whoever holds its connection.
    pub fn poll_deadline(&self) -> Option<u64> {
        None
    }

    fn close(&mut self) {
        if self.mode == Mode::Open {
            self.mode = Mode::Closing;
            self.refuse_trim(Refusal::Closing);
            self.refuse_clean(Refusal::Closing);
        }
    }

    fn propose(&mut self, proposal: &Proposal) {
        let condition = Condition::of(proposal.acks, proposal.admission, self.durability);
        if let Err(refusal) = self.admit(proposal, condition) {
            self.reply(proposal.token, Outcome::Refused(refusal));
        }
    }

    fn admit(&mut self, proposal: &Proposal, condition: Condition) -> Result<(), Refusal> {
        match self.mode {
            Mode::Open => {}
            Mode::Closing => return Err(Refusal::Closing),
            Mode::Failed => return Err(Refusal::StorageFailed),
        }
        if let Admission::TaskOutput { partition_epoch: theirs, .. } = proposal.admission
            && theirs != self.partition_epoch
        {
            return Err(Refusal::PartitionEpoch { ours: self.partition_epoch, theirs });
        }
        if !self.has_room(proposal.bytes) {
            return Err(Refusal::Busy);
        }
        match self.producers.check(proposal.admission, &proposal.header, self.leader_epoch) {
            Verdict::Append => self.begin_append(proposal, condition),
            Verdict::Duplicate { base_offset, .. } if lacks(Mutant::DuplicateAnsweredAtOnce) => {
                self.reply(proposal.token, Outcome::Duplicate { base_offset });
                Ok(())
            }
            Verdict::Duplicate { base_offset, next_offset } => {
                self.wait(condition, next_offset, proposal.token, Outcome::Duplicate { base_offset });
                Ok(())
            }
            Verdict::Refuse(refusal) => Err(refusal.into()),
        }
    }

    fn begin_append(&mut self, proposal: &Proposal, condition: Condition) -> Result<(), Refusal> {
        let (in_sync, needed) = (self.progress.in_sync(), self.progress.needed());
        if condition == Condition::Committed && in_sync < needed {
            return Err(Refusal::NotEnoughReplicas { in_sync: in_sync as u32, needed: needed as u32 });
        }
        let base_offset = self.assigned_end;
        let records = i64::from(proposal.header.last_offset_delta) + 1;
        let next_offset = base_offset.checked_add(records).ok_or(Refusal::OffsetsExhausted)?;
        assert!(next_offset > base_offset, "a batch that may be appended holds a record");

        let (header, bytes) = (proposal.header, proposal.bytes);
        self.begin(OnItsWay { header, base_offset, next_offset, bytes });
        let (token, leader_epoch) = (proposal.token, self.leader_epoch);
        self.commands.push_back(Command::Append { token, base_offset, leader_epoch });
        self.wait(condition, next_offset, token, Outcome::Appended { base_offset, next_offset });
        Ok(())
    }

    /// A batch was given its offset.
    pub(super) fn begin(&mut self, batch: OnItsWay) {
        self.producers.stage(&batch.header, batch.base_offset);
        self.on_their_way_bytes += u64::from(batch.bytes);
        self.assigned_end = batch.next_offset;
        self.on_their_way.push_back(batch);
    }

    fn wait(&mut self, condition: Condition, until: i64, token: ReplyToken, outcome: Outcome) {
        if until <= self.reached(condition) {
            self.reply(token, outcome);
        } else {
            self.waiting.push(condition, Waiter { until, token, outcome });
        }
    }

    pub(super) fn reached(&self, condition: Condition) -> i64 {
        match condition {
            Condition::Written => self.log_end,
            Condition::Durable => self.durable_end,
            Condition::Committed => self.high_watermark,
        }
    }

    fn appended(&mut self, next_offset: i64) {
        while let Some(batch) = self.on_their_way.pop_front_if(|batch| batch.next_offset <= next_offset) {
            assert_eq!(batch.base_offset, self.log_end, "batches are written in the order of their offsets");
            self.producers.settle(&batch.header, batch.base_offset);
            self.on_their_way_bytes -= u64::from(batch.bytes);
            self.log_end = batch.next_offset;
        }
        assert_eq!(self.log_end, next_offset, "the log ends where a batch that was assigned ends");
        self.want_flush();
        self.release(Condition::Written);
        if lacks(Mutant::ServeAboveHighWatermark) {
            self.commands.push_back(Command::HighWatermark(self.log_end));
        }
        self.advance();
        self.go_on_trimming();
        self.go_on_cleaning();
    }

    fn append_failed(&mut self, failure: AppendFailure) {
        assert!(!self.on_their_way.is_empty(), "only what is on its way can fail");
        self.drop_on_their_way();
        self.refuse_trim(failure.into());
        for waiter in self.waiting.take_above(self.log_end) {
            self.reply(waiter.token, Outcome::Refused(failure.into()));
        }
    }

    /// Nothing that is on its way will be in the log: back to the state of the log's end.
    fn drop_on_their_way(&mut self) {
        self.on_their_way.clear();
        self.on_their_way_bytes = 0;
        self.assigned_end = self.log_end;
        if !lacks(Mutant::StagedKept) {
            self.producers.roll_back();
        }
        let is_append =
            |command: &Command| matches!(command, Command::Append { .. } | Command::AppendCheckpoint { .. });
        self.commands.retain(|command| !is_append(command));
    }

    fn flushed(&mut self, next_offset: i64) {
        assert!(next_offset <= self.log_end, "what was never written can't be durable");
        self.durable_end = self.durable_end.max(next_offset);
        self.flush_wanted = false;
        self.release(Condition::Durable);
        self.want_flush();
        self.advance();
        self.go_on_trimming();
        self.go_on_cleaning();
    }

    fn acknowledged(&mut self, replica: BrokerId, leader_epoch: LeaderEpoch, next_offset: i64) {
        let of_this_reign = leader_epoch == self.leader_epoch;
        if of_this_reign && replica != self.local && next_offset <= self.log_end {
            self.progress.acknowledge(replica, next_offset);
            self.advance();
            self.go_on_trimming();
            self.go_on_cleaning();
        }
    }

    fn configured(&mut self, durability: Durability, min_insync_replicas: u16) {
        if self.durability == Durability::Os {
            self.held_by_os = self.log_end;
        }
        self.durability = durability;
        self.progress.need(min_insync_replicas);
        self.want_flush();
        self.advance();
    }

    fn storage_failed(&mut self) {
        self.mode = Mode::Failed;
        self.drop_on_their_way();
        self.refuse_trim(Refusal::StorageFailed);
        self.refuse_clean(Refusal::StorageFailed);
        for waiter in self.waiting.take_above(i64::MIN) {
            self.reply(waiter.token, Outcome::Refused(Refusal::StorageFailed));
        }
    }

    pub(super) fn want_flush(&mut self) {
        if self.is_dirty() && !self.flush_wanted {
            self.flush_wanted = true;
            self.commands.push_back(Command::Flush);
        }
    }

    /// Whether somebody waits for the disk: the topic, a reply that was promised what is on it, a new log start, or a
    /// cleaner.
    pub(super) fn is_dirty(&self) -> bool {
        let is_asked = self.durability == Durability::Fsync
            || !self.waiting.queue(Condition::Durable).is_empty()
            || self.trimming.is_some_and(|trimming| trimming.until > self.durable_end)
            || self.cleaning.as_ref().is_some_and(|cleaning| cleaning.upto > self.durable_end);
        is_asked && self.durable_end < self.log_end
    }

    /// One past the last offset that this replica holds as durably as the topic asks (LOG-1).
    pub(super) fn held(&self) -> i64 {
        match self.durability {
            Durability::Fsync if !lacks(Mutant::AcknowledgeBeforeFlush) => self.durable_end.max(self.held_by_os),
            Durability::Fsync | Durability::Os => self.log_end,
        }
    }

    /// Moves the high watermark to what the in-sync replicas hold (REP-5); it never falls.
    fn advance(&mut self) {
        self.progress.acknowledge(self.local, self.held());
        let Some(committed) = self.progress.committed().filter(|committed| *committed > self.high_watermark) else {
            return;
        };
        assert!(committed <= self.log_end, "what is committed is in the leader's log");
        self.high_watermark = committed;
        let shown = if lacks(Mutant::ServeAboveHighWatermark) { self.log_end } else { committed };
        self.commands.push_back(Command::HighWatermark(shown));
        self.release(Condition::Committed);
    }

    fn release(&mut self, condition: Condition) {
        let reached = self.reached(condition);
        while let Some(waiter) = self.waiting.pop_reached(condition, reached) {
            self.reply(waiter.token, waiter.outcome);
        }
    }

    fn reply(&mut self, token: ReplyToken, outcome: Outcome) {
        self.commands.push_back(Command::Reply { token, outcome });
    }

    /// Whether a batch of this many bytes would be taken now; a driver that stops reading when not never sees
    /// [`Refusal::Busy`]. One batch is always taken when nothing is on its way.
    pub fn has_room(&self, bytes: u32) -> bool {
        let bytes_fit = self.on_their_way_bytes + u64::from(bytes) <= limits::APPEND_BYTES_MAX;
        self.waiting.len() < limits::WAITING_REPLIES_MAX
            && self.on_their_way.len() < limits::APPENDS_MAX
            && (bytes_fit || self.on_their_way.is_empty())
    }

    /// Whether everything proposed is written and answered.
    pub fn is_idle(&self) -> bool {
        self.on_their_way.is_empty() && self.waiting.len() == 0
    }

    /// First offset of the log.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start
    }

    /// The reign.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Offsets below it are committed.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// One past the last offset written.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end
    }

    /// Everything below it is on this broker's disk.
    pub fn durable_end_offset(&self) -> i64 {
        self.durable_end
    }

    /// State of the producers, as of the log's end.
    pub fn producers(&self) -> &Producers {
        self.producers.settled()
    }

    /// Forgets the tasks of a processor that was deleted.
    pub fn forget_processor(&mut self, processor: ProcessorNumber) {
        self.producers.forget_processor(processor);
    }
}
