//! What a command can fail with: one line that names the culprit and what to do.

use headwater_broker::{ConfigError, StartError};
use headwater_client::{ClientError, ContextError};
use headwater_protocol::error::ApiError;
use headwater_transport::IdentityError;
use std::io;
use std::path::PathBuf;

/// Exit code when something failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit code when the command line makes no sense; clap's own.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The cluster, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A broker refused one of several things.
    #[error("{what}: {error}")]
    Refused {
        /// Which one.
        what: String,
        /// Why.
        error: ApiError,
    },
    /// No context file was named and none lies where one is looked for.
    #[error("no broker is known: run `headwater dev` here, or name a context file with --context or \
             HEADWATER_CONTEXT (looked for {})", paths(.looked))]
    NoContext {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A context file can't be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// The operator's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A broker does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Certificates can't be made or found.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// This machine: a file, a program, a thread.
    #[error("can't {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A module can't be built; the text says whose fault it is and the remedy.
    #[error("{0}")]
    Build(String),
    /// A segment can't be read, or not to its end.
    #[error(transparent)]
    Dump(#[from] headwater_log::DumpError),
    /// Disk: a segment has batches that are not what was written.
    #[error("disk: {}: batches with a wrong checksum: {count}; restore the partition from a replica or a backup",
            file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// How many batches.
        count: u64,
    },
    /// Disk: a check of logs found something.
    #[error(
        "disk: {0} of what was checked is not as it was written: restore these partitions from a replica or a backup; \
             what is damaged is not served, everything else is"
    )]
    Unsound(String),
    /// The engine could not read what it should check.
    #[error(transparent)]
    Log(#[from] headwater_log::LogError),
    /// The input breaks a rule.
    #[error("{0}")]
    Input(String),
    /// The user interrupted it before it was done.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// A broker did not come to rest in time.
    #[error("the broker did not stop in order within its time-out; the next start recovers what it left")]
    DisorderlyStop,
    /// Whoever read standard output has gone away: not a failure.
    #[error("standard output was closed")]
    OutputClosed,
}

impl CliError {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            _ => EXIT_FAILED,
        }
    }

    /// An error of the system while trying `what`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// An error while writing results.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Io { what: "write to standard output".to_owned(), source: error },
        }
    }
}

fn paths(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" and ")
}
