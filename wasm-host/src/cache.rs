//! Compiled modules on disk, so that a restart compiles nothing.
//!
//! ```text
//! <digest>-<engine>.cwasm    magic 8 │ digest 32 │ engine 32 │ code bytes u64 │ HMAC-SHA-256 of all else 32 │ code
//! key                        32 random bytes, made with the directory, never leaves it
//! ```
//!
//! Machine code that is loaded runs with the broker's rights, so a file counts only if this broker made it (W5): the
//! directory and its files are its user's alone, and each file carries an authentication code under the directory's
//! key. What was checked is what is loaded: the file is read into memory first. Any file may be deleted at any time; a
//! file that is not as it should be is deleted and compiled again.

use crate::error::HostError;
use crate::hmac::hmac_sha256;
use crate::module::TrustedArtefact;
use crate::runtime::Compatibility;
use headwater_protocol::ids::ModuleDigest;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const MAGIC: [u8; 8] = *b"HWcwasm1";
const SIGNED_HEADER_BYTES: usize = 8 + 32 + 32 + 8;
const HEADER_BYTES: usize = SIGNED_HEADER_BYTES + 32;
const KEY_FILE: &str = "key";
const EXTENSION: &str = "cwasm";
/// What a file is called until it is whole and synced.
const PARTIAL_EXTENSION: &str = "partial";

/// The directory, opened and private.
pub(crate) struct Cache {
    directory: PathBuf,
    key: [u8; 32],
    compatibility: Compatibility,
    bytes_max: u64,
}

impl Cache {
    /// Opens `directory`, making it and its key where they are missing.
    pub(crate) fn open(directory: &Path, compatibility: Compatibility, bytes_max: u64) -> Result<Self, HostError> {
        make_private(directory).map_err(|source| failed("open", directory, source))?;
        let path = directory.join(KEY_FILE);
        let key = load_or_make_key(&path).map_err(|source| failed("open", &path, source))?;
        let cache = Self { directory: directory.to_owned(), key, compatibility, bytes_max };
        cache.sweep().map_err(|source| failed("list", directory, source))?;
        Ok(cache)
    }

    /// The compiled form of a module, or `None` where there is none that may be used.
    pub(crate) fn get(&self, digest: &ModuleDigest) -> Option<TrustedArtefact> {
        let path = self.path(digest);
        match self.read(digest, &path) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a cached module is unusable: it is compiled again");
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "and can't be deleted");
                }
                None
            }
        }
    }

    fn read(&self, digest: &ModuleDigest, path: &Path) -> io::Result<TrustedArtefact> {
        let mut file = File::open(path)?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        let metadata = file.metadata()?;
        let code_bytes = metadata.len().saturating_sub(HEADER_BYTES as u64);
        let (signed, code_of_header) = header.split_at(SIGNED_HEADER_BYTES);
        if signed != self.header(digest, code_bytes) {
            return Err(io::Error::other("it is of another module, engine or size"));
        }
        let mut code = Vec::new();
        code.try_reserve_exact(usize::try_from(code_bytes).map_err(io::Error::other)?)?;
        file.take(code_bytes).read_to_end(&mut code)?;
        if hmac_sha256(&self.key, &[signed, &code]) != code_of_header {
            return Err(io::Error::other("this broker did not make it, or it was changed"));
        }
        Ok(TrustedArtefact::vouch_for(code))
    }

    /// Keeps a compiled form: whole and synced, or not at all. Deletes the oldest others where the limit asks for it.
    pub(crate) fn put(&self, digest: &ModuleDigest, code: &TrustedArtefact) -> Result<(), HostError> {
        let path = self.path(digest);
        self.write(digest, code.bytes(), &path).map_err(|source| failed("write", &path, source))?;
        self.make_room(&path).map_err(|source| failed("list", &self.directory, source))
    }

    fn write(&self, digest: &ModuleDigest, code: &[u8], path: &Path) -> io::Result<()> {
        let header = self.header(digest, code.len() as u64);
        let authentication = hmac_sha256(&self.key, &[&header, code]);
        write_whole(path, &[&header, &authentication, code])
    }

    fn header(&self, digest: &ModuleDigest, code_bytes: u64) -> [u8; SIGNED_HEADER_BYTES] {
        let mut header = [0; SIGNED_HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..40].copy_from_slice(&digest.0);
        header[40..72].copy_from_slice(&self.compatibility.0);
        header[72..].copy_from_slice(&code_bytes.to_le_bytes());
        header
    }

    /// Forgets a module.
    pub(crate) fn remove(&self, digest: &ModuleDigest) -> Result<(), HostError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", &path, error)),
            _ => Ok(()),
        }
    }

    fn path(&self, digest: &ModuleDigest) -> PathBuf {
        let engine = self.compatibility.to_string();
        let engine = engine.get(..16).unwrap_or(&engine);
        self.directory.join(format!("{digest}-{engine}.{EXTENSION}"))
    }

    /// What a crash left half written. Forms for other engines stay until there is no room: a downgrade may want them.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == PARTIAL_EXTENSION) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        let mut bytes = 0_u64;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                let metadata = entry.metadata()?;
                bytes = bytes.saturating_add(metadata.len());
                files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), path));
            }
        }
        files.sort();
        for (_, length, path) in files {
            if bytes <= self.bytes_max {
                break;
            }
            if path != newest {
                fs::remove_file(path)?;
                bytes = bytes.saturating_sub(length);
            }
        }
        Ok(())
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> HostError {
    HostError::Cache { action, path: path.to_owned(), source }
}

