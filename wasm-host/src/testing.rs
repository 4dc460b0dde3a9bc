//! Guests written by hand, and a host that remembers.

pub(crate) mod component;
mod host;

pub(crate) use host::TestHost;

use crate::inspect::World;
use crate::limits::InstanceLimits;
use crate::module::{CompiledModule, TrustedArtefact};
use crate::runtime::{Runtime, RuntimeConfig};
use crate::{CallError, Deployment, InputBatch, ProcessorInstance};
use component::Guest;
use headwater_protocol::ids::ModuleDigest;
use headwater_protocol::messages::processor::LogLevel;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// One for all tests of the process.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(RuntimeConfig { pooled_memories_max: 32, ..RuntimeConfig::default() }).unwrap())
}

/// Compiles in this process: what the compiling process would have answered.
pub(crate) fn compile(runtime: &Runtime, component: &[u8]) -> CompiledModule {
    let code = runtime.on_demand().engine.precompile_component(component).unwrap();
    let code = TrustedArtefact::vouch_for(code);
    CompiledModule::load(runtime, ModuleDigest([0; 32]), World::Processor, &code).unwrap()
}

pub(crate) fn deployment() -> Deployment {
    Deployment {
        processor: "word-count".to_owned(),
        task: 3,
        inputs: vec!["lines".to_owned()],
        outputs: vec!["words".to_owned(), "rest".to_owned()],
        stores: vec!["counts".to_owned()],
        settings: vec![("case".to_owned(), "lower".to_owned())],
        log_level: LogLevel::Debug,
    }
}

pub(crate) fn small_limits() -> InstanceLimits {
    InstanceLimits {
        memory_bytes_max: 4 << 20,
        cpu_per_call_min: Duration::from_millis(50),
        cpu_per_record_max: Duration::from_millis(1),
        ..InstanceLimits::default()
    }
}

/// An instance of `guest` with a host of its own.
pub(crate) fn start(guest: &Guest<'_>) -> Result<(ProcessorInstance, Arc<Mutex<TestHost>>), CallError> {
    let host = Arc::new(Mutex::new(TestHost::default()));
    let instance = start_with(guest, small_limits(), &host)?;
    Ok((instance, host))
}

pub(crate) fn start_with(
    guest: &Guest<'_>,
    limits: InstanceLimits,
    host: &Arc<Mutex<TestHost>>,
) -> Result<ProcessorInstance, CallError> {
    let module = compile(runtime(), &guest.component());
    ProcessorInstance::new(&module, &deployment(), limits, host.clone())
}

/// A batch of no records whose data a hand-written guest can do something with.
pub(crate) fn batch(data: &[u8]) -> InputBatch<'_> {
    InputBatch { input: 0, partition: 0, base_offset: 0, stream_time: -1, index: &[], data }
}
