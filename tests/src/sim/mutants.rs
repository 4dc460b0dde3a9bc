//! The checkers bite: each rule left out, and the seed at which that is seen. See `docs/mutants.md`.

use super::run::{Options, Outcome, run};
use headwater_mutants::Mutant;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Within so many seeds, from 0 on, each mutant must be caught.
pub const SEEDS_MAX: u64 = 300;

/// What became of a mutant.
#[derive(Clone, Debug)]
pub struct Hunted {
    /// Which one.
    pub mutant: Mutant,
    /// The first run that failed.
    pub caught: Option<Outcome>,
}

/// Runs every mutant, from seed 0 on, until it is caught or `seeds` are over; so many at a time. `watch` is told each
/// outcome as it comes.
#[must_use]
pub fn hunt(mutants: &[Mutant], seeds: u64, threads: usize, watch: &(dyn Fn(&Hunted) + Sync)) -> Vec<Hunted> {
    let (next, hunted) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = Hunted { mutant: *mutant, caught: first_failure(*mutant, seeds) };
            watch(&found);
            hunted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(found);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut hunted = hunted.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    hunted.sort_by_key(|hunted| hunted.mutant);
    hunted
}

fn first_failure(mutant: Mutant, seeds: u64) -> Option<Outcome> {
    let options = Options { mutant: Some(mutant), ..Options::default() };
    (0..seeds).map(|seed| run(seed, options)).find(|outcome| outcome.violation.is_some())
}

impl std::fmt::Display for Hunted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, rule) = (self.mutant.name(), self.mutant.rule());
        match self.caught.as_ref().and_then(|outcome| Some((outcome.seed, outcome.violation.as_ref()?))) {
            Some((seed, violation)) => write!(f, "{name:<32} {rule:<8} seed {seed:<5} {violation}"),
            None => write!(f, "{name:<32} {rule:<8} NOT CAUGHT"),
        }
    }
}
