//! `cargo xtask test`: set-up, the modules, then every test there is.

use crate::command::{self, Result};
use crate::fuzz::fuzz_cargo;
use crate::modules;
use crate::setup::Permission;
use crate::workspace::{cargo, root, target_directory};
use std::path::Path;

/// What is compiled into the product for the end-to-end tests and the simulator alone.
pub(crate) const TEST_FEATURES: &str = "fail-points,mutants";

/// Runs all tests, or those whose names contain `filter`.
pub(crate) fn run_all(permission: Permission, filter: Option<&str>) -> Result<()> {
    let components = modules::build_all(permission)?;
    let filter: Vec<&str> = filter.into_iter().collect();
    // Everything but the end-to-end tests: units, contracts, properties, doc tests.
    run_cargo_test(&["--workspace", "--exclude", "headwater-tests"], &filter, &components)?;
    // The modules' own tests run natively, as their authors would run them.
    command::run(
        cargo()
            .current_dir(root().join("modules"))
            .env("CARGO_TARGET_DIR", target_directory()?.join("modules"))
            .args(["test", "--workspace"])
            .args(&filter),
    )?;
    // Everything that reads foreign bytes, fed with random ones.
    command::run(fuzz_cargo()?.arg("test").args(&filter))?;
    // One integration-test binary, with fail points and mutants compiled in.
    run_cargo_test(&["--package", "headwater-tests", "--features", TEST_FEATURES], &filter, &components)
}

fn run_cargo_test(selection: &[&str], filter: &[&str], components: &Path) -> Result<()> {
    command::run(cargo().arg("test").args(selection).args(filter).env("HEADWATER_COMPONENTS", components))
}
