//! The only code that touches a leader and its log: events in, commands run, dirty logs into a flush round.
//!
//! ```text
//!   events ──► handle ─► poll_command ─┬► Append: stamp, write(2) ──► Appended ─┐
//!      ▲                               ├► Flush: into the next flush round      │ handled at once
//!      │                               ├► HighWatermark: shown to readers       │
//!      │                               └► Reply: the waiter is told             │
//!      └── Flushed, once the round's job has run       ◄────────────────────────┘
//! ```
//!
//! It has neither thread nor queue: those are the shell's (`driver_thread`), or the simulator's.

use super::open::log_config;
use super::shared::PartitionView;
use crate::fail_point::{FailPoint, reached};
use crate::metrics as names;
use bytes::BytesMut;
use headwater_core::cluster::TopicSettings;
use headwater_core::invariant::Violation;
use headwater_core::producer::{Admission, PartitionKind};
use headwater_core::replica::{
    AppendFailure, Cleanable, Command, Event, Leader, Outcome, Proposal, Refusal, ReplyToken,
};
use headwater_log::{FlushJob, FlushResult, Log, LogError, TrimJob};
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, stamp};
use headwater_protocol::ids::{LeaderEpoch, ProcessorNumber};
use headwater_protocol::messages::records::Acks;
use headwater_transport::BudgetPermit;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Names a partition within its driver; never used again after a removal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u64);

/// Told once what became of a proposal, on the driver's thread: it must only pass the news on.
pub type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// A batch to append: checked to its last record, in a buffer nobody else refers to.
pub struct ProposedBatch {
    /// Its header.
    pub header: BatchHeader,
    /// The whole batch, header included.
    pub bytes: BytesMut,
    /// What the reply waits for.
    pub acks: Acks,
    /// Who proposes.
    pub admission: Admission,
    /// The bytes' share of the broker's request budget, given back with the reply.
    pub permit: Option<BudgetPermit>,
    /// Told what became of it.
    pub reply: Reply,
}

/// Told once what became of a new log start, on the driver's thread: what is left to do, or why it stays.
pub type TrimReply = Box<dyn FnOnce(Result<TrimJob, Refusal>) + Send>;

/// A log start to move.
pub struct TrimRequest {
    /// The new start; not above the high watermark, or that counts.
    pub to: i64,
    /// Now, ms since the Unix epoch.
    pub timestamp: i64,
    /// Told what became of it.
    pub reply: TrimReply,
}

/// Told once what may be cleaned, on the driver's thread.
pub type CleanReply = Box<dyn FnOnce(Result<Cleanable, Refusal>) + Send>;

/// What a driver is told.
pub enum DriverEvent {
    /// Lead this partition from now on.
    Adopt(Slot, Box<LedPartition>),
    /// Append this.
    Propose(Slot, ProposedBatch),
    /// A flush job ended.
    Flushed(Slot, FlushResult),
    /// Let the log begin later.
    Trim(Slot, TrimRequest),
    /// The cleaner asks what it may clean.
    Clean(Slot, CleanReply),
    /// The topic's settings changed.
    Configure(Slot, Box<TopicSettings>),
    /// A processor is deleted: partitions need not remember its tasks (STEP-11).
    ForgetProcessor(ProcessorNumber),
    /// Stop leading: finish what is here, then hand the log to `then`.
    Release(Slot, Box<dyn FnOnce(Log) + Send>),
    /// End once every partition has been released.
    Stop,
}

/// Pause before a flush that found the disk full is tried again.
const FLUSH_RETRY_MS: u64 = 1000;

/// A leader, its log and who waits for it.
pub struct LedPartition {
    /// Decides.
    pub leader: Leader,
    /// Stores.
    pub log: Log,
    /// What readers see.
    pub view: Arc<PartitionView>,
    kind: PartitionKind,
    pending: HashMap<ReplyToken, Pending>,
    next_token: u64,
    flushing: bool,
    release: Option<Box<dyn FnOnce(Log) + Send>>,
    /// Who waits for a new log start; one at a time.
    trim: Option<TrimReply>,
    /// The cleaner waits to hear what may be cleaned.
    clean: Option<CleanReply>,
}

struct Pending {
    batch: Option<BytesMut>,
    permit: Option<BudgetPermit>,
    reply: Reply,
}

impl LedPartition {
    /// A partition that nobody waits for yet.
    #[must_use]
    pub fn new(leader: Leader, log: Log, view: Arc<PartitionView>, kind: PartitionKind) -> Self {
        Self {
            leader,
            log,
            view,
            kind,
            pending: HashMap::new(),
            next_token: 0,
            flushing: false,
            release: None,
            trim: None,
            clean: None,
        }
    }

