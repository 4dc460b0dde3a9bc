//! What a task does: mails in, the protocol's commands carried out, a step run when there is room and input.
//!
//! It has neither thread nor clock: those are the shell's ([`super::RunningTask`]), or the simulator's.

use super::surroundings::Surroundings;
use super::takeover::{Instance, take_over};
use super::{Mail, TaskSetting};
use crate::clock::Now;
use crate::mailbox::Sender;
use crate::metrics as names;
use crate::processor::host::TaskHost;
use crate::processor::status::TaskStatus;
use headwater_core::task::{StopReason, Task, TaskEvent};
use headwater_protocol::messages::processor::{LogLevel, TaskError, TaskState};
use headwater_wasm_host::Stopper;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Pause before an instance that lost its changelog for a moment (full disk, new leader) is followed by another.
const TAKEOVER_PAUSE_MS: u64 = 1000;

/// Why a task does nothing more until somebody acts.
#[derive(Debug)]
pub struct Failure {
    /// Names the culprit.
    pub message: String,
    /// Topic, partition, offset.
    pub record: Option<(String, u32, i64)>,
}

impl Failure {
    /// A failure that no single record is to blame for.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), record: None }
    }
}

/// Where a task stands.
enum Phase<S: Surroundings> {
    /// The next instance takes over at this time.
    TakeOver { at_ms: u64 },
    /// Steps run.
    Running(Box<Instance<S>>),
    /// Nothing runs until a restart; what was committed is still sent.
    Failed(Option<Box<Instance<S>>>),
}

/// One task. Whoever owns it brings it the mails that come to the other end of `mails`, and calls [`Self::advance`]
/// after them and whenever [`Self::deadline_ms`] has come.
pub struct TaskDriver<S: Surroundings> {
    surroundings: Arc<S>,
    setting: Arc<TaskSetting>,
    mails: Sender<Mail>,
    status: Arc<Mutex<TaskStatus>>,
    guest: Arc<Mutex<Option<Stopper>>>,
    phase: Phase<S>,
    paused: bool,
    /// The setting is newer than what the instance runs.
    swapping: bool,
    ending: bool,
}

impl<S: Surroundings> TaskDriver<S> {
    /// A task that takes over at once. `mails` is where its mail shall be sent, `status` where it describes itself,
    /// `guest` where it leaves the means to stop its guest.
    #[must_use]
    pub fn new(
        surroundings: Arc<S>,
        setting: TaskSetting,
        mails: Sender<Mail>,
        status: Arc<Mutex<TaskStatus>>,
        guest: Arc<Mutex<Option<Stopper>>>,
    ) -> Self {
        let paused = setting.processor.paused;
        let phase = Phase::TakeOver { at_ms: 0 };
        let setting = Arc::new(setting);
        Self { surroundings, setting, mails, status, guest, phase, paused, swapping: false, ending: false }
    }

