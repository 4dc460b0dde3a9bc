//! Compilation in a child process of the same binary (DESIGN §7, W5): a module that makes the compiler spin, swell or
//! crash takes the child with it, not the broker, and the compiler's memory goes when the child does.
//!
//! ```text
//!  broker ── stdin:  request (limits, engine, size) │ component ─────▶ child: sets its own limits, reads, compiles
//!         ◀─ stdout: answer (status, size, SHA-256) │ machine code ──         or says why not
//!         ◀─ stderr: last words, shortened
//! ```

mod child;
mod wire;

use crate::error::{HostError, LoadError};
use crate::failure::size;
use crate::limits;
use crate::module::TrustedArtefact;
use crate::runtime::Compatibility;
pub use child::compile_child_main;
use rustix::process::Signal;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use wire::{Answer, Request};

/// What a Rust program exits with after its main thread panicked.
const PANIC_EXIT_CODE: i32 = 101;

/// Which program compiles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompilerCommand {
    /// Program; it must call [`compile_child_main`] and do nothing else.
    pub program: PathBuf,
    /// Arguments that make it do so.
    pub args: Vec<OsString>,
}

impl CompilerCommand {
    /// This very program, even if its file was replaced since it was started.
    pub fn this_program<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), args: args.into_iter().map(Into::into).collect() }
    }
}

/// What compiling one module may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompileLimits {
    /// Bytes of writable memory of the child.
    pub memory_bytes_max: u64,
    /// CPU time of the child, in whole seconds.
    pub cpu_max: Duration,
    /// Time from its start to its answer.
    pub wall_clock_max: Duration,
    /// Bytes of machine code.
    pub artefact_bytes_max: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: limits::COMPILE_MEMORY_BYTES_MAX,
            cpu_max: limits::COMPILE_CPU_MAX,
            wall_clock_max: limits::COMPILE_WALL_CLOCK_MAX,
            artefact_bytes_max: limits::ARTEFACT_BYTES_MAX,
        }
    }
}

impl CompileLimits {
    fn memory_error(&self) -> LoadError {
        LoadError::Limit { name: "memory_bytes_max", limit: size(self.memory_bytes_max) }
    }
}

/// What came out of the child.
struct Outcome {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

/// Compiles `component` in a child process. Blocks until it is done or stopped; no child is left behind.
pub(crate) fn compile(
    command: &CompilerCommand,
    limits: &CompileLimits,
    compatibility: Compatibility,
    component: &[u8],
) -> Result<TrustedArtefact, LoadError> {
    let request = Request {
        compatibility,
        memory_bytes_max: limits.memory_bytes_max,
        cpu_seconds_max: limits.cpu_max.as_secs().max(1),
        artefact_bytes_max: limits.artefact_bytes_max,
        component_bytes: u64::try_from(component.len()).unwrap_or(u64::MAX),
    };
    let mut child = Reaped(spawn(command)?);
    let outcome = converse(&mut child.0, command, limits, &request, component)?;
    judge(&outcome, limits)
}

/// A child that is killed and waited for when it goes out of scope, whatever happened in between.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only for a child that was waited for already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn process_error(command: &CompilerCommand, action: &'static str, source: io::Error) -> HostError {
    HostError::CompilerProcess { action, program: command.program.clone(), source }
}

fn spawn(command: &CompilerCommand) -> Result<Child, HostError> {
    Command::new(&command.program)
        .args(&command.args)
        // Nothing of the broker's surroundings is the compiler's business.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| process_error(command, "start", source))
}

