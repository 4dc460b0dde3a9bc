//! Every decision of a Headwater broker, and nothing else: no clock, thread, file, socket or randomness.
//!
//! ```text
//!            events                    ┌──────────── core ────────────┐              commands
//!   a batch to append ───────────────► │ replica   one partition      │ ──► append it at this offset
//!   the write, the flush are done ───► │  └ producer  what was seen   │ ──► flush; answer now; HW moved
//!   time passed ─────────────────────► │ task      one task's steps   │ ──► commit, send, read on
//!                                      │ cluster   records → image    │
//!   an admin's request ──────────────► │           request → records  │ ──► records to propose, or why not
//!                                      └──────────────────────────────┘
//! ```
//!
//! A state machine here has `handle(now_ms, event)`, `poll_command()` and `poll_deadline()`. Its driver (the broker, or
//! the simulator) calls `handle` for what happened, runs every command that `poll_command` gives out, in order, and
//! calls `handle` again at the deadline if there is one. `now_ms` counts milliseconds on a clock that never goes back;
//! where it starts does not matter.
//!
//! Each machine also has `invariants()`, a check of its whole state that tests and the simulator make after each event.

pub mod cluster;
pub mod invariant;
pub mod limits;
pub mod producer;
pub mod replica;
pub mod task;
