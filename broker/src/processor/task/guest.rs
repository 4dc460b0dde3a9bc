//! The guest of a task: loaded once, instantiated anew after every discarded call.

use super::TaskSetting;
use super::driver::Failure;
use crate::module::Modules;
use crate::processor::host::TaskHost;
use headwater_protocol::ids::TopicId;
use headwater_protocol::messages::processor::LogLevel;
use headwater_wasm_host::{
    CallError, CompiledModule, Deployment, GuestFailure, InputBatch, InstanceLimits, ProcessorInstance, Stopper,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// A module with, most of the time, an instance of it.
pub(in crate::processor) struct Guest {
    module: CompiledModule,
    deployment: Deployment,
    limits: InstanceLimits,
    host: Arc<Mutex<TaskHost>>,
    instance: Option<ProcessorInstance>,
    /// CPU time of instances that are gone.
    cpu_before: Duration,
    instances: u64,
}

impl Guest {
    /// Loads the deployed module; the first instance is made with the first call.
    pub(super) fn load(setting: &TaskSetting, modules: &Modules, host: Arc<Mutex<TaskHost>>) -> Result<Self, Failure> {
        let processor = &setting.processor;
        let module = modules.load(processor.module.digest).map_err(|error| Failure::new(error.message))?;
        let name_of = |topic: &TopicId| match setting.image.topic(*topic) {
            Some(topic) => topic.name.to_string(),
            None => topic.to_string(),
        };
        let deployment = Deployment {
            processor: processor.name.to_string(),
            task: setting.task,
            inputs: processor.inputs.iter().map(name_of).collect(),
            outputs: processor.outputs.iter().map(name_of).collect(),
            stores: processor.stores.clone(),
            settings: processor.settings.clone(),
            log_level: LogLevel::Info,
        };
        let limits = InstanceLimits {
            memory_bytes_max: processor.limits.memory_bytes_max,
            cpu_per_record_max: Duration::from_millis(u64::from(processor.limits.cpu_ms_per_record_max)),
            ..InstanceLimits::default()
        };
        let mut guest =
            Self { module, deployment, limits, host, instance: None, cpu_before: Duration::ZERO, instances: 0 };
        // At once, so that a guest whose init fails says so before there is any input.
        guest.instance(&Mutex::new(None)).map_err(|error| Failure::new(error.to_string()))?;
        Ok(guest)
    }

    fn instance(&mut self, stopper: &Mutex<Option<Stopper>>) -> Result<&mut ProcessorInstance, CallError> {
        if self.instance.as_ref().is_some_and(ProcessorInstance::is_dead) {
            self.drop_instance();
        }
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                self.instances += 1;
                ProcessorInstance::new(&self.module, &self.deployment, self.limits, self.host.clone())?
            }
        };
        *stopper.lock() = Some(instance.stopper());
        Ok(self.instance.insert(instance))
    }

    /// Hands records to the guest.
    pub(super) fn process(&mut self, batch: InputBatch<'_>, stopper: &Mutex<Option<Stopper>>) -> Result<(), CallError> {
        self.instance(stopper)?.process(batch)
    }

    /// Tells the guest which timers are due.
    pub(super) fn on_timers(
        &mut self,
        stream_time: i64,
        timers: &[u8],
        stopper: &Mutex<Option<Stopper>>,
    ) -> Result<(), CallError> {
        self.instance(stopper)?.on_timers(stream_time, timers)
    }

    /// Whatever the instance remembers of a call must go: the call was discarded (WIT: the life of an instance).
    pub(super) fn drop_instance(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.cpu_before += instance.usage().cpu;
        }
    }

    /// Linear memory now.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.instance.as_ref().map_or(0, |instance| instance.usage().memory_bytes)
    }

    /// CPU time of all instances in microseconds.
    pub(super) fn cpu_us(&self) -> u64 {
        let now = self.instance.as_ref().map_or(Duration::ZERO, |instance| instance.usage().cpu);
        u64::try_from((self.cpu_before + now).as_micros()).unwrap_or(u64::MAX)
    }

    /// Instances after the first one.
    pub(super) fn restarts(&self) -> u64 {
        self.instances.saturating_sub(1)
    }
}

/// What a failed call means for the step.
pub(super) enum Verdict {
    /// Run it on so many records; the culprit is behind them, or is found by halving.
    Retry {
        /// Records of the next try, at least one.
        records: usize,
    },
    /// The first record of the call can't be processed.
    Poison(String),
    /// The guest can't run at all.
    Broken(String),
    /// The task is told to end.
    Stopped,
}

/// Judges a call over `records` records.
pub(super) fn judge(error: &CallError, records: usize) -> Verdict {
    let failure = match error {
        CallError::Host(error) => return Verdict::Broken(error.to_string()),
        CallError::Guest(failure) => failure,
    };
    match failure {
        GuestFailure::Stopped => Verdict::Stopped,
        GuestFailure::Init(_) => Verdict::Broken(failure.to_string()),
        GuestFailure::Failed { index: Some(index), .. } if (1..records).contains(&(*index as usize)) => {
            Verdict::Retry { records: *index as usize }
        }
        GuestFailure::Failed { index: Some(0), .. } if records > 1 => Verdict::Retry { records: 1 },
        _ if records > 1 => Verdict::Retry { records: records / 2 },
        _ => Verdict::Poison(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(index: Option<u32>) -> CallError {
        CallError::Guest(GuestFailure::Failed { index, message: "no".to_owned() })
    }

    #[test]
    fn a_named_record_is_isolated_at_once_and_an_unnamed_one_by_halving() {
        assert!(matches!(judge(&failed(Some(7)), 1000), Verdict::Retry { records: 7 }));
        assert!(matches!(judge(&failed(Some(0)), 1000), Verdict::Retry { records: 1 }));
        assert!(matches!(judge(&failed(None), 1000), Verdict::Retry { records: 500 }));
        assert!(matches!(judge(&failed(Some(5000)), 1000), Verdict::Retry { records: 500 }));
        assert!(matches!(judge(&failed(Some(0)), 1), Verdict::Poison(_)));
        assert!(matches!(judge(&failed(None), 1), Verdict::Poison(_)));
    }

    #[test]
    fn a_failed_init_is_nobodys_record() {
        let error = CallError::Guest(GuestFailure::Init("no such setting".to_owned()));
        assert!(matches!(judge(&error, 1000), Verdict::Broken(message) if message.contains("no such setting")));
    }
}
