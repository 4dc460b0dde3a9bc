//! The disk that a broker's data lies on. With the feature `fail-points`, which only tests have, it can be told to
//! fail; without it [`storage`] is the real one and nothing else is compiled.

use headwater_log::storage::Storage;
use headwater_log::storage::file::FileStorage;
use std::sync::Arc;

/// The disk.
#[cfg(not(feature = "fail-points"))]
pub(crate) fn storage() -> Arc<dyn Storage> {
    Arc::new(FileStorage)
}

/// The disk; one that fails as the file says that `HEADWATER_DISK_FAULTS` names, if it does.
#[cfg(feature = "fail-points")]
pub(crate) fn storage() -> Arc<dyn Storage> {
    match std::env::var_os("HEADWATER_DISK_FAULTS") {
        None => Arc::new(FileStorage),
        Some(orders) => Arc::new(failing::FailingStorage::new(orders.into())),
    }
}

#[cfg(feature = "fail-points")]
mod failing {
    //! A disk that fails as a file says while it says so: lines of `operation error part-of-the-path`, as in
    //! `write ENOSPC /logs/`. It is read at every call, so that a test turns faults on and off while the broker runs.

    use bytes::Bytes;
    use headwater_log::storage::file::FileStorage;
    use headwater_log::storage::{Entry, Open, Operation, Storage, StorageError, StorageFile, StorageLock};
    use rustix::io::Errno;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    #[derive(Debug)]
    pub(super) struct FailingStorage(Arc<Orders>);

    #[derive(Debug)]
    struct Orders {
        file: PathBuf,
    }

    #[derive(Debug)]
    struct FailingFile {
        inner: Arc<dyn StorageFile>,
        orders: Arc<Orders>,
    }

    impl Orders {
        fn check(&self, operation: Operation, path: &Path) -> Result<(), StorageError> {
            let text = std::fs::read_to_string(&self.file).unwrap_or_default();
            let name = operation.to_string().replace(' ', "-");
            for line in text.lines() {
                let mut words = line.split_whitespace();
                let (Some(wanted), Some(error), Some(part)) = (words.next(), words.next(), words.next()) else {
                    continue;
                };
                let errno = match error {
                    "ENOSPC" => Errno::NOSPC,
                    "EROFS" => Errno::ROFS,
                    _ => Errno::IO,
                };
                if wanted == name && path.to_string_lossy().contains(part) {
                    return Err(StorageError::new(operation, path, errno.into()));
                }
            }
            Ok(())
        }
    }

    impl FailingStorage {
        pub(super) fn new(file: PathBuf) -> Self {
            Self(Arc::new(Orders { file }))
        }
    }

    impl Storage for FailingStorage {
        fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn StorageFile>, StorageError> {
            // To make a file is to change the disk; to open one is not.
            let operation = if how == Open::Create { Operation::Write } else { Operation::Open };
            self.0.check(operation, path).map_err(|error| StorageError { operation: Operation::Open, ..error })?;
            let inner = FileStorage.open(path, how)?;
            Ok(Arc::new(FailingFile { inner, orders: Arc::clone(&self.0) }))
        }

        fn create_directory(&self, path: &Path) -> Result<(), StorageError> {
            self.0.check(Operation::CreateDirectory, path)?;
            FileStorage.create_directory(path)
        }

        fn list(&self, directory: &Path) -> Result<Vec<Entry>, StorageError> {
            self.0.check(Operation::List, directory)?;
            FileStorage.list(directory)
        }

        fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
            self.0.check(Operation::Rename, to)?;
            FileStorage.rename(from, to)
        }

        fn remove_file(&self, path: &Path) -> Result<(), StorageError> {
            self.0.check(Operation::Remove, path)?;
            FileStorage.remove_file(path)
        }

        fn remove_directory(&self, path: &Path) -> Result<(), StorageError> {
            self.0.check(Operation::Remove, path)?;
            FileStorage.remove_directory(path)
        }

        fn sync_directory(&self, path: &Path) -> Result<(), StorageError> {
            self.0.check(Operation::SyncDirectory, path)?;
            FileStorage.sync_directory(path)
        }

        fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, StorageError> {
            FileStorage.lock(path)
        }
    }

    impl StorageFile for FailingFile {
        fn read_at(&self, position: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
            self.orders.check(Operation::Read, self.path())?;
            self.inner.read_at(position, bytes_max)
        }

        fn write_at(&self, position: u64, parts: &[&[u8]]) -> Result<(), StorageError> {
            self.orders.check(Operation::Write, self.path())?;
            self.inner.write_at(position, parts)
        }

        fn bytes(&self) -> Result<u64, StorageError> {
            self.inner.bytes()
        }

        fn truncate(&self, bytes: u64) -> Result<(), StorageError> {
            self.orders.check(Operation::Truncate, self.path())?;
            self.inner.truncate(bytes)
        }

        fn sync(&self) -> Result<(), StorageError> {
            self.orders.check(Operation::Sync, self.path())?;
            self.inner.sync()
        }

        fn path(&self) -> &Path {
            self.inner.path()
        }
    }
}
