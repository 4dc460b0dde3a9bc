//! Runs the simulator: see `docs/simulation.md`.

use clap::Parser;
use headwater_mutants::Mutant;
use headwater_tests::sim::campaign::{Campaign, Summary};
use headwater_tests::sim::run::{Options, Outcome, run};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs the product's deciding code, logs and loops under faults, all drawn from a seed.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask sim",
    after_help = "Examples:
  cargo xtask sim --seeds 2000                   two thousand seeds on all cores
  cargo xtask sim --seeds 100000 --minutes 10    as many as ten minutes allow
  cargo xtask sim --seed 17                      one seed, every event printed
  cargo xtask sim --seeds 50 --from 4000         seeds 4000 to 4049
  cargo xtask sim --mutants                      every rule left out once: who notices, at which seed
  cargo xtask sim --mutant replay-nothing --seed 17      one of them, one seed, every event printed

Exit codes: 0 all hold, 1 a seed fails, 2 the command line is wrong.
docs/simulation.md says how to read what is printed."
)]
struct Arguments {
    /// How many seeds to run; with --mutants, within how many each must be caught.
    #[arg(
        long, value_name = "N", value_parser = seeds,
        required_unless_present_any = ["seed", "mutants"], conflicts_with = "seed"
    )]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, value_name = "SEED", default_value = "0", value_parser = seed, conflicts_with = "seed")]
    from: u64,
    /// Begin no seed after this many minutes.
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..=10_000), conflicts_with = "seed")]
    minutes: Option<u64>,
    /// Run this seed alone and print every event to standard error.
    #[arg(long, value_name = "SEED", value_parser = seed)]
    seed: Option<u64>,
    /// With --seed: print the outcome only.
    #[arg(long, requires = "seed")]
    quiet: bool,
    /// How many seeds run at a time [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Write what clients did and saw to this directory, one `seed-<seed>.edn` a seed, as Jepsen's checkers read it.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Go on after a seed that fails, and report all that do.
    #[arg(long, conflicts_with = "seed")]
    keep_going: bool,
    /// Leave one rule out: the seed must fail (docs/mutants.md names them).
    #[arg(long, value_name = "NAME", value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Leave out every rule, one at a time, and print who notices.
    #[arg(long, conflicts_with_all = ["seed", "from", "mutant", "minutes", "keep_going"])]
    mutants: bool,
}

#[cfg(feature = "mutants")]
fn mutant(name: &str) -> Result<Mutant, String> {
    Mutant::named(name)
}

#[cfg(not(feature = "mutants"))]
fn mutant(_name: &str) -> Result<Mutant, String> {
    Err("this simulator is built without mutants: run it by `cargo xtask sim`".to_owned())
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a seed is a whole number from 0 to 18446744073709551615".to_owned())
}

fn seeds(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("no seeds would prove nothing: give at least 1".to_owned()),
        Ok(seeds) => Ok(seeds),
        Err(_) => Err("how many seeds is a whole number from 1 on".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(directory) = &arguments.output
        && let Err(error) = std::fs::create_dir_all(directory)
    {
        eprintln!("error: can't make the output directory {}: {error}", directory.display());
        return ExitCode::from(2);
    }
    if let Err(reason) = headwater_tests::sim::guest::check_components() {
        eprintln!("error: {reason}");
        return ExitCode::from(2);
    }
    match arguments.seed {
        Some(seed) => replay(seed, &arguments),
        None if arguments.mutants => hunt(&arguments),
        None => campaign(&arguments),
    }
}

impl Arguments {
    fn options(&self) -> Options {
        Options {
            #[cfg(feature = "mutants")]
            mutant: self.mutant,
            #[cfg(feature = "mutants")]
            favours: self.mutant,
            keeps_history: self.output.is_some(),
            ..Options::default()
        }
    }

    fn threads(&self) -> usize {
        self.threads.map_or_else(|| Campaign::new(0, 1).threads, usize::from)
    }
}

#[cfg(feature = "mutants")]
fn hunt(arguments: &Arguments) -> ExitCode {
    use headwater_tests::sim::mutants;
    let seeds = arguments.seeds.unwrap_or(mutants::SEEDS_MAX);
    let hunted =
        mutants::hunt(&mutants::of_the_simulator(), seeds, arguments.threads(), &|hunted| println!("{hunted}"));
    let caught = hunted.iter().filter(|hunted| hunted.caught.is_some()).count();
    println!("{caught} of {} mutants are caught within {seeds} seeds", hunted.len());
    if caught == hunted.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "mutants"))]
fn hunt(_arguments: &Arguments) -> ExitCode {
    eprintln!("error: this simulator is built without mutants: run it by `cargo xtask sim`");
    ExitCode::from(2)
}

fn replay(seed: u64, arguments: &Arguments) -> ExitCode {
    let outcome = run(seed, Options { prints: !arguments.quiet, ..arguments.options() });
    println!("seed {seed}: hash {:016x}, {} events", outcome.hash, outcome.events);
    match write_history(arguments.output.as_deref(), &outcome) {
        Ok(()) => report(&outcome),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn campaign(arguments: &Arguments) -> ExitCode {
    let seeds = arguments.seeds.unwrap_or(1);
    let mut campaign = Campaign::new(arguments.from, seeds);
    campaign.threads = arguments.threads();
    campaign.options = arguments.options();
    campaign.until = arguments.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    campaign.goes_on = arguments.keep_going;
    // Draws nothing when standard error is no terminal.
    let bar = ProgressBar::new(seeds);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds {per_sec} {eta} {msg}") {
        bar.set_style(style);
    }
    let unwritten = Mutex::new(None);
    let summary: Summary = campaign.run(&|outcome| {
        bar.inc(1);
        if outcome.violation.is_some() {
            bar.set_message(format!("seed {} fails", outcome.seed));
        }
        if let Err(error) = write_history(arguments.output.as_deref(), outcome) {
            *unwritten.lock() = Some(error);
        }
    });
    bar.finish_and_clear();
    println!("{summary}");
    if let Some(error) = unwritten.into_inner() {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let codes: Vec<ExitCode> = summary.failures.iter().map(report).collect();
    codes.into_iter().next().unwrap_or(ExitCode::SUCCESS)
}

/// The one thing that is written outside of memory, where it was asked for.
fn write_history(directory: Option<&Path>, outcome: &Outcome) -> Result<(), String> {
    let Some((directory, history)) = directory.zip(outcome.history.as_ref()) else { return Ok(()) };
    let path = directory.join(format!("seed-{}.edn", outcome.seed));
    std::fs::write(&path, history.to_edn()).map_err(|error| format!("can't write {}: {error}", path.display()))
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
