//! One task under direct control: tests say what happens to it and look at its commands.

use super::world::{INPUT, OUTPUTS, TASK, config};
use crate::task::commit::{Commit, InputRange, OutputBatch, StateChange};
use crate::task::*;
use bytes::{Bytes, BytesMut};
use headwater_protocol::batch::{BatchBuilder, Compression, RecordBatch, stamp};
use headwater_protocol::ids::LeaderEpoch;

/// A send, as far as tests look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    pub(super) output: usize,
    pub(super) token: u64,
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) bytes: Bytes,
    pub(super) epoch: LeaderEpoch,
}

pub(super) struct Rig {
    pub(super) task: Task,
    pub(super) now_ms: u64,
    /// Every commit that was appended.
    pub(super) log: Vec<Commit>,
    appends: Vec<(u64, LeaderEpoch, BytesMut)>,
    pub(super) sent: Vec<Sent>,
    /// Steps whose state was to be applied, and where their commits end.
    pub(super) applied: Vec<(u64, i64)>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: TaskConfig) -> Self {
        let image = TaskImage::new(TASK.processor, TASK.task);
        Self::of(Task::take_over(config, image, LeaderEpoch(1), 0).unwrap(), Vec::new())
    }

    fn of(task: Task, log: Vec<Commit>) -> Self {
        let (appends, sent, applied) = (Vec::new(), Vec::new(), Vec::new());
        let mut rig = Self { task, now_ms: 0, log, appends, sent, applied };
        rig.poll();
        rig
    }

    /// The image of the log, under a known high watermark.
    pub(super) fn image(&self, high_watermark: i64) -> TaskImage {
        let mut image = TaskImage::new(TASK.processor, TASK.task);
        image.high_watermark(high_watermark);
        for commit in &self.log {
            image.replay(commit).unwrap();
        }
        image
    }

    /// The next instance over the same log.
    pub(super) fn successor(&self, epoch: i32, high_watermark: i64) -> Self {
        let image = self.image(high_watermark);
        let task = Task::take_over(config(), image, LeaderEpoch(epoch), self.log_end()).unwrap();
        Self::of(task, self.log.clone())
    }

    pub(super) fn log_end(&self) -> i64 {
        self.log.last().map_or(0, Commit::next_offset)
    }

    /// A step over the next input record that emits batches: (output, records in it).
    pub(super) fn run(&mut self, batches: &[(usize, u32)]) -> Result<u64, StepError> {
        let run = self.step_run(batches);
        self.run_as(run, &[])
    }

    pub(super) fn step_run(&self, batches: &[(usize, u32)]) -> StepRun {
        let from = self.task.positions().get(&INPUT).map_or(0, |position| position.next_offset);
        let leader_epoch = LeaderEpoch(7);
        let range = InputRange { input: INPUT, from, to: from + 1, leader_epoch, record_count: 1, crc: 0 };
        let mut next = OUTPUTS.map(|output| self.task.next_number(output));
        let outputs = batches
            .iter()
            .map(|(output, count)| {
                let first = next[*output];
                next[*output] += u64::from(*count);
                self.batch(*output, first, *count)
            })
            .collect();
        StepRun { timestamp: 5, inputs: vec![range], outputs, ..StepRun::default() }
    }

    pub(super) fn batch(&self, output: usize, first: u64, count: u32) -> OutputBatch {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..count {
            builder.append(0, None, Some(b"value"), &[]).unwrap();
        }
        let bytes = builder.build(self.task.stamp(first)).unwrap().freeze();
        OutputBatch { output: OUTPUTS[output], first, bytes }
    }

    pub(super) fn run_as(&mut self, run: StepRun, changes: &[StateChange<'_>]) -> Result<u64, StepError> {
        let step = self.task.run_step(self.now_ms, run, changes.iter().copied());
        self.poll();
        step
    }

    pub(super) fn poll(&mut self) {
        self.task.invariants().unwrap();
        while let Some(command) = self.task.poll_command() {
            match command {
                TaskCommand::AppendCommit { step, epoch, bytes } => self.appends.push((step, epoch, bytes)),
                TaskCommand::ApplyState { step, next_offset } => self.applied.push((step, next_offset)),
                TaskCommand::Send { output, token, first, count, bytes, epoch, .. } => {
                    let output = OUTPUTS.iter().position(|known| *known == output).unwrap();
                    self.sent.push(Sent { output, token, first, count, bytes, epoch });
                }
                TaskCommand::Stop(reason) => assert_eq!(self.task.stopped(), Some(&reason)),
            }
        }
    }

    pub(super) fn handle(&mut self, event: TaskEvent) {
        self.task.handle(self.now_ms, event);
        self.poll();
    }

    /// Appends all commits handed out so far.
    pub(super) fn append(&mut self) {
        for (step, epoch, mut bytes) in std::mem::take(&mut self.appends) {
            stamp(&mut bytes, self.log_end(), epoch);
            let commit = Commit::decode(&RecordBatch::decode(bytes.freeze()).unwrap()).unwrap();
            let next_offset = commit.next_offset();
            assert_eq!((commit.step().step, commit.step().epoch), (step, epoch));
            self.log.push(commit);
            self.handle(TaskEvent::CommitAppended { step, next_offset });
        }
    }

    /// Appends all, and all of it is durable.
    pub(super) fn commit(&mut self) {
        self.append();
        self.handle(TaskEvent::ChangelogHighWatermark(self.log_end()));
    }

    pub(super) fn reply(&mut self, output: usize, token: u64, answer: OutputAnswer) {
        self.handle(TaskEvent::OutputReply(OutputReply { output: OUTPUTS[output], token, answer }));
    }

    /// Takes the sends so far: (output, first, count).
    pub(super) fn take_sent(&mut self) -> Vec<(usize, u64, u32)> {
        self.sent.drain(..).map(|sent| (sent.output, sent.first, sent.count)).collect()
    }

    /// Acknowledges every send so far.
    pub(super) fn acknowledge_all(&mut self) {
        while !self.sent.is_empty() {
            let Sent { output, token, first, count, .. } = self.sent.remove(0);
            self.reply(output, token, OutputAnswer::Ok(first + u64::from(count) - 1));
        }
    }

    /// Lets time pass, and meets deadlines.
    pub(super) fn pass(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        if self.task.poll_deadline().is_some_and(|due| due <= self.now_ms) {
            self.handle(TaskEvent::Deadline);
        }
    }

    pub(super) fn floors(&self) -> Vec<u64> {
        self.log.iter().map(|commit| commit.step().floor).collect()
    }
}
