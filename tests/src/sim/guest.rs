//! Processors over the broker's own host, behind the trait behind which the broker's run: natively, and one in real
//! wasm, which pays with fuel so that it is stopped at the same instruction each time.

use headwater_broker::drive::{Failure as TaskFailure, TaskGuest, TaskHost, TaskSetting};
use headwater_guest_sdk::testing::native::{Host, NativeBatch, NativeInstance, Page};
use headwater_guest_sdk::{
    Batch, Context, Deployment, EmitError, Failure, Level, OutRecord, Processor, StateError, TimerError,
};
use headwater_protocol::ids::ModuleDigest;
use headwater_protocol::messages::processor::LogLevel;
use headwater_wasm_host::{
    CallError, CompiledModule, EmitError as HostEmitError, EmittedRecords, GuestFailure, InputBatch, InstanceLimits,
    PackedEntries, PackedKeys, PackedTimers, PackedWriter, ProcessorHost, ProcessorInstance, Runtime, RuntimeConfig,
    ScanRange, StateError as HostStateError, Stopper, TimerError as HostTimerError,
};
use parking_lot::Mutex;
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Bytes of one answer of a store.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// What traps a guest: shared by all guests of a run.
pub type Trap = Arc<AtomicBool>;

/// The processors that runs deploy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GuestKind {
    /// Counts the words of values: out goes (word, count so far).
    Counter,
    /// As `Counter`; each output also says which record of which batch it is of. Its outputs depend on the step.
    Positions,
    /// Remembers between calls how many records it saw, as a guest should not. Its outputs are never the same again.
    Forgetful,
    /// `modules/word-count`, compiled. Its words are runs of letters and digits, the record's number among them.
    Compiled,
}

impl GuestKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Counter, Self::Positions, Self::Forgetful, Self::Compiled];

    /// Those that need no component.
    pub const NATIVE: [Self; 3] = [Self::Counter, Self::Positions, Self::Forgetful];

    /// The digest under which it is deployed.
    #[must_use]
    pub fn digest(self) -> ModuleDigest {
        ModuleDigest([self as u8 + 1; 32])
    }

    /// The one with this digest.
    #[must_use]
    pub fn of(digest: ModuleDigest) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.digest() == digest)
    }

    /// Its name as a module.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Positions => "positions",
            Self::Forgetful => "forgetful",
            Self::Compiled => "compiled",
        }
    }
}

/// What one word of one record makes of the state and the outputs; the checkers compute the same.
#[must_use]
pub fn output_value(kind: GuestKind, count: u64, offset: i64, batch: (i64, usize), seen: u64) -> String {
    match kind {
        GuestKind::Counter | GuestKind::Compiled => count.to_string(),
        GuestKind::Positions => format!("{count} {offset} {} {}", batch.0, batch.1),
        GuestKind::Forgetful => format!("{count} {seen}"),
    }
}

/// The words of a value: those behind the first one, which names the record.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b' ').skip(1).filter(|word| !word.is_empty())
}

/// What a guest of this kind counts in a value, in order.
#[must_use]
pub fn words_of(kind: GuestKind, value: &[u8]) -> Vec<Vec<u8>> {
    match kind {
        GuestKind::Counter | GuestKind::Positions | GuestKind::Forgetful => words(value).map(<[u8]>::to_vec).collect(),
        GuestKind::Compiled => {
            let text = String::from_utf8_lossy(value);
            let runs = text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty());
            runs.map(|run| run.to_lowercase().into_bytes()).collect()
        }
    }
}

struct Counting<const KIND: usize> {
    seen: u64,
}

impl<const KIND: usize> Processor for Counting<KIND> {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 1).map(|()| Self { seen: 0 })
    }

    fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure> {
        let first = batch.iter().next().map_or(0, |record| record.offset);
        for record in batch {
            self.seen += 1;
            for word in words(record.value.unwrap_or_default()) {
                let store = context.store(0)?;
                let before = store.get(word)?.map_or(0, decode_count);
                store.put(word, (before + 1).to_string().as_bytes())?;
                let kind = GuestKind::ALL[KIND];
                let value = output_value(kind, before + 1, record.offset, (first, batch.len()), self.seen);
                context.emit(0, OutRecord::at(record.timestamp).key(word).value(&value))?;
            }
        }
        Ok(())
    }
}

