//! Opening a log: looks at its files, has [`recovery`] decide, and does that.

use super::trim::remove_files;
use super::{Log, OpenMark};
use crate::checkpoint_file;
use crate::cleaner::swap;
use crate::config::LogConfig;
use crate::directory::DataDirectory;
use crate::error::{Damage, LogError};
use crate::format::epochs::LeaderEpochs;
use crate::format::index;
use crate::format::names::{self, FileName};
use crate::limits;
use crate::recovery::{self, Cut, Loss, Piece, Scan, ScannedSegment, UnscannedSegment};
use crate::segment::{self, Segment, SegmentScan};
use crate::shared::LogShared;
use crate::storage::{EntryKind, Open, Storage, StorageError, StorageFile};
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::RecordBatch;
use std::collections::BTreeMap;
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

/// What lies in a partition's directory.
#[derive(Default)]
struct Files {
    /// Lengths by base offset.
    segments: BTreeMap<i64, u64>,
    /// Index files by base offset.
    indexes: Vec<(i64, PathBuf)>,
    temporary: Vec<PathBuf>,
    foreign: Vec<String>,
}

/// What scanning them found.
struct Scanned {
    scan: Scan,
    segments: Vec<(i64, Arc<dyn StorageFile>, SegmentScan)>,
    epochs: LeaderEpochs,
    /// The largest timestamp of the last segment's first batch.
    first_timestamp: Option<i64>,
    batches: u64,
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

impl Files {
    /// What is there, or `None` without the directory.
    fn list(storage: &dyn Storage, path: &Path) -> Result<Option<Self>, LogError> {
        let entries = match storage.list(path) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(LogError::of_storage(error)),
        };
        let mut files = Self::default();
        for entry in entries {
            let path = path.join(&entry.name);
            match (entry.kind, FileName::classify(&entry.name)) {
                (EntryKind::File, FileName::Segment(base_offset)) => {
                    files.segments.insert(base_offset, entry.bytes);
                }
                (EntryKind::File, FileName::OffsetIndex(base_offset) | FileName::TimeIndex(base_offset)) => {
                    files.indexes.push((base_offset, path));
                }
                (EntryKind::File, FileName::Temporary) => files.temporary.push(path),
                (EntryKind::File, FileName::LeaderEpochs | FileName::Cleaner) => {}
                _ => files.foreign.push(entry.name),
            }
        }
        Ok(Some(files))
    }
}

impl Files {
    /// Refuses indexes of a newer version, which would else be overwritten by older ones.
    fn refuse_newer_indexes(&self, storage: &dyn Storage) -> Result<(), LogError> {
        self.indexes.iter().try_for_each(|(base_offset, path)| {
            let is_offsets = path.ends_with(names::offset_index(*base_offset));
            let kind = if is_offsets { index::OFFSETS_KIND } else { index::TIMES_KIND };
            checkpoint_file::refuse_newer(storage, path, kind, index::VERSION)
        })
    }

    /// Takes out the segments that lie below the log's start as a whole: those whose successor begins at or below it. A
    /// crash came between the start's being durable and their removal; only some of them may be left.
    fn take_below(&mut self, start_offset: i64) -> Vec<i64> {
        let Some((&stays, _)) = self.segments.range(..=start_offset).next_back() else { return Vec::new() };
        let below: Vec<i64> = self.segments.range(..stays).map(|(base_offset, _)| *base_offset).collect();
        self.segments.retain(|base_offset, _| *base_offset >= stays);
        self.indexes.retain(|(base_offset, _)| *base_offset >= stays || !below.contains(base_offset));
        below
    }
}

