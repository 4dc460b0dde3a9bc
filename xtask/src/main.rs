//! `cargo xtask`: what a fresh machine needs to demonstrate, test and measure Headwater.
//!
//! ```text
//!            ┌─ setup ──── a compiler with the wasm32-unknown-unknown target
//! xtask ─────┼─ modules ── modules/* → components, by `headwater module build`
//!            ├─ demo ───── broker, word count, real texts, every count compared
//!            ├─ test ───── setup, then all tests
//!            ├─ bench ──── ratios from one run
//!            ├─ sim ────── the simulator
//!            ├─ crash-points ─ the storage engine, stopped at every call
//!            └─ fuzz ───── everything that reads foreign bytes
//! ```

mod bench;
mod command;
mod crash_points;
mod demo;
mod fuzz;
mod modules;
mod setup;
mod sim;
mod test;
mod word_count;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, demonstrate, test and measure Headwater")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// Install system packages (Debian's compiler for wasm guests) when nothing else helps; root does so unasked
    #[arg(long, global = true)]
    system_setup: bool,
}

#[derive(Subcommand)]
enum Task {
    /// Set up, build, start a broker and stream two books through word count; compare all counts
    Demo {
        /// What to show in place of that
        #[arg(value_enum)]
        what: Option<Demonstration>,
    },
    /// Set up, build the modules and run all tests
    Test {
        /// Only tests whose names contain this
        filter: Option<String>,
    },
    /// Print ratios against named baselines measured in the same run
    Bench(bench::Arguments),
    /// Run the simulator: `cargo xtask sim --seeds 100`; see docs/simulation.md
    #[command(disable_help_flag = true)]
    Sim {
        /// What the simulator is told; --help lists it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Stop the storage engine at every call that changes the disk; see docs/crash-points.md
    CrashPoints {
        /// Try more sets of survivors and more random histories
        #[arg(long)]
        full: bool,
    },
    /// Feed whatever reads bytes of peers and disks; coverage-guided where a nightly compiler is installed
    Fuzz {
        /// Only targets whose names contain this
        target: Option<String>,
        /// How long each target is fed
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
    /// Build modules/* into components and print where they are
    Modules,
    /// Only find or install a compiler for wasm guests
    Setup,
}

/// What `cargo xtask demo` shows beside word count.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Demonstration {
    /// Rows whose key is inside of their JSON, compacted; the same final table before and after
    Compaction,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let setup = setup::Permission { system_packages: arguments.system_setup };
    let result = match arguments.task {
        Task::Demo { what: None } => demo::run(setup),
        Task::Demo { what: Some(Demonstration::Compaction) } => demo::compaction::run(setup),
        Task::Test { filter } => test::run_all(setup, filter.as_deref()),
        Task::Sim { arguments } => match sim::run(setup, &arguments) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Task::Bench(arguments) => bench::run_all(setup, &arguments),
        Task::CrashPoints { full } => crash_points::run_all(full),
        Task::Fuzz { target, seconds } => fuzz::run_all(target.as_deref(), seconds),
        Task::Modules => modules::build_all(setup).map(|directory| println!("{}", directory.display())),
        Task::Setup => setup::guest_compiler(setup).map(|compiler| println!("guests are built with {compiler}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
