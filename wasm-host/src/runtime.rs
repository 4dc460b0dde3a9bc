//! The wasm engine, once per process.

use crate::error::HostError;
use crate::features::FEATURES;
use crate::host;
use crate::inspect::{InspectLimits, inspect};
use crate::instance::StoreData;
use crate::limits;
use crate::module::{CompiledModule, TrustedArtefact};
use headwater_protocol::ids::ModuleDigest;
use sha2::{Digest, Sha256};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, EngineWeak, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails, WasmFeatures};

/// How guests are run. The defaults are for production.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuntimeConfig {
    /// Linear memories that the pool has room for; 0 for no pool. Each reserves 4 GiB of address space, not of memory.
    pub pooled_memories_max: u32,
    /// How often guests' budgets are looked at.
    pub epoch_tick: Duration,
    /// Whether guests pay for what they execute with fuel, beside their CPU time: the same limit at the same
    /// instruction each time ([`InstanceLimits::fuel_per_record`](crate::InstanceLimits::fuel_per_record)). Costs
    /// time; for the simulator.
    pub fuel: bool,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { pooled_memories_max: limits::POOLED_MEMORIES_MAX, epoch_tick: limits::EPOCH_TICK, fuel: false }
    }
}

/// The engine and all that instances share. Cheap to clone. Its ticker ends when nothing uses it any more.
#[derive(Clone)]
pub struct Runtime(Arc<Engines>);

struct Engines {
    pooled: Option<GuestEngine>,
    on_demand: GuestEngine,
    compatibility: Compatibility,
}

/// An engine with the contract's interfaces.
pub(crate) struct GuestEngine {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<StoreData>,
}

impl GuestEngine {
    fn new(config: &Config) -> Result<Self, HostError> {
        let failed = |error: wasmtime::Error| HostError::Engine(format!("{error:#}"));
        let engine = Engine::new(config).map_err(failed)?;
        let linker = host::linker(&engine).map_err(failed)?;
        Ok(Self { engine, linker })
    }
}

impl Runtime {
    /// Starts the engine and its ticker. Where the address space for the pool is refused, instances live outside it.
    ///
    /// # Errors
    /// [`HostError::Engine`] and [`HostError::Thread`].
    pub fn new(config: RuntimeConfig) -> Result<Self, HostError> {
        let on_demand = GuestEngine::new(&engine_config_with(config.fuel))?;
        let compatibility = Compatibility::of(&on_demand.engine);
        let pooled = match pooled(config.pooled_memories_max, config.fuel) {
            // The same compiled module must fit both.
            Ok(Some(pooled)) if Compatibility::of(&pooled.engine) == compatibility => Some(pooled),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "no pool for wasm memories: instances start slower");
                None
            }
        };
        let engines = pooled.iter().chain([&on_demand]).map(|guest| guest.engine.weak()).collect();
        start_ticker(engines, config.epoch_tick)?;
        Ok(Self(Arc::new(Engines { pooled, on_demand, compatibility })))
    }

    /// Whether there is a pool.
    pub fn is_pooling(&self) -> bool {
        self.0.pooled.is_some()
    }

    /// Compiles a component here and now, without a cache or a process of its own: for components that are trusted, as
    /// the simulator's are.
    ///
    /// # Errors
    /// [`HostError::Load`] when it is no component of a world that runs here.
    pub fn compile(&self, component: &[u8]) -> Result<CompiledModule, HostError> {
        let inspection = inspect(component, &InspectLimits::default());
        let world = inspection.map_err(|refusal| HostError::Load(refusal.to_string()))?.world;
        let compiled = self.0.on_demand.engine.precompile_component(component);
        let code = compiled.map_err(|error| HostError::Load(format!("{error:#}")))?;
        let digest = ModuleDigest(Sha256::digest(component).into());
        CompiledModule::load(self, digest, world, &TrustedArtefact::vouch_for(code))
    }

    /// What compiled modules depend on, in hexadecimal: wasmtime's version, our settings, this CPU's features.
    pub fn compatibility(&self) -> String {
        self.0.compatibility.to_string()
    }

    pub(crate) fn engine_compatibility(&self) -> Compatibility {
        self.0.compatibility
    }

    pub(crate) fn pooled(&self) -> Option<&GuestEngine> {
        self.0.pooled.as_ref()
    }

    pub(crate) fn on_demand(&self) -> &GuestEngine {
        &self.0.on_demand
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runtime = f.debug_struct("Runtime");
        runtime.field("pooling", &self.is_pooling()).field("compatibility", &self.0.compatibility).finish()
    }
}

