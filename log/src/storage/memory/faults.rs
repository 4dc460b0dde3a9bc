//! Failures on order: the n-th call of a kind on a path fails, or the machine stops at the n-th change.

use super::Operation;
use std::io;
use std::path::Path;

/// Calls that shall fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// `None`: every call.
    operation: Option<Operation>,
    path_part: String,
    kind: FaultKind,
    skipped: u32,
    times: u32,
    pub(super) bytes_written: usize,
    kept_sectors: Option<u64>,
}

impl Fault {
    /// Every `operation` on a path that contains `path_part` fails with `kind`.
    pub fn new(operation: Operation, path_part: &str, kind: FaultKind) -> Self {
        Self::of(Some(operation), path_part, kind)
    }

    /// Every call on a path that contains `path_part` fails with `kind`.
    pub fn of_any_call(path_part: &str, kind: FaultKind) -> Self {
        Self::of(None, path_part, kind)
    }

    fn of(operation: Option<Operation>, path_part: &str, kind: FaultKind) -> Self {
        let path_part = path_part.to_owned();
        Self { operation, path_part, kind, skipped: 0, times: u32::MAX, bytes_written: 0, kept_sectors: None }
    }

    /// A failing sync of a file has written some sectors, as this seed has it.
    pub fn with_sectors_kept(mut self, seed: u64) -> Self {
        self.kept_sectors = Some(seed);
        self
    }

    /// The first `calls` that match still succeed.
    pub fn after(mut self, calls: u32) -> Self {
        self.skipped = calls;
        self
    }

    /// Only `calls` of them fail.
    pub fn times(mut self, calls: u32) -> Self {
        self.times = calls;
        self
    }

    /// A failing write has written so many bytes.
    pub fn with_bytes_written(mut self, bytes: usize) -> Self {
        self.bytes_written = bytes;
        self
    }

    pub(super) fn error(&self) -> io::Error {
        match self.kind {
            FaultKind::InputOutput => io::Error::other("input/output error (injected)"),
            FaultKind::Full => io::ErrorKind::StorageFull.into(),
            FaultKind::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            FaultKind::Gone => io::ErrorKind::NotFound.into(),
            FaultKind::Forbidden => io::ErrorKind::PermissionDenied.into(),
            FaultKind::OutOfFiles => rustix::io::Errno::MFILE.into(),
        }
    }

    /// Whether this call is one that fails; counts it.
    fn strikes(&mut self, operation: Operation, path: &Path) -> bool {
        let is_other = self.operation.is_some_and(|wanted| wanted != operation);
        if is_other || self.times == 0 || !path.to_string_lossy().contains(&self.path_part) {
            return false;
        }
        if self.skipped > 0 {
            self.skipped -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The medium (EIO).
    InputOutput,
    /// No space (ENOSPC).
    Full,
    /// The file system went read-only (EROFS), as Linux does after an error.
    ReadOnly,
    /// The file or directory disappeared (ENOENT).
    Gone,
    /// Permissions (EACCES).
    Forbidden,
    /// The process has too many files open (EMFILE).
    OutOfFiles,
}

#[derive(Default, Debug)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    changes_left: Option<u64>,
    halted: bool,
    /// Of the sync that failed last.
    kept_sectors: Option<u64>,
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Go,
    /// The power goes while it runs.
    Halt,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn halt_after(&mut self, changes: u64) {
        self.changes_left = Some(changes);
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted
    }

    pub(super) fn verdict(&mut self, operation: Operation, path: &Path) -> io::Result<Verdict> {
        if self.halted {
            return Err(halted());
        }
        if operation.is_change()
            && let Some(left) = &mut self.changes_left
        {
            if *left == 0 {
                self.halted = true;
                return Ok(Verdict::Halt);
            }
            *left -= 1;
        }
        // A failing write may have written something first: the file itself asks for that.
        if operation == Operation::Write {
            return Ok(Verdict::Go);
        }
        let struck = self
            .faults
            .iter_mut()
            .find_map(|fault| fault.strikes(operation, path).then(|| (fault.error(), fault.kept_sectors)));
        match struck {
            Some((error, kept_sectors)) => {
                self.kept_sectors = kept_sectors;
                Err(error)
            }
            None => Ok(Verdict::Go),
        }
    }

    pub(super) fn take_kept_sectors(&mut self) -> Option<u64> {
        self.kept_sectors.take()
    }

    pub(super) fn take_partial_write(&mut self, path: &Path) -> Option<Fault> {
        self.faults.iter_mut().find_map(|fault| fault.strikes(Operation::Write, path).then(|| fault.clone()))
    }
}

pub(super) fn halted() -> io::Error {
    io::Error::other("the machine is off")
}
