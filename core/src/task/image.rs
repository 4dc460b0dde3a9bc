//! What a changelog says about its task: the fold of its commits.

use super::commit::{Commit, CommitRemains, InputPosition, OutboxBatch, Revision};
use super::timers::Timers;
use bytes::Bytes;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::ids::{LeaderEpoch, ProcessorNumber, TaskProducer, TopicPartition};
use std::collections::{BTreeMap, VecDeque};

/// A commit that is not below the changelog's high watermark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Its step.
    pub step: u64,
    /// It is durable when the high watermark has reached this offset; `None` until it was appended.
    pub next_offset: Option<i64>,
    /// The floor it records.
    pub floor: u64,
}

/// Why a commit can't follow those before it. The changelog is damaged, or a broker has a bug: the task stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// Disk or us: another task's commit.
    #[error("the changelog holds a commit of another task")]
    OtherTask,
    /// Disk or us: the commits are not in the order in which they were made.
    #[error("the changelog holds step {step} after step {tip:?}, or of an older epoch or generation (STEP-2)")]
    OutOfOrder {
        /// The commit's step.
        step: u64,
        /// The step before it.
        tip: Option<u64>,
    },
    /// Disk or us: the floor fell.
    #[error("step {step} records the floor {floor}, below the {before} of an earlier step (STEP-12)")]
    FloorFell {
        /// The commit's step.
        step: u64,
        /// Its floor.
        floor: u64,
        /// The floor before.
        before: u64,
    },
    /// Disk or us: the step does not read on where the last one ended (OUT-3).
    #[error("step {step} reads {input} from offset {from}, the step before ended at {position}")]
    InputHole {
        /// The commit's step.
        step: u64,
        /// The input partition.
        input: TopicPartition,
        /// Where it reads from.
        from: i64,
        /// Where the step before ended.
        position: i64,
    },
    /// Disk or us: the step's numbers do not go on where the last one's ended (STEP-8).
    #[error("step {step} writes number {first} to {output}, the next was {next}")]
    NumberHole {
        /// The commit's step.
        step: u64,
        /// The output partition.
        output: TopicPartition,
        /// The number it begins with.
        first: u64,
        /// The number that was next.
        next: u64,
    },
}

/// What a commit meant for the task's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// A new generation begins with this commit: clear the store before its changes are applied (STEP-16).
    pub reset: bool,
}

/// The task's progress as its log tells it, durable or not. Followers may keep one too: it is ready when they lead.
///
/// State changes are not kept here; whoever feeds commits also gives their changes to store and overlay.
#[derive(Clone, Debug)]
pub struct TaskImage {
    pub(super) task: TaskProducer,
    pub(super) tip: Option<u64>,
    /// The newest step of which only remains were seen.
    cleaned_tip: Option<u64>,
    /// Steps from here to the tip have been seen without a hole.
    pub(super) seen_from: u64,
    pub(super) epoch: Option<LeaderEpoch>,
    pub(super) revision: Option<Revision>,
    pub(super) floor: u64,
    pub(super) durable_floor: u64,
    pub(super) next_offset: i64,
    pub(super) high_watermark: i64,
    pub(super) positions: BTreeMap<TopicPartition, InputPosition>,
    pub(super) numbers: BTreeMap<TopicPartition, u64>,
    pub(super) stream_time: Option<i64>,
    pub(super) timestamp: i64,
    pub(super) timers: Timers,
    /// Outputs of the steps from the floor on, for steps that have some.
    pub(super) outbox: VecDeque<(u64, Vec<OutboxBatch>)>,
    pub(super) pending: VecDeque<Pending>,
}

impl TaskImage {
    /// The image of an empty changelog.
    pub fn new(processor: ProcessorNumber, task: u32) -> Self {
        Self::of_generation(TaskProducer { processor, task, generation: 0 })
    }

