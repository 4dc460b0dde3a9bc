//! What is kept beside a log from time to time, so that a start need not read all of it.

use super::Log;
use crate::limits;
use crate::quarantine::BadRange;
use crate::snapshot;
use headwater_mutants::{Mutant, lacks};
use std::path::PathBuf;
use std::sync::Arc;

/// A snapshot to be written: the offset at which the log ended, and the state.
pub(crate) type PendingSnapshot = Arc<(i64, Vec<u8>)>;

/// When what was kept last, and what waits to be.
#[derive(Debug)]
pub(super) struct Keeping {
    /// Where the log ended when the newest snapshot was taken.
    snapshot_offset: i64,
    bytes_since_snapshot: u64,
    has_rolled: bool,
    pending: Option<PendingSnapshot>,
    /// Bytes appended to the last segment since its index was saved.
    bytes_since_index: u64,
    /// What is derived lacks batches that are in quarantine: a snapshot of it would make that last.
    lacks_batches: bool,
}

impl Keeping {
    /// Of a log that was opened with this snapshot and `end_offset`; what was read again counts as new.
    pub(super) fn of_opened(snapshot: Option<i64>, start_offset: i64, end_offset: i64) -> Self {
        let snapshot_offset = snapshot.unwrap_or(start_offset);
        Self {
            snapshot_offset,
            bytes_since_snapshot: 0,
            has_rolled: snapshot_offset < end_offset,
            pending: None,
            bytes_since_index: 0,
            lacks_batches: false,
        }
    }

    /// Of a log that was opened with these ranges in quarantine: no snapshots are kept if one of them was to be read.
    pub(super) fn beside(mut self, bad: &[BadRange]) -> Self {
        self.lacks_batches = bad.iter().any(|range| range.to > self.snapshot_offset);
        self
    }

    pub(super) fn appended(&mut self, bytes: u64) {
        self.bytes_since_snapshot += bytes;
        self.bytes_since_index += bytes;
    }

    pub(super) fn rolled(&mut self) {
        self.has_rolled = true;
        self.bytes_since_index = 0;
    }

    /// What the next flush job is to write.
    pub(super) fn pending(&self) -> Option<PendingSnapshot> {
        self.pending.clone()
    }

    /// A flush job has dealt with this one.
    pub(super) fn written(&mut self, snapshot: &PendingSnapshot) {
        self.pending.take_if(|pending| pending.0 <= snapshot.0);
    }
}

impl Log {
    /// Whether it is time to keep a snapshot ([`Log::keep_snapshot`]): the log has rolled, or
    /// [`limits::CHECKPOINT_INTERVAL_BYTES`] were appended since the last one.
    pub fn wants_snapshot(&self) -> bool {
        let is_due = self.keeping.has_rolled || self.keeping.bytes_since_snapshot >= limits::CHECKPOINT_INTERVAL_BYTES;
        is_due && self.has_outgrown_snapshot()
    }

    /// Whether anything was appended since the last snapshot was taken. To be asked before [`Log::close`], which makes
    /// what was kept last durable.
    pub fn has_outgrown_snapshot(&self) -> bool {
        !self.keeping.lacks_batches && self.keeping.snapshot_offset != self.log_end_offset()
    }

    /// Keeps `state`, which is what is derived from all batches up to the log's end. The next flush job writes it, once
    /// these batches are durable; a later start restores from it ([`Derived`](crate::snapshot::Derived)).
    pub fn keep_snapshot(&mut self, state: Vec<u8>) {
        let offset = self.log_end_offset();
        if state.len() > limits::SNAPSHOT_BYTES_MAX {
            tracing::warn!(partition = self.name(), bytes = state.len(), "a snapshot too large to be kept");
            return;
        }
        if lacks(Mutant::SnapshotBeforeSync) {
            drop(snapshot::write(self.shared.directory.storage().as_ref(), &self.shared.path, offset, &state));
        }
        if self.keeping.lacks_batches {
            return;
        }
        self.keeping.pending = Some(Arc::new((offset, state)));
        self.keeping.snapshot_offset = offset;
        (self.keeping.bytes_since_snapshot, self.keeping.has_rolled) = (0, false);
    }

    /// The files of the last segment's index, if they are due: a start then begins to read behind what they cover.
    pub(super) fn index_to_save(&mut self) -> Vec<(PathBuf, Vec<u8>)> {
        if self.keeping.bytes_since_index < limits::CHECKPOINT_INTERVAL_BYTES {
            return Vec::new();
        }
        self.keeping.bytes_since_index = 0;
        self.active.as_ref().map(|active| active.index_files()).unwrap_or_default()
    }
}
