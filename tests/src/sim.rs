//! The deterministic simulator: one thread, one seed, the product's deciding code, log, state and loops.
//!
//! ```text
//!            ┌────────────────────────── run: a heap of events, one clock ──────────────────────────┐
//!   seed ──► │ shape     clients (workload) ══ network ══ nodes: drivers of broker::drive ── disk   │ ──► trace, hash
//!            │   └► faults ───────────────────────┴──────────────┴─────────────────────────────┘    │
//!            └──────────── checkers look on, and audit every log after each start ──────────────────┘ ──► violation?
//! ```
//!
//! `docs/simulation.md` says how to run it and how to read a trace.

pub mod campaign;
pub mod checker;
pub mod clock;
pub mod guest;
pub mod history;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod network;
pub mod node;
pub mod rng;
pub mod run;
#[cfg(test)]
mod scenarios;
pub mod shape;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod workload;