/// A count as it is stored.
#[must_use]
pub fn decode_count(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A deployed guest.
pub struct SimGuest {
    kind: GuestKind,
    deployment: Deployment,
    host: Rc<HostBridge>,
    instance: Option<Running>,
    instances: u64,
    trap: Trap,
}

enum Running {
    Counter(NativeInstance<Counting<0>>),
    Positions(NativeInstance<Counting<1>>),
    Forgetful(NativeInstance<Counting<2>>),
    Compiled(Box<ProcessorInstance>),
}

/// Fuel of a compiled guest, per record: a record has some hundred bytes at most.
const FUEL_PER_RECORD: u64 = 5_000_000;

/// Whether the compiled guest can be had.
///
/// # Errors
/// Why not, and what to do.
pub fn check_components() -> Result<(), String> {
    compiled().map(drop)
}

/// The compiled guest's module, once per process.
fn compiled() -> Result<&'static CompiledModule, String> {
    static MODULE: OnceLock<Result<CompiledModule, String>> = OnceLock::new();
    let compile = || {
        let directory = std::env::var_os("HEADWATER_COMPONENTS");
        let directory =
            directory.ok_or("HEADWATER_COMPONENTS is not set: run `cargo xtask sim`, which builds modules/*")?;
        let path = Path::new(&directory).join("word-count.wasm");
        let component = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let config = RuntimeConfig { pooled_memories_max: 0, fuel: true, ..RuntimeConfig::default() };
        let runtime = Runtime::new(config).map_err(|error| error.to_string())?;
        runtime.compile(&component).map_err(|error| error.to_string())
    };
    MODULE.get_or_init(compile).as_ref().map_err(String::clone)
}

impl SimGuest {
    /// The guest of a task.
    ///
    /// # Errors
    /// What is deployed is not one of ours.
    pub fn load(setting: &TaskSetting, host: Arc<Mutex<TaskHost>>, trap: Trap) -> Result<Self, TaskFailure> {
        let processor = &setting.processor;
        let kind = GuestKind::of(processor.module.digest).ok_or_else(|| TaskFailure::new("no such guest"))?;
        let mut deployment = Deployment::for_test();
        deployment.processor = processor.name.to_string();
        deployment.task = setting.task;
        deployment.outputs = processor.outputs.iter().map(ToString::to_string).collect();
        deployment.stores.clone_from(&processor.stores);
        let host = Rc::new(HostBridge { host, too_large: Cell::new(false) });
        Ok(Self { kind, deployment, host, instance: None, instances: 0, trap })
    }

    fn instance(&mut self) -> Result<&mut Running, CallError> {
        if self.instance.is_none() {
            let host = Rc::clone(&self.host) as Rc<dyn Host>;
            let started = match self.kind {
                GuestKind::Counter => NativeInstance::start(&self.deployment, host).map(Running::Counter),
                GuestKind::Positions => NativeInstance::start(&self.deployment, host).map(Running::Positions),
                GuestKind::Forgetful => NativeInstance::start(&self.deployment, host).map(Running::Forgetful),
                GuestKind::Compiled => Ok(Running::Compiled(Box::new(self.start_compiled()?))),
            };
            self.instances += 1;
            self.instance = Some(started.map_err(|refusal| CallError::Guest(GuestFailure::Init(refusal)))?);
        }
        self.instance.as_mut().ok_or(CallError::Guest(GuestFailure::Dead))
    }

    fn start_compiled(&self) -> Result<ProcessorInstance, CallError> {
        let module = compiled().map_err(|reason| CallError::Guest(GuestFailure::Init(reason)))?;
        let deployment = headwater_wasm_host::Deployment {
            processor: self.deployment.processor.clone(),
            task: self.deployment.task,
            inputs: Vec::new(),
            outputs: self.deployment.outputs.clone(),
            stores: self.deployment.stores.clone(),
            settings: Vec::new(),
            log_level: LogLevel::Info,
        };
        // Fuel stops it, not the clock of a busy machine.
        let limits = InstanceLimits {
            fuel_per_record: Some(FUEL_PER_RECORD),
            cpu_per_call_min: Duration::from_secs(3600),
            ..InstanceLimits::default()
        };
        ProcessorInstance::new(module, &deployment, limits, self.host.host.clone())
    }

    fn call(&mut self, call: impl FnOnce(&mut Running) -> Result<(), CallFailure>) -> Result<(), CallError> {
        self.host.too_large.set(false);
        let trap = self.trap.swap(false, Ordering::Relaxed);
        let answer = call(self.instance()?);
        let failure = match answer {
            _ if trap => GuestFailure::Failed { index: None, message: "trapped, as the seed has it".to_owned() },
            _ if self.host.too_large.get() => GuestFailure::OutputTooLarge,
            Ok(()) => return Ok(()),
            Err(CallFailure::Native(Failure { index, message, .. })) => GuestFailure::Failed { index, message },
            Err(CallFailure::Compiled(error)) => return Err(error),
        };
        Err(CallError::Guest(failure))
    }
}

/// How a call failed.
enum CallFailure {
    Native(Failure),
    Compiled(CallError),
}

