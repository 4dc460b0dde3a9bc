//! State of a processor's task: what its guest has put under which key.
//!
//! ```text
//!        guest: get-many, scan                guest: put-many
//!                 |                                 |
//!                 v      newest first               v
//!   Overlay   [ open step ]  changes of the step that runs now; dropped when it fails
//!             [ step 12   ]  appended to the changelog, not yet below its high watermark
//!             [ step 11   ]  the same; settles first
//!                 |                  |
//!                 | reads fall       | settle: below the high watermark only
//!                 v  through         v
//!   StateStore { (store number, key) -> value }  +  ChangelogPosition, written in one atomic batch
//! ```
//!
//! One task's stores share one key space, ordered by store number, then by key bytes. A [`StateStore`] holds what is
//! below the changelog's high watermark and nothing else, and the [`ChangelogPosition`] it came from is part of the
//! same atomic write (STEP-1, STEP-13): a store is never ahead of the changelog, and a restart replays only the tail.
//! This crate knows neither topics nor wasm; who feeds it decides what is durable.

#[cfg(any(test, feature = "contract"))]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test suite, compiled for other crates' tests")]
pub mod contract;

mod changes;
pub mod limits;
mod memory;
mod overlay;
mod store;

pub use changes::{StateChange, StateChanges};
pub use memory::MemoryStore;
pub use overlay::{Overlay, OverlayError, OverlayLimits};
pub use store::{ChangelogPosition, Found, Scan, StateError, StateStore, StoreNumber, Visit, entry_bytes};
