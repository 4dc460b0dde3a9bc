//! Runs the modules that users upload: the only crate that knows wasmtime, and no type of it shows.
//!
//! ```text
//!  upload ──▶ inspect ──▶ Loader::load ───────────────────────────────▶ CompiledModule
//!             not wasm,     │ cache: (digest, engine, CPU), authenticated        │ compiled once,
//!             other world,  │                                                    │ shared by all tasks
//!             imports …     └─ miss: child process of this binary,               ▼
//!                              few rights, little memory, one at a time   ProcessorInstance (one per task)
//!                                                                         │ init, process, on-timers
//!        one batch a call: 40-byte index + the records' own bytes ──────▶ │  ┌───────────────┐
//!                                                                         │  │ guest         │
//!        ProcessorHost (the broker's task) ◀── output, state, ◀───────────│◀─│ memory ≤ limit│
//!          sees only what was checked          timers, log                │  │ CPU ≤ budget  │
//!                                              one file each: host/       │  └───────────────┘
//!                                                                         ▼
//!                                              Ok, or CallError::{Guest, Host} and the instance is gone
//! ```
//!
//! Trust: everything that comes from a guest (positions, lengths, counts, text) is checked here, before
//! [`ProcessorHost`] sees it. A guest's fault is a [`GuestFailure`]; ours is a [`HostError`]. Guests run synchronously,
//! on threads of their own with at least [`limits::GUEST_THREAD_STACK_BYTES`] of stack; nothing here is `async`.
//! The contract with guests is `guest-sdk/wit/headwater.wit`.

mod bindings;
mod cache;
mod compile;
mod componentize;
mod cpu;
mod error;
mod extractor;
mod failure;
mod features;
mod frames;
mod hmac;
mod host;
mod inspect;
mod instance;
mod limiter;
pub mod limits;
mod loader;
mod module;
mod packed;
mod records;
mod runtime;
#[cfg(test)]
mod testing;

pub use compile::{CompileLimits, CompilerCommand, compile_child_main};
pub use componentize::{ComponentizeError, componentize};
pub use error::{HostError, LoadError};
pub use extractor::{KeyExtractorInstance, KeyVerdict, KeyVerdicts};
pub use failure::{CallError, GuestFailure, TrapReport};
pub use host::{EmitError, HostFault, ProcessorHost, ScanRange, StateError, TimerError};
pub use inspect::{InspectLimits, ModuleInspection, ModuleRefusal, World, inspect};
pub use instance::{Deployment, InputBatch, InstanceUsage, ProcessorInstance, Stopper};
pub use limits::InstanceLimits;
pub use loader::{Loader, LoaderConfig};
pub use module::CompiledModule;
pub use packed::{Full, Malformed, PackedEntries, PackedKeys, PackedTimers, PackedWriter, encode_timers};
pub use records::{EmittedRecord, EmittedRecords, InputAssembly, InputError, InputIndex};
pub use runtime::{Runtime, RuntimeConfig};
