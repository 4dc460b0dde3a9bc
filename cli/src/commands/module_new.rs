//! `headwater module new`: a crate to begin with, which builds and passes its test.

use crate::error::CliError;
use crate::output::Format;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Words of `headwater module new`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater module new orders
  headwater module new totals --template stateful --sdk ../headwater/guest-sdk")]
pub(crate) struct NewArguments {
    /// Directory to make; its last part names the crate.
    directory: PathBuf,
    /// What to begin with.
    #[arg(long, value_enum, default_value_t = Template::Filter)]
    template: Template,
    /// Directory of headwater-guest-sdk [default: the guest-sdk beside or above this directory].
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

/// `--template`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Template {
    /// Passes on records that match a setting.
    Filter,
    /// Keeps a total per key in a store.
    Stateful,
}

impl Template {
    fn source(self) -> &'static str {
        match self {
            Self::Filter => include_str!("../../templates/filter.rs"),
            Self::Stateful => include_str!("../../templates/stateful.rs"),
        }
    }
}

const MANIFEST: &str = include_str!("../../templates/Cargo.toml.txt");

pub(crate) fn new(arguments: &NewArguments, format: Format) -> Result<(), CliError> {
    let directory = &arguments.directory;
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(fits) {
        let message = format!("{name:?} names no crate: begin with a letter, go on with letters, digits, - and _");
        return Err(CliError::Usage(message));
    }
    let sdk = find_sdk(arguments.sdk.as_deref())?;
    let making = || CliError::io(format!("make {}", directory.display()));
    fs::create_dir(directory).map_err(making())?;
    fs::create_dir(directory.join("src")).map_err(making())?;
    // A JSON string is a TOML string.
    let manifest = MANIFEST.replace("{name}", name).replace("{sdk}", &json!(sdk.display().to_string()).to_string());
    let files = [("Cargo.toml", manifest.as_str()), ("src/lib.rs", arguments.template.source())];
    for (file, text) in files.into_iter().chain([(".gitignore", "/target\n")]) {
        fs::write(directory.join(file), text).map_err(making())?;
    }
    let shown = directory.display();
    format.print(&json!({"name": name, "path": shown.to_string()}), || {
        format!(
            "made {shown}; go on with\n  (cd {shown} && cargo test)\n  headwater module build --path {shown}\n  \
             headwater module upload {name} {name}.wasm"
        )
    })
}

/// The guest SDK's directory, absolute.
fn find_sdk(given: Option<&Path>) -> Result<PathBuf, CliError> {
    let is_sdk = |directory: &Path| {
        let manifest = fs::read_to_string(directory.join("Cargo.toml"));
        manifest.is_ok_and(|manifest| manifest.contains("name = \"headwater-guest-sdk\""))
    };
    let here = std::env::current_dir().map_err(CliError::io("find the current directory"))?;
    let found = match given {
        Some(directory) if is_sdk(directory) => Some(here.join(directory)),
        Some(directory) => {
            let message = format!("{} is not the directory of headwater-guest-sdk", directory.display());
            return Err(CliError::Usage(message));
        }
        None => here.ancestors().map(|above| above.join("guest-sdk")).find(|directory| is_sdk(directory)),
    };
    let found = found.ok_or_else(|| {
        CliError::Usage("no guest-sdk is here or above: name its directory with --sdk, in a clone of Headwater".into())
    })?;
    found.canonicalize().map_err(CliError::io("find the guest SDK"))
}
