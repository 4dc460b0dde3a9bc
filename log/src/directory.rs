//! A data directory: its lock, its health, its recovery points, and the comings and goings of partitions in it.

use crate::checkpoint_file;
use crate::clean_mark;
use crate::error::LogError;
use crate::format::names;
use crate::format::points::{self, RecoveryPoint};
use crate::health::DirectoryHealth;
use crate::limits;
use crate::storage::limited::LimitedStorage;
use crate::storage::{self, Entry, EntryKind, Operation, Storage, StorageError, StorageLock};
use crate::tail::Tails;
use headwater_mutants::{Mutant, lacks};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// A directory on one disk that holds partitions. Clones are the same directory; the last one frees its lock.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    /// The same.
    files: Arc<LimitedStorage>,
    path: PathBuf,
    health: Arc<DirectoryHealth>,
    _lock: Box<dyn StorageLock>,
    names: NameSync,
    tails: Tails,
    partitions: Mutex<BTreeMap<String, Arc<PartitionPoint>>>,
    /// Bytes synced since recovery points were last written.
    synced_bytes: AtomicU64,
    /// What the file says; held while it is written.
    written: Mutex<BTreeMap<String, RecoveryPoint>>,
}

/// What an open log tells the directory about itself.
#[derive(Default, Debug)]
pub(crate) struct PartitionPoint {
    pub(crate) next_offset: AtomicI64,
    pub(crate) start_offset: AtomicI64,
    open: AtomicBool,
    /// The directory was closed in order, and the partition has not been opened since (LOG-9).
    closed_in_order: AtomicBool,
}

impl PartitionPoint {
    fn of(point: RecoveryPoint, closed_in_order: bool) -> Self {
        Self {
            next_offset: AtomicI64::new(point.next_offset),
            start_offset: AtomicI64::new(point.start_offset),
            open: AtomicBool::new(false),
            closed_in_order: AtomicBool::new(closed_in_order),
        }
    }

    /// Whether what the log's files say of each other can be believed; once, for who opens it.
    pub(crate) fn take_closed_in_order(&self) -> bool {
        self.closed_in_order.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn load(&self) -> RecoveryPoint {
        RecoveryPoint {
            next_offset: self.next_offset.load(Ordering::Acquire),
            start_offset: self.start_offset.load(Ordering::Acquire),
        }
    }
}

/// The right to be the one log on a partition; given back when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) point: Arc<PartitionPoint>,
    is_final: bool,
}

impl Registration {
    /// Never gives the right back: the partition is in a state that only a restart mends.
    fn keep(mut self) {
        self.is_final = true;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.point.open.store(self.is_final, Ordering::Release);
    }
}

/// Which of the names made in the directory have been synced: one sync serves all that were made before it.
#[derive(Default, Debug)]
struct NameSync {
    made: AtomicU64,
    synced: Mutex<u64>,
}

impl DataDirectory {
    /// Opens the directory at `path`, makes it if it isn't there, takes its lock, and finishes removals that a crash
    /// cut short.
    ///
    /// # Errors
    /// [`LogError::Locked`] when another process has it; [`LogError::Checkpoint`] when it was written by a newer
    /// version; else [`LogError::Storage`].
    pub fn open(storage: Arc<dyn Storage>, path: &Path) -> Result<Self, LogError> {
        let files = Arc::new(LimitedStorage::new(storage));
        let storage: Arc<dyn Storage> = Arc::clone(&files) as _;
        storage::make_directory(storage.as_ref(), path).map_err(LogError::of_storage)?;
        let lock = storage.lock(&path.join(names::LOCK)).map_err(|error| match error.source.kind() {
            std::io::ErrorKind::WouldBlock => LogError::Locked(path.to_path_buf()),
            _ => LogError::of_storage(error),
        })?;
        let mark = clean_mark::take(storage.as_ref(), path)?;
        // Names made before a crash of the process alone may never have been synced; nor may the mark come back.
        storage.sync_directory(path)?;
        let (written, file) = finish_removals(storage.as_ref(), path)?;
        let closed_in_order = mark.is_some() && mark == file;
        let point = |point: &RecoveryPoint| Arc::new(PartitionPoint::of(*point, closed_in_order));
        let partitions = written.iter().map(|(name, written)| (name.clone(), point(written)));
        let inner = Inner {
            health: Arc::new(DirectoryHealth::new(path)),
            path: path.to_path_buf(),
            _lock: lock,
            names: NameSync::default(),
            tails: Tails::default(),
            partitions: Mutex::new(partitions.collect()),
            synced_bytes: AtomicU64::new(0),
            written: Mutex::new(written),
            storage,
            files,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The disk.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.inner.storage
    }

    /// Whether it may be written to.
    pub fn health(&self) -> &Arc<DirectoryHealth> {
        &self.inner.health
    }

    /// How many of its files are open, and may be.
    pub fn open_files(&self) -> &LimitedStorage {
        &self.inner.files
    }

    /// What is kept of its logs in memory for readers at their ends: nothing, unless somebody gives it room.
    pub fn tails(&self) -> &Tails {
        &self.inner.tails
    }

    /// The names of the partitions that have a directory here, in order.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn partitions(&self) -> Result<Vec<String>, LogError> {
        let is_partition = |entry: &Entry| entry.kind == EntryKind::Directory && names::is_partition(&entry.name);
        let entries = self.inner.storage.list(self.path())?;
        Ok(entries.into_iter().filter(is_partition).map(|entry| entry.name).collect())
    }

