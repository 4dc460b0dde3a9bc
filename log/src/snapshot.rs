//! What is derived from a log's batches, kept beside it: a start then reads only the batches behind it (LOG-8).
//!
//! ```text
//!   log     ├──────────── batches ────────────┼──── batches ────┤
//!                                        snapshot at offset ──► restore, then observe each of these
//! ```
//!
//! A snapshot is written after the batches below its offset are durable, synced with its name. One that is torn,
//! foreign, or lies above the recovery point is removed, not believed: the log says it all.

use crate::checkpoint_file;
use crate::directory::DataDirectory;
use crate::error::LogError;
use crate::format::checkpoint::{self, CheckpointError, Fields, Kind};
use crate::format::names;
use crate::format::points::RecoveryPoint;
use crate::limits;
use crate::storage::{Storage, StorageError};
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::RecordBatch;
use std::path::Path;

/// What a snapshot file says that it is.
pub const KIND: Kind = Kind::new("snapshot");
/// The version of its payload.
pub const VERSION: u16 = 1;

/// Something that is a function of a log's batches, in order.
pub trait Derived {
    /// Becomes what it is of an empty log: all batches follow.
    fn begin(&mut self);

    /// Becomes what it was when [`Log::keep_snapshot`](crate::Log::keep_snapshot) was given `state`, the log ending at
    /// `log_end`: the batches behind it follow.
    ///
    /// # Errors
    /// Why it can't; nothing has changed then, and an older snapshot or the whole log is read.
    fn restore(&mut self, log_end: i64, state: &[u8]) -> Result<(), String>;

    /// Takes in the next batch.
    fn observe(&mut self, batch: &RecordBatch);

    /// Whether no snapshot will do, nor may a batch come again after [`Self::begin`].
    fn wants_every_batch(&self) -> bool {
        false
    }
}

/// Something that wants to see every batch at each start.
pub(crate) struct EveryBatch<'a>(pub(crate) &'a mut dyn FnMut(&RecordBatch));

impl Derived for EveryBatch<'_> {
    fn begin(&mut self) {}

    fn restore(&mut self, _: i64, _: &[u8]) -> Result<(), String> {
        Err("every batch is wanted".to_owned())
    }

    fn observe(&mut self, batch: &RecordBatch) {
        (self.0)(batch);
    }

    fn wants_every_batch(&self) -> bool {
        true
    }
}

/// What came of [`restore_newest`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Restored {
    /// The offset of the snapshot that is in use.
    pub(crate) from: Option<i64>,
    /// Offsets of those that are of no use.
    pub(crate) stray: Vec<i64>,
}

/// Restores from the newest snapshot of `offsets` (rising) that is good and lies between the log's start and its
/// recovery point. Without one `derived` begins anew.
pub(crate) fn restore_newest(
    storage: &dyn Storage,
    path: &Path,
    offsets: &[i64],
    point: RecoveryPoint,
    derived: &mut dyn Derived,
) -> Result<Restored, LogError> {
    let mut restored = Restored::default();
    for offset in offsets.iter().rev().copied() {
        let file = path.join(names::snapshot(offset));
        if offset < point.start_offset {
            restored.stray.push(offset);
            continue;
        }
        if derived.wants_every_batch() {
            continue;
        }
        let state = checkpoint_file::read(storage, &file, |bytes| decode(offset, bytes))?;
        let outcome = match state {
            _ if offset > point.next_offset && !lacks(Mutant::SnapshotBeforeSync) => {
                Err("it lies above the recovery point".to_owned())
            }
            Some(state) => derived.restore(offset, &state),
            None => Err("it is torn".to_owned()),
        };
        match outcome {
            Ok(()) => {
                restored.from = Some(offset);
                return Ok(restored);
            }
            Err(reason) => tracing::info!(file = %file.display(), reason, "a snapshot is not used"),
        }
        restored.stray.push(offset);
    }
    derived.begin();
    Ok(restored)
}

/// Removes snapshots by their offsets; what is not there is no error.
pub(crate) fn remove(directory: &DataDirectory, path: &Path, offsets: &[i64]) -> Result<(), LogError> {
    for offset in offsets {
        match directory.storage().remove_file(&path.join(names::snapshot(*offset))) {
            Err(error) if !error.is_not_found() => return Err(directory.failed(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Writes a snapshot so that it survives a power cut, or not at all.
pub(crate) fn write(storage: &dyn Storage, path: &Path, offset: i64, state: &[u8]) -> Result<(), StorageError> {
    checkpoint_file::write(storage, &path.join(names::snapshot(offset)), &encode(offset, state))
}

/// The file's bytes: the offset (i64, big-endian), then the state, in a checkpoint frame.
fn encode(offset: i64, state: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(8 + state.len());
    payload.extend_from_slice(&offset.to_be_bytes());
    payload.extend_from_slice(state);
    debug_assert!(payload.len() <= limits::CHECKPOINT_BYTES_MAX, "a snapshot that can't be read again");
    checkpoint::encode(KIND, VERSION, &payload)
}

/// The state in a file that is named after `offset`.
fn decode(offset: i64, bytes: &[u8]) -> Result<Vec<u8>, CheckpointError> {
    let mut fields = Fields(checkpoint::decode(KIND, VERSION, bytes)?.payload);
    if i64::from_be_bytes(fields.take()?) != offset {
        return Err(CheckpointError::Torn("it is of another offset than its name says"));
    }
    Ok(fields.0.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let golden = b"HWCP\x00\x01\x00\x01snapshot\x00\x00\x00\x0dCRC!\x00\x00\x00\x00\x00\x00\x01\x00state";
        let bytes = encode(256, b"state");
        assert_eq!((&bytes[..20], &bytes[24..]), (&golden[..20], &golden[24..]));
        assert_eq!(decode(256, &bytes).as_deref(), Ok(b"state".as_slice()));
        assert!(decode(255, &bytes).is_err_and(|error| error.is_torn()), "a file under another name");
    }
}
