//! What comes out of a call that did not succeed: the guest's failures, with names, and ours.

use crate::error::HostError;
use crate::frames::frames;
use crate::host::{HostFault, HostLocked};
use crate::instance::StoreData;
use crate::limits;
use std::fmt;
use std::time::Duration;
use wasmtime::Trap;

/// Why a call ended without success.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The guest's doing: subject to the deployment's error policy.
    #[error(transparent)]
    Guest(#[from] GuestFailure),
    /// Ours: try again or stop, but blame no record.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// What a guest did wrong. Whatever it was, the call is discarded and the instance is gone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GuestFailure {
    /// `init` returned an error: the deployment can't run.
    #[error("the module refuses its deployment: {0}")]
    Init(String),
    /// `process` or `on-timers` returned an error.
    #[error("{}: {message}", named(*.index))]
    Failed {
        /// Which record of the batch or timer of the list, from 0, as the guest says; unchecked.
        index: Option<u32>,
        /// In the guest's words.
        message: String,
    },
    /// A trap: a panic, a bad access, endless recursion.
    #[error("the module {0}")]
    Trap(TrapReport),
    /// More CPU time than the call may use.
    #[error("the module used more than its CPU limit of {budget:?} for this call{}", at(.frames))]
    CpuLimit {
        /// What it may use.
        budget: Duration,
        /// Where it was stopped, innermost first.
        frames: Vec<String>,
    },
    /// An allocation over the limit, which the guest did not survive.
    #[error(
        "the module: memory limit {} reached (it asked for {}){}",
        size(*.limit_bytes), size(*.wanted_bytes), says(.panic)
    )]
    MemoryLimit {
        /// What it may use.
        limit_bytes: u64,
        /// What it would have used in all.
        wanted_bytes: u64,
        /// Its last words.
        panic: Option<String>,
    },
    /// It emitted more than a step may hold. Half of the batch may fit.
    #[error("the module's output is larger than one step may be")]
    OutputTooLarge,
    /// [`Stopper::stop`](crate::Stopper::stop) was called: not the guest's fault at all.
    #[error("the module was stopped")]
    Stopped,
    /// An earlier call killed the instance. Make a new one.
    #[error("the instance is gone after an earlier failure")]
    Dead,
}

/// A trap, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrapReport {
    /// What kind, such as "integer divide by zero".
    pub cause: String,
    /// The last line that the guest logged at error level in this call: the SDK's panic hook speaks so.
    pub panic: Option<String>,
    /// Functions on the guest's stack, innermost first, shortened.
    pub frames: Vec<String>,
}

impl fmt::Display for TrapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            Some(panic) if panic.starts_with("panicked") => f.write_str(panic)?,
            Some(panic) => write!(f, "panicked: {panic}")?,
            None => write!(f, "trapped: {}", self.cause)?,
        }
        f.write_str(&at(&self.frames))
    }
}

fn named(index: Option<u32>) -> String {
    match index {
        Some(index) => format!("the module says of number {index} of its input"),
        None => "the module says".to_owned(),
    }
}

fn at(frames: &[String]) -> String {
    let Some(innermost) = frames.first() else { return String::new() };
    // A guest's own stack lies in its memory: running over its end is an access out of bounds, or an exhausted call
    // stack, and neither says so.
    if frames.len() >= RECURSION_FRAMES_MIN && frames.iter().all(|frame| frame == innermost) {
        return format!(" (at {innermost}, again and again: endless recursion?)");
    }
    format!(" (at {})", frames.join(" < "))
}

/// So many frames of one function, and no other, look like endless recursion.
const RECURSION_FRAMES_MIN: usize = 6;

fn says(panic: &Option<String>) -> String {
    panic.as_ref().map(|panic| format!("; its last words: {panic}")).unwrap_or_default()
}

/// Bytes with a unit that divides them, such as "64 MiB".
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

/// At most `bytes_max` bytes of `text`, cut between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

/// Turns what wasmtime returned from a call into its cause. `data` knows which limits were hit.
pub(crate) fn explain(error: &wasmtime::Error, data: &StoreData) -> CallError {
    if let Some(HostFault(message)) = error.downcast_ref::<HostFault>() {
        return HostError::Fault(message.clone()).into();
    }
    if error.is::<HostLocked>() {
        return HostError::HostLocked.into();
    }
    let frames = frames(error);
    if data.clock.was_stopped() {
        return GuestFailure::Stopped.into();
    }
    if data.clock.was_exceeded() {
        return GuestFailure::CpuLimit { budget: data.clock.budget(), frames }.into();
    }
    if data.output_too_large {
        // Whatever the guest made of it, a panic among other things.
        return GuestFailure::OutputTooLarge.into();
    }
    let trap = error.downcast_ref::<Trap>().copied();
    // A guest whose allocation was refused gives up with `unreachable`, or never starts.
    if let Some(wanted_bytes) = data.limiter.refused_bytes()
        && matches!(trap, None | Some(Trap::UnreachableCodeReached))
    {
        let limit_bytes = data.limiter.memory_bytes_max();
        return GuestFailure::MemoryLimit { limit_bytes, wanted_bytes, panic: data.last_error.clone() }.into();
    }
    let cause = match trap {
        Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        None => cut(&error.root_cause().to_string(), limits::FAILURE_MESSAGE_BYTES_MAX).to_owned(),
    };
    // Other traps are no panics, whatever was logged before.
    let panicked = trap == Some(Trap::UnreachableCodeReached);
    let panic = data.last_error.clone().filter(|_| panicked);
    GuestFailure::Trap(TrapReport { cause, panic, frames }).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_readable() {
        let report = TrapReport {
            cause: "wasm `unreachable` instruction executed".to_owned(),
            panic: Some("index out of bounds at src/lib.rs:7".to_owned()),
            frames: vec!["word_count::process".to_owned(), "process".to_owned()],
        };
        assert_eq!(
            GuestFailure::Trap(report.clone()).to_string(),
            "the module panicked: index out of bounds at src/lib.rs:7 (at word_count::process < process)"
        );
        let panic = Some("panicked at src/lib.rs:7: no".to_owned());
        let hook = TrapReport { panic, frames: Vec::new(), ..report };
        assert_eq!(hook.to_string(), "panicked at src/lib.rs:7: no");
        let silent = TrapReport { panic: None, frames: Vec::new(), cause: "integer divide by zero".to_owned() };
        assert_eq!(GuestFailure::Trap(silent).to_string(), "the module trapped: integer divide by zero");
        let again =
            TrapReport { cause: "call stack exhausted".to_owned(), panic: None, frames: vec!["f".to_owned(); 8] };
        assert_eq!(
            GuestFailure::Trap(again).to_string(),
            "the module trapped: call stack exhausted (at f, again and again: endless recursion?)"
        );
        let memory = GuestFailure::MemoryLimit { limit_bytes: 64 << 20, wanted_bytes: (64 << 20) + 1, panic: None };
        assert_eq!(memory.to_string(), "the module: memory limit 64 MiB reached (it asked for 67108865 bytes)");
        let failed = GuestFailure::Failed { index: Some(3), message: "not JSON".to_owned() };
        assert_eq!(failed.to_string(), "the module says of number 3 of its input: not JSON");
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 3), "");
    }
}
