//! `headwater module`.

use crate::arguments::GlobalOptions;
use crate::commands::module_build::{BuildArguments, build};
use crate::commands::module_new::{NewArguments, new};
use crate::commands::module_test::{TestArguments, test};
use crate::context::connect;
use crate::error::CliError;
use crate::limits::MODULE_FILE_BYTES_MAX;
use crate::output::{Format, pairs, table};
use crate::progress::Progress;
use crate::text::{bytes, timestamp};
use bytes::Bytes;
use clap::{Args, Subcommand};
use headwater_client::Admin;
use headwater_protocol::messages::module::ModuleDescription;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Words of `headwater module`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModuleCommand {
    /// Make a crate to begin with.
    New(NewArguments),
    /// Build a module from a Rust crate.
    Build(BuildArguments),
    /// Run a module on a file of records, here, without a broker.
    Test(Box<TestArguments>),
    /// Upload a module that `module build` made.
    Upload(UploadArguments),
    /// List modules.
    #[command(after_help = "\
Examples:
  headwater module list
  headwater module list --format json")]
    List,
    /// Show one module.
    #[command(after_help = "\
Examples:
  headwater module describe word-count
  headwater module describe word-count@2")]
    Describe {
        /// NAME (its newest version), NAME@VERSION or a digest.
        module: String,
    },
    /// Delete a module that no processor uses.
    #[command(after_help = "\
Examples:
  headwater module delete word-count@1
  headwater module delete word-count")]
    Delete {
        /// NAME (all its versions), NAME@VERSION or a digest.
        module: String,
    },
}

/// Words of `headwater module upload`.
#[derive(Debug, Args)]
#[command(after_help = "\
The broker checks and compiles the module before it answers.

Examples:
  headwater module upload word-count word-count.wasm
  headwater module upload word-count word-count.wasm --version 1.2.0")]
pub(crate) struct UploadArguments {
    /// Name to give it, by the rules of topic names.
    name: String,
    /// File that `headwater module build` wrote.
    file: PathBuf,
    /// Version to give it [default: one more than the highest number in use].
    #[arg(long)]
    version: Option<String>,
}

pub(crate) async fn run(command: ModuleCommand, global: &GlobalOptions) -> Result<(), CliError> {
    let format = global.format;
    let command = match command {
        ModuleCommand::New(arguments) => return new(&arguments, format),
        ModuleCommand::Build(arguments) => return build(&arguments, format),
        ModuleCommand::Test(arguments) => return test(*arguments, format),
        other => other,
    };
    let client = connect(global).await?;
    let admin = client.admin();
    let outcome = match command {
        ModuleCommand::New(_) | ModuleCommand::Build(_) | ModuleCommand::Test(_) => Ok(()),
        ModuleCommand::Upload(arguments) => upload(&admin, arguments, format).await,
        ModuleCommand::List => list(&admin, format).await,
        ModuleCommand::Describe { module } => describe(&admin, &module, format).await,
        ModuleCommand::Delete { module } => delete(&admin, &module, format).await,
    };
    client.close().await;
    outcome
}

async fn upload(admin: &Admin, arguments: UploadArguments, format: Format) -> Result<(), CliError> {
    let module = Bytes::from(read_module(&arguments.file)?);
    let mut progress = Progress::new(Some(module.len() as u64), true);
    let tell = move |sent, total| {
        progress.set(sent, || if sent < total { String::new() } else { "the broker compiles it".to_owned() });
    };
    let uploaded = admin.upload_module(&arguments.name, arguments.version.as_deref(), module, tell).await?;
    format.print(&document(&uploaded), || {
        let size = bytes(uploaded.size_bytes);
        format!("module {}@{} uploaded: {size}, digest {}", uploaded.name, uploaded.version, uploaded.digest)
    })
}

/// Reads a module's file; one that is far too large is not read to its end.
pub(crate) fn read_module(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = || CliError::io(format!("read {}", path.display()));
    let file = File::open(path).map_err(failed())?;
    let mut module = Vec::new();
    file.take(MODULE_FILE_BYTES_MAX + 1).read_to_end(&mut module).map_err(failed())?;
    if module.len() as u64 > MODULE_FILE_BYTES_MAX {
        return Err(failed()(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any module")));
    }
    Ok(module)
}

async fn list(admin: &Admin, format: Format) -> Result<(), CliError> {
    let modules = admin.list_modules().await?;
    let documents: Vec<Value> = modules.iter().map(document).collect();
    format.print(&Value::from(documents), || {
        let rows = modules.iter().map(|module| {
            vec![
                module.name.clone(),
                module.version.clone(),
                bytes(module.size_bytes),
                timestamp(module.uploaded_at),
                module.digest.to_string().chars().take(SHORT_DIGEST_CHARS).collect(),
            ]
        });
        table(&["module", "version", "size", "uploaded", "digest"], &[2], rows)
    })
}

/// Digits of a digest in a list; enough to tell modules apart, and `describe` shows all.
const SHORT_DIGEST_CHARS: usize = 12;

async fn describe(admin: &Admin, reference: &str, format: Format) -> Result<(), CliError> {
    let module = admin.describe_module(reference).await?;
    format.print(&document(&module), || {
        pairs(&[
            ("module", module.name.clone()),
            ("version", module.version.clone()),
            ("digest", module.digest.to_string()),
            ("size", bytes(module.size_bytes)),
            ("world", module.world.clone()),
            ("imports", module.imports.join(", ")),
            ("uploaded", timestamp(module.uploaded_at)),
        ])
    })
}

async fn delete(admin: &Admin, reference: &str, format: Format) -> Result<(), CliError> {
    let deleted = admin.delete_module(reference).await?;
    let documents: Vec<Value> = deleted.iter().map(document).collect();
    format.print(&Value::from(documents), || {
        deleted.iter().map(|module| format!("module {}@{} deleted\n", module.name, module.version)).collect()
    })
}

fn document(module: &ModuleDescription) -> Value {
    json!({
        "name": module.name,
        "version": module.version,
        "digest": module.digest.to_string(),
        "size_bytes": module.size_bytes,
        "world": module.world,
        "imports": module.imports,
        "uploaded_at": module.uploaded_at,
    })
}
