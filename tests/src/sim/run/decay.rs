//! What disks do to bytes at rest: a bit rots, a partition's directory comes back as it once was, or empty.
//!
//! Only where the product must notice: below the recovery points that are on the disk (LOG-3, LOG-10). It must then
//! refuse what is bad, serve nothing of it, destroy nothing, and leave everybody else alone. When the faults end,
//! somebody puts the bytes back; then all of it must be there again.

use super::{Event, World};
use crate::sim::checker::Violation;
use crate::sim::node::LOGS;
use crate::sim::trace::Who;
use headwater_log::format::names::{self, FileName};
use headwater_log::format::points::{self, RecoveryPoint};
use headwater_log::storage::memory::{DiskSnapshot, MemoryStorage, Survivors};
use headwater_log::storage::{EntryKind, Storage};
use headwater_log::{DataDirectory, Log, LogConfig};
use headwater_protocol::batch::BatchHeader;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a batch's header that its CRC does not cover and nothing else can contradict: the leader's epoch.
const UNCHECKED: std::ops::Range<u64> = 12..16;

/// What is wrong with a node's disk.
#[derive(Default)]
pub(super) struct Decay {
    /// Bits that rotted, by the name of their partition.
    rotten: BTreeMap<String, Vec<(PathBuf, u64, u8)>>,
    /// Partitions that are not what they were, and what they were.
    replaced: BTreeMap<String, DiskSnapshot>,
    /// The disk as it once was.
    old: Option<DiskSnapshot>,
}

impl Decay {
    /// Whether something is wrong with this partition, so that it can't be held to anything.
    pub(super) fn concerns(&self, partition: &str) -> bool {
        self.rotten.contains_key(partition) || self.replaced.contains_key(partition)
    }

    /// Whether this partition is not what it was: it must not be served (LOG-10).
    pub(super) fn is_replaced(&self, partition: &str) -> bool {
        self.replaced.contains_key(partition)
    }

    fn is_none(&self) -> bool {
        self.rotten.is_empty() && self.replaced.is_empty()
    }
}

impl World {
    /// A bit rots in a batch that is known to be synced.
    pub(super) fn rot(&mut self, number: usize) {
        let disk = self.nodes[number].disk.clone();
        let points: Vec<_> = written_points(&disk).into_iter().filter(|(_, point)| point.next_offset > 0).collect();
        let Some((name, point)) = self.rng.pick(&points).cloned() else { return };
        if self.decay[number].is_replaced(&name) {
            return;
        }
        let batches = synced_batches(&disk, &name, point);
        let Some((path, position, bytes)) = self.rng.pick(&batches).cloned() else { return };
        let within = self.rng.below(bytes);
        let bit = u8::try_from(self.rng.below(8)).unwrap_or(0);
        if !UNCHECKED.contains(&within) && disk.damage(&path, position + within, bit) {
            self.trace.note(self.now_us, Who::Node(number), "rotten", &[(position + within).cast_signed()]);
            self.decay[number].rotten.entry(name).or_default().push((path, position + within, bit));
        }
    }

    /// The power goes; afterwards the directory of a partition is as it once was, or empty.
    pub(super) fn replace_partition(&mut self, number: usize) {
        let disk = self.nodes[number].disk.clone();
        let Some(old) = self.decay[number].old.take() else {
            self.decay[number].old = Some(disk.snapshot());
            return;
        };
        self.cut_power(number, Survivors::All);
        let now = disk.snapshot();
        let points: Vec<_> = written_points(&disk).into_iter().collect();
        let Some((name, point)) = self.rng.pick(&points).cloned() else { return };
        let empty = MemoryStorage::new().snapshot();
        let old = if self.rng.per_mille(500) { &empty } else { &old };
        // Only then can anybody tell: what is above the recovery point was never known to be there.
        let is_noticed = end_of(old, &name) < point.next_offset && point.start_offset < point.next_offset;
        if is_noticed && !self.decay[number].concerns(&name) {
            disk.return_as(old, &Path::new(LOGS).join(&name));
            self.trace.note(self.now_us, Who::Node(number), "replaced", &[point.next_offset]);
            self.decay[number].replaced.insert(name, now);
        }
    }

    /// LOG-10: nothing that is not what it was is served.
    pub(super) fn check_replaced(&self, number: usize) -> Result<(), Violation> {
        let Some(broker) = &self.nodes[number].broker else { return Ok(()) };
        match broker.handles.lock().keys().find(|id| self.decay[number].is_replaced(&id.to_string())) {
            None => Ok(()),
            Some(id) => Err(Violation::new("replaced", format!("{id} is served, though its directory is an old one"))),
        }
    }

    /// Somebody puts every byte back where it was, with the machine off.
    pub(super) fn mend_disk(&mut self, number: usize) {
        if self.decay[number].is_none() {
            return;
        }
        self.trace.note(self.now_us, Who::Node(number), "mend", &[]);
        self.cut_power(number, Survivors::All);
        let decay = std::mem::take(&mut self.decay[number]);
        let disk = &self.nodes[number].disk;
        for (path, position, bit) in decay.rotten.into_values().flatten() {
            disk.damage(&path, position, bit);
        }
        for (name, snapshot) in decay.replaced {
            let path = Path::new(LOGS).join(&name);
            // A topic that was deleted meanwhile does not come back.
            if disk.list(&path).is_ok() {
                disk.return_as(&snapshot, &path);
            }
        }
        self.schedule(self.now_us + 1000, Event::Start { node: number });
    }
}

/// The recovery points that are on the disk.
fn written_points(disk: &MemoryStorage) -> BTreeMap<String, RecoveryPoint> {
    let bytes = disk.contents(&Path::new(LOGS).join(names::RECOVERY_POINTS));
    bytes.and_then(|bytes| points::decode(&bytes).ok()).unwrap_or_default()
}

/// Where the batches lie that are below the recovery point: file, position, bytes.
fn synced_batches(disk: &MemoryStorage, name: &str, point: RecoveryPoint) -> Vec<(PathBuf, u64, u64)> {
    let directory = Path::new(LOGS).join(name);
    let mut batches = Vec::new();
    for entry in disk.list(&directory).unwrap_or_default() {
        if entry.kind != EntryKind::File || !matches!(FileName::classify(&entry.name), FileName::Segment(_)) {
            continue;
        }
        let path = directory.join(&entry.name);
        let contents = disk.contents(&path).unwrap_or_default();
        let mut rest = contents.as_slice();
        while let Ok(header) = BatchHeader::decode(rest) {
            let bytes = header.total_bytes();
            if header.next_offset() > point.next_offset || bytes > rest.len() {
                break;
            }
            if header.base_offset >= point.start_offset {
                batches.push((path.clone(), (contents.len() - rest.len()) as u64, bytes as u64));
            }
            rest = &rest[bytes..];
        }
    }
    batches
}

/// Where a partition's log ends in a snapshot.
fn end_of(snapshot: &DiskSnapshot, name: &str) -> i64 {
    let disk = MemoryStorage::of(snapshot);
    let Ok(directory) = DataDirectory::open(Arc::new(disk), Path::new(LOGS)) else { return 0 };
    Log::open(&directory, name, LogConfig::default(), &mut |_| {}).map_or(0, |(log, _)| log.log_end_offset())
}