    fn propose(&mut self, now_ms: u64, proposed: ProposedBatch) {
        let token = ReplyToken(self.next_token);
        self.next_token += 1;
        let ProposedBatch { header, bytes, acks, admission, permit, reply } = proposed;
        let length = bytes.len() as u32;
        self.pending.insert(token, Pending { batch: Some(bytes), permit, reply });
        let proposal = Proposal { token, header, bytes: length, acks, admission };
        self.leader.handle(now_ms, Event::Propose(proposal));
    }

    fn configure(&mut self, now_ms: u64, settings: &TopicSettings) {
        // Metadata takes no setting that the log would refuse.
        if let Err(error) = self.log.set_config(log_config(settings)) {
            tracing::error!(partition = %self.view.id, %error, "a setting does not fit the log: this broker has a bug");
        }
        let TopicSettings { durability, min_insync_replicas, .. } = *settings;
        self.leader.handle(now_ms, Event::Configured { durability, min_insync_replicas });
    }

    /// Runs every command; returns whether the log wants to be flushed.
    fn run_commands(&mut self, now_ms: u64) -> bool {
        let (mut flush, mut written) = (false, None);
        loop {
            match self.leader.poll_command() {
                Some(Command::Append { token, base_offset, leader_epoch }) => {
                    match self.append(token, base_offset, leader_epoch) {
                        Ok(next_offset) => written = Some(next_offset),
                        Err(error) => {
                            self.appended(now_ms, written.take());
                            self.append_failed(now_ms, &error);
                        }
                    }
                }
                Some(Command::AppendCheckpoint { checkpoint, timestamp, base_offset, leader_epoch }) => {
                    let written_now = checkpoint.batch(timestamp).map_err(LogError::from).and_then(|(_, mut batch)| {
                        stamp(&mut batch, base_offset, leader_epoch);
                        self.log.append(batch.freeze())
                    });
                    match written_now {
                        Ok(position) => written = Some(position.next_offset),
                        Err(error) => {
                            self.appended(now_ms, written.take());
                            self.append_failed(now_ms, &error);
                        }
                    }
                }
                Some(Command::Trim(to)) => {
                    self.appended(now_ms, written.take());
                    self.trim_log(now_ms, to);
                }
                Some(Command::TrimRefused(refusal)) => self.answer_trim(Err(refusal)),
                Some(Command::Cleanable) => {
                    if let Some(cleanable) = self.leader.take_cleanable() {
                        self.answer_clean(Ok(cleanable));
                    }
                }
                Some(Command::CleanRefused(refusal)) => self.answer_clean(Err(refusal)),
                Some(Command::Flush) => flush = true,
                Some(Command::HighWatermark(offset)) => self.view.set_high_watermark(offset),
                Some(Command::Reply { token, outcome }) => self.reply(token, outcome),
                // Appends in a row are reported together.
                None if written.is_some() => self.appended(now_ms, written.take()),
                None => return flush,
            }
        }
    }

    fn trim(&mut self, now_ms: u64, request: TrimRequest) {
        let TrimRequest { to, timestamp, reply } = request;
        if self.trim.is_some() {
            return reply(Err(Refusal::Busy));
        }
        self.trim = Some(reply);
        self.leader.handle(now_ms, Event::Trim { to, timestamp });
    }

    fn trim_log(&mut self, now_ms: u64, to: i64) {
        match self.log.trim(to) {
            Ok(job) => {
                self.leader.handle(now_ms, Event::Trimmed { log_start: job.log_start_offset() });
                self.answer_trim(Ok(job));
            }
            Err(error) => {
                tracing::error!(partition = %self.view.id, %error, "the log's start could not be moved");
                let failure = append_failure(&error);
                self.answer_trim(Err(failure.into()));
                if matches!(error, LogError::DirectoryFailed(_)) {
                    self.leader.handle(now_ms, Event::StorageFailed);
                }
            }
        }
    }

    fn answer_trim(&mut self, outcome: Result<TrimJob, Refusal>) {
        match self.trim.take() {
            Some(reply) => reply(outcome),
            None => unreachable_state(&self.view, "a new log start nobody asked for"),
        }
    }

    fn ask_cleanable(&mut self, now_ms: u64, reply: CleanReply) {
        if self.clean.is_some() {
            return reply(Err(Refusal::Busy));
        }
        self.clean = Some(reply);
        self.leader.handle(now_ms, Event::Clean);
    }

