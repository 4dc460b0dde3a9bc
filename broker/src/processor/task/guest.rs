//! The guest of a task: loaded once, instantiated anew after every discarded call.

use super::TaskSetting;
use super::driver::Failure;
use crate::module::Modules;
use crate::processor::host::TaskHost;
use headwater_core::cluster::{ClusterImage, ProcessorImage};
use headwater_protocol::ids::TopicId;
use headwater_protocol::messages::processor::{LogLevel, ProcessorLimits};
use headwater_wasm_host::limits::GUEST_THREAD_STACK_BYTES;
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
        let deployment = deployment_of(&setting.image, processor, setting.task);
        let limits = instance_limits(&processor.limits);
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

/// What the guest is told about its deployment.
pub(in crate::processor) fn deployment_of(image: &ClusterImage, processor: &ProcessorImage, task: u32) -> Deployment {
    let name_of = |topic: &TopicId| match image.topic(*topic) {
        Some(topic) => topic.name.to_string(),
        None => topic.to_string(),
    };
    Deployment {
        processor: processor.name.to_string(),
        task,
        inputs: processor.inputs.iter().map(name_of).collect(),
        outputs: processor.outputs.iter().map(name_of).collect(),
        stores: processor.stores.clone(),
        settings: processor.settings.clone(),
        log_level: LogLevel::Info,
    }
}

/// A deployment's limits, as an instance keeps them.
pub(crate) fn instance_limits(limits: &ProcessorLimits) -> InstanceLimits {
    InstanceLimits {
        memory_bytes_max: limits.memory_bytes_max,
        cpu_per_record_max: Duration::from_millis(u64::from(limits.cpu_ms_per_record_max)),
        ..InstanceLimits::default()
    }
}

/// Makes an instance of a deployment and lets it go: whether its `init` says yes. On a thread with a guest's stack,
/// for `init` is the guest's own code. Blocks for as long as compilation and `init` take.
///
/// # Errors
/// What `init`, or the loader, says.
pub(in crate::processor) fn try_init(
    module: CompiledModule,
    deployment: Deployment,
    limits: InstanceLimits,
    host: Arc<Mutex<TaskHost>>,
) -> Result<(), String> {
    let instance = std::thread::Builder::new()
        .name("try-init".to_owned())
        .stack_size(GUEST_THREAD_STACK_BYTES)
        .spawn(move || ProcessorInstance::new(&module, &deployment, limits, host).map(drop));
    let instance = instance.map_err(|error| format!("broker: no thread to try the module's init on: {error}"))?;
    match instance.join() {
        Ok(made) => made.map_err(|error| error.to_string()),
        Err(_) => Err("broker: trying the module's init panicked, this broker has a bug".to_owned()),
    }
}

/// What a failed call means for the step.
pub(super) enum Verdict {
    /// A record, a timer, or their number is to blame.
    Blame(Blame),
    /// The guest can't run at all.
    Broken(String),
    /// The task is told to end.
    Stopped,
}

/// What a guest did wrong.
pub(super) struct Blame {
    /// What the guest says to be at fault: its place in the call. Unchecked.
    pub(super) named: Option<usize>,
    /// Whether the step was too large: fewer records may do.
    pub(super) too_large: bool,
    /// For metrics.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) message: String,
}

/// Judges a call.
pub(super) fn judge(error: &CallError) -> Verdict {
    let failure = match error {
        CallError::Host(error) => return Verdict::Broken(error.to_string()),
        CallError::Guest(failure) => failure,
    };
    let kind = match failure {
        GuestFailure::Stopped => return Verdict::Stopped,
        GuestFailure::Init(_) => return Verdict::Broken(failure.to_string()),
        GuestFailure::Failed { .. } => "error",
        GuestFailure::Trap(_) | GuestFailure::Dead => "trap",
        GuestFailure::CpuLimit { .. } => "cpu-limit",
        GuestFailure::MemoryLimit { .. } => "memory-limit",
        GuestFailure::OutputTooLarge => "output-limit",
    };
    let named = match failure {
        GuestFailure::Failed { index, .. } => index.and_then(|index| usize::try_from(index).ok()),
        _ => None,
    };
    let too_large = matches!(failure, GuestFailure::OutputTooLarge);
    Verdict::Blame(Blame { named, too_large, kind, message: failure.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_own_word_is_handed_on_and_a_failed_init_is_nobodys_record() {
        let failed = GuestFailure::Failed { index: Some(7), message: "no".to_owned() };
        let Verdict::Blame(blame) = judge(&CallError::Guest(failed)) else { panic!("somebody is to blame") };
        assert_eq!((blame.named, blame.too_large, blame.kind), (Some(7), false, "error"));
        let error = CallError::Guest(GuestFailure::Init("no such setting".to_owned()));
        assert!(matches!(judge(&error), Verdict::Broken(message) if message.contains("no such setting")));
        assert!(matches!(judge(&CallError::Guest(GuestFailure::Stopped)), Verdict::Stopped));
    }
}