    pub(super) fn of_generation(task: TaskProducer) -> Self {
        Self {
            task,
            tip: None,
            cleaned_tip: None,
            seen_from: 0,
            epoch: None,
            revision: None,
            floor: 0,
            durable_floor: 0,
            next_offset: 0,
            high_watermark: 0,
            positions: BTreeMap::new(),
            numbers: BTreeMap::new(),
            stream_time: None,
            timestamp: 0,
            timers: Timers::default(),
            outbox: VecDeque::new(),
            pending: VecDeque::new(),
        }
    }

    /// Forgets everything but where the log is: the next commit is the first of `generation`.
    pub(super) fn reset(&mut self, generation: u32) {
        let (next_offset, high_watermark, epoch) = (self.next_offset, self.high_watermark, self.epoch);
        *self = Self::of_generation(TaskProducer { generation, ..self.task });
        (self.next_offset, self.high_watermark, self.epoch) = (next_offset, high_watermark, epoch);
    }

    /// The changelog's high watermark, as far as this broker knows it. It never falls.
    pub fn high_watermark(&mut self, offset: i64) {
        self.high_watermark = self.high_watermark.max(offset);
        let durable = |pending: &mut Pending| pending.next_offset.is_some_and(|next| next <= offset);
        while let Some(pending) = self.pending.pop_front_if(durable) {
            self.durable_floor = pending.floor;
        }
    }

    /// Takes in the next commit of the log, below the high watermark or not.
    ///
    /// # Errors
    /// [`ReplayError`]; the image is as it was.
    pub fn replay(&mut self, commit: &Commit) -> Result<Replayed, ReplayError> {
        let reset = self.check_order(commit)?;
        if reset {
            self.reset(commit.task().generation);
        } else {
            self.check_contents(commit)?;
        }
        let step = commit.step();
        if self.tip.is_none_or(|tip| tip + 1 != step.step) {
            self.seen_from = step.step;
        }
        self.tip = Some(step.step);
        self.epoch = Some(step.epoch);
        self.revision = Some(step.revision);
        self.floor = step.floor;
        self.next_offset = commit.next_offset();
        self.timestamp = commit.timestamp();
        self.positions.extend(commit.positions().iter().copied());
        self.numbers.extend(commit.numbers().iter().copied());
        self.stream_time = self.stream_time.max(commit.stream_time());
        for change in commit.timers() {
            self.timers.apply(change);
        }
        let kept_from = if lacks(Mutant::OutboxTrimmed) { step.floor + 1 } else { step.floor };
        while self.outbox.pop_front_if(|(of_step, _)| *of_step < kept_from).is_some() {}
        if step.floor <= step.step && !commit.outbox().is_empty() {
            self.outbox.push_back((step.step, kept(commit)));
        }
        let pending = Pending { step: step.step, next_offset: Some(self.next_offset), floor: self.floor };
        self.pending.push_back(pending);
        self.high_watermark(self.high_watermark);
        Ok(Replayed { reset })
    }

    /// Takes in what is left of a commit that was cleaned: it lay below the durable floor (STEP-13). Also says which
    /// step it was.
    ///
    /// # Errors
    /// [`ReplayError`]; the image is as it was.
    pub fn replay_remains(&mut self, remains: &CommitRemains) -> Result<(Replayed, u64), ReplayError> {
        let task = remains.task();
        if (TaskProducer { generation: self.task.generation, ..task }) != self.task {
            return Err(ReplayError::OtherTask);
        }
        let reset = task.generation > self.task.generation;
        let after = if reset { None } else { self.tip.max(self.cleaned_tip) };
        let step = remains.step_near(after.map_or(0, |tip| tip + 1));
        let goes_back = task.generation < self.task.generation
            || remains.base_offset() < self.next_offset
            || after.is_some_and(|tip| step <= tip);
        if goes_back {
            return Err(ReplayError::OutOfOrder { step, tip: after });
        }
        if reset {
            self.reset(task.generation);
        }
        self.cleaned_tip = Some(step);
        self.next_offset = remains.next_offset();
        self.positions.extend(remains.positions().iter().copied());
        self.numbers.extend(remains.numbers().iter().copied());
        self.stream_time = self.stream_time.max(remains.stream_time());
        for change in remains.timers() {
            self.timers.apply(change);
        }
        // It is durable, but this broker may not know yet: its high watermark begins anew.
        self.pending.push_back(Pending { step, next_offset: Some(self.next_offset), floor: self.floor });
        self.high_watermark(self.high_watermark);
        Ok((Replayed { reset }, step))
    }