    fn answer_clean(&mut self, outcome: Result<Cleanable, Refusal>) {
        match self.clean.take() {
            Some(reply) => reply(outcome),
            None => unreachable_state(&self.view, "a cleaner that nobody is"),
        }
    }

    fn appended(&mut self, now_ms: u64, written: Option<i64>) {
        if let Some(next_offset) = written {
            self.leader.handle(now_ms, Event::Appended { next_offset });
        }
    }

    /// Stamps and writes one batch; returns the offset behind it.
    fn append(&mut self, token: ReplyToken, base_offset: i64, leader_epoch: LeaderEpoch) -> Result<i64, LogError> {
        // A proposal has its batch until it is appended; without one the log refuses and the leader takes it back.
        let mut batch = self.pending.get_mut(&token).and_then(|pending| pending.batch.take()).unwrap_or_default();
        debug_assert!(batch.len() >= BATCH_HEADER_BYTES);
        if batch.len() >= BATCH_HEADER_BYTES {
            stamp(&mut batch, base_offset, leader_epoch);
        }
        let bytes = batch.len() as u64;
        let position = self.log.append(batch.freeze())?;
        metrics::counter!(names::APPENDED_BYTES).increment(bytes);
        metrics::counter!(names::APPENDED_BATCHES).increment(1);
        if self.kind == PartitionKind::Changelog {
            reached(FailPoint::AfterCommitAppend);
        }
        Ok(position.next_offset)
    }

    fn append_failed(&mut self, now_ms: u64, error: &LogError) {
        tracing::error!(partition = %self.view.id, topic = %self.view.topic_name, %error, "an append failed");
        self.leader.handle(now_ms, Event::AppendFailed(append_failure(error)));
        if matches!(error, LogError::DirectoryFailed(_)) {
            self.leader.handle(now_ms, Event::StorageFailed);
        }
    }

    fn reply(&mut self, token: ReplyToken, outcome: Outcome) {
        match self.pending.remove(&token) {
            Some(Pending { permit, reply, .. }) => {
                drop(permit);
                reply(outcome);
            }
            None => unreachable_state(&self.view, "a reply nobody waits for"),
        }
    }

    /// Takes in a flush's result; whether the flush has to be tried again later.
    fn flushed(&mut self, now_ms: u64, result: FlushResult) -> bool {
        self.flushing = false;
        match self.log.complete_flush(result) {
            Ok(durable) => {
                metrics::counter!(names::FLUSHED_LOGS).increment(1);
                self.leader.handle(now_ms, Event::Flushed { next_offset: durable.next_offset() });
                false
            }
            // A file beside the log did not fit on the disk; nothing is lost and nothing is promised yet.
            Err(error @ LogError::DiskFull(_)) => {
                tracing::warn!(partition = %self.view.id, %error, "a flush waits for space");
                true
            }
            Err(error) => {
                // LOG-7: never again a promise from this directory.
                tracing::error!(partition = %self.view.id, %error, "a flush failed: the data directory is out of use");
                self.leader.handle(now_ms, Event::StorageFailed);
                false
            }
        }
    }

    /// Keeps what is known of producers when it is time to: after a roll, after many bytes, and at the end. Whether it
    /// did, so that a flush has to write it.
    fn keep_snapshot(&mut self) -> bool {
        let is_due = self.log.wants_snapshot() || (self.is_finished() && self.log.has_outgrown_snapshot());
        // Only what is in the log; what is on its way may never get there.
        let is_due = is_due && self.leader.log_end_offset() == self.log.log_end_offset();
        if is_due {
            self.log.keep_snapshot(self.leader.producers().snapshot());
        }
        is_due
    }

    /// Whether a partition that is to be released has nothing left to do.
    fn is_finished(&self) -> bool {
        self.release.is_some() && self.leader.is_idle() && !self.flushing
    }
}

fn append_failure(error: &LogError) -> AppendFailure {
    match error {
        LogError::DiskFull(_) => AppendFailure::DiskFull,
        _ => AppendFailure::Storage,
    }
}

fn unreachable_state(view: &PartitionView, what: &str) {
    debug_assert!(false, "{}: {what}", view.id);
    tracing::error!(partition = %view.id, what, "this broker has a bug");
}

/// Drives its share of a broker's partitions. Whoever owns it brings it events, calls [`Self::turn`] after them, runs
/// the flush jobs that come out, and brings their results back as [`DriverEvent::Flushed`].
#[derive(Default)]
pub struct PartitionDriver {
    partitions: HashMap<Slot, LedPartition>,
    touched: BTreeSet<Slot>,
    dirty: BTreeSet<Slot>,
    /// Flushes to be tried again, by the time at which.
    delayed: BTreeSet<(u64, Slot)>,
    stopping: bool,
}