/// A directory that only our user can enter.
fn make_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let metadata = fs::metadata(directory)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn load_or_make_key(path: &Path) -> io::Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => <[u8; 32]>::try_from(bytes.as_slice())
            .map_err(|_| io::Error::other("it is not 32 bytes long: delete the directory, it is made again")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            File::open("/dev/urandom")?.read_exact(&mut key)?;
            write_whole(path, &[&key])?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

/// Writes beside `path`, syncs, renames, syncs the directory: after a crash the file is there as a whole or not at all.
fn write_whole(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let partial = path.with_extension(PARTIAL_EXTENSION);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&partial, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: Compatibility = Compatibility([3; 32]);

    fn digest(number: u8) -> ModuleDigest {
        ModuleDigest([number; 32])
    }

    fn code(bytes: &[u8]) -> TrustedArtefact {
        TrustedArtefact::vouch_for(bytes.to_vec())
    }

    fn get(cache: &Cache, number: u8) -> Option<Vec<u8>> {
        cache.get(&digest(number)).map(|code| code.bytes().to_vec())
    }

    #[test]
    fn a_compiled_form_survives_a_restart_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        let cache = Cache::open(&path, ENGINE, 1 << 20).unwrap();
        assert_eq!(get(&cache, 1), None);
        cache.put(&digest(1), &code(b"machine code")).unwrap();
        let cache = Cache::open(&path, ENGINE, 1 << 20).unwrap();
        assert_eq!(get(&cache, 1).unwrap(), b"machine code");
        assert_eq!(get(&cache, 2), None);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(cache.path(&digest(1))).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        cache.remove(&digest(1)).unwrap();
        cache.remove(&digest(1)).unwrap();
        assert_eq!(get(&cache, 1), None);
    }

    // covers W5: only code that this broker made is loaded
    #[test]
    fn a_changed_byte_anywhere_makes_a_file_unusable() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), ENGINE, 1 << 20).unwrap();
        let path = cache.path(&digest(1));
        cache.put(&digest(1), &code(b"machine code")).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert_eq!(get(&cache, 1), None, "byte {at}");
            assert!(!path.exists(), "deleted");
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(get(&cache, 1), None, "{length} bytes");
        }
        fs::write(&path, [&whole, [0].as_slice()].concat()).unwrap();
        assert_eq!(get(&cache, 1), None, "longer");
        fs::write(&path, whole).unwrap();
        assert!(get(&cache, 1).is_some());
    }

    // covers W5
    #[test]
    fn another_brokers_file_another_module_and_another_engine_are_refused() {
        let ours = tempfile::tempdir().unwrap();
        let theirs = tempfile::tempdir().unwrap();
        let cache = Cache::open(ours.path(), ENGINE, 1 << 20).unwrap();
        let other = Cache::open(theirs.path(), ENGINE, 1 << 20).unwrap();
        other.put(&digest(1), &code(b"evil")).unwrap();
        fs::copy(other.path(&digest(1)), cache.path(&digest(1))).unwrap();
        assert_eq!(get(&cache, 1), None, "other key");

        cache.put(&digest(1), &code(b"one")).unwrap();
        fs::copy(cache.path(&digest(1)), cache.path(&digest(2))).unwrap();
        assert_eq!(get(&cache, 2), None, "other module");

        let newer = Cache::open(ours.path(), Compatibility([4; 32]), 1 << 20).unwrap();
        assert_eq!(get(&newer, 1), None, "other engine");
        fs::copy(cache.path(&digest(1)), newer.path(&digest(1))).unwrap();
        assert_eq!(get(&newer, 1), None, "other engine under our name");
        assert_eq!(get(&cache, 1).unwrap(), b"one", "kept for the old engine");
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let directory = tempfile::tempdir().unwrap();
        let file_bytes = HEADER_BYTES as u64 + 100;
        let cache = Cache::open(directory.path(), ENGINE, 2 * file_bytes).unwrap();
        for (number, age) in [(1, 30), (2, 20), (3, 0)] {
            cache.put(&digest(number), &code(&[0; 100])).unwrap();
            let file = File::options().write(true).open(cache.path(&digest(number))).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        assert_eq!(get(&cache, 1), None);
        assert!(get(&cache, 2).is_some() && get(&cache, 3).is_some());
        cache.put(&digest(4), &code(&[0; 1000])).unwrap();
        assert!(get(&cache, 4).is_some(), "the newest stays, even alone above the limit");
        assert!(get(&cache, 2).is_none() && get(&cache, 3).is_none());
    }

    #[test]
    fn half_written_files_and_loose_rights_are_mended_at_start() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let partial = directory.path().join("x.partial");
        fs::write(&partial, b"half").unwrap();
        Cache::open(directory.path(), ENGINE, 1 << 20).unwrap();
        assert!(!partial.exists());
        assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o777, 0o700);
        fs::write(directory.path().join(KEY_FILE), b"short").unwrap();
        let error = Cache::open(directory.path(), ENGINE, 1 << 20).err().unwrap().to_string();
        assert!(error.contains("32 bytes"), "{error}");
    }
}
