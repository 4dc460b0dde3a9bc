//! What lies in a partition's directory.

use crate::format::names::FileName;
use crate::storage::{Entry, EntryKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What lies in a partition's directory.
#[derive(Default)]
pub(super) struct Files {
    /// Lengths by base offset.
    pub(super) segments: BTreeMap<i64, u64>,
    /// Index files by base offset.
    pub(super) indexes: Vec<(i64, PathBuf)>,
    /// Offsets of snapshots, rising.
    pub(super) snapshots: Vec<i64>,
    pub(super) temporary: Vec<PathBuf>,
    pub(super) foreign: Vec<String>,
    /// Ranges of it are in quarantine, or were.
    pub(super) has_quarantine: bool,
}

impl Files {
    /// What these names in a partition's directory are.
    pub(super) fn of(path: &Path, entries: Vec<Entry>) -> Self {
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
                (EntryKind::File, FileName::Snapshot(offset)) => files.snapshots.push(offset),
                (EntryKind::File, FileName::Temporary) => files.temporary.push(path),
                (EntryKind::File, FileName::Quarantine) => files.has_quarantine = true,
                (EntryKind::File, FileName::LeaderEpochs | FileName::Cleaner) => {}
                _ => files.foreign.push(entry.name),
            }
        }
        files
    }

    /// Takes out the segments that lie below the log's start as a whole: those whose successor begins at or below it. A
    /// crash came between the start's being durable and their removal; only some of them may be left.
    pub(super) fn take_below(&mut self, start_offset: i64) -> Vec<i64> {
        let Some((&stays, _)) = self.segments.range(..=start_offset).next_back() else { return Vec::new() };
        let below: Vec<i64> = self.segments.range(..stays).map(|(base_offset, _)| *base_offset).collect();
        self.segments.retain(|base_offset, _| *base_offset >= stays);
        self.indexes.retain(|(base_offset, _)| *base_offset >= stays || !below.contains(base_offset));
        below
    }
}