/// Scans the segments in order, up to the first fault.
fn scan_segments(
    storage: &dyn Storage,
    path: &Path,
    files: &Files,
    scan: Scan,
    config: LogConfig,
    visit: &mut dyn FnMut(&RecordBatch),
) -> Result<Scanned, LogError> {
    // A log whose first segment is lost must not begin later and call what is left the whole of it.
    let mut expected = files.segments.keys().next().map(|first| scan.start_offset.min(*first));
    expected = expected.filter(|_| !lacks(Mutant::LogBeginsLater));
    let mut scanned =
        Scanned { scan, segments: Vec::new(), epochs: LeaderEpochs::default(), first_timestamp: None, batches: 0 };
    let (mut is_faulty, start_offset) = (false, scanned.scan.start_offset);
    for (&base_offset, &file_bytes) in &files.segments {
        if is_faulty {
            scanned.scan.unscanned.push(UnscannedSegment { base_offset, file_bytes });
            continue;
        }
        let file = storage.open(&path.join(names::segment(base_offset)), Open::Write).map_err(LogError::of_storage)?;
        let (epochs, batches) = (&mut scanned.epochs, &mut scanned.batches);
        let mut first_timestamp = None;
        let mut visit = |batch: &RecordBatch| {
            let header = batch.header();
            first_timestamp = first_timestamp.or(Some(header.max_timestamp));
            if header.partition_leader_epoch >= 0 {
                epochs.assign(header.partition_leader_epoch, header.base_offset);
            }
            *batches += 1;
            // What was deleted is not seen again, though it may share a segment with what was not.
            if header.next_offset() > start_offset {
                visit(batch);
            }
        };
        let expected_here = expected.unwrap_or(base_offset);
        let interval_bytes = config.index_interval_bytes;
        let scan = segment::scan(file.as_ref(), base_offset, file_bytes, expected_here, interval_bytes, &mut visit)
            .map_err(LogError::of_storage)?;
        is_faulty = scan.fault.is_some();
        expected = Some(scan.next_offset);
        scanned.scan.scanned.push(ScannedSegment {
            base_offset,
            file_bytes,
            good_bytes: scan.index.covered_bytes(),
            next_offset: scan.next_offset,
            fault: scan.fault.as_ref().map(|(position, reason)| format!("byte {position}: {reason}")),
        });
        scanned.segments.push((base_offset, file, scan));
        scanned.first_timestamp = first_timestamp;
    }
    Ok(scanned)
}

/// Writes what lies above the recovery point once more, byte for byte where it is.
///
/// An earlier run may have seen a sync of it fail: the kernel then has the bytes in its cache, calls them clean, and
/// the next sync succeeds without writing them (LOG-7). Only the death of the machine would tell. Written again they
/// are dirty again, so that the next flush is a promise that holds.
fn write_again(directory: &DataDirectory, scanned: &Scanned) -> Result<(), LogError> {
    let recovery_point = scanned.scan.recovery_point;
    for (base_offset, file, found) in &scanned.segments {
        if found.next_offset <= recovery_point || lacks(Mutant::NotWrittenAgain) {
            continue;
        }
        let good_bytes = found.index.covered_bytes();
        let mut position = found.index.place_of(recovery_point.max(*base_offset)).position;
        while position < good_bytes {
            let left = usize::try_from(good_bytes - position).unwrap_or(usize::MAX);
            let bytes = file.read_at(position, left.min(limits::COPY_BYTES_MAX)).map_err(LogError::of_storage)?;
            if bytes.is_empty() {
                break;
            }
            file.write_at(position, &[&bytes]).map_err(|error| directory.failed(error))?;
            position += bytes.len() as u64;
        }
    }
    Ok(())
}

