//! Steps from the floor to the tip, and what of their outputs is not acknowledged (STEP-12, STEP-15).

use std::collections::VecDeque;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct StepOutputs {
    unacknowledged_batches: u32,
}

/// The window of steps that are not wholly acknowledged; the first one is the floor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Window {
    /// Step of `steps[0]`; the next step when there is none.
    floor: u64,
    steps: VecDeque<StepOutputs>,
    unacknowledged_bytes: usize,
}

impl Window {
    /// Nothing is unacknowledged; the next step is `next_step`.
    pub(super) fn new(next_step: u64) -> Self {
        Self { floor: next_step, steps: VecDeque::new(), unacknowledged_bytes: 0 }
    }

    /// The next step writes so many batches and bytes.
    pub(super) fn push(&mut self, batches: u32, bytes: usize) {
        self.steps.push_back(StepOutputs { unacknowledged_batches: batches });
        self.unacknowledged_bytes += bytes;
        self.settle();
    }

    /// A batch of `step` was acknowledged.
    pub(super) fn acknowledge(&mut self, step: u64, bytes: usize) {
        let place = step.checked_sub(self.floor).and_then(|place| usize::try_from(place).ok());
        let outputs = place.and_then(|place| self.steps.get_mut(place));
        debug_assert!(outputs.is_some(), "a step below the floor has nothing left to acknowledge");
        if let Some(outputs) = outputs {
            debug_assert!(outputs.unacknowledged_batches > 0, "no batch is acknowledged twice");
            outputs.unacknowledged_batches = outputs.unacknowledged_batches.saturating_sub(1);
            self.unacknowledged_bytes = self.unacknowledged_bytes.saturating_sub(bytes);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while self.steps.front().is_some_and(|step| step.unacknowledged_batches == 0) {
            self.steps.pop_front();
            self.floor += 1;
        }
    }

    /// Lowest step with an unacknowledged output; the next step if there is none.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The step after the tip.
    pub(super) fn next_step(&self) -> u64 {
        self.floor + self.steps.len() as u64
    }

    /// Steps from the floor to the tip.
    pub(super) fn steps(&self) -> u64 {
        self.steps.len() as u64
    }

    pub(super) fn unacknowledged_bytes(&self) -> usize {
        self.unacknowledged_bytes
    }

    pub(super) fn unacknowledged_batches(&self) -> usize {
        self.steps.iter().map(|step| step.unacknowledged_batches as usize).sum()
    }
}
