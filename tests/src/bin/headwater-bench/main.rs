//! Benchmarks: what Headwater does beside what the machine could do, both measured in the same run.
//!
//! ```text
//!   options ──▶ produce ──── broker process ◀── client SDK     beside: quinn_stream, disk
//!               flush ────── DataDirectory + FlushPool         beside: one fsync after another
//!               transform ── guest + framing ── wasm-host      beside: the same work in native code
//!               word_count ─ the same, with state              beside: a hash map
//!               compaction ─ a log, cleaned                   beside: a plain read and write
//!               tail ─────── broker process ◀── client SDK     beside: the same without a reader of everything
//!               partitions ─ broker process ◀── client SDK     beside: the same with ten partitions
//!               processors ─ broker process ◀── client SDK     beside: the same without a guest that attacks
//!               log ──────── DataDirectory, Log, readers       beside: plain writes and reads
//!               memory ───── broker process ◀── client SDK     beside: the goal
//!                  └──▶ report: name │ what │ baseline │ ratio │ goal │ met?
//! ```
//!
//! Contenders take turns within each round, so that a busy machine hurts them alike; a ratio is the median over the
//! rounds. `docs/performance.md` says how to read the figures.

mod broker;
mod compaction;
mod cpu;
mod disk;
mod flush;
mod framing;
mod guest;
mod log;
mod memory;
mod options;
mod partitions;
mod processors;
mod produce;
mod quinn_stream;
mod report;
mod rounds;
mod tail;
mod texts;
mod transform;
mod way;
mod word_count;

use options::{Options, Usage};
use report::{Figure, Report};
use rustix::time::{ClockId, clock_gettime};
use std::process::ExitCode;
use std::time::Duration;

/// Whatever went wrong, in a line.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

/// A group of figures: its name, and what measures them.
type Benchmark = (&'static str, fn(&Options) -> Result<Vec<Figure>>);

const BENCHMARKS: &[Benchmark] = &[
    ("transform", transform::run),
    ("word-count", word_count::run),
    ("flush", flush::run),
    ("log", log::run),
    ("produce", produce::run),
    ("compaction", compaction::run),
    ("tail", tail::run),
    ("partitions", partitions::run),
    ("processors", processors::run),
    ("memory", memory::run),
];

fn main() -> ExitCode {
    // The benchmarks start this very program again: as a broker, as that broker's compiler, and as the far end of a
    // plain QUIC stream. A compiler gives up its rights before it reads a byte, so nothing may come before it.
    let first = std::env::args_os().nth(1);
    match first.as_deref().and_then(|first| first.to_str()) {
        Some("dev" | headwater_broker::COMPILE_SUBCOMMAND) => return headwater_cli::main(),
        Some(quinn_stream::SINK_SUBCOMMAND) => return quinn_stream::sink_main(),
        _ => {}
    }
    let names: Vec<&str> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(Usage(problem)) => {
            eprintln!("{problem}\n\n{}\nBENCH is part of one of: {}", options::USAGE, names.join(", "));
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// CPU time that this thread has had.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is ever negative.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn run(options: &Options) -> Result<()> {
    let chosen: Vec<&Benchmark> = BENCHMARKS.iter().filter(|(name, _)| options.chooses(name)).collect();
    if chosen.is_empty() {
        return Err(format!("no benchmark's name contains {:?}", options.filter.as_deref().unwrap_or_default()).into());
    }
    let mut report = Report::default();
    for (name, benchmark) in chosen {
        eprintln!("{name} …");
        report.extend(benchmark(options).map_err(|error| format!("{name}: {error}"))?);
    }
    println!("{}", if options.json { report.json().to_string() } else { report.table() });
    Ok(())
}
