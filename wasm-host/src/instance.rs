//! One instance of a module: one task's guest.

use crate::bindings::{DeploymentArgument, FailureResult, InputBatchArgument, SettingArgument};
use crate::cpu::thread_cpu_time;
use crate::error::HostError;
use crate::failure::{CallError, GuestFailure, cut, explain};
use crate::host::ProcessorHost;
use crate::limiter::Limiter;
use crate::limits::{self, InstanceLimits};
use crate::module::CompiledModule;
use crate::packed::{Malformed, PackedTimers};
use crate::records::INPUT_STRIDE;
use headwater_protocol::messages::processor::LogLevel;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wasmtime::component::{Func, InstancePre};
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

/// What a guest is told about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployment {
    /// The processor's name.
    pub processor: String,
    /// The task's number.
    pub task: u32,
    /// Topic names, in the deployment's order.
    pub inputs: Vec<String>,
    /// Topic names, in the deployment's order.
    pub outputs: Vec<String>,
    /// Store names, in the deployment's order.
    pub stores: Vec<String>,
    /// Names and values, in the deployment's order.
    pub settings: Vec<(String, String)>,
    /// Lines below this level are dropped.
    pub log_level: LogLevel,
}

/// Records of one partition, for one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputBatch<'a> {
    /// Which of the deployment's inputs.
    pub input: u32,
    /// Partition of that topic.
    pub partition: u32,
    /// What offset deltas count from.
    pub base_offset: i64,
    /// Stream time before this batch, -1 for none.
    pub stream_time: i64,
    /// 40 bytes a record: [`InputIndex::bytes`](crate::InputIndex::bytes), or a slice of it.
    pub index: &'a [u8],
    /// What the index points into.
    pub data: &'a [u8],
}

/// What an instance has used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct InstanceUsage {
    /// CPU time of all its calls, host functions included.
    pub cpu: Duration,
    /// Linear memory now; 0 once it is gone.
    pub memory_bytes: u64,
    /// Calls of `process` and `on-timers`.
    pub calls: u64,
}

/// Stops a guest from another thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    /// Ends the running call within about two ticks, and every later one at once, with [`GuestFailure::Stopped`].
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// CPU budget of the running call, and what became of it.
pub(crate) struct CallClock {
    started: Duration,
    budget: Duration,
    stop: Arc<AtomicBool>,
    exceeded: bool,
    stopped: bool,
}

impl CallClock {
    fn begin(&mut self, budget: Duration) {
        self.started = thread_cpu_time();
        self.budget = budget;
        self.exceeded = false;
        self.stopped = false;
    }

    /// Called at each tick while the guest runs, on its thread. The tick is wall-clock time, of which a busy machine
    /// may give the guest little: what counts is the CPU time it had.
    fn tick(&mut self) -> UpdateDeadline {
        self.stopped = self.stop.load(Ordering::Relaxed);
        self.exceeded = thread_cpu_time().saturating_sub(self.started) > self.budget;
        if self.stopped || self.exceeded { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
    }

    pub(crate) fn was_stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn was_exceeded(&self) -> bool {
        self.exceeded
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }
}

/// What wasmtime hands to host functions.
pub(crate) struct StoreData {
    pub(crate) host: Arc<Mutex<dyn ProcessorHost>>,
    pub(crate) limits: InstanceLimits,
    pub(crate) log_level: LogLevel,
    pub(crate) limiter: Limiter,
    pub(crate) clock: CallClock,
    /// Last line at error level in this call.
    pub(crate) last_error: Option<String>,
    pub(crate) output_too_large: bool,
    in_step: bool,
}

impl StoreData {
    /// Whether `process` or `on-timers` runs, not `init`.
    pub(crate) fn in_step(&self) -> bool {
        self.in_step
    }

    /// Whether one host call may carry this many bytes.
    pub(crate) fn carries(&self, bytes: usize) -> bool {
        bytes <= self.limits.hostcall_bytes_max
    }

    /// Tells the guest's author what was wrong with a host call.
    pub(crate) fn warn(&self, host: &mut dyn ProcessorHost, message: &str) {
        if LogLevel::Warn >= self.log_level {
            host.log(LogLevel::Warn, cut(message, self.limits.log_message_bytes_max));
        }
    }
}

/// A live instance. Dropped as a whole when a call fails: nothing of it is ever entered again (W3).
struct Live {
    store: Store<StoreData>,
    init: Func,
    process: Func,
    on_timers: Func,
}

/// One task's guest. Calls are synchronous and run on the calling thread, which needs
/// [`GUEST_THREAD_STACK_BYTES`](crate::limits::GUEST_THREAD_STACK_BYTES) of stack.
///
/// A call that fails, however, is discarded (the contract says so), and the instance with it: its memory is given back
/// at once, and every later call answers [`GuestFailure::Dead`].
pub struct ProcessorInstance {
    live: Option<Live>,
    stop: Arc<AtomicBool>,
    limits: InstanceLimits,
    cpu: Duration,
    calls: u64,
}

impl ProcessorInstance {
    /// Makes an instance and runs its `init`.
    ///
    /// # Errors
    /// [`CallError::Guest`]: `init` returned an error, trapped, or broke a limit; [`CallError::Host`].
    pub fn new(
        module: &CompiledModule,
        deployment: &Deployment,
        limits: InstanceLimits,
        host: Arc<Mutex<dyn ProcessorHost>>,
    ) -> Result<Self, CallError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut instance = Self { live: None, stop, limits, cpu: Duration::ZERO, calls: 0 };
        let before = thread_cpu_time();
        let mut live = instance.instantiate(module, deployment.log_level, &host)?;
        let told = live.init(deployment);
        instance.cpu = thread_cpu_time().saturating_sub(before);
        told?;
        live.store.data_mut().in_step = true;
        instance.live = Some(live);
        Ok(instance)
    }

