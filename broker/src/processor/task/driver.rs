//! The task's loop: mails in, the protocol's commands carried out, a step run when there is room and input.

use super::takeover::{Instance, take_over};
use super::{Mail, TaskSetting};
use crate::clock::{MonotonicClock, unix_time_ms};
use crate::mailbox::{Receiver, Sender};
use crate::metrics as names;
use crate::processor::status::TaskStatus;
use headwater_core::task::{StopReason, TaskEvent};
use headwater_protocol::messages::processor::{LogLevel, TaskError, TaskState};
use headwater_wasm_host::Stopper;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Pause before an instance that lost its changelog for a moment (full disk, new leader) is followed by another.
const TAKEOVER_PAUSE_MS: u64 = 1000;

/// Why a task does nothing more until somebody acts.
pub(super) struct Failure {
    /// Names the culprit.
    pub(super) message: String,
    /// Topic, partition, offset.
    pub(super) record: Option<(String, u32, i64)>,
}

impl Failure {
    /// A failure that no single record is to blame for.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), record: None }
    }
}

/// Where a task's thread stands.
enum Phase {
    /// The next instance takes over at this time.
    TakeOver { at_ms: u64 },
    /// Steps run.
    Running(Box<Instance>),
    /// Nothing runs until a restart; what was committed is still sent.
    Failed(Option<Box<Instance>>),
}

/// A task's thread.
pub(super) struct TaskDriver {
    setting: Arc<TaskSetting>,
    clock: MonotonicClock,
    mails: Sender<Mail>,
    received: Receiver<Mail>,
    status: Arc<Mutex<TaskStatus>>,
    guest: Arc<Mutex<Option<Stopper>>>,
    phase: Phase,
    paused: bool,
    ending: bool,
}

impl TaskDriver {
    pub(super) fn new(
        setting: TaskSetting,
        mails: Sender<Mail>,
        received: Receiver<Mail>,
        status: Arc<Mutex<TaskStatus>>,
        guest: Arc<Mutex<Option<Stopper>>>,
    ) -> Self {
        let paused = setting.processor.paused;
        let phase = Phase::TakeOver { at_ms: 0 };
        let clock = MonotonicClock::start();
        Self { setting: Arc::new(setting), clock, mails, received, status, guest, phase, paused, ending: false }
    }

    /// Runs until told to end.
    pub(super) fn run(mut self) {
        let mut mails = VecDeque::new();
        while !self.ending {
            self.received.receive_all(&mut mails, self.wait());
            for mail in mails.drain(..) {
                self.take(mail);
            }
            if !self.ending {
                self.advance();
            }
        }
        self.guest.lock().take();
    }

    /// How long to wait for mail.
    fn wait(&self) -> Option<Duration> {
        let now_ms = self.clock.now_ms();
        let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(now_ms));
        match &self.phase {
            Phase::TakeOver { at_ms } => Some(until(*at_ms)),
            Phase::Running(instance) if !self.paused && instance.may_run() => Some(Duration::ZERO),
            Phase::Running(instance) => instance.deadline_ms().map(until),
            Phase::Failed(instance) => instance.as_ref().and_then(|instance| instance.deadline_ms()).map(until),
        }
    }

    fn take(&mut self, mail: Mail) {
        let now_ms = self.clock.now_ms();
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
            Mail::End => self.ending = true,
        }
    }

    fn instance(&mut self) -> Option<&mut Instance> {
        match &mut self.phase {
            Phase::Running(instance) => Some(instance),
            Phase::Failed(instance) => instance.as_deref_mut(),
            Phase::TakeOver { .. } => None,
        }
    }

    /// Does what can be done now.
    fn advance(&mut self) {
        let now_ms = self.clock.now_ms();
        if let Phase::TakeOver { at_ms } = self.phase
            && now_ms >= at_ms
        {
            self.describe(TaskState::Starting);
            match take_over(&self.setting, &self.mails, self.clock) {
                Ok(instance) => self.phase = Phase::Running(Box::new(instance)),
                Err(failure) => self.fail(failure),
            }
        }
        let paused = self.paused;
        let (guest, status) = (Arc::clone(&self.guest), Arc::clone(&self.status));
        let running = matches!(self.phase, Phase::Running(_));
        let Some(instance) = self.instance() else { return };
        if instance.deadline_ms().is_some_and(|at| at <= now_ms) {
            instance.handle(now_ms, TaskEvent::Deadline);
        }
        let mut outcome = Ok(());
        if running && !paused && instance.may_run() {
            outcome = instance.run_step(now_ms, &guest);
        }
        let stopped = instance.run_commands(now_ms);
        instance.describe(&mut status.lock());
        match (stopped, outcome) {
            (Some(reason), _) => self.stopped(now_ms, reason),
            (None, Err(failure)) => self.fail(failure),
            (None, Ok(())) if running => self.describe(if paused { TaskState::Paused } else { TaskState::Running }),
            (None, Ok(())) => {}
        }
    }

    /// The protocol ended the instance.
    fn stopped(&mut self, now_ms: u64, reason: StopReason) {
        match reason {
            // The changelog was taken away or full for a while: look at it anew.
            StopReason::Fenced(_) | StopReason::CommitRefused { .. } => {
                tracing::warn!(task = %self.name(), %reason, "this instance ends, another takes over");
                self.note(&Failure::new(reason.to_string()));
                self.phase = Phase::TakeOver { at_ms: now_ms + TAKEOVER_PAUSE_MS };
                self.describe(TaskState::Starting);
            }
            reason => self.fail(Failure::new(reason.to_string())),
        }
    }

    fn fail(&mut self, failure: Failure) {
        tracing::error!(task = %self.name(), error = failure.message, record = ?failure.record, "the task failed");
        metrics::counter!(names::GUEST_FAILURES, "processor" => self.setting.processor.name.to_string()).increment(1);
        self.note(&failure);
        let previous = std::mem::replace(&mut self.phase, Phase::Failed(None));
        if let Phase::Running(instance) = previous {
            // What is committed and not sent yet still leaves, unless the protocol itself stopped.
            self.phase = Phase::Failed((!instance.is_stopped()).then_some(instance));
        }
        self.describe(TaskState::Failed);
    }

    fn note(&self, failure: &Failure) {
        self.setting.log.write(self.setting.task, LogLevel::Error, &failure.message);
        let error = TaskError { message: failure.message.clone(), record: failure.record.clone(), at: unix_time_ms() };
        self.status.lock().last_error = Some(error);
    }

    fn describe(&self, state: TaskState) {
        self.status.lock().state = state;
    }

    fn name(&self) -> String {
        format!("{}-{}", self.setting.processor.name, self.setting.task)
    }
}
