//! Opening a log: looks at its files, has [`recovery`] decide, and does that.

mod cut;
mod files;
mod scan;

use super::keep::Keeping;
use super::trim::remove_files;
use super::{Log, OpenMark};
use crate::checkpoint_file;
use crate::cleaner::swap;
use crate::config::LogConfig;
use crate::directory::DataDirectory;
use crate::error::{Damage, LogError};
use crate::format::epochs::LeaderEpochs;
use crate::format::names;
use crate::format::points::RecoveryPoint;
use crate::quarantine;
use crate::recovery::{self, Loss, Plan, Scan};
use crate::shared::LogShared;
use crate::snapshot::{self, Derived, EveryBatch, Restored};
use crate::storage::Storage;
use cut::Cutting;
use files::Files;
use headwater_protocol::batch::RecordBatch;
use scan::{Depth, Scanned, build_segments, scan_segments, write_again};
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
    /// The offset of the snapshot that was used, if one was (LOG-8).
    pub snapshot: Option<i64>,
    /// Batches that were read and checked.
    pub batches: u64,
    /// Bytes of all batches that are there now.
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
    /// survives to `visit`, in order.
    ///
    /// # Errors
    /// As [`Log::open_derived`].
    pub fn open(
        directory: &DataDirectory,
        name: &str,
        config: LogConfig,
        visit: &mut dyn FnMut(&RecordBatch),
    ) -> Result<(Self, RecoveryReport), LogError> {
        Self::open_derived(directory, name, config, &mut EveryBatch(visit))
    }

    /// Opens the partition `name` of a data directory, makes it if it isn't there, and lets `derived` become what it is
    /// of all batches that survive: from the newest good snapshot and the batches behind it, or from all of them
    /// (LOG-8). Below the recovery point indexes are believed and batches are not read again.
    ///
    /// What is bad above the recovery point is cut off and kept in `lost+found`. What was observed before an error
    /// counts for nothing.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when bytes are bad or missing that were synced: nothing was changed, and other
    /// partitions are not concerned (LOG-3). [`LogError::Checkpoint`] for a file of a newer version.
    /// [`LogError::AlreadyOpen`], [`LogError::BadName`], [`LogError::Config`]. Else the disk's.
    pub fn open_derived(
        directory: &DataDirectory,
        name: &str,
        config: LogConfig,
        derived: &mut dyn Derived,
    ) -> Result<(Self, RecoveryReport), LogError> {
        config.check()?;
        directory.health().check()?;
        let registration = directory.register(name)?;
        let path = directory.path().join(name);
        let storage = directory.storage().as_ref();
        let files = match swap::finish(directory, &path)? {
            Some(entries) => Some(Files::of(&path, entries)),
            None if registration.point.load().next_offset > 0 => return Err(vanished(&path)),
            None => None,
        };
        let is_new = files.is_none();
        if is_new {
            storage.create_directory(&path).map_err(|error| directory.failed(error))?;
            directory.note_name();
        }
        let mut files = files.unwrap_or_default();
        let point = registration.point.load();
        let below = files.take_below(point.start_offset);
        let read = Reading { storage, path: &path, files: &files, config, point };
        let Read { scanned, plan, epochs, had_epochs, restored } =
            read.run(registration.point.take_closed_in_order(), derived)?;
        let quarantine = path.join(names::QUARANTINE);
        let known_bad = match files.has_quarantine {
            true => checkpoint_file::read(storage, &quarantine, quarantine::decode)?,
            false => None,
        };
        let lost_tail = match plan.cut {
            Some(cut) => Some(Cutting { directory, name, path: &path }.act(cut, plan.end_offset, &scanned.segments)?),
            None => None,
        };
        below.into_iter().try_for_each(|base_offset| remove_files(directory, &path, base_offset))?;
        remove_leftovers(directory, &files, &scanned, plan.end_offset)?;
        snapshot::remove(directory, &path, &restored.stray)?;
        files.snapshots.retain(|offset| !restored.stray.contains(offset));

        let mut report = RecoveryReport { is_new, lost_tail, batches: scanned.batches, ..RecoveryReport::default() };
        report.snapshot = restored.from;
        report.foreign_names = files.foreign;
        write_again(directory, &scanned)?;
        let segments = build_segments(storage, &path, scanned.segments, &scanned.scan, plan.end_offset, &mut report);
        let start_offset = segments.first().map_or(0, |first| first.base_offset).max(point.start_offset);
        registration.point.start_offset.store(start_offset, Ordering::Release);
        let end_offset = plan.end_offset.max(start_offset);
        let active = segments.last().cloned();
        let shared =
            Arc::new(LogShared::new(name, directory.clone(), Arc::clone(&registration.point), segments, end_offset));
        shared.sync.lock().snapshots = files.snapshots.into();
        let bad = shared.take_over_quarantine(known_bad)?;
        // Unless all was synced, the names may not have been either.
        let is_unsynced = is_new || point.next_offset < end_offset || report.lost_tail.is_some();
        let epochs_needed = u64::from(had_epochs.as_ref() != Some(&epochs) && !epochs.entries().is_empty());
        let log = Self {
            _mark: OpenMark(Arc::clone(&shared)),
            shared,
            registration,
            config,
            active,
            first_timestamp: scanned.first_timestamp,
            epochs_version: epochs_needed,
            epochs_synced: 0,
            epochs_needed,
            epochs,
            // A directory that was just made has no names in it.
            names_made: u64::from(is_unsynced && !is_new),
            names_synced: 0,
            is_new: is_unsynced,
            durable_offset: point.next_offset,
            headers: Vec::new(),
            inherited_offset: end_offset,
            keeping: Keeping::of_opened(restored.from, start_offset, end_offset).beside(&bad),
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

/// What there is to read of a partition.
struct Reading<'a> {
    storage: &'a dyn Storage,
    path: &'a Path,
    files: &'a Files,
    config: LogConfig,
    point: RecoveryPoint,
}

/// What was read.
struct Read {
    scanned: Scanned,
    plan: Plan,
    epochs: LeaderEpochs,
    /// What their file said.
    had_epochs: Option<LeaderEpochs>,
    restored: Restored,
}

impl Reading<'_> {
    /// Reads what has to be read; everything, where files that should save that contradict the batches.
    fn run(&self, was_closed_in_order: bool, derived: &mut dyn Derived) -> Result<Read, LogError> {
        let epochs_path = self.path.join(names::LEADER_EPOCHS);
        let had_epochs = checkpoint_file::read(self.storage, &epochs_path, LeaderEpochs::decode)?;
        let mut reads_everything = had_epochs.is_none() || derived.wants_every_batch();
        loop {
            let RecoveryPoint { next_offset, start_offset } = self.point;
            let (storage, path, snapshots) = (self.storage, self.path, &self.files.snapshots);
            let restored = snapshot::restore_newest(storage, path, snapshots, self.point, &mut *derived)?;
            let replay_from = restored.from.unwrap_or(start_offset);
            let mut depth = Depth {
                replay_from,
                trust_below: next_offset,
                was_closed_in_order,
                pass_over_below: if derived.wants_every_batch() { i64::MIN } else { next_offset },
            };
            if reads_everything {
                depth = depth.everything();
            }
            let (scanned, unscanned) = (Vec::new(), Vec::new());
            let scan = Scan { recovery_point: next_offset, start_offset, scanned, unscanned };
            let observe = &mut |batch: &RecordBatch| derived.observe(batch);
            let scanned = scan_segments(storage, path, self.files, scan, (self.config, depth), observe)?;
            let Some(mut scanned) = scanned else {
                reads_everything = true;
                continue;
            };
            let plan = recovery::plan(&scanned.scan).map_err(|loss| damage(path, loss))?;
            let met = std::mem::take(&mut scanned.epochs);
            let epochs = match LeaderEpochs::reconcile(had_epochs.clone(), &met, plan.end_offset) {
                Some(epochs) => epochs,
                None if reads_everything => met,
                None => {
                    reads_everything = true;
                    continue;
                }
            };
            return Ok(Read { scanned, plan, epochs, had_epochs, restored });
        }
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