    /// Writes down how far each partition is synced, if that changed. To be called about every second, and after all
    /// logs are closed: what is above these points is scanned after an unclean stop, what is bad below is damage
    /// (LOG-3).
    ///
    /// # Errors
    /// [`LogError::DirectoryFailed`] or [`LogError::DiskFull`]; the old points stay good.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        self.inner.health.check()?;
        let mut written = self.inner.written.lock();
        let current: BTreeMap<String, RecoveryPoint> = {
            let partitions = self.inner.partitions.lock();
            let points = partitions.iter().map(|(name, point)| (name.clone(), point.load()));
            points.filter(|(_, point)| *point != RecoveryPoint::default()).collect()
        };
        if *written != current {
            let path = self.path().join(names::RECOVERY_POINTS);
            checkpoint_file::write(self.storage().as_ref(), &path, &points::encode(&current))
                .map_err(|error| self.failed(error))?;
            *written = current;
        }
        Ok(())
    }

    /// As [`Self::checkpoint`], when all that was appended is synced and nothing more comes; and says so, so that the
    /// next start need not read anything (LOG-9). To be called last.
    ///
    /// # Errors
    /// As [`Self::checkpoint`]; the next start is as after a crash then.
    pub fn close_in_order(&self) -> Result<(), LogError> {
        self.checkpoint()?;
        let written = self.inner.written.lock();
        let crc = crc32c::crc32c(&points::encode(&written));
        clean_mark::put(self.storage().as_ref(), self.path(), crc).map_err(|error| self.failed(error))
    }

    /// So many bytes were synced: after [`limits::CHECKPOINT_INTERVAL_BYTES`] recovery points are written.
    pub(crate) fn note_synced(&self, bytes: u64) -> Result<(), LogError> {
        let before = self.inner.synced_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before < limits::CHECKPOINT_INTERVAL_BYTES && before + bytes >= limits::CHECKPOINT_INTERVAL_BYTES {
            self.inner.synced_bytes.store(0, Ordering::Release);
            return match self.checkpoint() {
                // Not missed: more is read at an unclean start.
                Err(LogError::DiskFull(_)) => Ok(()),
                written => written,
            };
        }
        Ok(())
    }

    /// Removes a partition that is not open: all its files and what is known of it. Crash-safe: once this has returned
    /// the partition does not come back, and what is left of its files goes at the next [`DataDirectory::open`].
    ///
    /// # Errors
    /// [`LogError::AlreadyOpen`] ([`Log::delete`](crate::Log::delete) is for open ones), or of the disk.
    pub fn delete_partition(&self, name: &str) -> Result<(), LogError> {
        let registration = self.register(name)?;
        self.remove_partition(name, registration)
    }

    /// Removes the directory and the recovery point of a partition that the caller has registered. After a failure
    /// the partition stays registered, so that no new one of its name is made before the next start has finished the
    /// removal.
    pub(crate) fn remove_partition(&self, name: &str, registration: Registration) -> Result<(), LogError> {
        let removed = self.try_remove_partition(name);
        if removed.is_err() {
            registration.keep();
        }
        removed
    }

    fn try_remove_partition(&self, name: &str) -> Result<(), LogError> {
        self.inner.health.check()?;
        let doomed = self.path().join(format!("{name}{}", names::DELETED_SUFFIX));
        let storage = self.storage().as_ref();
        let was_there = match storage.rename(&self.path().join(name), &doomed) {
            Ok(()) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(self.failed(error)),
        };
        if was_there {
            self.note_name();
            self.sync_names()?;
            // Before the point is written: a full disk must not stand in the way of freeing it.
            empty_tree(storage, &doomed).map_err(|error| self.failed(error))?;
        }
        // Before the last trace is gone: a point without its partition would pass for a loss.
        self.forget(name)?;
        if was_there { storage.remove_directory(&doomed).map_err(|error| self.failed(error)) } else { Ok(()) }
    }

    /// Takes the partition's point for the one log that may be open on it.
    pub(crate) fn register(&self, name: &str) -> Result<Registration, LogError> {
        if !names::is_partition(name) {
            return Err(LogError::BadName(name.chars().take(limits::PARTITION_NAME_BYTES_MAX).collect()));
        }
        let mut partitions = self.inner.partitions.lock();
        if !partitions.contains_key(name) && partitions.len() >= limits::PARTITIONS_MAX {
            let directory = self.path().to_path_buf();
            return Err(LogError::TooMany { what: "partitions", max: limits::PARTITIONS_MAX, directory });
        }
        let point = partitions.entry(name.to_owned()).or_default();
        if point.open.swap(true, Ordering::AcqRel) {
            return Err(LogError::AlreadyOpen(name.to_owned()));
        }
        Ok(Registration { point: Arc::clone(point), is_final: false })
    }

    /// Forgets a partition's point, on the disk too.
    fn forget(&self, name: &str) -> Result<(), LogError> {
        let point = self.inner.partitions.lock().remove(name);
        if !self.inner.written.lock().contains_key(name) {
            return Ok(());
        }
        let forgotten = self.checkpoint();
        if let (Err(_), Some(point)) = (&forgotten, point) {
            // A new partition of this name would be measured by the point that is still in the file.
            self.inner.partitions.lock().insert(name.to_owned(), point);
        }
        forgotten
    }

    /// A name was made, changed or removed in the directory; [`Self::sync_names`] makes that certain.
    pub(crate) fn note_name(&self) {
        self.inner.names.made.fetch_add(1, Ordering::AcqRel);
    }

    /// Makes all names noted so far survive a power cut. One sync serves all who wait for it.
    ///
    /// # Errors
    /// [`LogError::DirectoryFailed`] (LOG-7).
    pub fn sync_names(&self) -> Result<(), LogError> {
        let wanted = self.inner.names.made.load(Ordering::Acquire);
        let mut synced = self.inner.names.synced.lock();
        // Whoever held the lock before may have failed: its error is reported once only.
        self.inner.health.check()?;
        if *synced >= wanted {
            return Ok(());
        }
        let made = self.inner.names.made.load(Ordering::Acquire);
        self.inner.storage.sync_directory(self.path()).map_err(|error| self.inner.health.poison(&error))?;
        *synced = made;
        Ok(())
    }

    /// The error of a change to the disk. Anything but a full disk, or a file that could not even be opened because too
    /// many are, ends writing to the directory (LOG-7).
    pub(crate) fn failed(&self, error: StorageError) -> LogError {
        let is_sync = matches!(error.operation, Operation::Sync | Operation::SyncDirectory);
        if is_sync && lacks(Mutant::FailedSyncRetried) {
            return LogError::Storage(error);
        }
        if error.is_out_of_files() {
            return LogError::OutOfFiles(error);
        }
        if error.is_full() && !is_sync { LogError::DiskFull(error) } else { self.inner.health.poison(&error) }
    }
}

