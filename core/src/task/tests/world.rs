//! A task, its changelog, its input and two output partitions, with everything that can go wrong between them.
//!
//! ```text
//!   input ──► owner (and zombies of earlier epochs) ──► changelog: durable part │ tail that a failover may lose
//!                 │ sends stay in the network: any may arrive at any time, again and again, or never
//!                 ▼
//!             outputs: visible part │ tail that a failover may lose
//! ```

mod checks;
mod outputs;

use super::Mutant;
use crate::producer::{Admission, PartitionKind, Producers, Verdict};
use crate::task::commit::{Commit, InputRange, OutputBatch, Revision, StateChange};
use crate::task::*;
use bytes::{Bytes, BytesMut};
use headwater_protocol::batch::{BatchBuilder, BatchHeader, BatchLimits, Compression, RecordBatch, stamp};
use headwater_protocol::ids::{LeaderEpoch, ModuleDigest, ProcessorNumber, TaskProducer, TopicId, TopicPartition};
use headwater_state::{ChangelogPosition, MemoryStore, Overlay, OverlayLimits, StateStore, StoreNumber};
use outputs::OutputLog;
use std::collections::{BTreeMap, VecDeque};

pub(super) const INPUT: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };
pub(super) const OUTPUTS: [TopicPartition; 2] = [
    TopicPartition { topic: TopicId([2; 16]), partition: 0 },
    TopicPartition { topic: TopicId([2; 16]), partition: 1 },
];
pub(super) const TASK: TaskProducer = TaskProducer { processor: ProcessorNumber(1), task: 0, generation: 0 };
const STORE: StoreNumber = StoreNumber(0);
const SUM: &[u8] = b"sum";

pub(super) fn config() -> TaskConfig {
    let revision = Revision { number: 1, module: ModuleDigest([1; 32]) };
    TaskConfig { producer: TASK, revision, limits: TaskLimits::default() }
}

/// One instance: the owner, or an older one that does not know yet.
pub(super) struct Instance {
    pub(super) task: Task,
    pub(super) overlay: Overlay<MemoryStore>,
    to_append: VecDeque<(u64, LeaderEpoch, BytesMut)>,
    /// What a deposed owner can know of the high watermark.
    high_watermark_max: i64,
}

/// A commit in the changelog.
pub(super) struct Appended {
    header: BatchHeader,
    pub(super) commit: Commit,
    /// What it writes to each output.
    values: [Vec<String>; 2],
}

impl Appended {
    fn new(header: BatchHeader, commit: Commit) -> Self {
        let values = OUTPUTS.map(|output| {
            let batches = commit.outbox().iter().filter(|batch| batch.output == output);
            batches.flat_map(|batch| values_of(&batch.bytes)).collect()
        });
        Self { header, commit, values }
    }
}

/// The values of a batch's records.
fn values_of(batch: &Bytes) -> Vec<String> {
    let records = RecordBatch::decode(batch.clone()).unwrap().records(&BatchLimits::CLIENT).unwrap();
    records.iter().map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()).collect()
}

/// A send on its way.
#[derive(Clone)]
pub(super) struct Message {
    instance: usize,
    pub(super) output: usize,
    token: u64,
    first: u64,
    count: u32,
    bytes: Bytes,
    generation: u32,
    epoch: LeaderEpoch,
    pub(super) arrived: bool,
}

pub(super) struct World {
    pub(super) without: Option<Mutant>,
    pub(super) now_ms: u64,
    pub(super) input: Vec<u64>,
    pub(super) input_durable: usize,
    pub(super) changelog: Vec<Appended>,
    /// Commits below the changelog's high watermark.
    pub(super) durable: usize,
    epoch: LeaderEpoch,
    commits: Producers,
    pub(super) instances: Vec<Instance>,
    pub(super) network: Vec<Message>,
    pub(super) replies: VecDeque<(usize, OutputReply)>,
    pub(super) outputs: [OutputLog; 2],
    /// Makes every run of the guest different: the inline form does not need determinism.
    runs: u64,
    /// What has happened how often.
    pub(super) seen: BTreeMap<&'static str, u32>,
}

/// What a checker found.
pub(super) type Checked = Result<(), String>;

impl World {
    pub(super) fn new(without: Option<Mutant>) -> Self {
        let mut world = Self {
            without,
            now_ms: 0,
            input: Vec::new(),
            input_durable: 0,
            changelog: Vec::new(),
            durable: 0,
            epoch: LeaderEpoch(0),
            commits: Producers::new(PartitionKind::Changelog),
            instances: Vec::new(),
            network: Vec::new(),
            replies: VecDeque::new(),
            outputs: [OutputLog::new(), OutputLog::new()],
            runs: 0,
            seen: BTreeMap::new(),
        };
        world.begin(MemoryStore::new(), 0);
        world
    }

    pub(super) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(super) fn owner(&self) -> usize {
        self.instances.len() - 1
    }

    pub(super) fn task(&self) -> &Task {
        &self.instances[self.owner()].task
    }

