//! A storage that holds only so many files open: any number of segments, few descriptors.
//!
//! ```text
//!   open ──► LimitedFile: name, and for as long as there is room the open file itself
//!               │ a call: opens it again if need be
//!               ▼
//!   ring of open files:  ─► f3 ─► f9 ─► f4 ─►      over the limit: the first one without a chance left is closed;
//!                        └──────────────────┘      a read gives it one chance, a write two
//! ```
//!
//! So sealed segments go before those that grow. Two kinds of file are never closed here:
//!
//! - **With unsynced writes** (LOG-7): the kernel tells of a failed write-back to who has the file open. Closed and
//!   opened again it might say that all is well.
//! - **Whose name goes or is given to another file**: who still reads the old one must not find the new one under its
//!   name. It is opened before its name goes, if it isn't, and stays so until the last user lets go of it.

use super::{Entry, Open, Operation, Storage, StorageError, StorageFile, StorageLock};
use crate::limits;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Another storage, of which at most so many files are open at a time, but for those that have to be.
#[derive(Debug)]
pub struct LimitedStorage {
    inner: Arc<dyn Storage>,
    files: Arc<Files>,
}

/// All files that are in use. No lock is held while another one is taken, nor while files are let go of.
#[derive(Debug)]
struct Files {
    inner: Arc<dyn Storage>,
    open_max: AtomicUsize,
    open: AtomicUsize,
    /// By the name under which it was opened; several handles may have the same.
    names: Mutex<BTreeMap<PathBuf, Vec<Weak<LimitedFile>>>>,
    /// Those that are open; also some that were let go of.
    ring: Mutex<VecDeque<Weak<LimitedFile>>>,
}

impl LimitedStorage {
    /// `inner`, with [`limits::OPEN_FILES_MAX_DEFAULT`].
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        let files = Files {
            inner: Arc::clone(&inner),
            open_max: AtomicUsize::new(limits::OPEN_FILES_MAX_DEFAULT),
            open: AtomicUsize::new(0),
            names: Mutex::default(),
            ring: Mutex::default(),
        };
        Self { inner, files: Arc::new(files) }
    }

    /// How many files may be open, from now on.
    pub fn set_open_files_max(&self, open_max: usize) {
        self.files.open_max.store(open_max, Ordering::Release);
        self.files.make_room();
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.files.open.load(Ordering::Acquire)
    }

    /// The name goes, or stands for another file from now on: whoever has the file keeps it. If it is a directory's,
    /// so do those that have files in it open.
    fn detach(&self, path: &Path) {
        let detached: Vec<Arc<LimitedFile>> = {
            let names = self.files.names.lock();
            let below = names.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
            let below = below.take_while(|(name, _)| name.starts_with(path));
            below.flat_map(|(_, files)| files.iter().filter_map(Weak::upgrade)).collect()
        };
        for file in detached {
            file.detach(file.path != path);
        }
    }
}

impl Storage for LimitedStorage {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn StorageFile>, StorageError> {
        let opened = self.inner.open(path, how)?;
        let again = if how == Open::Read { Open::Read } else { Open::Write };
        let file = Arc::new_cyclic(|me| LimitedFile {
            files: Arc::clone(&self.files),
            me: me.clone(),
            path: path.to_path_buf(),
            again,
            state: Mutex::new(State::Open(opened)),
            chances: AtomicU8::new(1),
            changes: AtomicU64::new(u64::from(how == Open::Create)),
            synced: AtomicU64::new(0),
        });
        self.files.names.lock().entry(path.to_path_buf()).or_default().push(Arc::downgrade(&file));
        self.files.count_in(Arc::downgrade(&file));
        Ok(file)
    }

