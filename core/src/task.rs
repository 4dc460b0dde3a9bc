//! One task's steps: the step protocol in its inline form, where a commit carries the outputs themselves.
//!
//! ```text
//!   driver                          Task (this module)                    who acts
//!   ────────────────────────────────────────────────────────────────────────────────────────────────────────
//!   read input, run guest  ──► run_step(inputs, changes, outputs)
//!                                 │ AppendCommit  ──────────────────────► changelog partition (STEP-2 there)
//!   CommitAppended         ──►    │ waits for the high watermark
//!   ChangelogHighWatermark ──►    │ ApplyState    ──────────────────────► overlay settles into the store
//!                                 │ Send          ──────────────────────► output partitions (STEP-9 there)
//!   OutputReply            ──►    │ the floor moves, is written in the next commit, or in an empty one after 1 s
//!                                 │ Stop          ──────────────────────► this instance ends, another takes over
//! ```
//!
//! A task is made by a takeover: [`TaskImage`] is fed every commit of the changelog in order, durable or not, and
//! [`Task::take_over`] makes the machine of it. Rule ids STEP-1…18 are those of the step protocol;
//! `docs/step-commit.md` draws the bytes of a commit.

mod bisection;
pub mod commit;
mod image;
pub mod limits;
mod machine;
mod output;
mod takeover;
#[cfg(test)]
mod tests;
mod timers;
mod window;

pub use bisection::Bisection;
pub use image::{Pending, ReplayError, Replayed, TaskImage};
pub use machine::{
    OutputAnswer, OutputReply, StepError, StepRun, StopReason, Task, TaskCommand, TaskConfig, TaskEvent, TaskLimits,
};
pub use takeover::TakeoverError;