    /// The changelog's true high watermark.
    pub(super) fn high_watermark(&self) -> i64 {
        self.durable.checked_sub(1).map_or(0, |last| self.changelog[last].commit.next_offset())
    }

    fn log_end(&self) -> i64 {
        self.changelog.last().map_or(0, |appended| appended.commit.next_offset())
    }

    /// A takeover that knows the high watermark as `known`, with the store that its broker has.
    fn begin(&mut self, mut store: MemoryStore, known: i64) {
        // What is in the store is durable, so the high watermark is at least there.
        let known = known.max(store.position().map_or(0, |position| position.next_offset));
        let mut image = TaskImage::new(TASK.processor, TASK.task);
        image.high_watermark(known);
        let mut tail = Vec::new();
        for Appended { commit, .. } in &self.changelog {
            image.replay(commit).unwrap();
            let step = commit.step().step;
            if store.position().is_some_and(|position| position.step >= step) {
                continue;
            }
            let mut changes = headwater_state::StateChanges::new();
            changes.extend(commit.shared_changes().map(|(store, key, value)| (StoreNumber(store), key, value)));
            let next_offset = commit.next_offset();
            if next_offset <= known {
                store.apply(&changes, ChangelogPosition { next_offset, step }).unwrap();
            } else {
                tail.push((step, changes));
            }
        }
        let mut overlay = Overlay::new(store, OverlayLimits::default());
        for (step, changes) in tail {
            overlay.push_inherited(step, changes).unwrap();
        }
        self.break_takeover(&mut image);
        self.seen.entry("inherited outputs").and_modify(|seen| *seen += image.outbox.len() as u32).or_default();
        self.seen.entry("inherited tail").and_modify(|seen| *seen += image.pending.len() as u32).or_default();
        let mut task = Task::take_over(config(), image, self.epoch, self.log_end()).unwrap();
        task.mutant = self.without;
        let to_append = VecDeque::new();
        self.instances.push(Instance { task, overlay, to_append, high_watermark_max: i64::MAX });
        self.pump(self.owner());
    }

    fn break_takeover(&self, image: &mut TaskImage) {
        let tip = image.tip.unwrap_or(0);
        match self.without {
            Some(Mutant::TrustInheritedTail) => image.pending.clear(),
            Some(Mutant::ReplayNothing) => {
                image.outbox.clear();
                image.floor = image.tip.map_or(0, |tip| tip + 1);
            }
            Some(Mutant::ReplayLastStep) => {
                image.outbox.retain(|(step, _)| *step == tip);
                image.floor = image.floor.max(tip);
            }
            _ => {}
        }
    }

