//! How an instance of a task begins: the changelog is read from its start, state and protocol are rebuilt (STEP-14).

use super::driver::Failure;
use super::errors::Trouble;
use super::shadow::Shadow;
use super::surroundings::{Surroundings, TaskGuest};
use super::{Mail, TaskSetting};
use crate::mailbox::Sender;
use crate::partition::{PartitionHandle, PartitionView};
use crate::processor::host::{HostLimits, OutputTopic, TaskHost};
use crate::processor::input::StepInput;
use crate::processor::status::TaskStatus;
use headwater_core::cluster::ProcessorImage;
use headwater_core::task::commit::{Commit, CommitRemains, Revision};
use headwater_core::task::{Task, TaskConfig, TaskEvent, TaskImage, TaskLimits};
use headwater_protocol::batch::RecordBatch;
use headwater_protocol::ids::{TaskProducer, TopicId, TopicPartition};
use headwater_protocol::messages::processor::{ProcessorLimits, TaskError};
use headwater_state::{ChangelogPosition, MemoryStore, Overlay, OverlayLimits, StateChanges, StoreNumber};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of changelog that are read at a time.
const REPLAY_READ_BYTES: usize = 4 << 20;

/// One instance of a task, from its takeover to its end.
pub(super) struct Instance<S: Surroundings> {
    pub(super) surroundings: Arc<S>,
    pub(super) setting: Arc<TaskSetting>,
    pub(super) task: Task,
    pub(super) host: Arc<Mutex<TaskHost>>,
    pub(super) guest: S::Guest,
    /// Code that is compared with it.
    pub(super) shadow: Option<Shadow<S::Guest>>,
    pub(super) changelog: Arc<PartitionHandle>,
    pub(super) inputs: Vec<Arc<PartitionView>>,
    pub(super) input: StepInput,
    /// The input that is looked at first for the next step: each gets its turn.
    pub(super) turn: usize,
    /// Nothing was there when last looked, and no news since.
    pub(super) idle: bool,
    /// What is known of a failure whose culprit is not found yet.
    pub(super) trouble: Trouble,
    /// Records that the error policy left out, and wrote to the dead letter topic.
    pub(super) skipped: u64,
    pub(super) dead_lettered: u64,
    /// An error that the policy dealt with, for `describe`.
    pub(super) noted: Option<TaskError>,
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    /// CPU time that the metric has already.
    pub(super) cpu_us_counted: u64,
    pub(super) mails: Sender<Mail>,
    news: Arc<AtomicBool>,
    listeners: Vec<(Arc<PartitionView>, u64)>,
}

/// Rebuilds a task from its changelog and begins to listen to its inputs.
pub(super) fn take_over<S: Surroundings>(
    surroundings: &Arc<S>,
    setting: &Arc<TaskSetting>,
    mails: &Sender<Mail>,
    now_ms: u64,
) -> Result<Instance<S>, Failure> {
    let processor = &setting.processor;
    let led = |topic: TopicId| {
        let id = TopicPartition { topic, partition: setting.task };
        surroundings.led(id).map_err(|error| Failure::new(format!("broker: {error}")))
    };
    let changelog = led(processor.changelog)?;
    let inputs = processor.inputs.iter().map(|topic| led(*topic).map(|handle| Arc::clone(handle.view())));
    let inputs: Vec<_> = inputs.collect::<Result<_, _>>()?;

    let (task, overlay) = replay(setting, changelog.view())?;
    inputs.iter().try_for_each(|view| check_input(&task, view))?;
    let limits = host_limits(&processor.limits);
    let stores = u32::try_from(processor.stores.len()).unwrap_or(u32::MAX);
    let log = Arc::clone(&setting.log);
    let host = TaskHost::new(setting.task, overlay, stores, outputs(setting)?, limits, log);
    let host = Arc::new(Mutex::new(host));
    let guest = surroundings.load_guest(setting, Arc::clone(&host))?;
    let shadow = Shadow::load(surroundings.as_ref(), setting, &host);

    let news = Arc::new(AtomicBool::new(false));
    let heard = std::iter::once(changelog.view()).chain(&inputs);
    let listeners = heard.map(|view| (Arc::clone(view), listen(view, mails, &news))).collect();
    let mut instance = Instance {
        surroundings: Arc::clone(surroundings),
        setting: Arc::clone(setting),
        task,
        host,
        guest,
        shadow,
        changelog,
        inputs,
        input: StepInput::default(),
        turn: 0,
        idle: false,
        trouble: Trouble::new(processor.limits.records_per_step_max as usize),
        skipped: 0,
        dead_lettered: 0,
        noted: None,
        records_in: 0,
        records_out: 0,
        cpu_us_counted: 0,
        mails: mails.clone(),
        news,
        listeners,
    };
    // The high watermark may have moved between the replay and the first news.
    instance.take_news(now_ms);
    Ok(instance)
}

