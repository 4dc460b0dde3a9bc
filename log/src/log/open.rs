//! Opening a log: looks at its files, has [`recovery`] decide, and does that.

mod cut;
mod files;
mod scan;

use super::trim::remove_files;
use super::{Log, OpenMark};
use crate::checkpoint_file;
use crate::cleaner::swap;
use crate::config::LogConfig;
use crate::directory::DataDirectory;
use crate::error::{Damage, LogError};
use crate::format::epochs::LeaderEpochs;
use crate::format::names;
use crate::recovery::{self, Loss, Scan};
use crate::shared::LogShared;
use cut::Cutting;
use files::Files;
use headwater_protocol::batch::RecordBatch;
use scan::{Scanned, build_segments, scan_segments, write_again};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What opening a log found and did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RecoveryReport {
    /// Whether the partition was made by this.
    pub is_new: bool,
    /// Segments that are there now.
    pub segments: usize,
    /// Batches that are there now; each was handed to the caller.
    pub batches: u64,
    /// Bytes of these batches.
    pub bytes: u64,
    /// What was cut off the end, if anything.
    pub lost_tail: Option<LostTail>,
    /// Sealed segments whose index files were missing or wrong, and were written (LOG-4).
    pub indexes_written: usize,
    /// Names in the directory that mean nothing to the engine; they were left alone.
    pub foreign_names: Vec<String>,
}

/// The end of a log that was no good, above the recovery point (LOG-2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostTail {
    /// Where the log ends now.
    pub end_offset: i64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// What was wrong with the first of them.
    pub reason: String,
    /// Where they are now, in the data directory's `lost+found`.
    pub files: Vec<PathBuf>,
}

impl Log {
    /// Opens the partition `name` of a data directory, makes it if it isn't there, and hands every batch that
    /// survives to `visit`, in order: what is derived from the log (producer state, a task's position) is built again
    /// from it, not believed from other files (LOG-2).
    ///
    /// What is bad above the recovery point is cut off and kept in `lost+found`. What was visited before an error
    /// counts for nothing.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when bytes are bad or missing that were synced: nothing was changed, and other
    /// partitions are not concerned (LOG-3). [`LogError::Checkpoint`] for a file of a newer version.
    /// [`LogError::AlreadyOpen`], [`LogError::BadName`], [`LogError::Config`]. Else the disk's.
    pub fn open(
        directory: &DataDirectory,
        name: &str,
        config: LogConfig,
        visit: &mut dyn FnMut(&RecordBatch),
    ) -> Result<(Self, RecoveryReport), LogError> {
        config.check()?;
        directory.health().check()?;
        let registration = directory.register(name)?;
        let path = directory.path().join(name);
        let storage = directory.storage().as_ref();
        swap::finish(directory, &path)?;
        let files = match Files::list(storage, &path)? {
            Some(files) => Some(files),
            None if registration.point.load().next_offset > 0 => return Err(vanished(&path)),
            None => None,
        };
        let is_new = files.is_none();
        if is_new {
            storage.create_directory(&path).map_err(|error| directory.failed(error))?;
            directory.note_name();
        }
        let mut files = files.unwrap_or_default();
        files.refuse_newer_indexes(storage)?;
        let point = registration.point.load();
        let scan = Scan {
            recovery_point: point.next_offset,
            start_offset: point.start_offset,
            scanned: Vec::new(),
            unscanned: Vec::new(),
        };
        let below = files.take_below(point.start_offset);
        let scanned = scan_segments(storage, &path, &files, scan, config, visit)?;
        let plan = recovery::plan(&scanned.scan).map_err(|loss| damage(&path, loss))?;
        let epochs_path = path.join(names::LEADER_EPOCHS);
        let epochs = checkpoint_file::read(storage, &epochs_path, LeaderEpochs::decode)?;
        let had_epochs = epochs.clone();
        let lost_tail = match plan.cut {
            Some(cut) => Some(Cutting { directory, name, path: &path }.act(cut, plan.end_offset, &scanned.segments)?),
            None => None,
        };
        below.into_iter().try_for_each(|base_offset| remove_files(directory, &path, base_offset))?;
        remove_leftovers(directory, &files, &scanned, plan.end_offset)?;

        let mut report = RecoveryReport { is_new, lost_tail, batches: scanned.batches, ..RecoveryReport::default() };
        report.foreign_names = files.foreign;
        write_again(directory, &scanned)?;
        let segments = build_segments(storage, &path, scanned.segments, &scanned.scan, plan.end_offset, &mut report);
        let epochs = LeaderEpochs::reconcile(epochs, scanned.epochs, plan.end_offset);
        let start_offset = segments.first().map_or(0, |first| first.base_offset).max(point.start_offset);
        registration.point.start_offset.store(start_offset, Ordering::Release);
        let end_offset = plan.end_offset.max(start_offset);
        let active = segments.last().cloned();
        let shared =
            Arc::new(LogShared::new(name, directory.clone(), Arc::clone(&registration.point), segments, end_offset));
        // Unless all was synced, the names may not have been either.
        let is_unsynced = is_new || point.next_offset < end_offset || report.lost_tail.is_some();
        let log = Self {
            _mark: OpenMark(Arc::clone(&shared)),
            shared,
            registration,
            config,
            active,
            first_timestamp: scanned.first_timestamp,
            epochs_version: u64::from(had_epochs.as_ref() != Some(&epochs) && !epochs.entries().is_empty()),
            epochs_synced: 0,
            epochs,
            names_made: u64::from(is_unsynced),
            names_synced: 0,
            is_new: is_unsynced,
            durable_offset: point.next_offset,
            headers: Vec::new(),
            inherited_offset: end_offset,
        };
        log.announce(&report);
        Ok((log, report))
    }

    fn announce(&self, report: &RecoveryReport) {
        let partition = self.shared.name.as_str();
        if let Some(lost) = &report.lost_tail {
            let (end_offset, bytes, reason) = (lost.end_offset, lost.bytes, lost.reason.as_str());
            tracing::warn!(partition, end_offset, bytes, reason, files = ?lost.files, "torn end of a log cut off");
        }
        if !report.foreign_names.is_empty() {
            tracing::warn!(partition, names = ?report.foreign_names, "foreign files in a partition's directory");
        }
        let (start_offset, end_offset) = (self.log_start_offset(), self.log_end_offset());
        tracing::debug!(partition, start_offset, end_offset, segments = report.segments, "log opened");
    }
}

/// Removes temporary files, and indexes without a segment.
fn remove_leftovers(
    directory: &DataDirectory,
    files: &Files,
    scanned: &Scanned,
    end_offset: i64,
) -> Result<(), LogError> {
    let stays = |base_offset: i64| scanned.segments.iter().any(|(base, ..)| *base == base_offset);
    let orphans = files.indexes.iter().filter(|(base_offset, _)| !stays(*base_offset) || *base_offset > end_offset);
    for path in files.temporary.iter().chain(orphans.map(|(_, path)| path)) {
        directory.storage().remove_file(path).map_err(|error| directory.failed(error))?;
    }
    Ok(())
}

fn vanished(path: &Path) -> LogError {
    let reason = "the partition's directory is missing, although records in it were synced".to_owned();
    LogError::Damaged(Damage { file: path.to_path_buf(), position: 0, offset: 0, reason })
}

fn damage(path: &Path, loss: Loss) -> LogError {
    let file = match loss.base_offset {
        Some(base_offset) => path.join(names::segment(base_offset)),
        None => path.to_path_buf(),
    };
    LogError::Damaged(Damage { file, position: loss.position, offset: loss.offset, reason: loss.reason })
}
