//! How a task begins: each leadership and each restart is a takeover (STEP-3, STEP-14).

use super::commit::CommitEncoder;
use super::image::TaskImage;
use super::machine::{Task, TaskConfig};
use super::output::{OutputQueue, Queued};
use super::window::Window;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::ids::{LeaderEpoch, TaskProducer, TopicPartition};
use std::collections::{BTreeMap, VecDeque};

/// Why a task can't begin here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TakeoverError {
    /// Us: the processor or task is not the one whose changelog this is, or a number outgrew its bits.
    #[error("the task can't have the producer id of {0:?}")]
    NoProducerId(TaskProducer),
    /// Us: the changelog is of a newer generation or epoch than the one that begins.
    #[error(
        "the changelog is at generation {generation}, epoch {epoch:?}, beyond what begins here: this broker's \
         metadata is behind"
    )]
    Behind {
        /// The changelog's generation.
        generation: u32,
        /// Epoch of its newest commit.
        epoch: Option<LeaderEpoch>,
    },
    /// Us: not the whole log was replayed.
    #[error("the changelog's commits end at {replayed}, beyond its log end {log_end}")]
    LogEnd {
        /// Where the newest commit ends.
        replayed: i64,
        /// Where the log ends.
        log_end: i64,
    },
    /// Disk: commits that may hold outputs nobody has are gone (STEP-13).
    #[error("the changelog lacks commits: its floor is step {floor}, but all are there only from step {seen_from}")]
    MissingSteps {
        /// The newest commit's floor.
        floor: u64,
        /// The first step from which all are there.
        seen_from: u64,
    },
}

impl Task {
    /// Begins an instance under `epoch`, the changelog's leader epoch, on the image of the whole log, whose end is
    /// `log_end`. What is above the image's high watermark is sent only once the high watermark passes it, by whoever
    /// it was appended (STEP-4).
    ///
    /// Feed the image with the high watermark first: commits above it are answered with
    /// [`TaskCommand::ApplyState`](super::TaskCommand::ApplyState) later, so their changes belong into the overlay;
    /// those below it belong into the store. A store that outlived its process holds only what was durable, so its
    /// position's `next_offset` is a lower bound of the high watermark. If `config` names a newer generation than the
    /// image ([`TaskImage::task`]), clear the store and drop the overlay: the task begins anew (STEP-16).
    ///
    /// # Errors
    /// [`TakeoverError`]; the task must not run.
    pub fn take_over(
        config: TaskConfig,
        mut image: TaskImage,
        epoch: LeaderEpoch,
        log_end: i64,
    ) -> Result<Self, TakeoverError> {
        let generation = config.producer.generation;
        let same_task = TaskProducer { generation, ..image.task } == config.producer;
        let producer_id = config.producer.producer_id().filter(|_| same_task);
        let producer_id = producer_id.ok_or(TakeoverError::NoProducerId(config.producer))?;
        if generation < image.task.generation || image.epoch.is_some_and(|newest| epoch < newest) {
            return Err(TakeoverError::Behind { generation: image.task.generation, epoch: image.epoch });
        }
        if image.next_offset > log_end {
            return Err(TakeoverError::LogEnd { replayed: image.next_offset, log_end });
        }
        if generation > image.task.generation {
            image.reset(generation);
        }
        let next_step = image.tip.map_or(0, |tip| tip + 1);
        if image.whole_from() > image.floor {
            return Err(TakeoverError::MissingSteps { floor: image.floor, seen_from: image.whole_from() });
        }
        let (window, outputs) = inherited(&mut image, next_step);
        let mut task = Self {
            encoder: CommitEncoder::new(config.limits.commit_bytes_max),
            config,
            producer_id,
            epoch,
            window,
            outputs,
            recorded_floor: image.floor,
            durable_floor: image.durable_floor,
            pending: image.pending,
            high_watermark: if lacks(Mutant::TrustInheritedTail) { log_end } else { image.high_watermark },
            positions: image.positions,
            stream_time: image.stream_time,
            timestamp: image.timestamp,
            timers: image.timers,
            next_token: 0,
            floor_due_ms: None,
            commands: VecDeque::new(),
            stopped: None,
            #[cfg(test)]
            mutant: None,
        };
        task.pump(0);
        Ok(task)
    }
}

/// Queues everything from floor to tip (STEP-14): the step window, and each output partition's batches.
fn inherited(image: &mut TaskImage, next_step: u64) -> (Window, BTreeMap<TopicPartition, OutputQueue>) {
    let floor = image.floor.min(next_step);
    image.outbox.retain(|(step, _)| match *step {
        _ if lacks(Mutant::ReplayNothing) => false,
        step => step + 1 == next_step || !lacks(Mutant::ReplayLastStepOnly),
    });
    let mut window = Window::new(floor);
    // What is queued of a partition begins where its acknowledged numbers end.
    let mut acknowledged = image.numbers.clone();
    if lacks(Mutant::NumbersRestart) {
        acknowledged.values_mut().for_each(|number| *number = 0);
    }
    for batch in image.outbox.iter().rev().flat_map(|(_, batches)| batches.iter().rev()) {
        acknowledged.insert(batch.output, batch.first);
    }
    let mut outputs: BTreeMap<_, _> =
        acknowledged.into_iter().map(|(output, number)| (output, OutputQueue::new(number))).collect();
    for step in floor..next_step {
        let batches = image.outbox.pop_front_if(|(of_step, _)| *of_step == step).map(|(_, batches)| batches);
        let batches = batches.unwrap_or_default();
        let bytes = batches.iter().map(|batch| batch.bytes.len()).sum();
        // A step's batches are records of one batch, of which there are less than 2^31.
        window.push(batches.len() as u32, bytes);
        for batch in batches {
            let queue = outputs.entry(batch.output).or_insert_with(|| OutputQueue::new(batch.first));
            queue.push(Queued { step, first: batch.first, count: batch.count, bytes: batch.bytes });
        }
    }
    (window, outputs)
}
