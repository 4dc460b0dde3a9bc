//! What the engine needs from a disk, method by method, with what each leaves behind after a crash.
//!
//! Two kinds of crash matter. **A process dies** (kill -9, a bug): everything that returned `Ok` is still there,
//! because the operating system has it. **A machine dies** (power cut, kernel panic): only what was synced is certain
//! to be there; of the rest any part may be there, in any order, unless a method says otherwise.
//!
//! [`file::FileStorage`] is the real one, [`memory::MemoryStorage`] simulates both crashes for tests,
//! [`limited::LimitedStorage`] holds only so many files of another one open. All pass
//! [`conformance`](crate::conformance).

pub mod file;
pub mod limited;
pub mod memory;

use bytes::Bytes;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A tree of files. Paths are complete; the parent of what is made must be there.
///
/// Every call blocks until it is done; calls may come from any thread at the same time.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Opens a file.
    ///
    /// Crash: with [`Open::Create`] the name survives a power cut only after [`Storage::sync_directory`] of its parent.
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn StorageFile>, StorageError>;

    /// Makes a directory, and those above it that are missing. It is no error when it is there.
    ///
    /// Crash: as for a file, each name survives a power cut only after its parent is synced.
    fn create_directory(&self, path: &Path) -> Result<(), StorageError>;

    /// What is in a directory, sorted by name. Names that are not UTF-8 come with replacement characters.
    fn list(&self, directory: &Path) -> Result<Vec<Entry>, StorageError>;

    /// Gives a file or directory another name; a file that has that name already is replaced.
    ///
    /// Crash: atomic. After a power cut there is the old name or the new one, never neither; the new one for certain
    /// after both parents are synced.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError>;

    /// Removes a file's name. Files that are open stay readable.
    ///
    /// Crash: the name may come back after a power cut until the parent is synced.
    fn remove_file(&self, path: &Path) -> Result<(), StorageError>;

    /// Removes an empty directory.
    ///
    /// Crash: as [`Storage::remove_file`].
    fn remove_directory(&self, path: &Path) -> Result<(), StorageError>;

    /// Makes the names in a directory certain to survive a power cut: what was created, renamed or removed in it.
    ///
    /// Says nothing of the contents of these files. A failure is final for the disk (LOG-7).
    fn sync_directory(&self, path: &Path) -> Result<(), StorageError>;

    /// Takes the lock file `path` for this process, or fails at once with [`io::ErrorKind::WouldBlock`].
    ///
    /// Crash: the lock is free when its holder is gone, for whatever reason.
    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, StorageError>;
}

/// Makes a directory, and those above it that are missing, so that all their names survive a power cut.
///
/// # Errors
/// Of the first call that fails. What was made stays; another try goes on from there.
pub fn make_directory(storage: &dyn Storage, path: &Path) -> Result<(), StorageError> {
    let mut missing = Vec::new();
    let mut lowest = None;
    for directory in path.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        match storage.list(directory) {
            Err(error) if error.is_not_found() => missing.push(directory),
            // Whatever else may be wrong with it, the next call says so.
            _ => {
                lowest = Some(directory);
                break;
            }
        }
    }
    // The lowest one that is there may be the last that an earlier run could make before it was killed.
    if let Some(parent) = lowest.and_then(parent_of) {
        match storage.sync_directory(parent) {
            // Made by whoever administers the machine, not by us.
            Err(error) if is_foreign(&error) => {}
            synced => synced?,
        }
    }
    for made in missing.into_iter().rev() {
        storage.create_directory(made)?;
        if let Some(parent) = parent_of(made) {
            storage.sync_directory(parent)?;
        }
    }
    // There by now; if not, this says why.
    storage.create_directory(path)
}