impl TaskGuest for SimGuest {
    fn process(&mut self, batch: InputBatch<'_>, _: &Mutex<Option<Stopper>>) -> Result<(), CallError> {
        let InputBatch { input, partition, base_offset, stream_time, index, data } = batch;
        let native = NativeBatch { input, partition, base_offset, stream_time, index, data };
        self.call(|instance| match instance {
            Running::Counter(instance) => instance.process(native).map_err(CallFailure::Native),
            Running::Positions(instance) => instance.process(native).map_err(CallFailure::Native),
            Running::Forgetful(instance) => instance.process(native).map_err(CallFailure::Native),
            Running::Compiled(instance) => instance.process(batch).map_err(CallFailure::Compiled),
        })
    }

    fn on_timers(&mut self, stream_time: i64, timers: &[u8], _: &Mutex<Option<Stopper>>) -> Result<(), CallError> {
        self.call(|instance| match instance {
            Running::Counter(instance) => instance.on_timers(stream_time, timers).map_err(CallFailure::Native),
            Running::Positions(instance) => instance.on_timers(stream_time, timers).map_err(CallFailure::Native),
            Running::Forgetful(instance) => instance.on_timers(stream_time, timers).map_err(CallFailure::Native),
            Running::Compiled(instance) => instance.on_timers(stream_time, timers).map_err(CallFailure::Compiled),
        })
    }

    fn drop_instance(&mut self) {
        self.instance = None;
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn cpu_us(&self) -> u64 {
        0
    }

    fn restarts(&self) -> u64 {
        self.instances.saturating_sub(1)
    }
}

/// The SDK's calls, as the wasm host hands them on.
struct HostBridge {
    host: Arc<Mutex<TaskHost>>,
    too_large: Cell<bool>,
}

fn state_error(error: &HostStateError) -> StateError {
    match error {
        HostStateError::UnknownStore => StateError::UnknownStore,
        HostStateError::TooLarge => StateError::TooLarge,
        HostStateError::QuotaExceeded => StateError::QuotaExceeded,
        HostStateError::Malformed(_) | HostStateError::Host(_) => StateError::Malformed,
    }
}

fn timer_error(error: &HostTimerError) -> TimerError {
    match error {
        HostTimerError::TooLarge => TimerError::TooLarge,
        HostTimerError::QuotaExceeded => TimerError::QuotaExceeded,
        HostTimerError::Malformed(_) | HostTimerError::Host(_) => TimerError::Malformed,
    }
}

impl Host for HostBridge {
    fn emit(&self, output: u32, index: &[u8], data: &[u8]) -> Result<(), EmitError> {
        let records = EmittedRecords::decode(index, data).map_err(|_| EmitError::Malformed)?;
        self.host.lock().emit(output, records).map_err(|error| match error {
            HostEmitError::UnknownOutput => EmitError::UnknownOutput,
            HostEmitError::UnknownPartition => EmitError::UnknownPartition,
            HostEmitError::TooLarge => {
                self.too_large.set(true);
                EmitError::TooLarge
            }
            HostEmitError::Malformed(_) | HostEmitError::Host(_) => EmitError::Malformed,
        })
    }

    fn get_many(&self, store: u32, keys: &[u8]) -> Result<Vec<u8>, StateError> {
        let keys = PackedKeys::decode(keys).map_err(|_| StateError::Malformed)?;
        let mut values = PackedWriter::new(ANSWER_BYTES_MAX);
        self.host.lock().get_many(store, keys, &mut values).map_err(|error| state_error(&error))?;
        Ok(values.into_bytes())
    }

    fn put_many(&self, store: u32, entries: &[u8]) -> Result<(), StateError> {
        let entries = PackedEntries::decode(entries).map_err(|_| StateError::Malformed)?;
        self.host.lock().put_many(store, entries).map_err(|error| state_error(&error))
    }

    fn scan(&self, store: u32, start: &[u8], end: &[u8], limit: u32, descending: bool) -> Result<Page, StateError> {
        let mut entries = PackedWriter::new(ANSWER_BYTES_MAX);
        let range = ScanRange { start, end: (!end.is_empty()).then_some(end), limit, descending };
        let more = self.host.lock().scan(store, range, &mut entries).map_err(|error| state_error(&error))?;
        Ok(Page { entries: entries.into_bytes(), more })
    }

    fn set_timers(&self, timers: &[u8]) -> Result<(), TimerError> {
        let timers = PackedTimers::decode(timers).map_err(|_| TimerError::Malformed)?;
        self.host.lock().set_timers(timers).map_err(|error| timer_error(&error))
    }

    fn cancel_timers(&self, ids: &[u8]) -> Result<(), TimerError> {
        let ids = PackedKeys::decode(ids).map_err(|_| TimerError::Malformed)?;
        self.host.lock().cancel_timers(ids).map_err(|error| timer_error(&error))
    }

    fn log(&self, _: Level, message: &str) {
        self.host.lock().log(LogLevel::Info, message);
    }
}
