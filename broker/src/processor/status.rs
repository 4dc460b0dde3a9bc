//! What `describe` shows of a task; written by its thread, read by anybody.

use headwater_protocol::messages::processor::{ShadowReport, TaskDescription, TaskError, TaskState};

/// A task as its thread last described it.
#[derive(Clone, Debug)]
pub struct TaskStatus {
    /// What it does.
    pub state: TaskState,
    /// Next offset to read of each input.
    pub positions: Vec<i64>,
    /// Steps committed, ever.
    pub steps: u64,
    /// Records processed since the task started here.
    pub records_in: u64,
    /// Records emitted since the task started here.
    pub records_out: u64,
    /// Bytes in its stores.
    pub state_bytes: u64,
    /// Linear memory of its instance.
    pub memory_bytes: u64,
    /// CPU time of its guest in microseconds, all instances together.
    pub cpu_us: u64,
    /// Instances after the first.
    pub restarts: u64,
    /// Records that the error policy left out.
    pub skipped: u64,
    /// Records that it wrote to the dead letter topic.
    pub dead_lettered: u64,
    /// What the shadow did.
    pub shadow: Option<ShadowReport>,
    /// How long the newest swap took, in microseconds.
    pub swap_us: Option<u64>,
    /// The last error.
    pub last_error: Option<TaskError>,
}

impl Default for TaskStatus {
    fn default() -> Self {
        Self {
            state: TaskState::Starting,
            positions: Vec::new(),
            steps: 0,
            records_in: 0,
            records_out: 0,
            state_bytes: 0,
            memory_bytes: 0,
            cpu_us: 0,
            restarts: 0,
            skipped: 0,
            dead_lettered: 0,
            shadow: None,
            swap_us: None,
            last_error: None,
        }
    }
}

impl TaskStatus {
    /// As a client sees it; `high_watermark` by number of the input.
    pub(crate) fn describe(self, task: u32, high_watermark: impl Fn(usize) -> Option<i64>) -> TaskDescription {
        let positions: Vec<(i64, i64)> = self
            .positions
            .iter()
            .enumerate()
            .map(|(input, position)| (*position, high_watermark(input).unwrap_or(*position)))
            .collect();
        let behind = |(position, high_watermark): &(i64, i64)| u64::try_from(high_watermark - position).unwrap_or(0);
        TaskDescription {
            task,
            state: self.state,
            lag: positions.iter().map(behind).sum(),
            positions,
            steps: self.steps,
            records_in: self.records_in,
            records_out: self.records_out,
            state_bytes: self.state_bytes,
            memory_bytes: self.memory_bytes,
            cpu_us: self.cpu_us,
            restarts: self.restarts,
            skipped: self.skipped,
            dead_lettered: self.dead_lettered,
            shadow: self.shadow,
            swap_us: self.swap_us,
            last_error: self.last_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_is_committed_and_not_processed_over_all_inputs() {
        let status = TaskStatus { positions: vec![5, 7], ..TaskStatus::default() };
        let described = status.describe(3, |input| [Some(9), Some(7)][input]);
        assert_eq!((described.task, described.lag), (3, 4));
        assert_eq!(described.positions, [(5, 9), (7, 7)]);
    }
}
