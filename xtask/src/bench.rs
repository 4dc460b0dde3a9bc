//! `cargo xtask bench`: ratios from one run, by the bench binary of the `tests` package.

use crate::command::{Result, run};
use crate::modules;
use crate::setup::Permission;
use crate::workspace::cargo;

/// Runs all benchmarks, or those whose names contain `filter`.
pub(crate) fn run_all(permission: Permission, filter: Option<&str>) -> Result<()> {
    let components = modules::build_all(permission)?;
    run(cargo()
        .args(["run", "--quiet", "--package", "headwater-tests", "--bin", "headwater-bench", "--"])
        .args(filter)
        .env("HEADWATER_COMPONENTS", components))
}
