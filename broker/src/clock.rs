//! The one clock of the broker: everything that decides gets the time as an argument that came from here.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time in milliseconds since the Unix epoch; 0 for a clock set before 1970.
#[must_use]
pub(crate) fn unix_time_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// A moment on both clocks: what decides takes it as an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Milliseconds on a clock that never goes back; where it starts does not matter.
    pub ms: u64,
    /// Wall-clock time in milliseconds since the Unix epoch.
    pub unix_ms: i64,
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

    /// This moment.
    pub(crate) fn now(self) -> Now {
        Now { ms: self.now_ms(), unix_ms: unix_time_ms() }
    }

    /// Milliseconds since [`Self::start`].
    pub(crate) fn now_ms(self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
