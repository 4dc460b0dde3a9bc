//! Runs the simulator: see `docs/simulation.md`.

use headwater_tests::sim::run::{Options, Outcome, run};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "headwater-sim --seeds N [--from SEED] [--minutes M] | --seed S";

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments.run(),
        Err(error) => {
            eprintln!("error: {error}\nusage: {USAGE}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, Default)]
struct Arguments {
    seeds: Option<u64>,
    from: u64,
    minutes: Option<u64>,
    seed: Option<u64>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        while let Some(name) = arguments.next() {
            let mut number = || {
                let value = arguments.next().ok_or_else(|| format!("{name} needs a number"))?;
                value.parse::<u64>().map_err(|_| format!("{name} {value:?}: it is a whole number from 0 to 2^64-1"))
            };
            match name.as_str() {
                "--seeds" => parsed.seeds = Some(number()?),
                "--from" => parsed.from = number()?,
                "--minutes" => parsed.minutes = Some(number()?),
                "--seed" => parsed.seed = Some(number()?),
                _ => return Err(format!("unknown argument {name:?}")),
            }
        }
        match (parsed.seed, parsed.seeds) {
            (None, None) => Err("how many seeds, or which one?".to_owned()),
            (Some(_), Some(_)) => Err("--seed and --seeds exclude each other".to_owned()),
            (None, Some(0)) => Err("--seeds 0 would prove nothing: give at least 1".to_owned()),
            _ => Ok(parsed),
        }
    }

    fn run(&self) -> ExitCode {
        if let Some(seed) = self.seed {
            let outcome = run(seed, Options { prints: true, kept: 0 });
            println!("seed {seed}: hash {:016x}, {} events", outcome.hash, outcome.events);
            return report(&outcome);
        }
        let begin = Instant::now();
        let limit = self.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let mut sum = Sum::default();
        for seed in (self.from..).take(usize::try_from(self.seeds.unwrap_or(1)).unwrap_or(usize::MAX)) {
            let outcome = run(seed, Options { prints: false, kept: 40 });
            sum.add(&outcome);
            if outcome.violation.is_some() {
                sum.print(begin);
                return report(&outcome);
            }
            if limit.is_some_and(|limit| begin.elapsed() >= limit) {
                break;
            }
        }
        sum.print(begin);
        ExitCode::SUCCESS
    }
}

fn report(outcome: &Outcome) -> ExitCode {
    let Some(violation) = &outcome.violation else { return ExitCode::SUCCESS };
    for line in &outcome.last {
        eprintln!("{line}");
    }
    println!("seed {} fails: {violation}", outcome.seed);
    println!("replay it: cargo xtask sim --seed {}", outcome.seed);
    ExitCode::FAILURE
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    events: u64,
    simulated_us: u64,
    acknowledged: u64,
    steps: u64,
    faults: BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated_us += outcome.simulated_us;
        self.acknowledged += outcome.acknowledged;
        self.steps += outcome.steps;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }

    fn print(&self, begin: Instant) {
        let seconds = begin.elapsed().as_secs_f64();
        let hours = self.simulated_us as f64 / 3.6e9;
        println!(
            "{} seeds, {} events ({:.0} a second), {hours:.2} simulated hours, {} records acknowledged, {} steps, {seconds:.1} s",
            self.seeds,
            self.events,
            self.events as f64 / seconds,
            self.acknowledged,
            self.steps,
        );
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("faults: {}", faults.join(", "));
    }
}