    fn create_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.inner.create_directory(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, StorageError> {
        self.inner.list(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.detach(from);
        self.detach(to);
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), StorageError> {
        self.detach(path);
        self.inner.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.inner.remove_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.inner.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, StorageError> {
        self.inner.lock(path)
    }
}

impl Files {
    /// A file is open from now on.
    fn count_in(&self, file: Weak<LimitedFile>) {
        self.open.fetch_add(1, Ordering::AcqRel);
        {
            let mut ring = self.ring.lock();
            ring.push_back(file);
            if ring.len() > 2 * self.open.load(Ordering::Acquire) + limits::OPEN_FILES_SCANNED_MAX {
                ring.retain(|file| file.strong_count() > 0);
            }
        }
        self.make_room();
    }

    /// Closes files until there is room, or so many were looked at; the next call goes on from there.
    fn make_room(&self) {
        let mut left = limits::OPEN_FILES_SCANNED_MAX;
        while self.open.load(Ordering::Acquire) > self.open_max.load(Ordering::Acquire) && left > 0 {
            left -= 1;
            // No lock is held while it is closed, and let go of.
            let Some(next) = self.ring.lock().pop_front() else { return };
            if let Some(file) = next.upgrade()
                && file.close_or_keep()
            {
                self.ring.lock().push_back(next);
            }
        }
    }

    fn forget(&self, path: &Path) {
        let mut names = self.names.lock();
        if let Some(files) = names.get_mut(path) {
            files.retain(|file| file.strong_count() > 0);
            if files.is_empty() {
                names.remove(path);
            }
        }
    }
}

/// How often a file that is written to is passed over; one that is only read: once.
const CHANCES_OF_WRITER: u8 = 2;

/// A file that may be closed while nobody calls it.
#[derive(Debug)]
struct LimitedFile {
    files: Arc<Files>,
    me: Weak<LimitedFile>,
    path: PathBuf,
    /// How to open it again.
    again: Open,
    state: Mutex<State>,
    chances: AtomicU8,
    /// Counts beginnings and ends of changes to it.
    changes: AtomicU64,
    /// How many of them a sync has covered.
    synced: AtomicU64,
}

#[derive(Debug)]
enum State {
    Open(Arc<dyn StorageFile>),
    Closed,
    /// Its name is gone: it stays open until the last user lets go of it.
    Detached(Arc<dyn StorageFile>),
    /// Its name is gone, and it was not open then.
    Lost,
}

impl LimitedFile {
    /// The file itself; it is open for as long as somebody has it. `changes`: how many changes are about to begin.
    fn file(&self, changes: u64) -> Result<Arc<dyn StorageFile>, StorageError> {
        let (file, is_opened) = {
            let mut state = self.state.lock();
            // Under the lock: from here on it is not closed.
            self.changes.fetch_add(changes, Ordering::AcqRel);
            match &*state {
                State::Open(file) | State::Detached(file) => (Arc::clone(file), false),
                State::Lost => {
                    let gone = io::Error::from(io::ErrorKind::NotFound);
                    return Err(StorageError::new(Operation::Open, &self.path, gone));
                }
                State::Closed => {
                    let file = self.files.inner.open(&self.path, self.again)?;
                    *state = State::Open(Arc::clone(&file));
                    (file, true)
                }
            }
        };
        self.chances.fetch_max(if changes > 0 { CHANCES_OF_WRITER } else { 1 }, Ordering::AcqRel);
        if is_opened {
            self.files.count_in(self.me.clone());
        }
        Ok(file)
    }

    fn change<T>(&self, act: impl FnOnce(&dyn StorageFile) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let file = self.file(1)?;
        let outcome = act(file.as_ref());
        // Again: a sync that ran beside it may not have covered it.
        self.changes.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    fn is_dirty(&self) -> bool {
        self.changes.load(Ordering::Acquire) > self.synced.load(Ordering::Acquire)
    }

    /// Closes it if nothing speaks against that; whether it is to be met again.
    fn close_or_keep(&self) -> bool {
        if self.chances.load(Ordering::Acquire) > 0 {
            self.chances.fetch_sub(1, Ordering::AcqRel);
            return true;
        }
        let closed = {
            let mut state = self.state.lock();
            match &*state {
                State::Open(_) if self.is_dirty() => return true,
                State::Open(_) => std::mem::replace(&mut *state, State::Closed),
                _ => return false,
            }
        };
        drop(closed);
        self.files.open.fetch_sub(1, Ordering::AcqRel);
        false
    }

    /// Its name goes. Who reads it meanwhile finishes, unless `may_lose`.
    fn detach(&self, may_lose: bool) {
        let mut state = self.state.lock();
        *state = match &*state {
            State::Open(file) | State::Detached(file) => State::Detached(Arc::clone(file)),
            State::Lost => State::Lost,
            State::Closed if may_lose => State::Lost,
            State::Closed => match self.files.inner.open(&self.path, self.again) {
                Ok(file) => {
                    self.files.open.fetch_add(1, Ordering::AcqRel);
                    State::Detached(file)
                }
                Err(error) => {
                    tracing::debug!(%error, "a file whose name goes can't be held open; who reads it is told so");
                    State::Lost
                }
            },
        };
    }
}

impl Drop for LimitedFile {
    fn drop(&mut self) {
        if matches!(self.state.get_mut(), State::Open(_) | State::Detached(_)) {
            self.files.open.fetch_sub(1, Ordering::AcqRel);
        }
        self.files.forget(&self.path);
    }
}

impl StorageFile for LimitedFile {
    fn read_at(&self, position: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
        self.file(0)?.read_at(position, bytes_max)
    }

    fn write_at(&self, position: u64, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.change(|file| file.write_at(position, parts))
    }

    fn bytes(&self) -> Result<u64, StorageError> {
        self.file(0)?.bytes()
    }

    fn truncate(&self, bytes: u64) -> Result<(), StorageError> {
        self.change(|file| file.truncate(bytes))
    }

    fn sync(&self) -> Result<(), StorageError> {
        let file = self.file(0)?;
        let changes = self.changes.load(Ordering::Acquire);
        // After a failure it stays dirty, and so open.
        file.sync()?;
        self.synced.fetch_max(changes, Ordering::AcqRel);
        self.files.make_room();
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests;
