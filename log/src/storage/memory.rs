//! A simulated disk that can lose power: for tests and the simulator.
//!
//! ```text
//!   write, truncate, create, rename, remove ──► live image      what running programs see
//!                     │
//!                     └──► unsynced changes, in order
//!                              │ sync(file), sync_directory(dir): those of that file or directory
//!                              ▼
//!                         durable image      what is certain to be there after a power cut
//! ```
//!
//! [`MemoryStorage::power_cut`] builds the next live image from the durable one and those unsynced changes that the
//! caller's [`Survivors`] let through. A failed sync loses the file's unsynced changes for good, although the live
//! image still shows them: that is what Linux does, and why LOG-7 forbids a second try.
//!
//! [`MemoryStorage::damage`] and [`MemoryStorage::return_as`] are what disks do to bytes at rest: rot, and coming back
//! empty or as they once were.

mod faults;
mod image;
mod sectors;
#[cfg(test)]
mod tests;

pub use faults::{Fault, FaultKind};
pub use image::Survivors;

use super::{Entry, EntryKind, Open, Operation, Storage, StorageError, StorageFile, StorageLock};
use bytes::Bytes;
use faults::{Faults, Verdict};
use image::{Change, Draws, Image, NodeId};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a sector where nobody says otherwise.
const SECTOR_BYTES: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default, Debug)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

/// What was durable on a disk at some moment.
#[derive(Clone, Debug)]
pub struct DiskSnapshot(Image);

#[derive(Default, Debug)]
struct Disk {
    live: Image,
    durable: Image,
    unsynced: Vec<Change>,
    faults: Faults,
    locks: BTreeSet<PathBuf>,
    /// Counts power cuts: handles of an earlier run are dead.
    run: u64,
    capacity_bytes: Option<u64>,
    reads: u64,
    syncs: u64,
}

impl MemoryStorage {
    /// An empty disk without limits or faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Turns the machine off and on: the live image becomes the durable one plus what `survivors` lets through.
    ///
    /// Open files, locks and injected faults are gone.
    pub fn power_cut(&self, survivors: Survivors) {
        let mut disk = self.disk.lock();
        let unsynced = std::mem::take(&mut disk.unsynced);
        match survivors {
            Survivors::Sectors { seed, sector_bytes } => disk.durable.lose_power(unsynced, seed, sector_bytes.max(1)),
            _ => survivors.select(unsynced, |change| disk.durable.apply(&change)),
        }
        disk.durable.drop_unreachable();
        disk.live = disk.durable.clone();
        disk.locks.clear();
        disk.faults = Faults::default();
        disk.run += 1;
    }

    /// Another disk in the same state: what was written, what is synced, and the changes in between. Its faults are
    /// gone, and its files are not open.
    #[must_use]
    pub fn fork(&self) -> Self {
        let disk = self.disk.lock();
        let fork = Disk {
            live: disk.live.clone(),
            durable: disk.durable.clone(),
            unsynced: disk.unsynced.clone(),
            run: disk.run + 1,
            capacity_bytes: disk.capacity_bytes,
            ..Disk::default()
        };
        Self { disk: Arc::new(Mutex::new(fork)) }
    }

    /// How many changes a power cut now might lose.
    pub fn unsynced_changes(&self) -> usize {
        self.disk.lock().unsynced.len()
    }

    /// Makes everything durable, as the operating system does by itself after a while.
    pub fn write_back(&self) {
        let mut disk = self.disk.lock();
        for change in std::mem::take(&mut disk.unsynced) {
            disk.durable.apply(&change);
        }
    }

    /// From now on matching calls fail as `fault` says.
    pub fn inject(&self, fault: Fault) {
        self.disk.lock().faults.add(fault);
    }

    /// Calls no longer fail.
    pub fn clear_faults(&self) {
        self.disk.lock().faults = Faults::default();
    }

    /// Lets `changes` more changing calls through; the next one is started but never answered, and everything after it
    /// fails until [`MemoryStorage::power_cut`].
    pub fn halt_after(&self, changes: u64) {
        self.disk.lock().faults.halt_after(changes);
    }

