//! Whether a data directory may still be written to (LOG-7).

use crate::error::LogError;
use crate::storage::StorageError;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The health of one data directory, shared by everything that writes to it.
///
/// It only ever goes from well to failed: after a failed sync the kernel may call pages clean that it could not write,
/// so nothing that is appended later could be promised. A restart, which reads back what is there, is the way out.
#[derive(Debug)]
pub struct DirectoryHealth {
    directory: PathBuf,
    failure: OnceLock<DiskFailure>,
}

impl DirectoryHealth {
    /// A directory that is well.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf(), failure: OnceLock::new() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The failure that stopped the directory, if one did.
    pub fn failure(&self) -> Option<&DiskFailure> {
        self.failure.get()
    }

    /// Refuses when the directory has failed.
    ///
    /// # Errors
    /// [`LogError::DirectoryFailed`].
    pub fn check(&self) -> Result<(), LogError> {
        match self.failure.get() {
            Some(failure) => Err(LogError::DirectoryFailed(failure.clone())),
            None => Ok(()),
        }
    }

    /// Stops the directory for good because of `cause`; the first cause stands.
    pub(crate) fn poison(&self, cause: &StorageError) -> LogError {
        let failure = self.failure.get_or_init(|| {
            tracing::error!(directory = %self.directory.display(), %cause, "data directory failed; appends to it stop");
            DiskFailure { directory: self.directory.clone(), cause: cause.to_string() }
        });
        LogError::DirectoryFailed(failure.clone())
    }
}

/// The disk under a data directory failed; nothing more is appended there until the broker is restarted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the disk of data directory {} failed ({cause}): nothing more is written to it; check or replace the disk, \
     then restart the broker",
    directory.display()
)]
pub struct DiskFailure {
    /// The data directory.
    pub directory: PathBuf,
    /// The first thing that failed.
    pub cause: String,
}
