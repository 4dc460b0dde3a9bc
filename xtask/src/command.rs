//! Running other programs, with errors that say which one failed and how.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// What went wrong, as a sentence for the person at the terminal.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A sentence that names the culprit and what to do.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Error {
    /// An error that says `sentence`.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command whose output the user sees; fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", shown(command));
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| Error::new(format!("can't run `{}`: {error}", shown(command))))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("`{}` failed: {status}", shown(command)))) }
}

/// Runs a command and returns what it printed; its errors are part of ours when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::new(format!("can't run `{}`: {error}", shown(command))))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        return Err(Error::new(format!("`{}` failed ({status}): {}", shown(command), said.trim())));
    }
    String::from_utf8(stdout).map_err(|_| Error::new(format!("`{}` printed bytes that are not text", shown(command))))
}

/// Whether a program is there and answers `--version`.
pub(crate) fn is_there(program: impl AsRef<OsStr>) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
