//! `cargo xtask sim`: the simulator, by a binary of the `tests` package.

use crate::command::{Error, Result, shown};
use crate::modules;
use crate::setup::Permission;
use crate::test::TEST_FEATURES;
use crate::workspace::cargo;
use std::process::ExitCode;

/// Hands the arguments on; its exit code is ours.
pub(crate) fn run(permission: Permission, arguments: &[String]) -> Result<ExitCode> {
    // Some guests are compiled ones.
    let components = modules::build_quietly(permission, "word-count")?;
    let mut command = cargo();
    command.env("HEADWATER_COMPONENTS", components);
    // The same features as the tests have, so that nothing is built a third time.
    let leaves_rules_out = arguments.iter().any(|argument| argument.starts_with("--mutant"));
    let features: &[&str] = if leaves_rules_out { &["--features", TEST_FEATURES] } else { &[] };
    // Paths in the arguments are relative to where the user is.
    command
        .current_dir(".")
        .args(["run", "--quiet", "--package", "headwater-tests", "--bin", "headwater-sim"])
        .args(features)
        .arg("--")
        .args(arguments);
    let status = command.status().map_err(|error| Error::new(format!("can't run `{}`: {error}", shown(&command))))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
