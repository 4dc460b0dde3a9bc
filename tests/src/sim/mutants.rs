//! The checkers bite: each rule left out, and the seed at which that is seen. See `docs/mutants.md`.

use super::run::{Options, Outcome, run};
use super::shape::Shape;
use headwater_mutants::Mutant;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Within so many seeds, from 0 on, each mutant must be caught.
pub const SEEDS_MAX: u64 = 1000;

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

/// Every mutant but those that crash points, or the cleaner's tests, notice.
#[must_use]
pub fn of_the_simulator() -> Vec<Mutant> {
    let is_of_log = |mutant: &Mutant| Mutant::OF_CRASH_POINTS.contains(mutant) || Mutant::OF_CLEANER.contains(mutant);
    Mutant::ALL.iter().copied().filter(|mutant| !is_of_log(mutant)).collect()
}

/// What a run is told that goes without a rule.
#[must_use]
pub fn options(mutant: Mutant) -> Options {
    Options { mutant: Some(mutant), favours: Some(mutant), ..Options::default() }
}

/// The same shape with much of what a rule is about: rules about rare meetings of two faults need both.
#[must_use]
pub fn favour(mutant: Mutant, mut shape: Shape) -> Shape {
    let faults = &mut shape.faults;
    faults.full_write = 120;
    match mutant {
        Mutant::HalfBatchStays => {
            (faults.full_write, faults.power_cut, shape.segment_bytes) = (120, 40, 1024);
        }
        Mutant::CommitOutOfTurn => {
            (faults.full_write, faults.power_cut, shape.sync_us) = (240, 60, 20_000);
            (shape.processors, shape.step_records, shape.records, shape.record_us) = (2, 1, 400, 5_000);
        }
        Mutant::OlderEpochAccepted => {
            (faults.lost_connection, shape.network_us, shape.delivery_ms) = (120, 50_000, 800);
            shape.lingers = 100;
        }
        Mutant::InputAboveHighWatermark => (faults.power_cut, shape.processors) = (60, 2),
        _ => {}
    }
    shape
}

/// The first run that fails without the rule and holds with it.
fn first_failure(mutant: Mutant, seeds: u64) -> Option<Outcome> {
    let (options, whole) = (options(mutant), Options { mutant: None, ..options(mutant) });
    let fails = |outcome: &Outcome| outcome.violation.is_some() && run(outcome.seed, whole).violation.is_none();
    (0..seeds).map(|seed| run(seed, options)).find(fails)
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

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_mutants::{chosen, lacks, without};

    /// Mutant, rule and what it does instead, as docs/mutants.md has them.
    fn documented() -> Vec<String> {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mutants.md"));
        let page = page.unwrap_or_default();
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| row.split(" | ").take(3).collect::<Vec<_>>().join(" | ")).collect()
    }

    #[test]
    fn the_page_names_every_mutant() {
        let row = |mutant: &Mutant| format!("| `{}` | {} | {}", mutant.name(), mutant.rule(), mutant.instead());
        assert_eq!(documented(), Mutant::ALL.iter().map(row).collect::<Vec<_>>());
    }

    #[test]
    fn a_rule_is_left_out_within_one_call_on_one_thread() {
        let rule = Mutant::SendBeforeDurable;
        let inside = || (lacks(rule), lacks(Mutant::ReplayNothing), std::thread::spawn(chosen).join().ok());
        assert_eq!(without(Some(rule), inside), (true, false, Some(None)));
        assert_eq!(chosen(), None);
        assert!(std::panic::catch_unwind(|| without(Some(rule), || std::panic::resume_unwind(Box::new(0)))).is_err());
        assert_eq!(chosen(), None, "not after a panic either");
    }

    #[test]
    fn an_unknown_name_is_told_all_names() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::named(mutant.name()), Ok(*mutant));
        }
        let error = Mutant::named("no-crc").unwrap_err();
        assert!(error.contains("\"no-crc\"") && error.contains("replay-nothing"), "{error}");
    }

    // The gate: what nobody notices, nothing protects.
    #[test]
    fn every_mutant_is_caught() {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let hunted = hunt(&of_the_simulator(), SEEDS_MAX, threads, &|hunted| println!("{hunted}"));
        let missed: Vec<&str> = hunted.iter().filter(|it| it.caught.is_none()).map(|it| it.mutant.name()).collect();
        assert!(missed.is_empty(), "not noticed within {SEEDS_MAX} seeds: {}", missed.join(", "));
    }
}
