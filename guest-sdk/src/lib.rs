//! What authors of Headwater modules link.
//!
//! ```text
//!            broker ──────────────┐                        ┌────────────── unit test
//!   wasm-host: checks, limits     │                        │   testing: the same in memory
//!                                 ▼                        ▼
//!                      abi (generated from wit/)      testing::TestRunner
//!                                 └──────► instance ◄──────┘       one code path for both
//!                                             │
//!             Batch ─ index + bytes, read ────┤──── Context ─ outputs: gathered, one emit a batch
//!             in place, no copy               │             ─ stores: read and written packed, cached for one call
//!                                             ▼             ─ timers on stream time
//!                          your Processor or RecordProcessor
//!
//!             KeyExtractor (feature `key-extractor`): a record in, the key that compaction goes by out
//! ```
//!
//! A processor in twenty lines; `docs/processors.md` says how to build, upload and deploy it:
//!
//! ```
//! use headwater_guest_sdk::{export_processor, Context, Deployment, Failure, OutRecord, Record, RecordProcessor};
//!
//! /// Keeps a running sum per key: key → amount in, key → sum out.
//! struct Sum;
//!
//! impl RecordProcessor for Sum {
//!     fn init(deployment: &Deployment) -> Result<Self, String> {
//!         deployment.needs(1, 1)?; // one output, one store
//!         Ok(Self)
//!     }
//!
//!     fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
//!         let amount: i64 = record.value_text().parse().map_err(|error| record.failure(error))?;
//!         let key = record.key.unwrap_or_default();
//!         let store = context.store(0)?;
//!         let old = store.get(key)?.map_or(0, |old| i64::from_be_bytes(old.try_into().unwrap_or_default()));
//!         let sum = old.saturating_add(amount);
//!         store.put(key, &sum.to_be_bytes())?;
//!         Ok(context.emit(0, OutRecord::at(record.timestamp).key(key).value(&sum.to_string()))?)
//!     }
//! }
//!
//! export_processor!(Sum);
//! #
//! # use headwater_guest_sdk::testing::TestRunner;
//! # let mut runner = TestRunner::<Sum>::new(Deployment::for_test().output("sums").store("sums")).unwrap();
//! # runner.run([("a", "5"), ("b", "1"), ("a", "-2")]).unwrap();
//! # let sums: Vec<_> = runner.take_output(0).iter().map(|r| format!("{} {}", r.key_text(), r.value_text())).collect();
//! # assert_eq!(sums, ["a 5", "b 1", "a 3"]);
//! # assert_eq!(runner.run([("a", "1"), ("a", "x")]).unwrap_err().index, Some(1));
//! ```

#![cfg_attr(
    all(target_arch = "wasm32", feature = "key-extractor"),
    allow(dead_code, unreachable_pub, reason = "what only processors use is still compiled, and tested natively")
)]

#[cfg(all(target_arch = "wasm32", not(feature = "key-extractor")))]
pub mod abi;
mod context;
mod data;
mod deployment;
mod error;
mod extractor;
#[cfg(all(target_arch = "wasm32", feature = "key-extractor"))]
pub mod extractor_abi;
mod header;
mod host;
mod instance;
pub mod limits;
pub mod log;
mod output;
mod packed;
mod processor;
mod record;
mod store;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod timer;

pub use context::Context;
pub use data::Data;
#[cfg(feature = "json")]
pub use data::Json;
#[cfg(feature = "postcard")]
pub use data::Postcard;
pub use deployment::Deployment;
pub use error::{ContractError, EmitError, Failure, StateError, TimerError};
pub use extractor::{KeyExtractor, Settings, Verdict};
pub use header::{Header, Headers};
pub use log::Level;
pub use output::{OutRecord, Outputs};
pub use processor::{Processor, RecordProcessor};
pub use record::{Batch, Record, Records};
pub use store::{Entry, Scan, Store, Stores};
pub use timer::{DueTimer, DueTimers, Timers};

// The page's example is compiled and run with the doc-tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/processors.md")]
struct ProcessorsPage;

#[cfg(doctest)]
#[doc = include_str!("../../docs/compaction.md")]
struct CompactionPage;
