//! Where things are.

use crate::command::{Result, output, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of the workspace.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Where cargo puts what it builds; follows `CARGO_TARGET_DIR` and the user's configuration.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let key = "\"target_directory\":\"";
    let value = metadata.split_once(key).and_then(|(_, rest)| rest.split_once('"'));
    match value {
        Some((path, _)) => Ok(PathBuf::from(path)),
        None => Err(crate::command::Error::new("`cargo metadata` names no target directory")),
    }
}

/// Cargo, in the workspace's directory.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds the `headwater` binary in the project's one profile and says where it is.
pub(crate) fn build_headwater() -> Result<PathBuf> {
    run(cargo().args(["build", "--package", "headwater-cli"]))?;
    Ok(target_directory()?.join("debug").join(format!("headwater{}", std::env::consts::EXE_SUFFIX)))
}
