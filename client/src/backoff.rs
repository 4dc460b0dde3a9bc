//! How long to pause before trying again: doubling, bounded, with jitter. Pure: the caller owns clock and sleep.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Pauses that double from a first one up to a longest one; each is cut by up to a quarter, so that clients which lost
/// the same broker don't all come back in the same instant.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    jitter: u64,
}

impl Backoff {
    /// Pauses from `first` to `longest`, with jitter that no other instance shares.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self::seeded(first, longest, RandomState::new().build_hasher().finish())
    }

    /// As [`Self::new`] with a known jitter.
    pub(crate) fn seeded(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, failures: 0, jitter: seed | 1 }
    }

    /// The pause after one more failure.
    pub(crate) fn fail(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        // xorshift64: only to spread pauses.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let full = doubled.min(self.longest);
        full - full / 4 * ((self.jitter >> 32) as u32 % 1024) / 1024
    }

    /// It worked: the next failure pauses for the first pause again.
    pub(crate) fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_success() {
        let ms = Duration::from_millis;
        for seed in 0..100 {
            let mut backoff = Backoff::seeded(ms(100), ms(450), seed);
            for full in [100, 200, 400, 450, 450] {
                let pause = backoff.fail();
                assert!(pause <= ms(full) && pause >= ms(full * 3 / 4), "{pause:?} of {full}");
            }
            backoff.succeed();
            assert!(backoff.fail() <= ms(100));
        }
    }

    #[test]
    fn many_failures_neither_overflow_nor_exceed() {
        let mut backoff = Backoff::seeded(Duration::from_secs(1), Duration::from_secs(60), 7);
        assert!((0..1000).all(|_| backoff.fail() <= Duration::from_secs(60)));
    }
}
