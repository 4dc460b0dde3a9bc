//! `cargo xtask bench`: ratios from one run, by the bench binary of the `tests` package.

use crate::command::{Result, run};
use crate::modules;
use crate::setup::Permission;
use crate::workspace::cargo;
use clap::Args;
use std::path::PathBuf;

/// Words of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Only benchmarks whose names contain this
    filter: Option<String>,
    /// Let the log benchmark's log grow to 10 GiB, not 1
    #[arg(long)]
    full: bool,
    /// Where the log benchmark draws what it found, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Runs all benchmarks, or those that are chosen.
pub(crate) fn run_all(permission: Permission, arguments: &Arguments) -> Result<()> {
    let components = modules::build_all(permission)?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "headwater-tests", "--bin", "headwater-bench", "--"]);
    command.args(&arguments.filter).args(arguments.full.then_some("--full"));
    if let Some(file) = &arguments.plot {
        command.arg("--plot").arg(file);
    }
    run(command.env("HEADWATER_COMPONENTS", components))
}
