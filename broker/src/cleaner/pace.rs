//! How fast the cleaner may read and write: so many bytes a second, on average over a moment.

use headwater_log::cleaner::Interrupted;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Shorter waits than this are saved up.
const WAIT_MIN: Duration = Duration::from_millis(5);
/// Longer ones are cut, so that a stop is noticed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Waits so that no more than so many bytes a second are handled.
pub(super) struct Pace<'a> {
    bytes_per_second: u64,
    stopping: &'a AtomicBool,
    /// When the bytes handled so far should have taken until now.
    due: Instant,
}

impl<'a> Pace<'a> {
    pub(super) fn new(bytes_per_second: u64, stopping: &'a AtomicBool) -> Self {
        Self { bytes_per_second, stopping, due: Instant::now() }
    }

    /// Waits until `bytes` more may be handled; ends the work when the broker stops.
    pub(super) fn wait(&mut self, bytes: u64) -> Result<(), Interrupted> {
        let now = Instant::now();
        // Time that was not used is not saved up: no burst follows a pause.
        self.due = self.due.max(now.checked_sub(WAIT_MAX).unwrap_or(now));
        self.due += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return Err(Interrupted);
            }
            let left = self.due.saturating_duration_since(Instant::now());
            if left < WAIT_MIN {
                return Ok(());
            }
            std::thread::sleep(left.min(WAIT_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_a_stop_is_noticed() {
        let stopping = AtomicBool::new(false);
        let mut pace = Pace::new(1_000_000, &stopping);
        let begun = Instant::now();
        for _ in 0..30 {
            pace.wait(10_000).unwrap();
        }
        assert!(begun.elapsed() > Duration::from_millis(180), "300 kB at 1 MB/s, but for what a moment allows");
        stopping.store(true, Ordering::Release);
        assert_eq!(pace.wait(1), Err(Interrupted));
    }
}
