//! What must hold of a task between any two events.

use super::Task;
use crate::invariant::{Violation, holds};
use crate::task::output::OutputQueue;

impl Task {
    /// Checks the whole state.
    ///
    /// # Errors
    /// The sentence that should have held.
    pub fn invariants(&self) -> Result<(), Violation> {
        holds(self.durable_floor <= self.recorded_floor, "the durable floor is not beyond the recorded one (STEP-12)")?;
        let floor = self.window.floor();
        // A commit without outputs may record its own step + 1 when all before it is acknowledged.
        holds(self.recorded_floor <= floor, "no commit records a floor beyond what is acknowledged (STEP-12)")?;
        holds(floor <= self.window.next_step(), "the floor is at most tip + 1 (STEP-12)")?;
        holds(self.pending.len() as u64 <= self.next_step(), "uncommitted steps are steps")?;
        let steps = || self.pending.iter().map(|pending| pending.step);
        holds(steps().zip(steps().skip(1)).all(|(one, two)| one < two), "commits come in the order of their steps")?;
        // Below the floor some may have been cleaned away (STEP-13).
        let needed = steps().filter(|step| *step >= self.recorded_floor).collect::<Vec<_>>();
        let first = self.next_step() - needed.len() as u64;
        holds((first..).zip(&needed).all(|(due, step)| due == *step), "steps leave no hole (STEP-2)")?;
        let offsets = self.pending.iter().map_while(|pending| pending.next_offset);
        let appended = offsets.clone().count();
        holds(offsets.clone().zip(offsets.skip(1)).all(|(one, two)| one < two), "commits lie in the log in order")?;
        holds(
            self.pending.iter().skip(appended).all(|pending| pending.next_offset.is_none()),
            "commits are appended in order (STEP-2)",
        )?;
        holds(self.outputs.values().all(OutputQueue::is_sound), "numbers leave no hole (STEP-8)")?;
        let batches: usize = self.outputs.values().map(OutputQueue::batches).sum();
        holds(batches == self.window.unacknowledged_batches(), "the window counts what the queues hold (STEP-12)")?;
        holds(self.timers.agree(), "each timer has its place by time")
    }
}
