//! `cargo xtask sim`: the simulator, by a binary of the `tests` package.

use crate::command::{Error, Result, shown};
use crate::workspace::cargo;
use std::process::ExitCode;

/// Hands the arguments on; its exit code is ours.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut command = cargo();
    // Paths in the arguments are relative to where the user is.
    command
        .current_dir(".")
        .args(["run", "--quiet", "--package", "headwater-tests", "--bin", "headwater-sim", "--"])
        .args(arguments);
    let status = command.status().map_err(|error| Error::new(format!("can't run `{}`: {error}", shown(&command))))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
