//! Puts a cleaned segment in the place of those that it was made of (LOG-5, CMP-7).
//!
//! ```text
//!   0.log 10.log 20.log   0.cleaned           written, synced          a crash here: .cleaned goes
//!   0.log 10.log 20.log   0-30.swap           renamed, synced          from here on the new one counts
//!   0.log                 0-30.swap           the others removed, synced
//!   0.log                                     renamed over the old one, synced
//! ```
//!
//! A swap is finished whenever the log is opened, from whatever step it has reached; each step may be done twice. Its
//! name says what it replaces, so nothing has to be read for that.

use super::output::{Written, discard};
use crate::directory::DataDirectory;
use crate::error::LogError;
use crate::format::names::{self, FileName};
use crate::segment::{Segment, SegmentScan};
use crate::shared::LogShared;
use crate::storage::{Entry, EntryKind, Open, StorageError};
use headwater_mutants::{Mutant, lacks};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Puts what was written in the place of `old`, neighbours and none of them the last. Whether that was done: not if
/// the log has another start meanwhile, below which some of them lie.
pub(super) fn swap(shared: &LogShared, old: &[Arc<Segment>], written: Written) -> Result<bool, LogError> {
    let directory = &shared.directory;
    let failed = |error: StorageError| directory.failed(error);
    let Written { path, file, index, next_offset } = written;
    let base_offset = old.first().map_or(0, |first| first.base_offset);
    debug_assert!(old.last().is_some_and(|last| last.next_offset() == next_offset), "it ends where they do");
    if !lacks(Mutant::CleanedNotSynced) {
        file.sync().map_err(failed)?;
    }
    let names = shared.files.lock();
    shared.check_open()?;
    directory.health().check()?;
    if !shared.has_all(old) {
        drop(names);
        discard(shared, &path, true);
        return Ok(false);
    }
    // Should anything fail from here on, only the next open knows what to do.
    shared.swap_is_open.store(true, Ordering::Release);
    let swap = shared.path.join(names::swap(base_offset, next_offset));
    directory.storage().rename(&path, &swap).map_err(failed)?;
    let bases = old.iter().map(|segment| segment.base_offset);
    put_in_place(directory, &shared.path, base_offset, next_offset, bases)?;

    let path = shared.path.join(names::segment(base_offset));
    let file = directory.storage().open(&path, Open::Read).map_err(failed)?;
    let synced_bytes = index.covered_bytes();
    let scan = SegmentScan { index, next_offset, fault: None, is_saved: false, bad: Vec::new() };
    let segment = Segment::of_scan(&shared.path, file, base_offset, scan, synced_bytes);
    segment.seal(directory.storage().as_ref());
    shared.replace(old, Arc::new(segment));
    shared.swap_is_open.store(false, Ordering::Release);
    Ok(true)
}

/// Everything that follows once there is a swap file. The segments from `base_offset` on that have these base offsets
/// are those it replaces.
fn put_in_place(
    directory: &DataDirectory,
    path: &Path,
    base_offset: i64,
    next_offset: i64,
    replaced: impl Iterator<Item = i64>,
) -> Result<(), LogError> {
    let storage = directory.storage().as_ref();
    let failed = |error: StorageError| directory.failed(error);
    // Before anything goes it must be certain that what takes its place stays.
    if !lacks(Mutant::SwapNotSynced) {
        storage.sync_directory(path).map_err(failed)?;
    }
    for old in replaced {
        debug_assert!((base_offset..next_offset).contains(&old), "only what is replaced goes");
        let mut doomed = vec![names::offset_index(old), names::time_index(old)];
        // The first one's name is the new one's: it is there at every moment.
        if old != base_offset {
            doomed.insert(0, names::segment(old));
        }
        for name in doomed {
            match storage.remove_file(&path.join(name)) {
                Err(error) if !error.is_not_found() => return Err(failed(error)),
                _ => {}
            }
        }
    }
    // A name that came back would overlap with the new segment, and no swap file would say so.
    if !lacks(Mutant::RemovalsNotSynced) {
        storage.sync_directory(path).map_err(failed)?;
    }
    let swap = path.join(names::swap(base_offset, next_offset));
    storage.rename(&swap, &path.join(names::segment(base_offset))).map_err(failed)?;
    storage.sync_directory(path).map_err(failed)
}

/// Ends the swap that a crash cut short, and removes what the cleaner had not finished writing. What lies in the
/// partition's directory then; `None` without one.
pub(crate) fn finish(directory: &DataDirectory, path: &Path) -> Result<Option<Vec<Entry>>, LogError> {
    let Some(entries) = list(directory, path)? else { return Ok(None) };
    let is_unfinished = |entry: &Entry| {
        let name = FileName::classify(&entry.name);
        entry.kind == EntryKind::File && matches!(name, FileName::Cleaned(_) | FileName::Swap { .. })
    };
    // Nearly always; a start of ten thousand partitions looks once at each.
    if !entries.iter().any(is_unfinished) {
        return Ok(Some(entries));
    }
    finish_all(directory, path, &entries)?;
    list(directory, path)
}

fn list(directory: &DataDirectory, path: &Path) -> Result<Option<Vec<Entry>>, LogError> {
    match directory.storage().list(path) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(LogError::of_storage(error)),
    }
}

fn finish_all(directory: &DataDirectory, path: &Path, entries: &[Entry]) -> Result<(), LogError> {
    let storage = directory.storage().as_ref();
    let files = || entries.iter().filter(|entry| entry.kind == EntryKind::File);
    for entry in files() {
        match FileName::classify(&entry.name) {
            FileName::Cleaned(_) => {
                storage.remove_file(&path.join(&entry.name)).map_err(|error| directory.failed(error))?;
            }
            FileName::Swap { base_offset, next_offset } => {
                tracing::info!(swap = %path.join(&entry.name).display(), "finishing a cleaning");
                let replaced = files().filter_map(|entry| match FileName::classify(&entry.name) {
                    FileName::Segment(base) | FileName::OffsetIndex(base) | FileName::TimeIndex(base) => Some(base),
                    _ => None,
                });
                let replaced = replaced.filter(|base| (base_offset..next_offset).contains(base));
                put_in_place(directory, path, base_offset, next_offset, replaced)?;
            }
            _ => {}
        }
    }
    Ok(())
}
