//! What goes wrong on our side, and what goes wrong while loading.

use crate::inspect::ModuleRefusal;
use std::io;
use std::path::PathBuf;

/// We failed, not the guest: disk, operating system, or a bug of the broker.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Wasmtime refused our settings or could not reserve what it needs.
    #[error(
        "the wasm engine can't be started: {0}; is the address space or memory of this process limited (ulimit -v)?"
    )]
    Engine(String),
    /// A thread could not be started.
    #[error("can't start a thread for the wasm engine: {0}")]
    Thread(#[source] io::Error),
    /// The cache of compiled modules can't be used.
    #[error(
        "can't {action} {}: {source}; the directory must be writable and owned by the broker's user",
        path.display()
    )]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The child process that compiles could not be started or spoken to.
    #[error("can't {action} the compiling process {}: {source}", program.display())]
    CompilerProcess {
        /// What was tried.
        action: &'static str,
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The child process did not answer as agreed.
    #[error("the compiling process gave no usable answer ({answer}); its last words: {stderr:?}")]
    CompilerAnswer {
        /// What was wrong with it.
        answer: String,
        /// What it wrote to its standard error, shortened.
        stderr: String,
    },
    /// The child's engine is not ours: the binary was replaced while the broker ran.
    #[error("the compiling process is another build than this broker (was the binary replaced?): restart the broker")]
    CompilerMismatch,
    /// A compiled module that this broker made does not load.
    #[error("a module that was just compiled does not load: {0}")]
    Load(String),
    /// Nothing could be instantiated for reasons that are not the guest's.
    #[error("can't make an instance: {0}")]
    Instantiate(String),
    /// The task's own side of a host call failed.
    #[error("{0}")]
    Fault(String),
    /// The task held its host's lock across a call, or called itself.
    #[error("the task's host is locked during a call: a bug in the broker")]
    HostLocked,
}

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not a module that can run here; the uploader's to mend.
    #[error(transparent)]
    Refused(#[from] ModuleRefusal),
    /// The compiler refuses it; the uploader's to mend.
    #[error("the module does not compile: {0}")]
    Invalid(String),
    /// Compiling it takes more than the broker gives; the uploader's to mend, or the operator's to allow.
    #[error("compiling the module takes more than the limit of {limit} ({name}): make the module smaller, or raise it")]
    Limit {
        /// Name of the limit, as in [`CompileLimits`](crate::CompileLimits).
        name: &'static str,
        /// Its value, with its unit.
        limit: String,
    },
    /// The compiler died on it. It does not run, and the broker is unharmed.
    #[error(
        "the compiler crashed on the module ({how}); its last words: {stderr:?}. The module can't be used; please \
         report it"
    )]
    Crashed {
        /// Exit status or signal.
        how: String,
        /// What it wrote to its standard error, shortened.
        stderr: String,
    },
    /// Not the module's fault.
    #[error(transparent)]
    Host(#[from] HostError),
}
