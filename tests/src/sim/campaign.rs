//! Many seeds on all cores. A seed runs on one thread from its beginning to its end; seeds know nothing of each other.

use super::run::{Options, Outcome, run};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lines of the trace that are kept for the report on a seed that fails.
const REPORT_LINES: usize = 40;

/// Which seeds to run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// How many at a time.
    pub threads: usize,
    /// No seed begins after this moment.
    pub until: Option<Instant>,
    /// Go on after a seed that fails.
    pub goes_on: bool,
    /// What the runs are told beside their seeds.
    pub options: Options,
}

/// What a campaign adds up to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that ran.
    pub seeds: u64,
    /// Events of all of them.
    pub events: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// Time that seeds took, added up over threads.
    pub busy: Duration,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Steps committed.
    pub steps: u64,
    /// Injected faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The runs that failed, with the last lines of their traces.
    pub failures: Vec<Outcome>,
}

impl Campaign {
    /// Seeds `from` and on, so many, on as many threads as there are cores, up to the first that fails.
    #[must_use]
    pub fn new(from: u64, seeds: u64) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { from, seeds, threads, until: None, goes_on: false, options: Options::default() }
    }

    /// Runs them; `watch` is told each outcome, in no particular order.
    #[must_use]
    pub fn run(&self, watch: &(dyn Fn(&Outcome) + Sync)) -> Summary {
        let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        let summary = Mutex::new(Summary::default());
        let work = || {
            while !stopped.load(Ordering::Relaxed) && self.until.is_none_or(|until| Instant::now() < until) {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= self.seeds {
                    break;
                }
                let begin = Instant::now();
                let mut outcome = run(self.from.wrapping_add(place), self.options);
                let busy = begin.elapsed();
                if outcome.violation.is_some() {
                    stopped.fetch_or(!self.goes_on, Ordering::Relaxed);
                    // Once more, to have the lines: formatting them all for nothing takes most of a run's time.
                    outcome = run(outcome.seed, Options { kept: REPORT_LINES, ..self.options });
                }
                watch(&outcome);
                let mut summary = summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                summary.add(outcome, busy);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(work);
            }
        });
        let mut summary = summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        summary.failures.sort_by_key(|outcome| outcome.seed);
        summary
    }
}

impl Summary {
    fn add(&mut self, outcome: Outcome, busy: Duration) {
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated_us += outcome.simulated_us;
        self.busy += busy;
        self.acknowledged += outcome.acknowledged;
        self.steps += outcome.steps;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        if outcome.violation.is_some() {
            self.failures.push(outcome);
        }
    }

    /// Events in a second of one core.
    #[must_use]
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.busy.as_secs_f64().max(1e-9)
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hours = self.simulated_us as f64 / 3.6e9;
        let (seeds, events, rate) = (self.seeds, self.events, self.events_per_second());
        writeln!(f, "{seeds} seeds, {events} events ({rate:.0} a second of one core), {hours:.2} simulated hours")?;
        writeln!(f, "{} records acknowledged, {} steps committed", self.acknowledged, self.steps)?;
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        write!(f, "faults: {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") })
    }
}
