//! `cargo xtask crash-points`: every crash point of the storage engine, by a test binary of the `log` package.

use crate::command::{Result, run};
use crate::workspace::cargo;

/// Prints the counts; fails when a rule is violated.
pub(crate) fn run_all(full: bool) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--package", "headwater-log", "--test", "crash_points", "--", "--nocapture"]);
    if full {
        command.env("HEADWATER_CRASH_POINTS_FULL", "1");
    }
    run(&mut command)
}
