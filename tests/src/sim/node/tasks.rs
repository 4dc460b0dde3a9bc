//! Tasks on a broker: started, swapped, paused and ended as metadata says.

use super::{Broker, Handles};
use crate::sim::guest::{SimGuest, Trap};
use headwater_broker::drive::{
    Failure, Mail, Now, PartitionHandle, ProcessorLog, Receiver, Sender, Surroundings, TaskDriver, TaskHost,
    TaskSetting, TaskStatus, mailbox,
};
use headwater_core::cluster::{ClusterImage, ProcessorImage};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{PartitionEpoch, TopicPartition};
use headwater_protocol::messages::processor::TaskState;
use parking_lot::Mutex;
use std::sync::Arc;

const MAILS_MAX: usize = 1024;

/// What is around a simulated task.
pub struct SimSurroundings {
    image: Mutex<ClusterImage>,
    handles: Handles,
    trap: Trap,
}

impl Surroundings for SimSurroundings {
    type Guest = SimGuest;

    fn led(&self, id: TopicPartition) -> Result<Arc<PartitionHandle>, ApiError> {
        let led = self.handles.lock().get(&id).cloned();
        led.ok_or_else(|| ApiError::new(ErrorCode::NotLeaderOrFollower, "not led here"))
    }

    fn partition_epoch(&self, id: TopicPartition) -> Result<PartitionEpoch, ApiError> {
        let partition = self.image.lock().partition(id).map(|partition| partition.partition_epoch);
        partition.ok_or_else(|| ApiError::new(ErrorCode::UnknownTopicOrPartition, "no such partition"))
    }

    fn adopt(&self, image: &ClusterImage) {
        *self.image.lock() = image.clone();
    }

    fn load_guest(&self, setting: &TaskSetting, host: Arc<Mutex<TaskHost>>) -> Result<SimGuest, Failure> {
        SimGuest::load(setting, host, Trap::clone(&self.trap))
    }
}

/// A task that runs.
pub struct SimTask {
    /// The product's driver.
    pub driver: TaskDriver<SimSurroundings>,
    /// When the run will look at it next.
    pub scheduled_us: Option<u64>,
    handles: Handles,
    mails: Sender<Mail>,
    received: Receiver<Mail>,
    status: Arc<Mutex<TaskStatus>>,
    revision: u32,
    paused: bool,
}

impl SimTask {
    /// Whether mail waits for it.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.received.is_empty()
    }

    /// Lets it take in up to `mails_max` mails, then do what it can.
    pub fn advance(&mut self, now: Now, mails_max: usize) {
        for _ in 0..mails_max {
            let Some(mail) = self.received.try_receive() else { break };
            self.driver.take(now, mail);
        }
        self.driver.advance(now);
    }

    /// What it does.
    #[must_use]
    pub fn state(&self) -> TaskState {
        self.status.lock().state
    }

    /// Its last error, as an operator reads it.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.status.lock().last_error.as_ref().map(|error| error.message.clone())
    }

    /// The high watermark of its changelog.
    #[must_use]
    pub fn changelog_high_watermark(&self) -> Option<i64> {
        let setting = self.driver.setting();
        let id = TopicPartition { topic: setting.processor.changelog, partition: setting.task };
        self.handles.lock().get(&id).map(|handle| handle.view().high_watermark())
    }

    /// An operator has it try again after a failure.
    pub fn restart_if_failed(&self) {
        if self.state() == TaskState::Failed {
            self.mails.send_internal(Mail::Restart);
        }
    }
}

impl Broker {
    pub(super) fn end_stale_tasks(&mut self, image: &ClusterImage) {
        let wanted = |number: u32| image.processors().find(|processor| processor.number.0 == number);
        self.tasks.retain(|(number, _), _| wanted(*number).is_some());
    }

    pub(super) fn start_missing_tasks(&mut self, image: &ClusterImage) {
        for processor in image.processors() {
            for task in 0..processor.tasks() {
                let changelog = TopicPartition { topic: processor.changelog, partition: task };
                if !self.handles.lock().contains_key(&changelog) {
                    continue;
                }
                if let Some(running) = self.tasks.get_mut(&(processor.number.0, task))
                    && running.revision != processor.revision
                {
                    running.revision = processor.revision;
                    running.mails.send_internal(Mail::Swap(Box::new(task_setting(image, processor, task))));
                }
                match self.tasks.get_mut(&(processor.number.0, task)) {
                    Some(running) if running.paused != processor.paused => {
                        running.paused = processor.paused;
                        running.mails.send_internal(Mail::Pause(processor.paused));
                    }
                    Some(_) => {}
                    None => {
                        let started = self.start_task(image, processor, task);
                        self.tasks.insert((processor.number.0, task), started);
                    }
                }
            }
        }
    }

    fn start_task(&self, image: &ClusterImage, processor: &Arc<ProcessorImage>, task: u32) -> SimTask {
        let (mails, received) = mailbox(MAILS_MAX);
        let status = Arc::new(Mutex::new(TaskStatus::default()));
        let setting = task_setting(image, processor, task);
        let (handles, trap) = (Arc::clone(&self.handles), Trap::clone(&self.trap));
        let surroundings = SimSurroundings { image: Mutex::new(image.clone()), handles, trap };
        let stopper = Arc::new(Mutex::new(None));
        let driver = TaskDriver::new(Arc::new(surroundings), setting, mails.clone(), Arc::clone(&status), stopper);
        let (revision, paused) = (processor.revision, processor.paused);
        SimTask {
            driver,
            scheduled_us: None,
            handles: Arc::clone(&self.handles),
            mails,
            received,
            status,
            revision,
            paused,
        }
    }
}

fn task_setting(image: &ClusterImage, processor: &Arc<ProcessorImage>, task: u32) -> TaskSetting {
    let log = Arc::new(ProcessorLog::new(16));
    TaskSetting { task, processor: Arc::clone(processor), image: image.clone(), log }
}
