//! Crash points: every operation of the log, the machine stopped at each of its calls that change the disk, and every
//! disk that may come back from that, within bounds.
//!
//! ```text
//!   scenario ──► run until call k, then the power goes ──► for each set of survivors: fork of the disk
//!                (k = 0, 1, 2 … until it ends by itself)        │
//!                                                               ▼
//!                        rules ◄── open, read everything ◄── power on
//!                          └────── go on: append, flush, power cut, open once more
//! ```
//!
//! A call that reads changes nothing: a stop before it is the stop after the change before it.
//!
//! `cargo xtask crash-points` prints the counts; `--full` tries every survivor set of up to 64 changes and more random
//! histories. Rules can be left out (`headwater_mutants`), to see that this notices.

#[cfg(test)]
mod crash_points {
    pub(crate) mod enumerate;
    pub(crate) mod rules;
    pub(crate) mod scenarios;
    pub(crate) mod survivors;
    pub(crate) mod world;
}

use crash_points::enumerate::{Counts, crash_everywhere};
use crash_points::scenarios::{self, Scenario};
use crash_points::survivors::Bounds;
use headwater_mutants::{Mutant, without};
use parking_lot::Mutex;

/// Set by `cargo xtask crash-points --full`.
const FULL: &str = "HEADWATER_CRASH_POINTS_FULL";
/// Random histories of a bounded run, and of a full one.
const HISTORIES: u64 = 120;
const HISTORIES_FULL: u64 = 2_000;

fn is_full() -> bool {
    std::env::var_os(FULL).is_some()
}

fn all() -> Vec<Scenario> {
    let histories = if is_full() { HISTORIES_FULL } else { HISTORIES };
    scenarios::named().into_iter().chain((0..histories).map(scenarios::history)).collect()
}

/// Runs scenarios on all cores; counts by name in order, and what was violated.
fn run(scenarios: &[Scenario], bounds: Bounds, mutant: Option<Mutant>) -> (Vec<(String, Counts)>, Vec<String>) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        while let Some(scenario) = scenarios.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let outcome = without(mutant, || crash_everywhere(scenario, bounds));
            let stop = mutant.is_some() && outcome.is_err();
            outcomes.lock().push((scenario.name.clone(), outcome));
            if stop {
                next.store(scenarios.len(), std::sync::atomic::Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (mut counts, mut violations) = (Vec::new(), Vec::new());
    for (name, outcome) in outcomes.into_inner() {
        match outcome {
            Ok(count) => counts.push((name, count)),
            Err(violation) => violations.push(format!("{name}: {violation}")),
        }
    }
    (counts, violations)
}

// covers LOG-1, LOG-2, LOG-4, LOG-6, LOG-8, LOG-9
#[test]
fn every_crash_point_of_every_operation_keeps_the_rules() {
    let bounds = if is_full() { Bounds::FULL } else { Bounds::BOUNDED };
    let (counts, violations) = run(&all(), bounds, None);
    let mut histories = Counts::default();
    println!("{:<40} {:>8} {:>10}", "scenario", "crashes", "disks");
    for (name, count) in &counts {
        if name.starts_with("history") {
            histories = histories + *count;
        } else {
            println!("{name:<40} {:>8} {:>10}", count.crashes, count.disks);
            assert!(count.crashes > 0, "{name} changes nothing on the disk");
        }
    }
    println!("{:<40} {:>8} {:>10}", "random histories", histories.crashes, histories.disks);
    assert!(violations.is_empty(), "{} violations; the first:\n{}", violations.len(), violations[0]);
}

/// Rules whose absence the simulator notices as well.
const NOTICED: &[Mutant] = &[
    Mutant::FlushCoversLater,
    Mutant::CrcSkippedAtRecovery,
    Mutant::PointAheadOfSync,
    Mutant::SegmentNameNotSynced,
    Mutant::PartitionNameNotSynced,
    Mutant::RenameNotSynced,
    Mutant::CheckpointNotSynced,
    Mutant::NotWrittenAgain,
    Mutant::HalfBatchStays,
    Mutant::FailedSyncIgnored,
];

// The gate: what nobody notices, nothing protects.
#[test]
fn each_rule_left_out_is_noticed() {
    let scenarios = all();
    let missed = NOTICED.iter().chain(Mutant::OF_CRASH_POINTS).filter(|mutant| {
        let (_, violations) = run(&scenarios, Bounds::BOUNDED, Some(**mutant));
        println!("{:<28} {}", mutant.name(), violations.first().map_or("NOT NOTICED", String::as_str));
        violations.is_empty()
    });
    let missed: Vec<&str> = missed.map(|mutant| mutant.name()).collect();
    assert!(missed.is_empty(), "not noticed: {}", missed.join(", "));
}