/// Writes and reads all three pipes at once, so that no side waits for the other, until the child ends or is out of
/// time.
fn converse(
    child: &mut Child,
    command: &CompilerCommand,
    limits: &CompileLimits,
    request: &Request,
    component: &[u8],
) -> Result<Outcome, LoadError> {
    let speak = |source| process_error(command, "speak to", source);
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(speak(io::Error::from(io::ErrorKind::BrokenPipe)).into());
    };
    let answer_bytes_max = limits.artefact_bytes_max.saturating_add(wire::ANSWER_HEADER_BYTES as u64);
    std::thread::scope(|scope| {
        let (ending, ended) = mpsc::channel::<()>();
        let thread = || std::thread::Builder::new().name("wasm-compiler-pipe".to_owned());
        // A child that ended early makes these fail; its status and its last words then say more than the error.
        let writer = thread().spawn_scoped(scope, move || {
            stdin.write_all(&request.encode()).and_then(|()| stdin.write_all(component)).is_ok()
        });
        let words = thread().spawn_scoped(scope, move || read_start(stderr, limits::STDERR_BYTES_MAX as u64));
        let reader = thread().spawn_scoped(scope, move || {
            let answer = read_start(stdout, answer_bytes_max.saturating_add(1));
            drop(ending);
            answer
        });
        let (Ok(_), Ok(words), Ok(reader)) = (writer, words, reader) else {
            child.kill().map_err(speak)?;
            return Err(HostError::Thread(io::Error::from(io::ErrorKind::OutOfMemory)).into());
        };
        if ended.recv_timeout(limits.wall_clock_max) == Err(RecvTimeoutError::Timeout) {
            child.kill().map_err(speak)?;
            let limit = format!("{:?}", limits.wall_clock_max);
            return Err(LoadError::Limit { name: "wall_clock_max", limit });
        }
        let stdout = reader.join().unwrap_or_default();
        let stderr = words.join().unwrap_or_default();
        let status = child.wait().map_err(|source| process_error(command, "wait for", source))?;
        Ok(Outcome { status, stdout, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
    })
}

/// Reads at most `bytes_max` bytes, as they come; an error ends it like an end.
fn read_start(pipe: impl Read, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = pipe.take(bytes_max).read_to_end(&mut bytes) {
        tracing::debug!(%error, "a pipe of the compiling process broke");
    }
    bytes
}

fn judge(outcome: &Outcome, limits: &CompileLimits) -> Result<TrustedArtefact, LoadError> {
    let too_large = || {
        let limit = size(limits.artefact_bytes_max);
        LoadError::Limit { name: "artefact_bytes_max", limit }
    };
    match Answer::decode(&outcome.stdout) {
        Ok(Answer::Compiled(code)) => Ok(TrustedArtefact::vouch_for(code.to_vec())),
        Ok(Answer::Invalid(message)) => Err(LoadError::Invalid(message.to_owned())),
        Ok(Answer::OutOfMemory) => Err(limits.memory_error()),
        Ok(Answer::TooLarge) => Err(too_large()),
        Ok(Answer::Mismatch) => Err(HostError::CompilerMismatch.into()),
        Err(_) if outcome.stdout.len() as u64 > limits.artefact_bytes_max => Err(too_large()),
        Err(fault) => judge_silence(outcome, limits, fault),
    }
}

/// The child ended without an answer.
fn judge_silence(outcome: &Outcome, limits: &CompileLimits, fault: &str) -> Result<TrustedArtefact, LoadError> {
    let stderr = outcome.stderr.clone();
    // Rust's runtime says so before it aborts.
    if stderr.contains("memory allocation of") {
        return Err(limits.memory_error());
    }
    if outcome.status.signal() == Some(Signal::XCPU.as_raw()) {
        return Err(LoadError::Limit { name: "cpu_max", limit: format!("{:?}", limits.cpu_max) });
    }
    let panicked = outcome.status.code() == Some(PANIC_EXIT_CODE);
    if panicked || outcome.status.signal().is_some() {
        return Err(LoadError::Crashed { how: outcome.status.to_string(), stderr });
    }
    Err(HostError::CompilerAnswer { answer: format!("{fault}; {}", outcome.status), stderr }.into())
}

#[cfg(test)]
mod tests;
