//! One task: the thread that runs it, and how the rest of the broker speaks to that thread.

mod commands;
mod driver;
mod errors;
mod guest;
mod shadow;
mod surroundings;
mod swap;
mod takeover;

pub use driver::{Failure, TaskDriver};
pub(crate) use guest::instance_limits;
pub(super) use guest::{deployment_of, try_init};
pub(super) use surroundings::BrokerSurroundings;
pub use surroundings::{Surroundings, TaskGuest};

use super::logs::ProcessorLog;
use super::status::TaskStatus;
use crate::clock::MonotonicClock;
use crate::mailbox::{Receiver, Sender, mailbox};
use headwater_core::cluster::{ClusterImage, ProcessorImage};
use headwater_core::task::TaskEvent;
use headwater_protocol::messages::processor::{TaskError, TaskState};
use headwater_wasm_host::Stopper;
use headwater_wasm_host::limits::GUEST_THREAD_STACK_BYTES;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Mails that wait for a task; replies and news come on top, their number is bounded by what was begun.
const MAILS_MAX: usize = 1024;

/// Everything a task is made of.
pub struct TaskSetting {
    /// Its number.
    pub task: u32,
    /// What is deployed.
    pub processor: Arc<ProcessorImage>,
    /// Metadata of the moment; topics that a deployment names stay as long as it does.
    pub image: ClusterImage,
    /// Where the guest's lines go.
    pub log: Arc<ProcessorLog>,
}

/// What a task is told.
pub enum Mail {
    /// The changelog's or an input's high watermark moved; sent once until it is read.
    News,
    /// The protocol's.
    Event(TaskEvent),
    /// An operator pauses or resumes.
    Pause(bool),
    /// An operator resumes: try again after a failure.
    Restart,
    /// Another deployment of the same processor: go on with it between two steps.
    Swap(Box<TaskSetting>),
    /// End between two steps.
    End,
}

/// A task as the manager holds it.
pub(super) struct RunningTask {
    mails: Sender<Mail>,
    status: Arc<Mutex<TaskStatus>>,
    guest: Arc<Mutex<Option<Stopper>>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningTask {
    /// Starts the task's thread.
    pub(super) fn start(surroundings: BrokerSurroundings, setting: TaskSetting) -> Self {
        let (mails, received) = mailbox(MAILS_MAX);
        let status = Arc::new(Mutex::new(TaskStatus::default()));
        let guest = Arc::new(Mutex::new(None));
        let name = format!("{}-{}", setting.processor.name, setting.task);
        let (tell, describe, stop) = (mails.clone(), Arc::clone(&status), Arc::clone(&guest));
        let thread = std::thread::Builder::new()
            .name(name.chars().take(15).collect())
            .stack_size(GUEST_THREAD_STACK_BYTES)
            .spawn(move || {
                // Made on its own thread: what a guest is made of stays there.
                let driver = TaskDriver::new(Arc::new(surroundings), setting, tell, describe, Arc::clone(&stop));
                drive(driver, &received);
                stop.lock().take();
            });
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::error!(task = name, %error, "the task's thread can't be started");
                let mut status = status.lock();
                status.state = TaskState::Failed;
                let message = format!("broker: the task's thread can't be started: {error}");
                status.last_error = Some(TaskError { message, record: None, at: crate::clock::unix_time_ms() });
                None
            }
        };
        Self { mails, status, guest, thread }
    }

    /// What it does, as of its last step.
    pub(super) fn status(&self) -> TaskStatus {
        self.status.lock().clone()
    }

    /// Pauses between two steps, or resumes.
    pub(super) fn set_paused(&self, paused: bool) {
        self.mails.send_internal(Mail::Pause(paused));
    }

    /// Has the task go on with another deployment, between two steps; a failed one tries again with it.
    pub(super) fn swap(&self, setting: TaskSetting) {
        self.mails.send_internal(Mail::Swap(Box::new(setting)));
    }

    /// Has a failed task try again; whether it had failed.
    pub(super) fn restart_if_failed(&self) -> bool {
        let failed = self.status.lock().state == TaskState::Failed;
        if failed {
            self.mails.send_internal(Mail::Restart);
        }
        failed
    }

    /// Has the task end, and whatever its guest is doing.
    pub(super) fn tell_to_end(&self) {
        self.mails.send_internal(Mail::End);
        if let Some(guest) = self.guest.lock().as_ref() {
            guest.stop();
        }
    }

    /// Waits until it has ended.
    pub(super) fn join(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a task's thread panicked: this broker has a bug");
        }
    }
}

/// Drives a task until it is told to end.
fn drive(mut driver: TaskDriver<BrokerSurroundings>, received: &Receiver<Mail>) {
    let clock = MonotonicClock::start();
    let mut mails = VecDeque::new();
    while !driver.is_ending() {
        let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(clock.now_ms()));
        received.receive_all(&mut mails, driver.deadline_ms().map(until));
        for mail in mails.drain(..) {
            driver.take(clock.now(), mail);
        }
        let swapping = driver.is_swapping().then(Instant::now);
        driver.advance(clock.now());
        if let Some(begun) = swapping.filter(|_| !driver.is_swapping()) {
            driver.swapped(begun.elapsed());
        }
    }
}