    /// Whether it was told to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// When [`Self::advance`] should be called though no mail comes; `None` for never.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::TakeOver { at_ms } => Some(*at_ms),
            Phase::Running(_) if self.swapping => Some(0),
            Phase::Running(instance) if !self.paused && instance.may_run() => Some(0),
            Phase::Running(instance) => instance.deadline_ms(),
            Phase::Failed(instance) => instance.as_ref().and_then(|instance| instance.deadline_ms()),
        }
    }

    /// The protocol's state, for checks between two calls; `None` while no instance runs.
    #[must_use]
    pub fn protocol(&self) -> Option<&Task> {
        match &self.phase {
            Phase::Running(instance) => Some(&instance.task),
            Phase::Failed(instance) => instance.as_ref().map(|instance| &instance.task),
            Phase::TakeOver { .. } => None,
        }
    }

    /// The task's state, for checks between two calls; `None` while no instance runs.
    #[must_use]
    pub fn host(&self) -> Option<&Arc<Mutex<TaskHost>>> {
        match &self.phase {
            Phase::Running(instance) => Some(&instance.host),
            Phase::Failed(instance) => instance.as_ref().map(|instance| &instance.host),
            Phase::TakeOver { .. } => None,
        }
    }

    /// What it was made of.
    #[must_use]
    pub fn setting(&self) -> &TaskSetting {
        &self.setting
    }

    /// Takes in one mail.
    pub fn take(&mut self, now: Now, mail: Mail) {
        let now_ms = now.ms;
        match mail {
            Mail::News => {
                if let Some(instance) = self.instance() {
                    instance.take_news(now_ms);
                }
            }
            Mail::Event(event) => {
                if let Some(instance) = self.instance() {
                    instance.handle(now_ms, event);
                }
            }
            Mail::Pause(paused) => self.paused = paused,
            Mail::Restart => {
                if matches!(self.phase, Phase::Failed(_)) {
                    self.guest.lock().take();
                    self.phase = Phase::TakeOver { at_ms: now_ms };
                }
            }
            Mail::Swap(setting) => self.take_deployment(now_ms, *setting),
            Mail::End => self.ending = true,
        }
    }

    fn take_deployment(&mut self, now_ms: u64, setting: TaskSetting) {
        self.surroundings.adopt(&setting.image);
        let redeployed = self.setting.processor.revision != setting.processor.revision;
        self.setting = Arc::new(setting);
        match &self.phase {
            Phase::Running(_) => self.swapping = true,
            // A shadow that comes or goes is no reason to try again.
            Phase::Failed(_) if !redeployed => {}
            Phase::Failed(_) => {
                self.guest.lock().take();
                self.phase = Phase::TakeOver { at_ms: now_ms };
            }
            Phase::TakeOver { .. } => {}
        }
    }

    /// Whether the instance goes on with a newer deployment before its next step.
    #[must_use]
    pub fn is_swapping(&self) -> bool {
        self.swapping
    }

    /// Notes how long the newest swap kept the task from processing, unless it failed.
    pub fn swapped(&self, pause: Duration) {
        if !matches!(self.phase, Phase::Running(_)) {
            return;
        }
        let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        metrics::counter!(names::SWAPS, "processor" => self.setting.processor.name.to_string()).increment(1);
        self.status.lock().swap_us = Some(pause_us);
        tracing::info!(task = %self.name(), revision = self.setting.processor.revision, pause_us, "module swapped");
    }

    fn instance(&mut self) -> Option<&mut Instance<S>> {
        match &mut self.phase {
            Phase::Running(instance) => Some(instance),
            Phase::Failed(instance) => instance.as_deref_mut(),
            Phase::TakeOver { .. } => None,
        }
    }

    /// Does what can be done now.
    pub fn advance(&mut self, now: Now) {
        if self.ending {
            return;
        }
        let now_ms = now.ms;
        if let Phase::TakeOver { at_ms } = self.phase
            && now_ms >= at_ms
        {
            self.describe(TaskState::Starting);
            self.swapping = false;
            match take_over(&self.surroundings, &self.setting, &self.mails, now_ms) {
                Ok(instance) => self.phase = Phase::Running(Box::new(instance)),
                Err(failure) => self.fail(now, failure),
            }
        }
        let swapping = std::mem::take(&mut self.swapping);
        if swapping && let Phase::Running(instance) = &mut self.phase {
            self.guest.lock().take();
            if let Err(failure) = instance.swap(&self.setting) {
                return self.fail(now, failure);
            }
        }
        let paused = self.paused;
        let (guest, status) = (Arc::clone(&self.guest), Arc::clone(&self.status));
        let running = matches!(self.phase, Phase::Running(_));
        let Some(instance) = self.instance() else { return };
        if instance.deadline_ms().is_some_and(|at| at <= now_ms) {
            instance.handle(now_ms, TaskEvent::Deadline);
        }
        // What is durable settles before the next step is pushed on top: the overlay has room for as many steps as the
        // protocol has under way, and no more.
        let mut stopped = instance.run_commands(now_ms);
        let mut outcome = Ok(());
        // After a swap the first step waits for the next turn: the pause is the swap's alone.
        if stopped.is_none() && running && !paused && !swapping && instance.may_run() {
            outcome = instance.run_step(now, &guest);
        }
        stopped = stopped.or_else(|| instance.run_commands(now_ms));
        instance.describe(&mut status.lock());
        match (stopped, outcome) {
            (Some(reason), _) => self.stopped(now, reason),
            (None, Err(failure)) => self.fail(now, failure),
            (None, Ok(())) if running => self.describe(if paused { TaskState::Paused } else { TaskState::Running }),
            (None, Ok(())) => {}
        }
    }

    /// The protocol ended the instance.
    fn stopped(&mut self, now: Now, reason: StopReason) {
        match reason {
            // The changelog was taken away or full for a while: look at it anew.
            StopReason::Fenced(_) | StopReason::CommitRefused { .. } => {
                tracing::warn!(task = %self.name(), %reason, "this instance ends, another takes over");
                self.note(now, &Failure::new(reason.to_string()));
                self.phase = Phase::TakeOver { at_ms: now.ms + TAKEOVER_PAUSE_MS };
                self.describe(TaskState::Starting);
            }
            reason => self.fail(now, Failure::new(reason.to_string())),
        }
    }

    fn fail(&mut self, now: Now, failure: Failure) {
        tracing::error!(task = %self.name(), error = failure.message, record = ?failure.record, "the task failed");
        metrics::counter!(names::TASK_FAILURES, "processor" => self.setting.processor.name.to_string()).increment(1);
        self.note(now, &failure);
        let previous = std::mem::replace(&mut self.phase, Phase::Failed(None));
        if let Phase::Running(instance) = previous {
            // What is committed and not sent yet still leaves, unless the protocol itself stopped.
            self.phase = Phase::Failed((!instance.is_stopped()).then_some(instance));
        }
        self.describe(TaskState::Failed);
    }

    fn note(&self, now: Now, failure: &Failure) {
        self.setting.log.write(self.setting.task, LogLevel::Error, &failure.message);
        let error = TaskError { message: failure.message.clone(), record: failure.record.clone(), at: now.unix_ms };
        self.status.lock().last_error = Some(error);
    }

    fn describe(&self, state: TaskState) {
        self.status.lock().state = state;
    }

    fn name(&self) -> String {
        format!("{}-{}", self.setting.processor.name, self.setting.task)
    }
}