    /// The guest: one output a record, to the partition that the record names; state is the sum.
    pub(super) fn run(&mut self, instance: usize, records: usize) -> Checked {
        let readable = match self.without {
            Some(Mutant::ReadAboveHighWatermark) => self.input.len(),
            _ => self.input_durable,
        };
        let Instance { task, overlay, .. } = &mut self.instances[instance];
        let from = task.positions().get(&INPUT).map_or(0, |position| position.next_offset);
        let to = (from + records as i64).min(readable as i64);
        if !task.may_run() || from >= to {
            return Ok(());
        }
        self.runs += 1;
        let mut sum = 0;
        let mut found =
            |value: Option<&[u8]>| sum = value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()));
        overlay.get_many(STORE, &mut std::iter::once(SUM), &mut found).unwrap();
        let mut emitted: [Vec<String>; 2] = [Vec::new(), Vec::new()];
        for record in &self.input[from as usize..to as usize] {
            sum += record;
            // Some records emit nothing, some twice.
            let times = [1, 1, 0, 2][(*record % 4) as usize];
            for _ in 0..times {
                emitted[(*record % 2) as usize].push(format!("{record} sum {sum} of {from}..{to} run {}", self.runs));
            }
        }
        let outputs = framed(task, &emitted);
        overlay.put_many(STORE, [(Bytes::from_static(SUM), Some(Bytes::copy_from_slice(&sum.to_be_bytes())))]).unwrap();
        let range = InputRange {
            input: INPUT,
            from,
            to,
            leader_epoch: LeaderEpoch(0),
            record_count: (to - from) as u32,
            crc: 0,
        };
        let run = StepRun { timestamp: self.now_ms as i64, inputs: vec![range], outputs, ..StepRun::default() };
        let changes = overlay.open_changes().iter();
        let changes = changes.map(|it| StateChange { store: it.store.0, key: it.key, value: it.value });
        let step = task.run_step(self.now_ms, run, changes).unwrap();
        overlay.push(step).map_err(|error| error.to_string())?;
        self.pump(instance);
        self.check()
    }

    /// Runs an instance's commands.
    pub(super) fn pump(&mut self, instance: usize) {
        let Instance { task, overlay, to_append, .. } = &mut self.instances[instance];
        while let Some(command) = task.poll_command() {
            match command {
                TaskCommand::AppendCommit { step, epoch, bytes } => to_append.push_back((step, epoch, bytes)),
                TaskCommand::ApplyState { step, next_offset } => {
                    // A mutant that runs ahead may find its layer not pushed yet: the position moves all the same.
                    drop(overlay.settle(ChangelogPosition { next_offset, step }));
                }
                TaskCommand::Send { output, token, first, count, bytes, generation, epoch } => {
                    let output = OUTPUTS.iter().position(|known| *known == output).unwrap();
                    let arrived = false;
                    let message = Message { instance, output, token, first, count, bytes, generation, epoch, arrived };
                    self.network.push(message);
                }
                TaskCommand::Stop(_) => {}
            }
        }
    }

    pub(super) fn handle(&mut self, instance: usize, event: TaskEvent) -> Checked {
        self.instances[instance].task.handle(self.now_ms, event);
        self.pump(instance);
        self.check()
    }

    /// The instance's oldest commit reaches the changelog's leader (STEP-2).
    pub(super) fn append(&mut self, instance: usize) -> Checked {
        let Some((step, epoch, mut bytes)) = self.instances[instance].to_append.pop_front() else { return Ok(()) };
        let header = BatchHeader::decode(&bytes).unwrap();
        let verdict = match self.without {
            Some(Mutant::StaleAppend) => Verdict::Append,
            _ => self.commits.check(Admission::TaskCommit { epoch, step }, &header, self.epoch),
        };
        if let Verdict::Append = verdict {
            let base_offset = self.log_end();
            stamp(&mut bytes, base_offset, self.epoch);
            let batch = RecordBatch::decode(bytes.freeze()).unwrap();
            let commit = Commit::decode(&batch).unwrap();
            let next_offset = commit.next_offset();
            self.commits.observe(&header, base_offset);
            self.changelog.push(Appended::new(header, commit));
            if self.changelog.last().is_some_and(|appended| appended.commit.step().inputs.is_empty()) {
                self.saw("empty commit for the floor");
            }
            return self.handle(instance, TaskEvent::CommitAppended { step, next_offset });
        }
        self.saw("commit of an old owner refused");
        self.handle(instance, TaskEvent::CommitRefused { step, reason: format!("{verdict:?}") })
    }

    /// The oldest undurable commit becomes durable; nobody is told.
    pub(super) fn commit_durable(&mut self) -> Checked {
        self.durable = (self.durable + 1).min(self.changelog.len());
        self.check()
    }

    /// An instance learns of the high watermark, as far as it can.
    pub(super) fn tell(&mut self, instance: usize) -> Checked {
        let offset = self.high_watermark().min(self.instances[instance].high_watermark_max);
        self.handle(instance, TaskEvent::ChangelogHighWatermark(offset))
    }

    /// Another owner: `kept` commits of the undurable tail survive. It knows `behind` commits less of the high
    /// watermark; it has the old owner's store or none.
    pub(super) fn failover(&mut self, kept: usize, behind: usize, keeps_store: bool, new_epoch: bool) -> Checked {
        let known = self.durable.saturating_sub(behind);
        let known = known.checked_sub(1).map_or(0, |last| self.changelog[last].commit.next_offset());
        let high_watermark = self.high_watermark();
        self.changelog.truncate(self.durable + kept);
        self.epoch = LeaderEpoch(self.epoch.0 + i32::from(new_epoch));
        self.commits = Producers::new(PartitionKind::Changelog);
        for Appended { header, commit, .. } in &self.changelog {
            self.commits.observe(header, commit.base_offset());
        }
        let owner = self.owner();
        let old = &mut self.instances[owner];
        old.high_watermark_max = old.high_watermark_max.min(high_watermark);
        let store = std::mem::replace(&mut old.overlay, Overlay::new(MemoryStore::new(), OverlayLimits::default()));
        if !new_epoch {
            // The same process again: what it had not handed over is gone, and so is its memory.
            old.to_append.clear();
            old.task.handle(self.now_ms, TaskEvent::CommitRefused { step: 0, reason: "crashed".to_owned() });
        }
        self.saw(if new_epoch { "failover" } else { "restart in the same epoch" });
        self.begin(if keeps_store { store.into_store() } else { MemoryStore::new() }, known);
        self.check()
    }

    /// Time passes.
    pub(super) fn tick(&mut self, by_ms: u64) -> Checked {
        self.now_ms += by_ms;
        for instance in 0..self.instances.len() {
            let due = self.instances[instance].task.poll_deadline();
            if due.is_some_and(|due| due <= self.now_ms) {
                self.handle(instance, TaskEvent::Deadline)?;
            }
        }
        Ok(())
    }
}

/// Batches of at most two records, numbered and stamped.
fn framed(task: &Task, emitted: &[Vec<String>; 2]) -> Vec<OutputBatch> {
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new(Compression::None);
    for (output, values) in OUTPUTS.into_iter().zip(emitted) {
        let mut first = task.next_number(output);
        for values in values.chunks(2) {
            for value in values {
                builder.append(0, None, Some(value.as_bytes()), &[]).unwrap();
            }
            let bytes = builder.build(task.stamp(first)).unwrap().freeze();
            batches.push(OutputBatch { output, first, bytes });
            first += values.len() as u64;
        }
    }
    batches
}
