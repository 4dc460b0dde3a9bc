//! `headwater module build`: cargo makes a core module, we make a component of it. No other tool is needed.

mod cargo;

use crate::commands::module::read_module;
use crate::error::CliError;
use crate::output::{Format, pairs};
use crate::text::bytes;
use cargo::{Compiled, compile};
use clap::Args;
use headwater_protocol::ids::ModuleDigest;
use headwater_wasm_host::{InspectLimits, componentize, inspect};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Words of `headwater module build`.
#[derive(Debug, Args)]
#[command(after_help = "\
The crate is a library of type cdylib that links headwater-guest-sdk. cargo
compiles it for wasm32-unknown-unknown, optimised, with SIMD and LTO. RUSTC,
RUSTFLAGS and CARGO_TARGET_DIR of the environment count.

Examples:
  headwater module build
  headwater module build --path modules/word-count --output word-count.wasm")]
pub(crate) struct BuildArguments {
    /// Directory of the crate.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// File to write [default: NAME.wasm here, by the crate's name].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Builds the crate in `path` and gives the component's bytes.
pub(crate) fn build_component(path: &Path) -> Result<Vec<u8>, CliError> {
    component_of(&compile(path)?)
}

fn component_of(compiled: &Compiled) -> Result<Vec<u8>, CliError> {
    let core_module = read_module(&compiled.core_module)?;
    componentize(&core_module)
        .map_err(|error| CliError::Build(format!("{} can't become a component: {error}", compiled.name)))
}

pub(crate) fn build(arguments: &BuildArguments, format: Format) -> Result<(), CliError> {
    let compiled = compile(&arguments.path)?;
    let component = component_of(&compiled)?;
    let inspection = inspect(&component, &InspectLimits::default())
        .map_err(|refusal| CliError::Build(format!("no broker would take {}: {refusal}", compiled.name)))?;
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", compiled.name)));
    replace_file(&output, &component).map_err(CliError::io(format!("write {}", output.display())))?;

    let digest = ModuleDigest(Sha256::digest(&component).into());
    let document = json!({
        "name": compiled.name,
        "path": output.display().to_string(),
        "size_bytes": component.len(),
        "digest": digest.to_string(),
        "world": inspection.world.to_string(),
        "imports": inspection.imports,
    });
    format.print(&document, || {
        pairs(&[
            ("module", output.display().to_string()),
            ("size", bytes(component.len() as u64)),
            ("digest", digest.to_string()),
            ("world", inspection.world.to_string()),
        ])
    })
}

/// Writes beside the file and renames over it: whoever uploads at this moment gets the old one or the new one.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let written =
        File::create(&fresh).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&fresh, path));
    written.inspect_err(|_| fs::remove_file(&fresh).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m.wasm");
        replace_file(&path, b"old").unwrap();
        replace_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let directory = root.path().join("d");
        fs::create_dir(&directory).unwrap();
        assert!(replace_file(&directory, b"x").is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "nothing is left beside");
    }
}