    /// Hands a batch to the guest.
    ///
    /// # Errors
    /// [`CallError`]; the instance is dead, and what the call did through the host is to be discarded.
    pub fn process(&mut self, batch: InputBatch<'_>) -> Result<(), CallError> {
        let argument = InputBatchArgument {
            input: batch.input,
            partition: batch.partition,
            base_offset: batch.base_offset,
            stream_time: batch.stream_time,
            index: batch.index,
            data: batch.data,
        };
        self.call(batch.index.len() / INPUT_STRIDE, |live| {
            let process = live.process.typed::<(InputBatchArgument<'_>,), (Result<(), FailureResult>,)>(&live.store)?;
            Ok(process.call(&mut live.store, (argument,))?.0)
        })
    }

    /// Tells the guest which timers stream time has reached: `timers` as [`encode_timers`](crate::encode_timers) packs
    /// them.
    ///
    /// # Errors
    /// [`CallError`]; the instance is dead, and what the call did through the host is to be discarded.
    pub fn on_timers(&mut self, stream_time: i64, timers: &[u8]) -> Result<(), CallError> {
        let count = PackedTimers::decode(timers).map_err(|Malformed(fault)| HostError::Fault(fault))?.len();
        self.call(count, |live| {
            let on_timers = live.on_timers.typed::<(i64, &[u8]), (Result<(), FailureResult>,)>(&live.store)?;
            Ok(on_timers.call(&mut live.store, (stream_time, timers))?.0)
        })
    }

    /// Whether a call failed. Make another instance.
    pub fn is_dead(&self) -> bool {
        self.live.is_none()
    }

    /// What it has used so far.
    pub fn usage(&self) -> InstanceUsage {
        let memory_bytes = self.live.as_ref().map_or(0, |live| live.store.data().limiter.memory_bytes());
        InstanceUsage { cpu: self.cpu, memory_bytes, calls: self.calls }
    }

    /// A handle that stops it.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    fn call(
        &mut self,
        records: usize,
        function: impl FnOnce(&mut Live) -> wasmtime::Result<Result<(), FailureResult>>,
    ) -> Result<(), CallError> {
        let mut live = self.live.take().ok_or(GuestFailure::Dead)?;
        if self.stop.load(Ordering::Relaxed) {
            return Err(GuestFailure::Stopped.into());
        }
        live.begin(self.limits.cpu_budget(records), self.limits.fuel_budget(records))?;
        let before = thread_cpu_time();
        let result = function(&mut live);
        self.cpu += thread_cpu_time().saturating_sub(before);
        self.calls += 1;
        let data = live.store.data();
        if data.output_too_large && result.is_ok() {
            return Err(GuestFailure::OutputTooLarge.into());
        }
        match result {
            Ok(Ok(())) => {
                self.live = Some(live);
                Ok(())
            }
            Ok(Err(FailureResult { index, message })) => {
                let message = cut(&message, limits::FAILURE_MESSAGE_BYTES_MAX).to_owned();
                Err(GuestFailure::Failed { index, message }.into())
            }
            Err(error) => Err(explain(&error, data)),
        }
    }

    fn instantiate(
        &self,
        module: &CompiledModule,
        log_level: LogLevel,
        host: &Arc<Mutex<dyn ProcessorHost>>,
    ) -> Result<Live, CallError> {
        let (store, instance) = Start { limits: self.limits, log_level, host, stop: &self.stop }.instantiate(module)?;
        Live::new(store, &instance)
    }
}

/// What an instance is made with.
pub(crate) struct Start<'a> {
    pub(crate) limits: InstanceLimits,
    pub(crate) log_level: LogLevel,
    pub(crate) host: &'a Arc<Mutex<dyn ProcessorHost>>,
    pub(crate) stop: &'a Arc<AtomicBool>,
}