/// Has the task's thread woken by each high watermark, with one mail at a time.
fn listen(view: &PartitionView, mails: &Sender<Mail>, news: &Arc<AtomicBool>) -> u64 {
    let (mails, news) = (mails.clone(), Arc::clone(news));
    view.listen(Box::new(move |_| {
        if !news.swap(true, Ordering::AcqRel) {
            mails.send_internal(Mail::News);
        }
    }))
}

/// STEP-5: what the task has read must be there. An input that lost its tail (`durability=os` and a power cut) would
/// give the offsets that are in commits already to other records, and those would never be read.
fn check_input(task: &Task, input: &PartitionView) -> Result<(), Failure> {
    let position = task.positions().get(&input.id).map_or(0, |position| position.next_offset);
    let end = input.reader().end_offset();
    if position <= end {
        return Ok(());
    }
    Err(Failure::new(format!(
        "disk: the input {}-{} ends at offset {end}, this task has read up to {position}: the input lost records. \
         Delete the processor and deploy it again to count anew",
        input.topic_name, input.id.partition
    )))
}

/// What the host calls keep to.
pub(super) fn host_limits(limits: &ProcessorLimits) -> HostLimits {
    HostLimits {
        output_bytes_per_step_max: limits.output_bytes_per_step_max,
        log_lines_per_second_max: limits.log_lines_per_second_max,
    }
}

/// What commits say about the code that made them.
pub(super) fn revision(processor: &ProcessorImage) -> Revision {
    Revision { number: processor.revision, module: processor.module.digest }
}

pub(super) fn outputs(setting: &TaskSetting) -> Result<Vec<OutputTopic>, Failure> {
    let topic = |id: &TopicId| {
        let topic = setting.image.topic(*id).ok_or_else(|| Failure::new(format!("output topic {id} is gone")))?;
        Ok(OutputTopic {
            topic: *id,
            partitions: topic.partition_count(),
            batch_bytes_max: topic.settings.max_message_bytes as usize,
        })
    };
    setting.processor.outputs.iter().map(topic).collect()
}

/// STEP-14: every commit of the log, durable or not, in order.
fn replay(setting: &TaskSetting, changelog: &PartitionView) -> Result<(Task, Overlay<MemoryStore>), Failure> {
    let processor = &setting.processor;
    let damaged = |error: &dyn std::fmt::Display| {
        Failure::new(format!("disk: the changelog {}-{} can't be used: {error}", changelog.topic_name, setting.task))
    };
    let mut image = TaskImage::new(processor.number, setting.task);
    let limits = OverlayLimits { state_bytes_max: processor.limits.state_bytes_max, ..OverlayLimits::default() };
    let mut overlay = Overlay::new(MemoryStore::new(), limits);

    // One replica leads itself: its log's end does not move while nobody but this task writes.
    let (high_watermark, log_end) = (changelog.high_watermark(), changelog.reader().end_offset());
    image.high_watermark(high_watermark);
    let mut offset = changelog.log_start_offset();
    while offset < log_end {
        let mut bytes = changelog.reader().read(offset, log_end, REPLAY_READ_BYTES).map_err(|error| damaged(&error))?;
        while let Some(batch) = RecordBatch::split_first(&mut bytes).map_err(|error| damaged(&error))? {
            offset = batch.header().next_offset();
            if CommitRemains::is_cleaned(batch.header()) {
                let remains = CommitRemains::decode(&batch).map_err(|error| damaged(&error))?;
                take_remains(&mut image, &mut overlay, &remains, high_watermark).map_err(|error| damaged(&error))?;
            } else if Commit::is_commit(batch.header()) {
                let commit = Commit::decode(&batch).map_err(|error| damaged(&error))?;
                take_commit(&mut image, &mut overlay, &commit, high_watermark).map_err(|error| damaged(&error))?;
            }
        }
    }
    let config = TaskConfig {
        producer: TaskProducer { processor: processor.number, task: setting.task, generation: processor.generation },
        revision: revision(processor),
        limits: TaskLimits::default(),
    };
    let task = Task::take_over(config, image, changelog.leader_epoch, log_end).map_err(|error| damaged(&error))?;
    Ok((task, overlay))
}