    /// Whether [`MemoryStorage::halt_after`] has struck.
    pub fn is_halted(&self) -> bool {
        self.disk.lock().faults.is_halted()
    }

    /// How many bytes all files together may hold; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().capacity_bytes = bytes;
    }

    /// How many bytes all files together hold.
    pub fn used_bytes(&self) -> u64 {
        self.disk.lock().live.file_bytes()
    }

    /// How many reads of files there have been.
    pub fn reads(&self) -> u64 {
        self.disk.lock().reads
    }

    /// How many files and directories have been synced.
    pub fn syncs(&self) -> u64 {
        self.disk.lock().syncs
    }

    /// What a file holds now, or `None` when there is none.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk.lock();
        let node = disk.live.find(path)?;
        disk.live.file(node).map(<[u8]>::to_vec)
    }

    /// Changes what a file holds behind the engine's back, live and durable, so that open handles see it too: damage.
    /// Nothing happens when there is no such file.
    pub fn overwrite(&self, path: &Path, contents: &[u8]) {
        let mut disk = self.disk.lock();
        if let Some(file) = disk.live.find(path) {
            let changes =
                [Change::Truncate { file, bytes: 0 }, Change::Write { file, position: 0, bytes: contents.to_vec() }];
            changes.iter().for_each(|change| disk.live.apply(change));
            changes.iter().for_each(|change| disk.durable.apply(change));
        }
    }

    /// Flips a bit of a file at rest, live and durable. Whether there is such a byte, and it is at rest.
    ///
    /// Flipped once more it is what it was.
    pub fn damage(&self, path: &Path, position: u64, bit: u8) -> bool {
        let mut disk = self.disk.lock();
        let Some(node) = disk.live.find(path) else { return false };
        if disk.unsynced.iter().any(|change| change.is_of_byte(node, position)) {
            return false;
        }
        let Disk { live, durable, .. } = &mut *disk;
        let place = usize::try_from(position).unwrap_or(usize::MAX);
        durable.flip(node, place, bit);
        live.flip(node, place, bit)
    }

    /// All that is durable now.
    pub fn snapshot(&self) -> DiskSnapshot {
        DiskSnapshot(self.disk.lock().durable.clone())
    }

    /// The machine is off, and when it is on again what lies at `path` is what lay there at the time of `snapshot`; an
    /// empty directory if that was nothing.
    ///
    /// As after [`MemoryStorage::power_cut`], open files, locks and injected faults are gone.
    pub fn return_as(&self, snapshot: &DiskSnapshot, path: &Path) {
        self.power_cut(Survivors::All);
        let mut disk = self.disk.lock();
        disk.durable.graft(path, &snapshot.0);
        disk.live = disk.durable.clone();
    }

    /// A disk that holds what `snapshot` does.
    pub fn of(snapshot: &DiskSnapshot) -> Self {
        let disk = Disk { live: snapshot.0.clone(), durable: snapshot.0.clone(), ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Puts a file in place behind the engine's back, live and durable; its directory must be there.
    pub fn plant(&self, path: &Path, contents: &[u8]) -> Result<(), StorageError> {
        let file = self.open(path, Open::Create)?;
        file.write_at(0, &[contents])?;
        file.sync()?;
        match path.parent() {
            Some(parent) => self.sync_directory(parent),
            None => Ok(()),
        }
    }

    fn call<T>(
        &self,
        run: Option<u64>,
        operation: Operation,
        path: &Path,
        act: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> Result<T, StorageError> {
        let mut disk = self.disk.lock();
        let verdict = match run {
            Some(run) if run != disk.run => Err(io::Error::other("the power was cut since this file was opened")),
            _ => disk.faults.verdict(operation, path),
        };
        let outcome = match verdict {
            Ok(Verdict::Go) => act(&mut disk),
            // Started, never answered: whether it took effect is for the survivors to say, but a sync did not end.
            Ok(Verdict::Halt) => {
                if operation != Operation::Sync && operation != Operation::SyncDirectory {
                    drop(act(&mut disk));
                }
                Err(faults::halted())
            }
            Err(error) => Err(error),
        };
        outcome.map_err(|error| StorageError::new(operation, path, error))
    }
}

impl Disk {
    fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.unsynced.push(change);
    }

    fn make_durable(&mut self, belongs: impl Fn(&Change) -> bool) {
        let (synced, unsynced) = std::mem::take(&mut self.unsynced).into_iter().partition::<Vec<_>, _>(belongs);
        synced.iter().for_each(|change| self.durable.apply(change));
        self.unsynced = unsynced;
        self.syncs += 1;
    }

    /// The directory that holds `path`, and the name in it.
    fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let directory = path.parent().and_then(|parent| self.live.find(parent)).ok_or(io::ErrorKind::NotFound)?;
        self.live.directory(directory).ok_or(io::ErrorKind::NotADirectory)?;
        Ok((directory, name))
    }

    fn create(&mut self, path: &Path, is_directory: bool) -> io::Result<NodeId> {
        let (directory, name) = self.parent(path)?;
        let id = self.live.free_id();
        self.change(Change::Link { directory, name, node: id, is_directory });
        Ok(id)
    }

    fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        match self.live.find(path) {
            Some(node) if self.live.directory(node).is_some() => return Ok(()),
            Some(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {}
        }
        if let Some(parent) = path.parent() {
            self.create_directories(parent)?;
        }
        self.create(path, true).map(drop)
    }

    fn open(&mut self, path: &Path, how: Open) -> io::Result<NodeId> {
        let found = self.live.find(path);
        match (found, how) {
            (None, Open::Create) => self.create(path, false),
            (None, Open::Read | Open::Write) => Err(io::ErrorKind::NotFound.into()),
            (Some(node), _) if self.live.file(node).is_none() => Err(io::ErrorKind::IsADirectory.into()),
            (Some(node), Open::Create) => {
                self.change(Change::Truncate { file: node, bytes: 0 });
                Ok(node)
            }
            (Some(node), Open::Read | Open::Write) => Ok(node),
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.live.find(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(replaced) = self.live.find(to) {
            let both_files = self.live.file(replaced).is_some() && self.live.file(node).is_some();
            let onto_empty = self.live.directory(replaced).is_some_and(|names| names.is_empty());
            let both_directories = onto_empty && self.live.directory(node).is_some();
            if !(both_files || both_directories) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        let (from_directory, from) = self.parent(from)?;
        let (to_directory, to) = self.parent(to)?;
        let is_directory = self.live.directory(node).is_some();
        self.change(Change::Rename { from_directory, from, to_directory, to, node, is_directory });
        Ok(())
    }

    fn remove(&mut self, path: &Path, is_directory: bool) -> io::Result<()> {
        let node = self.live.find(path).ok_or(io::ErrorKind::NotFound)?;
        match (self.live.directory(node), is_directory) {
            (Some(_), false) => return Err(io::ErrorKind::IsADirectory.into()),
            (None, true) => return Err(io::ErrorKind::NotADirectory.into()),
            (Some(names), true) if !names.is_empty() => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            _ => {}
        }
        let (directory, name) = self.parent(path)?;
        self.change(Change::Unlink { directory, name });
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let node = self.live.find(path).ok_or(io::ErrorKind::NotFound)?;
        let names = self.live.directory(node).ok_or(io::ErrorKind::NotADirectory)?;
        let entry = |(name, node): (&String, &NodeId)| match self.live.file(*node) {
            Some(contents) => Entry { name: name.clone(), kind: EntryKind::File, bytes: contents.len() as u64 },
            None => Entry { name: name.clone(), kind: EntryKind::Directory, bytes: 0 },
        };
        Ok(names.iter().map(entry).collect())
    }

    fn write(&mut self, file: NodeId, position: u64, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.concat();
        let length = self.live.file(file).map_or(0, <[u8]>::len) as u64;
        let growth = (position + bytes.len() as u64).saturating_sub(length);
        let room = match self.capacity_bytes {
            Some(capacity) => capacity.saturating_sub(self.live.file_bytes()),
            None => u64::MAX,
        };
        let lacking = growth.saturating_sub(room);
        let fits = bytes.len().saturating_sub(usize::try_from(lacking).unwrap_or(usize::MAX));
        if fits > 0 {
            self.change(Change::Write { file, position, bytes: bytes[..fits].to_vec() });
        }
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Storage for MemoryStorage {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn StorageFile>, StorageError> {
        let operation = Operation::Open;
        let (node, run) = self.call(None, operation, path, |disk| Ok((disk.open(path, how)?, disk.run)))?;
        let storage = self.clone();
        Ok(Arc::new(MemoryFile { storage, path: path.to_path_buf(), node, run, read_only: how == Open::Read }))
    }

    fn create_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.call(None, Operation::CreateDirectory, path, |disk| disk.create_directories(path))
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, StorageError> {
        self.call(None, Operation::List, directory, |disk| disk.list(directory))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.call(None, Operation::Rename, from, |disk| disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> Result<(), StorageError> {
        self.call(None, Operation::Remove, path, |disk| disk.remove(path, false))
    }

    fn remove_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.call(None, Operation::Remove, path, |disk| disk.remove(path, true))
    }

    fn sync_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.call(None, Operation::SyncDirectory, path, |disk| {
            let node = disk.live.find(path).ok_or(io::ErrorKind::NotFound)?;
            disk.live.directory(node).ok_or(io::ErrorKind::NotADirectory)?;
            disk.make_durable(|change| change.is_of_directory(node));
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, StorageError> {
        self.call(None, Operation::Lock, path, |disk| {
            if disk.live.find(path).is_none() {
                disk.create(path, false)?;
            }
            if !disk.locks.insert(path.to_path_buf()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(Box::new(MemoryLock { storage: self.clone(), path: path.to_path_buf(), run: disk.run }) as _)
        })
    }
}

#[derive(Debug)]
struct MemoryLock {
    storage: MemoryStorage,
    path: PathBuf,
    run: u64,
}

impl StorageLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.storage.disk.lock();
        if disk.run == self.run {
            disk.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct MemoryFile {
    storage: MemoryStorage,
    path: PathBuf,
    node: NodeId,
    run: u64,
    read_only: bool,
}

impl MemoryFile {
    fn call<T>(&self, operation: Operation, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> Result<T, StorageError> {
        if self.read_only && matches!(operation, Operation::Write | Operation::Truncate) {
            let error = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(StorageError::new(operation, &self.path, error));
        }
        self.storage.call(Some(self.run), operation, &self.path, act)
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, position: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
        self.call(Operation::Read, |disk| {
            disk.reads += 1;
            let contents = disk.live.file(self.node).unwrap_or_default();
            let start = usize::try_from(position).unwrap_or(usize::MAX).min(contents.len());
            let end = start.saturating_add(bytes_max).min(contents.len());
            Ok(Bytes::copy_from_slice(&contents[start..end]))
        })
    }

    fn write_at(&self, position: u64, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.call(Operation::Write, |disk| {
            let Some(fault) = disk.faults.take_partial_write(&self.path) else {
                return disk.write(self.node, position, parts);
            };
            let bytes = parts.concat();
            disk.write(self.node, position, &[&bytes[..fault.bytes_written.min(bytes.len())]])?;
            Err(fault.error())
        })
    }

    fn bytes(&self) -> Result<u64, StorageError> {
        self.call(Operation::Measure, |disk| Ok(disk.live.file(self.node).map_or(0, <[u8]>::len) as u64))
    }

    fn truncate(&self, bytes: u64) -> Result<(), StorageError> {
        self.call(Operation::Truncate, |disk| {
            disk.change(Change::Truncate { file: self.node, bytes });
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), StorageError> {
        let synced = self.call(Operation::Sync, |disk| {
            disk.make_durable(|change| change.is_of_file(self.node));
            Ok(())
        });
        let mut disk = self.storage.disk.lock();
        if synced.is_err() && disk.run == self.run && !disk.faults.is_halted() {
            // The kernel drops what it could not write and calls it clean. Some of it may have been written before.
            let (dropped, unsynced) = std::mem::take(&mut disk.unsynced)
                .into_iter()
                .partition::<Vec<_>, _>(|change| change.is_of_file(self.node));
            disk.unsynced = unsynced;
            if let Some(seed) = disk.faults.take_kept_sectors() {
                disk.durable.keep_sectors(self.node, &dropped, &mut Draws(seed), SECTOR_BYTES);
            }
        }
        synced
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
