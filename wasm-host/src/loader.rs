//! From a module's bytes to something that instances are made of: in memory already, on disk, or compiled.

use crate::cache::Cache;
use crate::compile::{CompileLimits, CompilerCommand, compile};
use crate::error::{HostError, LoadError};
use crate::inspect::{InspectLimits, World, inspect};
use crate::limits;
use crate::module::{Compiled, CompiledModule, TrustedArtefact};
use crate::runtime::Runtime;
use headwater_protocol::ids::ModuleDigest;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

/// How modules are compiled and kept.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Directory of compiled forms: the broker's alone, and nothing is lost with it.
    pub cache_dir: PathBuf,
    /// Bytes of compiled forms that are kept.
    pub cache_bytes_max: u64,
    /// The program that compiles.
    pub command: CompilerCommand,
    /// What one compilation may take.
    pub compile: CompileLimits,
    /// How large a module may be.
    pub inspect: InspectLimits,
}

impl LoaderConfig {
    /// The default limits.
    pub fn new(cache_dir: impl Into<PathBuf>, command: CompilerCommand) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            cache_bytes_max: limits::CACHE_BYTES_MAX,
            command,
            compile: CompileLimits::default(),
            inspect: InspectLimits::default(),
        }
    }
}

/// Loads modules. Shared by all tasks; every method may be called from any thread.
pub struct Loader {
    runtime: Runtime,
    config: LoaderConfig,
    cache: Cache,
    /// What instances use now.
    loaded: Mutex<BTreeMap<ModuleDigest, Weak<Compiled>>>,
    /// One compilation at a time, whatever is uploaded at once.
    compiling: Mutex<()>,
    compilations: AtomicU64,
    cache_hits: AtomicU64,
}

impl Loader {
    /// Opens the cache.
    ///
    /// # Errors
    /// [`HostError::Cache`]
    pub fn open(runtime: Runtime, config: LoaderConfig) -> Result<Self, HostError> {
        let cache = Cache::open(&config.cache_dir, runtime.engine_compatibility(), config.cache_bytes_max)?;
        Ok(Self {
            runtime,
            config,
            cache,
            loaded: Mutex::default(),
            compiling: Mutex::default(),
            compilations: AtomicU64::new(0),
            cache_hits: AtomicU64::new(0),
        })
    }

    /// Loads the module of this digest, whose bytes are `component` (the caller has compared them). Blocks: a first
    /// time takes as long as compiling does, and waits for its turn.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load(&self, digest: ModuleDigest, component: &[u8]) -> Result<CompiledModule, LoadError> {
        if let Some(module) = self.loaded(&digest) {
            return Ok(module);
        }
        let world = inspect(component, &self.config.inspect)?.world;
        if let Some(module) = self.load_cached(digest, world)? {
            return Ok(module);
        }
        let _turn = self.compiling.lock();
        // Somebody may have compiled it while we waited.
        if let Some(module) = self.loaded(&digest) {
            return Ok(module);
        }
        if let Some(module) = self.load_cached(digest, world)? {
            return Ok(module);
        }
        self.compilations.fetch_add(1, Ordering::Relaxed);
        let compatibility = self.runtime.engine_compatibility();
        let code = compile(&self.config.command, &self.config.compile, compatibility, component)?;
        if let Err(error) = self.cache.put(&digest, &code) {
            // It runs all the same; the next start compiles it again.
            tracing::warn!(%digest, %error, "a compiled module was not kept");
        }
        Ok(self.publish(digest, world, &code)?)
    }

    /// Deletes the compiled form on disk. Instances that use it go on.
    ///
    /// # Errors
    /// [`HostError::Cache`]
    pub fn forget(&self, digest: &ModuleDigest) -> Result<(), HostError> {
        self.loaded.lock().remove(digest);
        self.cache.remove(digest)
    }

    /// Compilations begun since this was opened.
    pub fn compilations(&self) -> u64 {
        self.compilations.load(Ordering::Relaxed)
    }

    /// Modules that came from the cache since this was opened.
    pub fn cache_hits(&self) -> u64 {
        self.cache_hits.load(Ordering::Relaxed)
    }

    fn loaded(&self, digest: &ModuleDigest) -> Option<CompiledModule> {
        self.loaded.lock().get(digest).and_then(CompiledModule::upgrade)
    }

    fn load_cached(&self, digest: ModuleDigest, world: World) -> Result<Option<CompiledModule>, HostError> {
        let Some(code) = self.cache.get(&digest) else {
            return Ok(None);
        };
        self.cache_hits.fetch_add(1, Ordering::Relaxed);
        self.publish(digest, world, &code).map(Some)
    }

    /// Of two who load the same module at once, both get the first one's.
    fn publish(&self, digest: ModuleDigest, world: World, code: &TrustedArtefact) -> Result<CompiledModule, HostError> {
        let module = CompiledModule::load(&self.runtime, digest, world, code)?;
        let mut loaded = self.loaded.lock();
        if let Some(earlier) = loaded.get(&digest).and_then(CompiledModule::upgrade) {
            return Ok(earlier);
        }
        loaded.retain(|_, module| module.strong_count() > 0);
        loaded.insert(digest, module.downgrade());
        Ok(module)
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("config", &self.config).finish_non_exhaustive()
    }
}
