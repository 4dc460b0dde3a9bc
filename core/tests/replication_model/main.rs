//! The replication design, searched completely at small size, before any of it is built.
//!
//! ```text
//!  model ── actions ──► state ◄── laws: what must hold in every state (REP-1…5, 7, 11–13, 18, TRN-1…4)
//!    │                    ▲
//!    ├─ controller ───────┤  elections, fencing, AlterPartition, registration, recovery
//!    ├─ leader ───────────┤  append, high watermark, who is in sync
//!    └─ follower ─────────┘  fetch, truncate, acknowledge, hear of elections
//!
//!  searches ────────── complete: no law is broken in any state that the bounds allow
//!  counter_examples ── each rule taken out: the law that breaks, by the shortest way
//! ```
//!
//! docs/replication-model.md tells what is modelled and what is not.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod brokers;
mod canonical;
mod controller;
mod counter_examples;
mod follower;
mod laws;
mod leader;
mod log;
mod model;
mod removal;
mod searches;
mod state;