    /// Whether a new generation begins.
    fn check_order(&self, commit: &Commit) -> Result<bool, ReplayError> {
        let (task, step) = (commit.task(), commit.step());
        if (TaskProducer { generation: self.task.generation, ..task }) != self.task {
            return Err(ReplayError::OtherTask);
        }
        let goes_back = task.generation < self.task.generation
            || self.epoch.is_some_and(|epoch| step.epoch < epoch)
            || commit.base_offset() < self.next_offset
            || (task.generation == self.task.generation && self.tip.is_some_and(|tip| step.step <= tip));
        if goes_back {
            return Err(ReplayError::OutOfOrder { step: step.step, tip: self.tip });
        }
        Ok(task.generation > self.task.generation)
    }

    fn check_contents(&self, commit: &Commit) -> Result<(), ReplayError> {
        let step = commit.step();
        let floor_before = self.floor;
        if self.tip.is_some() && step.floor < floor_before {
            return Err(ReplayError::FloorFell { step: step.step, floor: step.floor, before: floor_before });
        }
        // After a hole (cleaning below the durable floor) positions and numbers may have moved unseen.
        if self.tip.is_none_or(|tip| tip + 1 != step.step) {
            return Ok(());
        }
        for range in &step.inputs {
            let before = self.positions.get(&range.input).map(|position| position.next_offset);
            if let Some(position) = before.filter(|position| *position != range.from) {
                let (step, input, from) = (step.step, range.input, range.from);
                return Err(ReplayError::InputHole { step, input, from, position });
            }
        }
        // What decoding has checked: the batches of one partition follow each other, so the lowest counts.
        for (output, next) in commit.numbers() {
            let first = step.outputs.iter().find(|touched| touched.output == *output).map_or(*next, |it| it.first);
            // Of a log that was cleaned in part, the number before may be gone because this one is newer.
            let is_cleaned = self.seen_from > 0 || self.cleaned_tip.is_some();
            let unknown = if is_cleaned { first } else { 0 };
            let next = self.numbers.get(output).copied().unwrap_or(unknown);
            if first != next {
                return Err(ReplayError::NumberHole { step: step.step, output: *output, first, next });
            }
        }
        Ok(())
    }

    /// Newest step, if there is one.
    pub fn tip(&self) -> Option<u64> {
        self.tip
    }

    /// The first step from which all commits are there, whole. A step of which only remains are left counts as gone.
    pub(super) fn whole_from(&self) -> u64 {
        match self.cleaned_tip.filter(|cleaned| self.tip.is_none_or(|tip| tip < *cleaned)) {
            Some(cleaned) => cleaned + 1,
            None => self.seen_from,
        }
    }

    /// One past the newest commit's last offset.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Whose log it is, with the generation of its newest commit.
    pub fn task(&self) -> TaskProducer {
        self.task
    }

    /// The floor that the newest commit records.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The floor that the newest commit below the high watermark records: what may be destroyed ends there (STEP-13).
    pub fn durable_floor(&self) -> u64 {
        self.durable_floor
    }

    /// Where to go on reading, by input partition.
    pub fn positions(&self) -> &BTreeMap<TopicPartition, InputPosition> {
        &self.positions
    }

    /// Commits above the high watermark, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.iter()
    }
}

/// The commit's outputs: as slices of it, or copied where they would keep a mostly useless batch alive.
fn kept(commit: &Commit) -> Vec<OutboxBatch> {
    let outputs = commit.outbox();
    let bytes: usize = outputs.iter().map(|batch| batch.bytes.len()).sum();
    let copies = bytes < commit.size_bytes() / 2;
    let keep = |batch: &OutboxBatch| match copies {
        true => OutboxBatch { bytes: Bytes::copy_from_slice(&batch.bytes), ..batch.clone() },
        false => batch.clone(),
    };
    outputs.iter().map(keep).collect()
}
