//! The mark of an orderly stop: written last, removed first (LOG-9). While it is there, nothing has been written to the
//! data directory since its recovery points were.

use crate::checkpoint_file;
use crate::error::LogError;
use crate::format::checkpoint::{self, Fields, Kind};
use crate::format::names;
use crate::storage::{Storage, StorageError};
use headwater_mutants::{Mutant, lacks};
use std::path::Path;

/// What the file says that it is.
pub const KIND: Kind = Kind::new("cleanend");
/// The version of its payload: the CRC-32C of the recovery points' file (u32, big-endian).
pub const VERSION: u16 = 1;

/// Marks a directory whose recovery points' file has this CRC-32C.
pub(crate) fn put(storage: &dyn Storage, directory: &Path, points_crc: u32) -> Result<(), StorageError> {
    let bytes = checkpoint::encode(KIND, VERSION, &points_crc.to_be_bytes());
    checkpoint_file::write(storage, &directory.join(names::CLEAN_SHUTDOWN), &bytes)
}

/// Removes the mark; what it said. The removal is certain once the directory is synced, before anything is written.
pub(crate) fn take(storage: &dyn Storage, directory: &Path) -> Result<Option<u32>, LogError> {
    let path = directory.join(names::CLEAN_SHUTDOWN);
    let mark = checkpoint_file::read(storage, &path, |bytes| {
        let mut fields = Fields(checkpoint::decode(KIND, VERSION, bytes)?.payload);
        let points_crc = u32::from_be_bytes(fields.take()?);
        fields.end().map(|()| points_crc)
    })?;
    if lacks(Mutant::CleanMarkStays) {
        return Ok(mark);
    }
    match storage.remove_file(&path) {
        Err(error) if !error.is_not_found() => Err(LogError::of_storage(error)),
        _ => Ok(mark),
    }
}
