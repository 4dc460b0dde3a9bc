//! `modules/*` as components, built by the product's own `headwater module build`.

use crate::command::{Error, Result, output, run};
use crate::setup::{GuestCompiler, Permission, guest_compiler};
use crate::workspace::{build_headwater, cargo, root, target_directory};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directories below `modules/` that hold modules.
const GROUPS: &[&str] = &["", "hostile"];

/// Builds every module and returns the directory of the components.
pub(crate) fn build_all(permission: Permission) -> Result<PathBuf> {
    let compiler = guest_compiler(permission)?;
    let headwater = build_headwater()?;
    let directory = target_directory()?.join("components");
    for group in GROUPS {
        for source in crates_in(&root().join("modules").join(group))? {
            build(&headwater, &compiler, &source, &directory)?;
        }
    }
    Ok(directory)
}

/// Builds one module of ours without a word, and returns the directory of the components.
pub(crate) fn build_quietly(permission: Permission, name: &str) -> Result<PathBuf> {
    let compiler = guest_compiler(permission)?;
    let target = target_directory()?;
    output(cargo().args(["build", "--quiet", "--package", "headwater-cli"]))?;
    let headwater = target.join("debug").join(format!("headwater{}", std::env::consts::EXE_SUFFIX));
    let directory = target.join("components");
    output(&mut building(&headwater, &compiler, &root().join("modules").join(name), &directory)?.0)?;
    Ok(directory)
}

/// Builds one module into `directory` and returns the component's path.
pub(crate) fn build(headwater: &Path, compiler: &GuestCompiler, source: &Path, directory: &Path) -> Result<PathBuf> {
    let (mut command, component) = building(headwater, compiler, source, directory)?;
    run(&mut command)?;
    Ok(component)
}

/// The command that builds a module, and where the component will be.
fn building(headwater: &Path, compiler: &GuestCompiler, source: &Path, directory: &Path) -> Result<(Command, PathBuf)> {
    let name = source.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let component = directory.join(format!("{name}.wasm"));
    fs::create_dir_all(directory).map_err(|error| Error::new(format!("{}: {error}", directory.display())))?;
    let mut command = Command::new(headwater);
    command.args(["module", "build", "--path"]).arg(source).arg("--output").arg(&component);
    // Guests get a target directory of their own: they are built by another compiler with other flags.
    command.env("CARGO_TARGET_DIR", target_directory()?.join("modules"));
    compiler.apply(&mut command);
    Ok((command, component))
}

/// The crates directly below a directory, by name.
fn crates_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).map_err(|error| Error::new(format!("{}: {error}", directory.display())))?;
    let is_crate = |path: &PathBuf| {
        fs::read_to_string(path.join("Cargo.toml")).is_ok_and(|manifest| manifest.contains("[package]"))
    };
    let mut crates: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_crate).collect();
    crates.sort();
    Ok(crates)
}
