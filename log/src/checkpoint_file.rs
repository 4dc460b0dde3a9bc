//! Small files that are read and written as a whole, so that a crash leaves the old or the new one (LOG-6).
//!
//! For the engine's own files and for others that live beside them: a directory's identity, a broker's epoch.

use crate::error::LogError;
use crate::format::checkpoint::{self, CheckpointError};
use crate::format::names::TEMPORARY_SUFFIX;
use crate::limits;
use crate::storage::{Open, Storage, StorageError};
use bytes::Bytes;
use headwater_mutants::{Mutant, lacks};
use std::io;
use std::path::{Path, PathBuf};

/// Puts `bytes` (made by [`checkpoint::encode`]) under `path`: writes a temporary file beside it, syncs that, renames
/// it, syncs the directory. When this returns `Ok` the file survives a power cut; until then the old one does.
///
/// # Errors
/// [`StorageError`] of whichever step failed. After a failed sync the directory must not be written to (LOG-7).
pub fn write(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let temporary = temporary_name(path);
    let file = storage.open(&temporary, Open::Create)?;
    file.write_at(0, &[bytes])?;
    if !lacks(Mutant::CheckpointNotSynced) {
        file.sync()?;
    }
    storage.rename(&temporary, path)?;
    match path.parent() {
        Some(_) if lacks(Mutant::RenameNotSynced) => Ok(()),
        Some(directory) => storage.sync_directory(directory),
        None => Ok(()),
    }
}

/// Reads the whole file, decodes it by `decode`, and answers `None` when it is missing or torn (LOG-6).
///
/// # Errors
/// [`LogError::Checkpoint`] when it is of a newer version or another kind; [`LogError::Storage`] when it can't be read.
pub fn read<T>(
    storage: &dyn Storage,
    path: &Path,
    decode: impl FnOnce(&[u8]) -> Result<T, CheckpointError>,
) -> Result<Option<T>, LogError> {
    let Some(bytes) = read_bytes(storage, path)? else {
        return Ok(None);
    };
    match decode(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_torn() => {
            tracing::warn!(file = %path.display(), %error, "a torn file counts as missing");
            Ok(None)
        }
        Err(source) => Err(LogError::Checkpoint { file: path.to_path_buf(), source }),
    }
}

/// The file's bytes, or `None` when there is no such file.
pub(crate) fn read_bytes(storage: &dyn Storage, path: &Path) -> Result<Option<Bytes>, StorageError> {
    let file = match storage.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes_max = limits::CHECKPOINT_BYTES_MAX + checkpoint::FRAME_BYTES;
    let bytes = usize::try_from(file.bytes()?).ok().filter(|bytes| *bytes <= bytes_max).ok_or_else(|| {
        let error = io::Error::other(format!("more than {bytes_max} bytes: not a file of ours"));
        StorageError::new(crate::storage::Operation::Read, path, error)
    })?;
    file.read_at(0, bytes).map(Some)
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::checkpoint::Kind;
    use crate::storage::Operation;
    use crate::storage::memory::{Fault, FaultKind, MemoryStorage, Survivors};

    const KIND: Kind = Kind::new("test");

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, CheckpointError> {
        checkpoint::decode(KIND, 1, bytes).map(|file| file.payload.to_vec())
    }

    fn load(storage: &MemoryStorage, path: &Path) -> Option<Vec<u8>> {
        read(storage, path, decode).unwrap()
    }

    // covers LOG-6: crash at each call, with each prefix of what was not synced
    #[test]
    fn a_crash_leaves_the_old_file_or_the_new_one() {
        let path = Path::new("/d/file");
        let bytes = |payload: &[u8]| checkpoint::encode(KIND, 1, payload);
        let mut outcomes = [0, 0];
        for calls in 0..6 {
            for kept in 0..6 {
                for torn_bytes in [0, 1, 20, 28] {
                    let storage = MemoryStorage::new();
                    storage.create_directory(Path::new("/d")).unwrap();
                    storage.sync_directory(Path::new("/")).unwrap();
                    write(&storage, path, &bytes(b"older")).unwrap();
                    storage.halt_after(calls);
                    let written = write(&storage, path, &bytes(b"newer"));
                    storage.power_cut(Survivors::Torn { changes: kept, bytes: torn_bytes });
                    let found = load(&storage, path).expect("one of them");
                    assert!(found == b"older" || found == b"newer", "{found:?}");
                    assert!(written.is_err() || found == b"newer", "written means that it survives");
                    outcomes[usize::from(found == b"newer")] += 1;
                }
            }
        }
        assert!(outcomes.iter().all(|count| *count > 10), "both were seen: {outcomes:?}");
    }

    // covers LOG-6
    #[test]
    fn a_file_torn_at_any_byte_counts_as_missing() {
        let storage = MemoryStorage::new();
        let path = Path::new("/file");
        let bytes = checkpoint::encode(KIND, 1, b"payload");
        for length in 0..bytes.len() {
            storage.plant(path, &bytes[..length]).unwrap();
            assert_eq!(load(&storage, path), None, "cut at {length}");
        }
        storage.plant(path, &bytes).unwrap();
        assert_eq!(load(&storage, path), Some(b"payload".to_vec()));
        assert_eq!(load(&storage, Path::new("/other")), None);
    }

    #[test]
    fn a_newer_file_is_refused_by_name() {
        let storage = MemoryStorage::new();
        let path = Path::new("/file");
        storage.plant(path, &checkpoint::encode(KIND, 2, b"")).unwrap();
        let error = read(&storage, path, decode).unwrap_err().to_string();
        assert!(error.starts_with("/file: test file of version 2"), "{error}");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let storage = MemoryStorage::new();
        let path = Path::new("/file");
        write(&storage, path, &checkpoint::encode(KIND, 1, b"older")).unwrap();
        storage.inject(Fault::new(Operation::Write, "file", FaultKind::Full).with_bytes_written(3));
        let error = write(&storage, path, &checkpoint::encode(KIND, 1, b"newer")).unwrap_err();
        assert!(error.is_full());
        assert_eq!(load(&storage, path), Some(b"older".to_vec()));
    }
}
