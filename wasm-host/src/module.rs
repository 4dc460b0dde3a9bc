//! A module, compiled once and shared by all its instances.

use crate::error::HostError;
use crate::inspect::World;
use crate::instance::StoreData;
use crate::runtime::{GuestEngine, Runtime};
use headwater_protocol::ids::ModuleDigest;
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, Weak};
use wasmtime::component::{Component, InstancePre};

/// A compiled module, ready to make instances of. Cheap to clone; the machine code goes with the last clone.
#[derive(Clone)]
pub struct CompiledModule(Arc<Compiled>);

pub(crate) struct Compiled {
    digest: ModuleDigest,
    world: World,
    runtime: Runtime,
    pooled: Option<InstancePre<StoreData>>,
    /// Made when it is first needed: most modules never leave the pool.
    on_demand: Mutex<Option<InstancePre<StoreData>>>,
}

/// Machine code that this broker's compiler made: only such may be loaded, because loading runs it.
pub(crate) struct TrustedArtefact(Vec<u8>);

impl TrustedArtefact {
    /// To be called by the two who know: the cache, after authentication, and the parent of the compiling process.
    pub(crate) fn vouch_for(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl CompiledModule {
    /// Maps machine code into memory and links it with the contract's interfaces.
    pub(crate) fn load(
        runtime: &Runtime,
        digest: ModuleDigest,
        world: World,
        artefact: &TrustedArtefact,
    ) -> Result<Self, HostError> {
        // A component may be too large for the pool's slots; then it lives outside.
        let pooled = runtime.pooled().and_then(|engine| prepare(engine, artefact).ok());
        let on_demand = match pooled {
            Some(_) => None,
            None => Some(prepare(runtime.on_demand(), artefact)?),
        };
        let runtime = runtime.clone();
        Ok(Self(Arc::new(Compiled { digest, world, runtime, pooled, on_demand: Mutex::new(on_demand) })))
    }

    /// SHA-256 of the module.
    pub fn digest(&self) -> ModuleDigest {
        self.0.digest
    }

    /// World that it targets.
    pub fn world(&self) -> World {
        self.0.world
    }

    pub(crate) fn pooled(&self) -> Option<&InstancePre<StoreData>> {
        self.0.pooled.as_ref()
    }

    /// For instances outside the pool.
    pub(crate) fn on_demand(&self) -> Result<InstancePre<StoreData>, HostError> {
        let mut on_demand = self.0.on_demand.lock();
        if let Some(prepared) = &*on_demand {
            return Ok(prepared.clone());
        }
        let Some(pooled) = &self.0.pooled else {
            return Err(HostError::Load("it was never loaded".to_owned()));
        };
        let code = pooled.component().serialize().map_err(|error| HostError::Load(format!("{error:#}")))?;
        let prepared = prepare(self.0.runtime.on_demand(), &TrustedArtefact::vouch_for(code))?;
        *on_demand = Some(prepared.clone());
        Ok(prepared)
    }

    pub(crate) fn downgrade(&self) -> Weak<Compiled> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn upgrade(compiled: &Weak<Compiled>) -> Option<Self> {
        compiled.upgrade().map(Self)
    }
}

impl fmt::Debug for CompiledModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledModule").field("digest", &self.0.digest).field("world", &self.0.world).finish()
    }
}

fn prepare(engine: &GuestEngine, artefact: &TrustedArtefact) -> Result<InstancePre<StoreData>, HostError> {
    let component = deserialize(engine, artefact);
    let prepared = component.and_then(|component| engine.linker.instantiate_pre(&component));
    prepared.map_err(|error| HostError::Load(format!("{error:#}")))
}

#[expect(unsafe_code, reason = "loading machine code is unsafe by nature; the type says who made it")]
fn deserialize(engine: &GuestEngine, artefact: &TrustedArtefact) -> wasmtime::Result<Component> {
    // SAFETY: a `TrustedArtefact` holds bytes that this broker's compiler made, unchanged: either they come straight
    // from the compiling process, or they carry this broker's authentication code, which was checked over the very
    // bytes that are passed here. Wasmtime itself checks version and settings.
    unsafe { Component::deserialize(&engine.engine, artefact.bytes()) }
}
