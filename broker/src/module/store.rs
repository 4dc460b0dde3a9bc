//! The content-addressed store of modules: `<data dir>/modules/<digest>.wasm`. Metadata says which digests count; a
//! file without metadata is a leftover of an upload that never committed and is harmless.

use headwater_log::storage::file::FileStorage;
use headwater_log::storage::{Storage as _, make_directory};
use headwater_protocol::ids::ModuleDigest;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The store.
#[derive(Debug)]
pub(crate) struct ModuleStore {
    directory: PathBuf,
}

/// Why a module can't be read or written. The culprit is the disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleStoreError {
    /// The system refused.
    #[error("disk: {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not what their name says.
    #[error("disk: {path} is damaged: its digest is {found}; upload the module again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Digest of the bytes that are there.
        found: ModuleDigest,
    },
}

/// The identity of a module's bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> ModuleDigest {
    ModuleDigest(Sha256::digest(bytes).into())
}

impl ModuleStore {
    /// Opens the store in `directory`, which is made if it is missing.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, ModuleStoreError> {
        let made = make_directory(&FileStorage, &directory);
        // What an earlier run put there and was killed before it synced the name.
        made.and_then(|()| FileStorage.sync_directory(&directory))
            .map_err(|error| ModuleStoreError::Io { path: directory.clone(), source: error.source })?;
        Ok(Self { directory })
    }

    /// Where the module with this digest lies.
    pub(crate) fn path(&self, digest: ModuleDigest) -> PathBuf {
        self.directory.join(format!("{digest}.wasm"))
    }

    /// Stores bytes durably; the same bytes again are no work.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<ModuleDigest, ModuleStoreError> {
        let digest = digest_of(bytes);
        let path = self.path(digest);
        if self.get(digest).is_ok() {
            return Ok(digest);
        }
        let unfinished = self.directory.join(format!("{digest}.unfinished"));
        write_durably(&unfinished, &path, bytes)
            .map_err(|source| ModuleStoreError::Io { path: path.clone(), source })?;
        Ok(digest)
    }

    /// Reads a module and checks it against its digest.
    pub(crate) fn get(&self, digest: ModuleDigest) -> Result<Vec<u8>, ModuleStoreError> {
        let path = self.path(digest);
        let bytes = fs::read(&path).map_err(|source| ModuleStoreError::Io { path: path.clone(), source })?;
        let found = digest_of(&bytes);
        if found == digest { Ok(bytes) } else { Err(ModuleStoreError::Damaged { path, found }) }
    }

    /// Removes a module that metadata no longer names.
    pub(crate) fn remove(&self, digest: ModuleDigest) -> Result<(), ModuleStoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(ModuleStoreError::Io { path, source }),
            _ => Ok(()),
        }
    }
}

/// LOG-6: the file is synced, then renamed, then its directory is synced.
fn write_durably(unfinished: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(directory.path().join("modules")).unwrap();
        let digest = store.put(b"module").unwrap();
        assert_eq!(store.put(b"module").unwrap(), digest);
        assert_eq!(store.get(digest).unwrap(), b"module");
        fs::write(store.path(digest), b"mOdule").unwrap();
        assert!(matches!(store.get(digest), Err(ModuleStoreError::Damaged { .. })));
        store.put(b"module").unwrap();
        assert_eq!(store.get(digest).unwrap(), b"module", "an upload mends a damaged file");
        store.remove(digest).unwrap();
        store.remove(digest).unwrap();
        assert!(matches!(store.get(digest), Err(ModuleStoreError::Io { .. })));
    }
}