/// Makes segments of what was scanned and stays; all but the last are sealed.
fn build_segments(
    storage: &dyn Storage,
    path: &Path,
    scanned: Vec<(i64, Arc<dyn StorageFile>, SegmentScan)>,
    scan: &Scan,
    end_offset: i64,
    report: &mut RecoveryReport,
) -> Vec<Arc<Segment>> {
    let stays = |base_offset: i64, found: &SegmentScan| found.index.covered_bytes() > 0 || base_offset == end_offset;
    let mut segments = Vec::new();
    for (base_offset, file, found) in scanned.into_iter().filter(|(base_offset, _, found)| stays(*base_offset, found)) {
        // What the recovery point does not cover as a whole may be with the operating system only.
        let is_synced = found.next_offset <= scan.recovery_point;
        let synced_bytes = if is_synced { found.index.covered_bytes() } else { 0 };
        report.bytes += found.index.covered_bytes();
        segments.push(Arc::new(Segment::of_scan(path, file, base_offset, found, synced_bytes)));
    }
    report.segments = segments.len();
    for sealed in segments.iter().rev().skip(1) {
        // Below another segment's records that were synced: so was this one's end.
        if sealed.next_offset() >= scan.recovery_point {
            sealed.distrust_end();
        }
        report.indexes_written += usize::from(sealed.seal(storage));
    }
    segments
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

/// Cuts the end off a log, after a copy of it is safe in `lost+found`.
struct Cutting<'a> {
    directory: &'a DataDirectory,
    name: &'a str,
    path: &'a Path,
}

impl Cutting<'_> {
    fn act(
        &self,
        cut: Cut,
        end_offset: i64,
        segments: &[(i64, Arc<dyn StorageFile>, SegmentScan)],
    ) -> Result<LostTail, LogError> {
        let lost_found = self.directory.path().join(names::LOST_FOUND);
        let changed = |result: Result<(), StorageError>| result.map_err(|error| self.directory.failed(error));
        changed(self.storage().create_directory(&lost_found))?;
        self.directory.note_name();
        self.directory.sync_names()?;
        let mut lost = LostTail { end_offset, bytes: 0, reason: cut.reason, files: Vec::new() };
        // From the end, so that a crash in between leaves a log with a torn end.
        for piece in cut.pieces.iter().rev() {
            let target = self.free_name(&lost_found, piece)?;
            if piece.removes_file {
                let source = self.path.join(names::segment(piece.base_offset));
                changed(self.storage().rename(&source, &target))?;
                changed(self.storage().sync_directory(&lost_found))?;
                changed(self.storage().sync_directory(self.path))?;
            } else if let Some((_, file, _)) = segments.iter().find(|(base, ..)| *base == piece.base_offset) {
                if !lacks(Mutant::CutNotKept) {
                    self.copy(file.as_ref(), piece, &target)?;
                    changed(self.storage().sync_directory(&lost_found))?;
                }
                changed(file.truncate(piece.position))?;
                if !lacks(Mutant::CutNotSynced) {
                    changed(file.sync())?;
                }
            }
            lost.bytes += piece.bytes;
            lost.files.push(target);
        }
        lost.files.reverse();
        Ok(lost)
    }

    fn storage(&self) -> &dyn Storage {
        self.directory.storage().as_ref()
    }

    fn free_name(&self, lost_found: &Path, piece: &Piece) -> Result<PathBuf, LogError> {
        let taken = self.storage().list(lost_found)?;
        let stem = format!("{}-{:020}-{}", self.name, piece.base_offset, piece.position);
        let names = (0..limits::LOST_FOUND_NAMES_MAX).map(|count| format!("{stem}.{count}"));
        let free = names.into_iter().find(|name| !taken.iter().any(|entry| entry.name == *name));
        let max = limits::LOST_FOUND_NAMES_MAX as usize;
        let too_many = || LogError::TooMany { what: "files of one origin", max, directory: lost_found.to_path_buf() };
        free.map(|name| lost_found.join(name)).ok_or_else(too_many)
    }

    fn copy(&self, source: &dyn StorageFile, piece: &Piece, target: &Path) -> Result<(), LogError> {
        let failed = |error| self.directory.failed(error);
        let copy = self.storage().open(target, Open::Create).map_err(failed)?;
        let mut done = 0;
        while done < piece.bytes {
            let wanted = usize::try_from(piece.bytes - done).unwrap_or(usize::MAX).min(limits::COPY_BYTES_MAX);
            let bytes = source.read_at(piece.position + done, wanted).map_err(LogError::of_storage)?;
            if bytes.is_empty() {
                break;
            }
            copy.write_at(done, &[&bytes]).map_err(failed)?;
            done += bytes.len() as u64;
        }
        copy.sync().map_err(failed)
    }
}