fn take_commit(
    image: &mut TaskImage,
    overlay: &mut Overlay<MemoryStore>,
    commit: &Commit,
    high_watermark: i64,
) -> Result<(), Box<dyn std::error::Error>> {
    let replayed = image.replay(commit)?;
    if replayed.reset {
        let limits = *overlay.limits();
        *overlay = Overlay::new(MemoryStore::new(), limits);
    }
    let mut changes = StateChanges::new();
    for (store, key, value) in commit.shared_changes() {
        changes.insert(StoreNumber(store), key, value);
    }
    let step = commit.step().step;
    overlay.push_inherited(step, changes)?;
    if commit.next_offset() <= high_watermark {
        overlay.settle(ChangelogPosition { next_offset: commit.next_offset(), step })?;
    }
    Ok(())
}

/// What cleaning left of a commit: state, and nothing to send (STEP-13).
fn take_remains(
    image: &mut TaskImage,
    overlay: &mut Overlay<MemoryStore>,
    remains: &CommitRemains,
    high_watermark: i64,
) -> Result<(), Box<dyn std::error::Error>> {
    let (replayed, step) = image.replay_remains(remains)?;
    if replayed.reset {
        let limits = *overlay.limits();
        *overlay = Overlay::new(MemoryStore::new(), limits);
    }
    let mut changes = StateChanges::new();
    for (store, key, value) in remains.shared_changes() {
        changes.insert(StoreNumber(store), key, value);
    }
    overlay.push_inherited(step, changes)?;
    if remains.next_offset() <= high_watermark {
        overlay.settle(ChangelogPosition { next_offset: remains.next_offset(), step })?;
    }
    Ok(())
}

impl<S: Surroundings> Instance<S> {
    /// Whether a step may be run and there may be something to run it on.
    pub(super) fn may_run(&self) -> bool {
        !self.idle && self.task.may_run()
    }

    /// Whether the protocol has ended it.
    pub(super) fn is_stopped(&self) -> bool {
        self.task.stopped().is_some()
    }

    /// When the protocol wants to be called though nothing happens.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        self.task.poll_deadline()
    }

    /// High watermarks moved: those of the changelog and of the inputs are looked at.
    pub(super) fn take_news(&mut self, now_ms: u64) {
        // Cleared first: what moves from here on makes another mail.
        self.news.store(false, Ordering::Release);
        self.idle = false;
        let high_watermark = self.changelog.view().high_watermark();
        self.handle(now_ms, TaskEvent::ChangelogHighWatermark(high_watermark));
    }

    /// Where input number `input` is read on.
    pub(super) fn position(&self, input: usize) -> i64 {
        let Some(view) = self.inputs.get(input) else { return 0 };
        match self.task.positions().get(&view.id) {
            Some(position) => position.next_offset,
            None => {
                let starts = self.setting.processor.from.get(input);
                let start = starts.and_then(|starts| starts.get(self.setting.task as usize));
                start.copied().unwrap_or(0)
            }
        }
    }

    /// Writes down what `describe` shows.
    pub(super) fn describe(&mut self, status: &mut TaskStatus) {
        status.positions.clear();
        status.positions.extend((0..self.inputs.len()).map(|input| self.position(input)));
        status.steps = self.task.next_step();
        status.records_in = self.records_in;
        status.records_out = self.records_out;
        status.state_bytes = self.host.lock().overlay().state_bytes();
        status.memory_bytes = self.guest.memory_bytes();
        status.cpu_us = self.guest.cpu_us();
        status.restarts = self.guest.restarts();
        status.shadow = self.shadow.as_ref().map(Shadow::report);
        status.skipped = self.skipped;
        status.dead_lettered = self.dead_lettered;
        if let Some(noted) = self.noted.take() {
            status.last_error = Some(noted);
        }
    }
}

impl<S: Surroundings> Drop for Instance<S> {
    fn drop(&mut self) {
        for (view, listener) in self.listeners.drain(..) {
            view.unlisten(listener);
        }
    }
}