impl Start<'_> {
    /// In the pool where there is room, else outside it.
    pub(crate) fn instantiate(
        &self,
        module: &CompiledModule,
    ) -> Result<(Store<StoreData>, wasmtime::component::Instance), CallError> {
        if let Some(prepared) = module.pooled() {
            let mut store = self.store(prepared)?;
            match prepared.instantiate(&mut store) {
                Ok(instance) => return Ok((store, instance)),
                Err(error) if error.is::<PoolConcurrencyLimitError>() => {}
                Err(error) => return Err(explain_start(&error, store.data())),
            }
        }
        let prepared = module.on_demand()?;
        let mut store = self.store(&prepared)?;
        match prepared.instantiate(&mut store) {
            Ok(instance) => Ok((store, instance)),
            Err(error) => Err(explain_start(&error, store.data())),
        }
    }

    fn store(&self, prepared: &InstancePre<StoreData>) -> Result<Store<StoreData>, HostError> {
        let data = StoreData {
            host: Arc::clone(self.host),
            limits: self.limits,
            log_level: self.log_level,
            limiter: Limiter::new(self.limits.memory_bytes_max),
            clock: CallClock {
                started: thread_cpu_time(),
                budget: self.limits.cpu_init_max,
                stop: Arc::clone(self.stop),
                exceeded: false,
                stopped: false,
            },
            last_error: None,
            output_too_large: false,
            in_step: false,
        };
        let mut store = Store::new(prepared.engine(), data);
        store.limiter(|data| &mut data.limiter);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().clock.tick()));
        store.set_epoch_deadline(1);
        // What a result copies out of the guest is bounded by the guest's memory; arguments of imports are not copied.
        let fuel = self.limits.memory_bytes_max.saturating_mul(2);
        store.set_hostcall_fuel(usize::try_from(fuel).unwrap_or(usize::MAX));
        refuel(&mut store, self.limits.fuel_budget(1))?;
        Ok(store)
    }
}

/// Gets a store ready for the next call of its guest.
pub(crate) fn begin_call(store: &mut Store<StoreData>, budget: Duration, fuel: Option<u64>) -> Result<(), HostError> {
    let data = store.data_mut();
    data.clock.begin(budget);
    data.limiter.begin_call();
    data.last_error = None;
    data.output_too_large = false;
    store.set_epoch_deadline(1);
    refuel(store, fuel)
}

/// A function of the guest's world.
pub(crate) fn export(
    store: &mut Store<StoreData>,
    instance: &wasmtime::component::Instance,
    name: &str,
) -> Result<Func, HostError> {
    let function = instance.get_func(store, name);
    function.ok_or_else(|| HostError::Instantiate(format!("the module exports no function {name:?}")))
}

impl fmt::Debug for ProcessorInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorInstance").field("dead", &self.is_dead()).field("usage", &self.usage()).finish()
    }
}

/// Gives the next call its fuel, where the runtime has guests pay.
fn refuel(store: &mut Store<StoreData>, fuel: Option<u64>) -> Result<(), HostError> {
    let refueled = fuel.map_or(Ok(()), |fuel| store.set_fuel(fuel));
    refueled.map_err(|error| HostError::Engine(format!("{error:#}")))
}

impl Live {
    fn new(mut store: Store<StoreData>, instance: &wasmtime::component::Instance) -> Result<Self, CallError> {
        let mut export = |name: &str| export(&mut store, instance, name);
        let (init, process, on_timers) = (export("init")?, export("process")?, export("on-timers")?);
        Ok(Self { store, init, process, on_timers })
    }

    fn begin(&mut self, budget: Duration, fuel: Option<u64>) -> Result<(), CallError> {
        Ok(begin_call(&mut self.store, budget, fuel)?)
    }

    fn init(&mut self, deployment: &Deployment) -> Result<(), CallError> {
        let settings = deployment.settings.iter();
        let settings = settings.map(|(name, value)| SettingArgument { name, value }).collect::<Vec<_>>();
        let argument = DeploymentArgument {
            processor: &deployment.processor,
            task: deployment.task,
            inputs: &deployment.inputs,
            outputs: &deployment.outputs,
            stores: &deployment.stores,
            settings: &settings,
            log_level: deployment.log_level.into(),
        };
        let limits = self.store.data().limits;
        self.begin(limits.cpu_init_max, limits.fuel_budget(1))?;
        let called = self
            .init
            .typed::<(DeploymentArgument<'_>,), (Result<(), String>,)>(&self.store)
            .and_then(|init| init.call(&mut self.store, (argument,)));
        match called {
            Ok((Ok(()),)) => Ok(()),
            Ok((Err(message),)) => {
                Err(GuestFailure::Init(cut(&message, limits::FAILURE_MESSAGE_BYTES_MAX).to_owned()).into())
            }
            Err(error) => Err(explain(&error, self.store.data())),
        }
    }
}

/// Instantiation runs the guest's start function, so it may trap; what is left is the host's lack of something.
fn explain_start(error: &wasmtime::Error, data: &StoreData) -> CallError {
    let guests = error.is::<wasmtime::Trap>() || data.limiter.refused_bytes().is_some();
    if guests { explain(error, data) } else { HostError::Instantiate(format!("{error:#}")).into() }
}

#[cfg(test)]
mod tests;
