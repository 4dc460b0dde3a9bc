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
pub use logs::ProcessorLog;
pub use status::TaskStatus;
pub use task::{Failure, Mail, Surroundings, TaskDriver, TaskGuest, TaskSetting};

use crate::config::ProcessorsConfig;
use crate::module::Modules;
use crate::partition::Partitions;
use headwater_core::cluster::{ClusterImage, ProcessorImage};
use headwater_protocol::ids::ProcessorNumber;
use headwater_protocol::messages::processor::TaskDescription;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use task::{BrokerSurroundings, RunningTask};

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
            let stale = |number: &ProcessorNumber, processor: &RunningProcessor| {
                image.processor(*number).is_none_or(|wanted| wanted.revision != processor.deployed.revision)
            };
            running.extract_if(.., |number, processor| stale(number, processor)).map(|(_, ended)| ended).collect()
        };
        let mut logs: BTreeMap<ProcessorNumber, Arc<ProcessorLog>> = BTreeMap::new();
        for processor in ended {
            logs.insert(processor.deployed.number, Arc::clone(&processor.log));
            end(processor);
        }
        for wanted in image.processors() {
            let there = self.running.lock().get_mut(&wanted.number).map(|running| {
                if running.deployed.paused != wanted.paused {
                    running.tasks.iter().for_each(|task| task.set_paused(wanted.paused));
                    running.deployed = Arc::clone(wanted);
                }
            });
            if there.is_none() {
                let log = logs.remove(&wanted.number);
                let log = log.unwrap_or_else(|| Arc::new(ProcessorLog::new(self.config.log_lines_kept_max)));
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
                    image: image.clone(),
                    partitions: Arc::clone(&self.partitions),
                    modules: Arc::clone(&self.modules),
                };
                let (processor, log) = (Arc::clone(wanted), Arc::clone(&log));
                RunningTask::start(surroundings, TaskSetting { task, processor, image: image.clone(), log })
            })
            .collect();
        RunningProcessor { deployed: Arc::clone(wanted), log, tasks }
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

/// Ends all tasks of a processor: told together, then waited for.
fn end(processor: RunningProcessor) {
    processor.tasks.iter().for_each(RunningTask::tell_to_end);
    processor.tasks.into_iter().for_each(RunningTask::join);
}
