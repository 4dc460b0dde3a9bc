//! The real disk: the only place in this crate that calls the operating system.
//!
//! Directories are opened anew for each sync: that costs microseconds beside milliseconds, and a handle that was kept
//! might sync a directory that has been replaced under its name.

use super::{Entry, EntryKind, Open, Operation, Storage, StorageError, StorageFile, StorageLock};
use crate::limits;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of the operating system.
#[derive(Clone, Copy, Default, Debug)]
pub struct FileStorage;

impl Storage for FileStorage {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn StorageFile>, StorageError> {
        let mut options = OpenOptions::new();
        match how {
            Open::Read => options.read(true),
            Open::Write => options.read(true).write(true),
            Open::Create => options.read(true).write(true).create(true).truncate(true),
        };
        let file = options.open(path).map_err(|error| StorageError::new(Operation::Open, path, error))?;
        Ok(Arc::new(OpenFile { path: path.to_path_buf(), file }))
    }

    fn create_directory(&self, path: &Path) -> Result<(), StorageError> {
        fs::create_dir_all(path).map_err(|error| StorageError::new(Operation::CreateDirectory, path, error))
    }

    fn list(&self, directory: &Path) -> Result<Vec<Entry>, StorageError> {
        let failed = |error| StorageError::new(Operation::List, directory, error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // Not following links: what the engine made is never a link.
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed between the listing and the question.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let kind = match metadata.file_type() {
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_dir() => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            let bytes = if kind == EntryKind::File { metadata.len() } else { 0 };
            entries.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), kind, bytes });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        fs::rename(from, to).map_err(|error| StorageError::new(Operation::Rename, from, error))
    }

    fn remove_file(&self, path: &Path) -> Result<(), StorageError> {
        fs::remove_file(path).map_err(|error| StorageError::new(Operation::Remove, path, error))
    }

    fn remove_directory(&self, path: &Path) -> Result<(), StorageError> {
        fs::remove_dir(path).map_err(|error| StorageError::new(Operation::Remove, path, error))
    }

    fn sync_directory(&self, path: &Path) -> Result<(), StorageError> {
        // Opening it is no sync yet: a limit of open files says nothing about the disk.
        let directory = File::open(path).map_err(|error| StorageError::new(Operation::Open, path, error))?;
        directory.sync_all().map_err(|error| StorageError::new(Operation::SyncDirectory, path, error))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, StorageError> {
        let failed = |error| StorageError::new(Operation::Lock, path, error);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(FileLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(failed(io::ErrorKind::WouldBlock.into())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[derive(Debug)]
struct FileLock {
    _file: File,
}

impl StorageLock for FileLock {}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: File,
}

impl OpenFile {
    fn failed(&self, operation: Operation, source: io::Error) -> StorageError {
        StorageError::new(operation, &self.path, source)
    }

    /// Writes all of `slices`, which the kernel may take in several parts.
    fn write_slices(&self, mut position: u64, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !slices.is_empty() {
            let some = slices.len().min(limits::WRITE_SLICES_MAX);
            let written = match rustix::io::pwritev(&self.file, &slices[..some], position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            position += written as u64;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }
}

impl StorageFile for OpenFile {
    fn read_at(&self, position: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
        let mut buffer = Vec::with_capacity(bytes_max);
        while buffer.len() < bytes_max {
            let from = position + buffer.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut buffer), from) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.failed(Operation::Read, error.into())),
            }
        }
        // The allocator may have given more room than was asked for.
        buffer.truncate(bytes_max);
        Ok(Bytes::from(buffer))
    }

    fn write_at(&self, position: u64, parts: &[&[u8]]) -> Result<(), StorageError> {
        let written = match parts {
            [] | [[]] => Ok(()),
            [part] => self.write_slices(position, &mut [IoSlice::new(part)]),
            parts => {
                let slices = parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part));
                self.write_slices(position, &mut slices.collect::<Vec<_>>())
            }
        };
        written.map_err(|error| self.failed(Operation::Write, error))
    }

    fn bytes(&self) -> Result<u64, StorageError> {
        let metadata = self.file.metadata().map_err(|error| self.failed(Operation::Measure, error))?;
        Ok(metadata.len())
    }

    fn truncate(&self, bytes: u64) -> Result<(), StorageError> {
        self.file.set_len(bytes).map_err(|error| self.failed(Operation::Truncate, error))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(|error| self.failed(Operation::Sync, error))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[test]
    fn it_does_what_a_storage_must() {
        let directory = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(FileStorage);
        conformance::check_storage(&storage, directory.path());
    }

    #[test]
    fn links_are_neither_files_nor_directories() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", directory.path().join("link")).unwrap();
        let kinds: Vec<EntryKind> =
            FileStorage.list(directory.path()).unwrap().into_iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [EntryKind::Other]);
    }
}