fn parent_of(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn is_foreign(error: &StorageError) -> bool {
    matches!(error.source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// An open file. Positions and lengths are in bytes.
pub trait StorageFile: fmt::Debug + Send + Sync {
    /// Up to `bytes_max` bytes from `position`; fewer only where the file ends.
    ///
    /// Allocates `bytes_max`: the caller has compared it with the file's length.
    fn read_at(&self, position: u64, bytes_max: usize) -> Result<Bytes, StorageError>;

    /// Writes the parts one behind the other from `position` on, growing the file as needed.
    ///
    /// When it fails any part of the bytes may have been written; what is outside the range is untouched.
    ///
    /// Crash: the bytes survive a power cut only after [`StorageFile::sync`]; until then any part of them may be there,
    /// and what lies between parts that are there reads as zeros.
    fn write_at(&self, position: u64, parts: &[&[u8]]) -> Result<(), StorageError>;

    /// The file's length.
    fn bytes(&self) -> Result<u64, StorageError>;

    /// Cuts the file (or grows it with zeros) to `bytes`.
    ///
    /// Crash: as a write.
    fn truncate(&self, bytes: u64) -> Result<(), StorageError>;

    /// Makes the contents and the length certain to survive a power cut; not the name, see [`Storage::sync_directory`].
    ///
    /// A failure is final (LOG-7): the kernel may have dropped the bytes and called them clean, so that a second sync
    /// succeeds without having written anything. Never call it again on this file.
    fn sync(&self) -> Result<(), StorageError>;

    /// The name under which it was opened.
    fn path(&self) -> &Path;
}

/// A lock that is held until it is dropped.
pub trait StorageLock: fmt::Debug + Send + Sync {}

/// How [`Storage::open`] opens a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// For reading; it must be there.
    Read,
    /// For reading and writing; it must be there.
    Write,
    /// For reading and writing; made if it isn't there, emptied if it is.
    Create,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The last part of the path.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// A file's length; 0 for what isn't a file.
    pub bytes: u64,
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Something the engine never makes (a link, a socket); left alone.
    Other,
}

/// The disk (or who administers it) refused an operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct StorageError {
    /// What was tried, as a verb: `write`, `sync`.
    pub operation: Operation,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the operating system answered.
    pub source: io::Error,
}

impl StorageError {
    /// An error of `operation` on `path`.
    pub fn new(operation: Operation, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_path_buf(), source }
    }

    /// Whether the disk, or this user's share of it, has no room left.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether a file could not be opened because the process, or the system, has too many open (EMFILE, ENFILE). That
    /// says nothing about the disk.
    pub fn is_out_of_files(&self) -> bool {
        let limits = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
        let is_limit = |code| limits.iter().any(|limit| limit.raw_os_error() == code);
        self.operation == Operation::Open && self.source.raw_os_error().is_some_and(is_limit)
    }

    /// Whether there is no such file or directory.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The operations of a [`Storage`], to name them in errors and in injected faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// [`Storage::open`].
    Open,
    /// [`Storage::create_directory`].
    CreateDirectory,
    /// [`Storage::list`].
    List,
    /// [`Storage::rename`].
    Rename,
    /// [`Storage::remove_file`] and [`Storage::remove_directory`].
    Remove,
    /// [`Storage::sync_directory`].
    SyncDirectory,
    /// [`Storage::lock`].
    Lock,
    /// [`StorageFile::read_at`].
    Read,
    /// [`StorageFile::write_at`].
    Write,
    /// [`StorageFile::bytes`].
    Measure,
    /// [`StorageFile::truncate`].
    Truncate,
    /// [`StorageFile::sync`].
    Sync,
}

impl Operation {
    /// Whether it changes what is on the disk or what survives a crash.
    pub fn is_change(self) -> bool {
        match self {
            Self::Open | Self::List | Self::Lock | Self::Read | Self::Measure => false,
            Self::CreateDirectory | Self::Rename | Self::Remove | Self::SyncDirectory => true,
            Self::Write | Self::Truncate | Self::Sync => true,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::CreateDirectory => "create directory",
            Self::List => "list",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDirectory => "sync directory",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Write => "write",
            Self::Measure => "measure",
            Self::Truncate => "truncate",
            Self::Sync => "sync",
        })
    }
}
