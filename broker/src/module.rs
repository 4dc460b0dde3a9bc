//! Modules on this broker: their bytes, and what they compile to.

mod store;

pub(crate) use store::{ModuleStore, ModuleStoreError, digest_of};

use crate::config::ModulesConfig;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::ModuleDigest;
use headwater_wasm_host::{
    CompileLimits, CompiledModule, CompilerCommand, HostError, InspectLimits, LoadError, Loader, LoaderConfig,
    ModuleInspection, Runtime, RuntimeConfig, inspect,
};
use std::path::Path;
use std::time::Duration;

/// The hidden subcommand under which the binary is its own compiler.
pub const COMPILE_SUBCOMMAND: &str = "compile-module";

/// Inspects, stores, compiles, loads.
pub(crate) struct Modules {
    store: ModuleStore,
    loader: Loader,
    limits: InspectLimits,
}

/// Why modules can't be served at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModulesError {
    /// Disk.
    #[error(transparent)]
    Store(#[from] ModuleStoreError),
    /// Us, or the system.
    #[error("the wasm runtime: {0}")]
    Host(#[from] HostError),
}

impl Modules {
    /// Opens the stores below the data directory.
    pub(crate) fn open(
        data_dir: &Path,
        config: &ModulesConfig,
        compiler: CompilerCommand,
    ) -> Result<Self, ModulesError> {
        let store = ModuleStore::open(data_dir.join("modules"))?;
        let runtime = Runtime::new(RuntimeConfig::default())?;
        let limits = InspectLimits {
            component_bytes_max: config.module_bytes_max,
            functions_max: u32::try_from(config.functions_max).unwrap_or(u32::MAX),
            ..InspectLimits::default()
        };
        let compile = CompileLimits {
            memory_bytes_max: config.compile_memory_bytes_max,
            cpu_max: Duration::from_secs(config.compile_cpu_seconds_max),
            wall_clock_max: Duration::from_secs(config.compile_seconds_max),
            ..CompileLimits::default()
        };
        let loader = Loader::open(
            runtime,
            LoaderConfig {
                cache_dir: data_dir.join("compiled"),
                cache_bytes_max: COMPILED_BYTES_MAX,
                command: compiler,
                compile,
                inspect: limits,
            },
        )?;
        Ok(Self { store, loader, limits })
    }

    /// Accepts a module: looks at it, stores it, compiles it. A module that can't be used is refused with the reason.
    /// Blocks for as long as the compilation takes.
    pub(crate) fn accept(&self, bytes: &[u8]) -> Result<(ModuleDigest, ModuleInspection), ApiError> {
        let refused = |reason: String| ApiError::new(ErrorCode::InvalidModule, format!("module refused: {reason}"));
        let inspection = inspect(bytes, &self.limits).map_err(|refusal| refused(refusal.to_string()))?;
        let digest = digest_of(bytes);
        self.loader.load(digest, bytes).map_err(|error| match error {
            LoadError::Host(_) => ApiError::new(ErrorCode::UnknownServerError, error.to_string()),
            _ => refused(error.to_string()),
        })?;
        let stored = self.store.put(bytes).map_err(|error| storage_error(&error))?;
        debug_assert_eq!(stored, digest);
        Ok((digest, inspection))
    }

    /// The compiled form of a stored module. Blocks.
    pub(crate) fn load(&self, digest: ModuleDigest) -> Result<CompiledModule, ApiError> {
        let bytes = self.store.get(digest).map_err(|error| storage_error(&error))?;
        self.loader
            .load(digest, &bytes)
            .map_err(|error| ApiError::new(ErrorCode::UnknownServerError, format!("module {digest}: {error}")))
    }

    /// Removes what no metadata names any more.
    pub(crate) fn forget(&self, digest: ModuleDigest) {
        if let Err(error) = self.store.remove(digest) {
            tracing::warn!(%digest, %error, "a deleted module's file stays");
        }
        if let Err(error) = self.loader.forget(&digest) {
            tracing::warn!(%digest, %error, "a deleted module's compiled form stays");
        }
    }
}

/// Bytes of compiled modules that are kept.
const COMPILED_BYTES_MAX: u64 = 4 << 30;

fn storage_error(error: &ModuleStoreError) -> ApiError {
    ApiError::new(ErrorCode::KafkaStorageError, error.to_string())
}
