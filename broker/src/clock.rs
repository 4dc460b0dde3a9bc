//! The one clock of the broker: everything that decides gets the time as an argument that came from here.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time in milliseconds since the Unix epoch; 0 for a clock set before 1970.
#[must_use]
pub(crate) fn unix_time_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// A monotone clock that counts milliseconds from the broker's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MonotonicClock {
    started: Instant,
}

impl MonotonicClock {
    /// A clock that stands at 0.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Milliseconds since [`Self::start`].
    pub(crate) fn now_ms(self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