/// Settings of every engine, the compiling child's too: what they compile fits what they run.
pub(crate) fn engine_config() -> Config {
    let mut config = Config::new();
    for feature in WasmFeatures::all() {
        config.wasm_features(feature, FEATURES.contains(feature));
    }
    config.epoch_interruption(true);
    config.max_wasm_stack(limits::GUEST_STACK_BYTES_MAX);
    config.cranelift_opt_level(OptLevel::Speed);
    // The same results on every CPU: a step replayed on a laptop is the step of production.
    config.cranelift_nan_canonicalization(true);
    // Names of functions are enough in an error, and a guest's debug information is one more thing to parse.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(limits::TRAP_FRAMES_SEEN_MAX));
    config.generate_address_map(false);
    // One thread of the child compiles: its memory and CPU limits are then the module's.
    config.parallel_compilation(false);
    config
}

/// The same, with guests that pay with fuel if asked.
fn engine_config_with(fuel: bool) -> Config {
    let mut config = engine_config();
    config.consume_fuel(fuel);
    config
}

fn pooled(memories_max: u32, fuel: bool) -> Result<Option<GuestEngine>, HostError> {
    if memories_max == 0 {
        return Ok(None);
    }
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(memories_max);
    pool.total_component_instances(memories_max);
    // A componentised module is three core instances with two tables: itself, a shim for its imports, and the fix-up.
    pool.total_core_instances(memories_max.saturating_mul(8));
    pool.total_tables(memories_max.saturating_mul(4));
    pool.max_tables_per_module(4);
    pool.table_elements(limits::POOLED_TABLE_ELEMENTS_MAX);
    let mut config = engine_config_with(fuel);
    config.allocation_strategy(pool);
    GuestEngine::new(&config).map(Some)
}

/// Raises the epoch of all engines until the last of them is dropped.
fn start_ticker(engines: Vec<EngineWeak>, tick: Duration) -> Result<(), HostError> {
    let run = move || {
        loop {
            std::thread::sleep(tick);
            let mut alive = false;
            for engine in engines.iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
                alive = true;
            }
            if !alive {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("wasm-ticker".to_owned()).spawn(run);
    thread.map(drop).map_err(HostError::Thread)
}

/// Digest of all that a compiled module depends on beside its source. Displayed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compatibility(pub(crate) [u8; 32]);

impl Compatibility {
    pub(crate) fn of(engine: &Engine) -> Self {
        struct Absorb(Sha256);
        impl Hasher for Absorb {
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
            fn finish(&self) -> u64 {
                0
            }
        }
        let mut hasher = Absorb(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_is_optional_and_changes_nothing_for_compiled_modules() {
        let pooling = Runtime::new(RuntimeConfig { pooled_memories_max: 2, ..RuntimeConfig::default() }).unwrap();
        let plain = Runtime::new(RuntimeConfig { pooled_memories_max: 0, ..RuntimeConfig::default() }).unwrap();
        assert!(pooling.is_pooling());
        assert!(!plain.is_pooling());
        assert_eq!(pooling.compatibility(), plain.compatibility());
        assert_eq!(plain.compatibility().len(), 64);
    }

    #[test]
    fn compatibility_follows_the_settings() {
        let usual = Compatibility::of(&Engine::new(&engine_config()).unwrap());
        let mut other = engine_config();
        other.cranelift_nan_canonicalization(false);
        assert_ne!(Compatibility::of(&Engine::new(&other).unwrap()), usual);
    }
}
