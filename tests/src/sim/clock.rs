//! A broker's clocks: each begins somewhere, runs a little fast or slow, and its wall clock jumps.

use super::rng::Rng;
use headwater_broker::drive::Now;

/// Wall-clock time at which runs begin: 2026-01-01.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// The clocks of one machine.
#[derive(Clone, Debug)]
pub struct NodeClock {
    offset_ms: u64,
    /// Millionths that the clock runs fast, or slow.
    drift_ppm: i64,
    step_ms: i64,
}

impl NodeClock {
    /// Clocks drawn from `rng`; `wild` ones drift by up to a tenth.
    pub fn draw(rng: &mut Rng, wild: bool) -> Self {
        let drift = if wild { 100_000 } else { 50 };
        let drift_ppm = rng.between(0, 2 * drift).cast_signed() - drift.cast_signed();
        Self { offset_ms: rng.below(1 << 40), drift_ppm, step_ms: 0 }
    }

    /// The wall clock jumps by up to an hour, forwards or back.
    pub fn step(&mut self, rng: &mut Rng) -> i64 {
        self.step_ms = rng.between(0, 7_200_000).cast_signed() - 3_600_000;
        self.step_ms
    }

    /// What the clocks show when `at_us` microseconds of the run have passed.
    #[must_use]
    pub fn now(&self, at_us: u64) -> Now {
        let passed = i128::from(at_us) * i128::from(1_000_000 + self.drift_ppm) / 1_000_000_000;
        let passed_ms = u64::try_from(passed).unwrap_or(0);
        Now { ms: self.offset_ms + passed_ms, unix_ms: EPOCH_MS + passed_ms.cast_signed() + self.step_ms }
    }

    /// After how many microseconds of the run the monotone clock shows `ms`.
    #[must_use]
    pub fn reaches_us(&self, ms: u64) -> u64 {
        let passed = i128::from(ms.saturating_sub(self.offset_ms));
        let us = passed * 1_000_000_000 / i128::from(1_000_000 + self.drift_ppm);
        u64::try_from(us).unwrap_or(u64::MAX).saturating_add(1000)
    }
}
