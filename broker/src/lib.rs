//! The Headwater broker: everything put together, in one place.
//!
//! ```text
//!   client ══ QUIC ══► connection ──► api ──┬──► partition ──► core::replica + log     one driver loop a thread
//!                                           ├──► metadata  ──► core::cluster + log     decide, commit, apply, publish
//!                                           ├──► module    ──► wasm-host               inspect, compile, load
//!                                           └──► processor ──► core::task + state      one thread a task
//!   operator ── HTTP ─► admin_http (metrics, health)            ▲
//!                                                               └── reads and writes partitions like anybody else
//!   cleaner: of the records of a key only the newest stays    (a thread of its own)
//! ```
//!
//! Nothing here decides what `core` decides: a driver hands events in and carries commands out.

mod admin_http;
mod api;
mod cleaner;
mod clock;
pub mod config;
mod connection;
mod disk;
pub mod drive;
mod fail_point;
mod identity;
pub mod local;
mod mailbox;
mod metadata;
mod metrics;
mod module;
mod open_files;
mod partition;
mod processor;
mod start;

pub use config::{BrokerConfig, ClientAuthentication, ConfigError};
pub use headwater_wasm_host::CompilerCommand;
pub use identity::IdentityError;
pub use module::COMPILE_SUBCOMMAND;
pub use start::{RunningBroker, StartError, make_data_directory, start};
