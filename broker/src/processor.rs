//! Processors on this broker: which tasks run here, each on a thread of its own.
//!
//! A guest runs synchronously on its task's thread, never on the network's or the log's: one that spins slows nobody
//! but itself, until its CPU limit ends the call.

mod host;
mod input;
mod logs;
mod status;
mod task;

pub use host::TaskHost;
pub(crate) use host::{HostLimits, OutputTopic};
pub use logs::ProcessorLog;
pub use status::TaskStatus;
pub use task::{Failure, Mail, Surroundings, TaskDriver, TaskGuest, TaskSetting};

use crate::config::ProcessorsConfig;
use crate::module::Modules;
use crate::partition::Partitions;
use headwater_core::cluster::{ClusterImage, ProcessorImage};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::ProcessorNumber;
use headwater_protocol::messages::processor::TaskDescription;
use headwater_state::{MemoryStore, Overlay, OverlayLimits};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
pub(crate) use task::instance_limits;
use task::{BrokerSurroundings, RunningTask, deployment_of, try_init};

/// Runs what metadata says.
pub(crate) struct ProcessorManager {
    config: ProcessorsConfig,
    partitions: Arc<Partitions>,
    modules: Arc<Modules>,
    running: Mutex<BTreeMap<ProcessorNumber, RunningProcessor>>,
    /// Held while tasks are started or ended, so that describing them never waits for that.
    reconciling: Mutex<()>,
}

struct RunningProcessor {
    deployed: Arc<ProcessorImage>,
    log: Arc<ProcessorLog>,
    tasks: Vec<RunningTask>,
}

impl ProcessorManager {
    /// A manager that runs nothing yet.
    pub(crate) fn new(config: ProcessorsConfig, partitions: Arc<Partitions>, modules: Arc<Modules>) -> Arc<Self> {
        let (running, reconciling) = (Mutex::default(), Mutex::default());
        Arc::new(Self { config, partitions, modules, running, reconciling })
    }

    /// Starts, swaps, pauses and ends tasks until what runs is what metadata says. Blocks.
    pub(crate) fn reconcile(&self, image: &ClusterImage) {
        let _one_at_a_time = self.reconciling.lock();
        let ended: Vec<RunningProcessor> = {
            let mut running = self.running.lock();
            let gone = |number: &ProcessorNumber| image.processor(*number).is_none();
            running.extract_if(.., |number, _| gone(number)).map(|(_, ended)| ended).collect()
        };
        ended.into_iter().for_each(end);
        for wanted in image.processors() {
            let there = self.running.lock().get_mut(&wanted.number).map(|running| {
                if running.deployed.revision != wanted.revision || running.deployed.shadow != wanted.shadow {
                    running.swap(image, wanted);
                }
                if running.deployed.paused != wanted.paused {
                    running.tasks.iter().for_each(|task| task.set_paused(wanted.paused));
                }
                running.deployed = Arc::clone(wanted);
            });
            if there.is_none() {
                let log = Arc::new(ProcessorLog::new(self.config.log_lines_kept_max));
                let started = self.start(image, wanted, log);
                self.running.lock().insert(wanted.number, started);
            }
        }
    }

    fn start(&self, image: &ClusterImage, wanted: &Arc<ProcessorImage>, log: Arc<ProcessorLog>) -> RunningProcessor {
        tracing::info!(processor = %wanted.name, revision = wanted.revision, tasks = wanted.tasks(), "starting tasks");
        let tasks = (0..wanted.tasks())
            .map(|task| {
                let surroundings = BrokerSurroundings {
                    image: Mutex::new(image.clone()),
                    partitions: Arc::clone(&self.partitions),
                    modules: Arc::clone(&self.modules),
                };
                let (processor, log) = (Arc::clone(wanted), Arc::clone(&log));
                RunningTask::start(surroundings, TaskSetting { task, processor, image: image.clone(), log })
            })
            .collect();
        RunningProcessor { deployed: Arc::clone(wanted), log, tasks }
    }

    /// Tries a deployment's module: whether it loads, and its `init` says yes. Nothing of the trial stays. Blocks.
    ///
    /// # Errors
    /// `InvalidProcessor`, with what the module says.
    pub(crate) fn try_deployment(&self, image: &ClusterImage, wanted: &ProcessorImage) -> Result<(), ApiError> {
        let module = self.modules.load(wanted.module.digest)?;
        let limits = HostLimits { output_bytes_per_step_max: 0, log_lines_per_second_max: 0 };
        let log = Arc::new(ProcessorLog::new(1));
        let overlay = Overlay::new(MemoryStore::new(), OverlayLimits::default());
        let host = Arc::new(Mutex::new(TaskHost::new(0, overlay, 0, Vec::new(), limits, log)));
        let deployment = deployment_of(image, wanted, 0);
        try_init(module, deployment, instance_limits(&wanted.limits), host).map_err(|error| {
            let label = wanted.module.label();
            ApiError::new(ErrorCode::InvalidProcessor, format!("{label} was tried and not deployed: {error}"))
        })
    }

    /// Starts the failed tasks of a processor again; whether there were any.
    pub(crate) fn restart_failed(&self, processor: ProcessorNumber) -> bool {
        let running = self.running.lock();
        let Some(processor) = running.get(&processor) else { return false };
        let mut any = false;
        for task in &processor.tasks {
            any |= task.restart_if_failed();
        }
        any
    }

    /// The lines that a processor's guests wrote.
    pub(crate) fn log(&self, processor: ProcessorNumber) -> Option<Arc<ProcessorLog>> {
        self.running.lock().get(&processor).map(|processor| Arc::clone(&processor.log))
    }

    /// Describes the tasks of a processor; `high_watermark` of (number of the input, task).
    pub(crate) fn describe_tasks(
        &self,
        processor: &ProcessorImage,
        high_watermark: impl Fn(usize, u32) -> Option<i64>,
    ) -> Vec<TaskDescription> {
        let running = self.running.lock();
        let statuses: Vec<TaskStatus> = match running.get(&processor.number) {
            Some(running) => running.tasks.iter().map(RunningTask::status).collect(),
            None => (0..processor.tasks()).map(|_| TaskStatus::default()).collect(),
        };
        drop(running);
        (0_u32..)
            .zip(statuses)
            .map(|(task, status)| status.describe(task, |input| high_watermark(input, task)))
            .collect()
    }

    /// Orderly stop: every task between two steps. Blocks.
    pub(crate) fn stop(&self) {
        let _one_at_a_time = self.reconciling.lock();
        let running = std::mem::take(&mut *self.running.lock());
        running.into_values().for_each(end);
    }
}

impl RunningProcessor {
    /// Every task goes on with another deployment, each between two of its steps.
    fn swap(&self, image: &ClusterImage, wanted: &Arc<ProcessorImage>) {
        tracing::info!(processor = %wanted.name, revision = wanted.revision, "swapping the module");
        for (number, task) in (0_u32..).zip(&self.tasks) {
            let (processor, log) = (Arc::clone(wanted), Arc::clone(&self.log));
            task.swap(TaskSetting { task: number, processor, image: image.clone(), log });
        }
    }
}

/// Ends all tasks of a processor: told together, then waited for.
fn end(processor: RunningProcessor) {
    processor.tasks.iter().for_each(RunningTask::tell_to_end);
    processor.tasks.into_iter().for_each(RunningTask::join);
}