impl PartitionDriver {
    /// A driver without partitions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether [`DriverEvent::Stop`] has come and every partition has been released.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stopping && self.partitions.is_empty()
    }

    /// When to call [`Self::turn`] though nothing happens.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<u64> {
        self.delayed.first().map(|(at_ms, _)| *at_ms)
    }

    /// Carries out what follows from the events handled since the last turn. Gives the jobs of a flush round: all logs
    /// that became dirty since the last round are synced together.
    #[must_use = "nothing is durable before these have run"]
    pub fn turn(&mut self, now_ms: u64) -> Vec<(Slot, FlushJob)> {
        for slot in std::mem::take(&mut self.touched) {
            self.run_commands(now_ms, slot);
        }
        while self.poll_deadline().is_some_and(|at_ms| at_ms <= now_ms)
            && let Some((_, slot)) = self.delayed.pop_first()
        {
            self.dirty.insert(slot);
        }
        let mut jobs = Vec::new();
        for slot in std::mem::take(&mut self.dirty) {
            let Some(partition) = self.partitions.get_mut(&slot) else { continue };
            if let Some(job) = partition.log.begin_flush() {
                partition.flushing = true;
                jobs.push((slot, job));
            }
        }
        jobs
    }

    /// Checks the whole state of every leader, for tests and the simulator.
    ///
    /// # Errors
    /// What does not hold.
    pub fn invariants(&self) -> Result<(), Violation> {
        self.partitions.values().try_for_each(|partition| partition.leader.invariants())
    }

    /// Takes in an event; what follows from it is carried out by [`Self::turn`]. `now_ms` must not go back.
    pub fn handle(&mut self, now_ms: u64, event: DriverEvent) {
        match event {
            DriverEvent::Adopt(slot, partition) => {
                self.partitions.insert(slot, *partition);
                self.touched.insert(slot);
            }
            DriverEvent::Propose(slot, proposed) => match self.partitions.get_mut(&slot) {
                Some(partition) => {
                    partition.propose(now_ms, proposed);
                    self.touched.insert(slot);
                }
                None => (proposed.reply)(Outcome::Refused(Refusal::Closing)),
            },
            DriverEvent::Flushed(slot, result) => {
                if let Some(partition) = self.partitions.get_mut(&slot) {
                    if partition.flushed(now_ms, result) {
                        self.delayed.insert((now_ms + FLUSH_RETRY_MS, slot));
                    }
                    self.touched.insert(slot);
                }
            }
            DriverEvent::Trim(slot, request) => match self.partitions.get_mut(&slot) {
                Some(partition) => {
                    partition.trim(now_ms, request);
                    self.touched.insert(slot);
                }
                None => (request.reply)(Err(Refusal::Closing)),
            },
            DriverEvent::Clean(slot, reply) => match self.partitions.get_mut(&slot) {
                Some(partition) => {
                    partition.ask_cleanable(now_ms, reply);
                    self.touched.insert(slot);
                }
                None => reply(Err(Refusal::Closing)),
            },
            DriverEvent::Configure(slot, settings) => {
                if let Some(partition) = self.partitions.get_mut(&slot) {
                    partition.configure(now_ms, &settings);
                    self.touched.insert(slot);
                }
            }
            DriverEvent::ForgetProcessor(processor) => {
                for partition in self.partitions.values_mut() {
                    partition.leader.forget_processor(processor);
                }
            }
            DriverEvent::Release(slot, then) => {
                if let Some(partition) = self.partitions.get_mut(&slot) {
                    partition.leader.handle(now_ms, Event::Close);
                    partition.release = Some(then);
                    self.touched.insert(slot);
                }
            }
            DriverEvent::Stop => self.stopping = true,
        }
    }

    fn run_commands(&mut self, now_ms: u64, slot: Slot) {
        let Some(partition) = self.partitions.get_mut(&slot) else { return };
        if partition.run_commands(now_ms) {
            self.dirty.insert(slot);
        }
        if partition.keep_snapshot() {
            self.dirty.insert(slot);
        }
        let finished = partition.is_finished() && !self.dirty.contains(&slot);
        if finished && let Some(mut partition) = self.partitions.remove(&slot) {
            partition.view.close();
            if let Some(then) = partition.release.take() {
                then(partition.log);
            }
        }
    }
}
