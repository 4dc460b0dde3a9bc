//! Every limit of a task, its unit last. The first four bound what a takeover costs (STEP-15).

/// Steps appended or on their way to the changelog that are not below its high watermark yet.
pub const UNCOMMITTED_STEPS_MAX: usize = 8;

/// Steps from the floor to the tip: what a takeover may have to send again.
pub const UNACKNOWLEDGED_STEPS_MAX: u64 = 32;

/// Bytes of outputs that are not acknowledged; a step is begun below it and may go beyond it.
pub const UNACKNOWLEDGED_BYTES_MAX: usize = 32 << 20;

/// Batches on their way to one output partition.
pub const INFLIGHT_BATCHES_MAX: usize = 5;

/// How long acknowledged outputs may be missing from the recorded floor, in milliseconds, before an empty commit
/// records it.
pub const FLOOR_DELAY_MS: u64 = 1_000;

/// Pause before an output that could not be written for now is sent again, in milliseconds: the first, and the longest.
pub const RETRY_DELAY_MS: (u64, u64) = (20, 1_000);

/// Timers of one task.
pub const TIMERS_MAX: usize = 1 << 20;

/// Bytes of a timer's id.
pub const TIMER_ID_BYTES_MAX: usize = 1 << 10;

/// Bytes of the cause that a commit keeps with a skipped or dead-lettered record; the rest is cut off.
pub const CAUSE_BYTES_MAX: usize = 1 << 10;