/// Ends the removals that a crash cut short, and reads the recovery points of what is left; beside them the CRC-32C of
/// their file, if there was one.
fn finish_removals(
    storage: &dyn Storage,
    path: &Path,
) -> Result<(BTreeMap<String, RecoveryPoint>, Option<u32>), LogError> {
    let file = path.join(names::RECOVERY_POINTS);
    let read = checkpoint_file::read(storage, &file, points::decode)?;
    let crc = read.as_ref().map(|points| crc32c::crc32c(&points::encode(points)));
    let mut points = read.unwrap_or_default();
    let known = points.len();
    let mut doomed = Vec::new();
    for entry in storage.list(path)? {
        if let (EntryKind::Directory, Some(name)) = (entry.kind, entry.name.strip_suffix(names::DELETED_SUFFIX)) {
            tracing::info!(directory = %path.display(), partition = name, "finishing a removal");
            empty_tree(storage, &path.join(&entry.name))?;
            points.remove(name);
            doomed.push(path.join(&entry.name));
        }
    }
    if points.len() < known {
        checkpoint_file::write(storage, &file, &points::encode(&points)).map_err(LogError::of_storage)?;
    }
    for path in doomed {
        storage.remove_directory(&path)?;
    }
    Ok((points, crc))
}

/// Removes everything in a directory.
fn empty_tree(storage: &dyn Storage, path: &Path) -> Result<(), StorageError> {
    for entry in storage.list(path)? {
        let path = path.join(&entry.name);
        match entry.kind {
            EntryKind::Directory => {
                empty_tree(storage, &path)?;
                storage.remove_directory(&path)?;
            }
            EntryKind::File | EntryKind::Other => storage.remove_file(&path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
