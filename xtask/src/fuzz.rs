//! `cargo xtask fuzz`: the targets of `fuzz/`, coverage-guided where a nightly compiler is installed.

use crate::command::{Error, Result, output, run};
use crate::workspace::{cargo, root, target_directory};
use std::path::PathBuf;
use std::process::Command;

/// What drives the engines; `cargo install` makes it once.
const DRIVER: &str = "cargo-bolero";
const DRIVER_VERSION: &str = "0.13.5";

/// Where the product of its own workspace goes.
pub(crate) fn fuzz_target_directory() -> Result<PathBuf> {
    Ok(target_directory()?.join("fuzz"))
}

/// Cargo in the workspace of the targets.
pub(crate) fn fuzz_cargo() -> Result<Command> {
    let mut command = cargo();
    command.current_dir(root().join("fuzz")).env("CARGO_TARGET_DIR", fuzz_target_directory()?);
    Ok(command)
}

/// Feeds each target, or those whose names contain `filter`, for so many seconds.
pub(crate) fn run_all(filter: Option<&str>, seconds: u32) -> Result<()> {
    let has_nightly = output(Command::new("cargo").args(["+nightly", "--version"])).is_ok();
    if !has_nightly {
        println!("no nightly compiler (`rustup toolchain install nightly`): random inputs only");
        let mut command = fuzz_cargo()?;
        return run(command.env("BOLERO_RANDOM_TEST_TIME_MS", (seconds * 1000).to_string()).arg("test").args(filter));
    }
    let driver = driver()?;
    let listed = output(bolero(&driver)?.arg("list"))?;
    let names = listed.split("\"test\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let chosen: Vec<&str> = names.filter(|name| filter.is_none_or(|filter| name.contains(filter))).collect();
    if chosen.is_empty() {
        return Err(Error::new(format!("no target's name contains {:?}; there are\n{listed}", filter.unwrap_or(""))));
    }
    for name in chosen {
        let kept = fuzz_target_directory()?.join("inputs").join(name.replace("::", "-"));
        let directory = |kind: &str| -> Result<PathBuf> {
            let directory = kept.join(kind);
            std::fs::create_dir_all(&directory)
                .map_err(|error| Error::new(format!("{}: {error}", directory.display())))?;
            Ok(directory)
        };
        let mut command = bolero(&driver)?;
        command.args(["test", name, "--engine", "libfuzzer", "--sanitizer", "NONE", "-T"]);
        command.arg(format!("{seconds}s"));
        command.arg("--corpus-dir").arg(directory("corpus")?).arg("--crashes-dir").arg(directory("crashes")?);
        run(&mut command)?;
    }
    Ok(())
}

/// The driver with the nightly compiler, in the workspace of the targets.
fn bolero(driver: &PathBuf) -> Result<Command> {
    let mut command = Command::new(driver);
    // As cargo would call it: the first word is the subcommand.
    command.arg("bolero").current_dir(root().join("fuzz")).env("RUSTUP_TOOLCHAIN", "nightly");
    // Set by the cargo that runs xtask; it would choose that one's compiler.
    command.env_remove("CARGO").env_remove("RUSTC");
    command.env("CARGO_TARGET_DIR", fuzz_target_directory()?.join("nightly"));
    Ok(command)
}

/// The driver, installed beside what is built if it isn't there.
fn driver() -> Result<PathBuf> {
    let tools = target_directory()?.join("tools");
    let driver = tools.join("bin").join(DRIVER);
    if !driver.exists() {
        let mut install = cargo();
        install.args(["install", DRIVER, "--version", DRIVER_VERSION, "--locked", "--root"]).arg(&tools);
        run(&mut install)?;
    }
    Ok(driver)
}
