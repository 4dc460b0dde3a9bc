//! Checking a data directory that no broker has open: reads, and changes nothing.

use crate::checkpoint_file;
use crate::error::LogError;
use crate::format::index::{Place, SegmentIndex};
use crate::format::names::{self, FileName};
use crate::format::points::{self, RecoveryPoint};
use crate::quarantine::BadRange;
use crate::segment::{self, Synced};
use crate::storage::{EntryKind, Open, Storage};
use headwater_protocol::batch::RecordBatch;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What lies in one partition's directory.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PartitionCheck {
    /// The directory's name.
    pub name: String,
    /// Batches that are as they were written.
    pub batches: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// What is not as it was written, though it was synced.
    pub damaged: Vec<(PathBuf, BadRange)>,
    /// A segment that does not begin where the one before it ends: its file, where it should begin, where it does.
    pub gaps: Vec<(PathBuf, i64, i64)>,
    /// An end that is no good and was never synced: file, byte, reason. The next start cuts it off.
    pub torn_end: Option<(PathBuf, u64, String)>,
}

/// Bytes of all segments in a directory of logs: how much [`check_directory`] reads.
///
/// # Errors
/// [`LogError::Storage`].
pub fn directory_bytes(storage: &dyn Storage, logs: &Path) -> Result<u64, LogError> {
    let mut bytes = 0;
    for name in partitions(storage, logs)? {
        bytes += segments(storage, &logs.join(name))?.values().sum::<u64>();
    }
    Ok(bytes)
}

/// Checks every batch of every partition in a directory of logs. `progress` is told how many bytes are done; `found`
/// each partition.
///
/// # Errors
/// [`LogError::Storage`] when something can't be read; [`LogError::Checkpoint`] when it is of a newer version.
pub fn check_directory(
    storage: &dyn Storage,
    logs: &Path,
    mut progress: impl FnMut(u64),
    mut found: impl FnMut(PartitionCheck),
) -> Result<(), LogError> {
    let read = checkpoint_file::read(storage, &logs.join(names::RECOVERY_POINTS), points::decode)?;
    let points = read.unwrap_or_default();
    let mut done = 0;
    for name in partitions(storage, logs)? {
        let point = points.get(&name).copied().unwrap_or_default();
        let progress = |bytes| progress(done + bytes);
        let check = check_partition(storage, logs, name, point, progress)?;
        done += check.bytes;
        found(check);
    }
    Ok(())
}

fn partitions(storage: &dyn Storage, logs: &Path) -> Result<Vec<String>, LogError> {
    let entries = storage.list(logs)?.into_iter();
    let is_partition = |kind, name: &str| kind == EntryKind::Directory && names::is_partition(name);
    Ok(entries.filter(|entry| is_partition(entry.kind, &entry.name)).map(|entry| entry.name).collect())
}

/// Lengths by base offset.
fn segments(storage: &dyn Storage, path: &Path) -> Result<BTreeMap<i64, u64>, LogError> {
    let entries = storage.list(path)?;
    let segment = |name: &str| match FileName::classify(name) {
        FileName::Segment(base_offset) => Some(base_offset),
        _ => None,
    };
    Ok(entries.iter().filter_map(|entry| Some((segment(&entry.name)?, entry.bytes))).collect())
}

fn check_partition(
    storage: &dyn Storage,
    logs: &Path,
    name: String,
    point: RecoveryPoint,
    mut progress: impl FnMut(u64),
) -> Result<PartitionCheck, LogError> {
    let path = logs.join(&name);
    let mut check = PartitionCheck { name, ..PartitionCheck::default() };
    let segments = segments(storage, &path)?;
    let mut expected = None;
    for (&base_offset, &file_bytes) in &segments {
        let file_path = path.join(names::segment(base_offset));
        if let Some(expected) = expected.filter(|expected| *expected != base_offset) {
            check.gaps.push((file_path.clone(), expected, base_offset));
        }
        let file = storage.open(&file_path, Open::Read)?;
        let next = segments.range(base_offset.saturating_add(1)..).next().map(|(base, _)| *base);
        let synced = Synced { below: point.next_offset, end_offset: next };
        let begin = Place { offset: base_offset, position: 0 };
        let before = check.bytes;
        let mut read = 0;
        let visit = |batch: &RecordBatch| {
            check.batches += 1;
            read += batch.bytes().len() as u64;
            progress(before + read);
        };
        let index = SegmentIndex::new(base_offset, u64::MAX);
        let scan = segment::scan_over_damage(file.as_ref(), index, begin, file_bytes, synced, visit)?;
        check.bytes += file_bytes;
        progress(check.bytes);
        check.damaged.extend(scan.bad.into_iter().map(|range| (file_path.clone(), range)));
        expected = Some(scan.next_offset);
        if let Some((position, reason)) = scan.fault {
            check.torn_end = Some((file_path, position, reason));
            break;
        }
    }
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;
    use crate::testing::{DATA, NAME, batch, directory, fill, open, path_of};

    fn check(storage: &MemoryStorage) -> PartitionCheck {
        let (mut found, mut last) = (Vec::new(), 0);
        let logs = Path::new(DATA);
        check_directory(storage, logs, |bytes| last = bytes, |check| found.push(check)).unwrap();
        assert_eq!((last, found.len()), (directory_bytes(storage, logs).unwrap(), 1));
        assert_eq!((found[0].name.as_str(), found[0].bytes), (NAME, last));
        found.remove(0)
    }

    // covers LOG-3, LOG-2: what was synced and what was not, without changing either
    #[test]
    fn damage_gaps_and_torn_ends_are_told_apart() {
        let storage = MemoryStorage::new();
        let used = directory(&storage);
        let (mut log, _) = open(&used);
        fill(&mut log, 12);
        log.flush().unwrap();
        used.checkpoint().unwrap();
        drop((log, used));
        let whole = check(&storage);
        assert_eq!((whole.batches, whole.damaged.len(), whole.gaps.len(), whole.torn_end), (12, 0, 0, None));

        let (first, last) = (path_of("00000000000000000000.log"), path_of("00000000000000000020.log"));
        let (good, end) = (storage.contents(&first).unwrap(), storage.contents(&last).unwrap());
        let length = batch(0).len();
        let mut flipped = good.clone();
        flipped[length + 100] ^= 1;
        storage.plant(&first, &flipped).unwrap();
        storage.plant(&last, &[end.as_slice(), &[7; 90]].concat()).unwrap();
        let found = check(&storage);
        assert_eq!((found.batches, found.damaged.len()), (11, 1));
        let (file, range) = &found.damaged[0];
        assert_eq!((file, range.from, range.to, range.position), (&first, 2, 4, length as u64));
        let torn = found.torn_end.unwrap();
        assert_eq!((torn.0, torn.1), (last, end.len() as u64));
        assert_eq!(storage.contents(&first).unwrap(), flipped);

        storage.remove_file(&path_of("00000000000000000010.log")).unwrap();
        assert_eq!(check(&storage).gaps, [(path_of("00000000000000000020.log"), 10, 20)]);
    }
}
