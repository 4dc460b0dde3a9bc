//! What the writer of a log shares with its readers and flush jobs.

use crate::checkpoint_file;
use crate::cleaner::Cleaned;
use crate::directory::{DataDirectory, PartitionPoint};
use crate::error::{Damage, LogError};
use crate::format::names;
use crate::limits;
use crate::quarantine::{self, BadRange};
use crate::segment::Segment;
use crate::tail::Tail;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

#[derive(Debug)]
pub(crate) struct LogShared {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) directory: DataDirectory,
    pub(crate) point: Arc<PartitionPoint>,
    /// In order of base offsets, without gaps. Replaced as a whole, so that a reader takes it under a short lock.
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    end_offset: AtomicI64,
    /// Its newest batches, in memory.
    pub(crate) tail: Arc<Tail>,
    is_deleted: AtomicBool,
    /// The writer let go of it; another one may open it.
    is_closed: AtomicBool,
    /// Held while names of segments are made or removed by others than the writer.
    pub(crate) files: Mutex<()>,
    /// Held while ranges come into quarantine or out of it.
    pub(crate) quarantining: Mutex<()>,
    /// Held while the log is cleaned.
    pub(crate) cleaning: Mutex<()>,
    /// What is known to have been cleaned; `None` before somebody asked.
    pub(crate) cleaned: Mutex<Option<Cleaned>>,
    /// A swap of segments was begun and has not ended.
    pub(crate) swap_is_open: AtomicBool,
    /// Held while a flush job runs: one at a time, so that no job can miss the failure of another one (LOG-7).
    pub(crate) sync: Mutex<SyncState>,
    /// Sealed segments whose indexes are in memory, the one loaded first in front.
    loaded: Mutex<VecDeque<Arc<Segment>>>,
}

/// What the flush jobs of a log have done so far.
#[derive(Default, Debug)]
pub(crate) struct SyncState {
    /// The version of the leader epochs that is in their file.
    pub(crate) epochs_version: u64,
    /// Offsets of the snapshots that are there, rising.
    pub(crate) snapshots: VecDeque<i64>,
}

impl LogShared {
    pub(crate) fn new(
        name: &str,
        directory: DataDirectory,
        point: Arc<PartitionPoint>,
        segments: Vec<Arc<Segment>>,
        end_offset: i64,
    ) -> Self {
        Self {
            name: name.to_owned(),
            path: directory.path().join(name),
            directory,
            point,
            segments: RwLock::new(Arc::new(segments)),
            end_offset: AtomicI64::new(end_offset),
            tail: Arc::default(),
            is_deleted: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            files: Mutex::default(),
            quarantining: Mutex::default(),
            cleaning: Mutex::default(),
            cleaned: Mutex::default(),
            swap_is_open: AtomicBool::new(false),
            sync: Mutex::default(),
            loaded: Mutex::default(),
        }
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.segments.read())
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write();
        debug_assert!(segments.last().is_none_or(|last| last.next_offset() == segment.base_offset), "no gaps");
        *segments = Arc::new(segments.iter().cloned().chain([segment]).collect());
    }

    /// Takes the range that is bad from a place on out of service, and writes that down (LOG-3).
    pub(crate) fn quarantine(&self, segment: &Arc<Segment>, damage: &Damage) -> Result<BadRange, LogError> {
        let _one_at_a_time = self.quarantining.lock();
        let known = segment.bad_ranges();
        if let Some(range) = known.iter().find(|range| range.holds(damage.offset)) {
            return Ok(range.clone());
        }
        if known.len() >= limits::BAD_RANGES_MAX {
            return Err(LogError::Damaged(damage.clone()));
        }
        let range = segment.bad_range(damage)?;
        let (partition, from, to, position) = (&self.name, range.from, range.to, range.position);
        tracing::error!(
            partition, from, to, position, file = %damage.file.display(), reason = range.reason,
            "damaged bytes: this range is in quarantine, all others are served"
        );
        let mut ranges = known.to_vec();
        ranges.push(range.clone());
        ranges.sort();
        segment.set_bad_ranges(ranges);
        // In memory it holds all the same; the next start finds it again when somebody reads it.
        if let Err(error) = self.save_quarantine() {
            tracing::error!(partition, %error, "the quarantine could not be written down");
        }
        Ok(range)
    }

    /// Of a log just opened: what was found bad on the way is in quarantine, and what was so before and is still.
    /// Gives all of it.
    pub(crate) fn take_over_quarantine(&self, known: Option<Vec<BadRange>>) -> Result<Vec<BadRange>, LogError> {
        let known = known.unwrap_or_default();
        for segment in self.segments().iter() {
            let mut ranges = segment.bad_ranges().to_vec();
            let of_it = known.iter().filter(|range| range.segment == segment.base_offset);
            let fits = |range: &&BadRange| range.to <= segment.next_offset() && range.end_position <= segment.bytes();
            let found = ranges.clone();
            let overlaps = |range: &&BadRange| found.iter().any(|other| range.from < other.to && other.from < range.to);
            let is_bad = |range: &&BadRange| !quarantine::is_whole(segment.file(), range);
            ranges.extend(of_it.filter(fits).filter(|range| !overlaps(range)).filter(is_bad).cloned());
            ranges.sort();
            segment.set_bad_ranges(ranges);
        }
        let ranges: Vec<BadRange> = self.segments().iter().flat_map(|segment| segment.bad_ranges().to_vec()).collect();
        for BadRange { from, to, reason, .. } in &ranges {
            tracing::warn!(partition = self.name, from, to, reason, "a range in quarantine is not served");
        }
        if ranges != known {
            self.save_quarantine()?;
        }
        Ok(ranges)
    }

    /// Writes down which ranges are in quarantine.
    pub(crate) fn save_quarantine(&self) -> Result<(), LogError> {
        self.check_open()?;
        self.directory.health().check()?;
        let ranges: Vec<BadRange> = self.segments().iter().flat_map(|segment| segment.bad_ranges().to_vec()).collect();
        let path = self.path.join(names::QUARANTINE);
        checkpoint_file::write(self.directory.storage().as_ref(), &path, &quarantine::encode(&ranges))
            .map_err(|error| self.directory.failed(error))
    }

    /// Whether all of `segments` are among the log's, but for the last one.
    pub(crate) fn has_all(&self, segments: &[Arc<Segment>]) -> bool {
        let all = self.segments.read();
        let sealed = all.get(..all.len().saturating_sub(1)).unwrap_or_default();
        segments.iter().all(|segment| sealed.iter().any(|other| Arc::ptr_eq(other, segment)))
    }

    /// Puts a segment in the place of those of `old` that are still there: the log may begin later meanwhile.
    pub(crate) fn replace(&self, old: &[Arc<Segment>], new: Arc<Segment>) {
        // First: what the new segment lacks must not come back to a reader who has seen it without.
        self.tail.forget_below(new.next_offset());
        let mut segments = self.segments.write();
        let is_old = |segment: &Arc<Segment>| old.iter().any(|other| Arc::ptr_eq(other, segment));
        let Some(place) = segments.iter().position(is_old) else { return };
        let before = segments.iter().take(place).cloned();
        let after = segments.iter().skip(place).filter(|segment| !is_old(segment)).cloned();
        *segments = Arc::new(before.chain([new]).chain(after).collect());
    }

    /// Whether a segment of this base offset is among the log's.
    pub(crate) fn has(&self, base_offset: i64) -> bool {
        self.segments.read().iter().any(|segment| segment.base_offset == base_offset)
    }

    /// Takes out the segments that lie below `offset` as a whole, but for the last one.
    pub(crate) fn remove_below(&self, offset: i64) -> Vec<Arc<Segment>> {
        let mut segments = self.segments.write();
        let below = segments.iter().take_while(|segment| segment.next_offset() <= offset).count();
        let gone = below.min(segments.len().saturating_sub(1));
        let removed = segments[..gone].to_vec();
        if gone > 0 {
            *segments = Arc::new(segments[gone..].to_vec());
        }
        removed
    }

    /// The segment that has `offset`, or would have it next.
    pub(crate) fn segment_of(&self, offset: i64) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.base_offset <= offset);
        segments[..after].last().cloned()
    }

    pub(crate) fn start_offset(&self) -> i64 {
        self.point.start_offset.load(Ordering::Acquire)
    }

    /// Who sees an end offset sees all segments and bytes below it.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    pub(crate) fn set_end_offset(&self, offset: i64) {
        self.end_offset.store(offset, Ordering::Release);
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.bytes()).sum()
    }

    pub(crate) fn check_not_deleted(&self) -> Result<(), LogError> {
        match self.is_deleted.load(Ordering::Acquire) {
            true => Err(LogError::Deleted(self.name.clone())),
            false => Ok(()),
        }
    }

    /// Whether its files may be changed by others than its writer.
    pub(crate) fn check_open(&self) -> Result<(), LogError> {
        self.check_not_deleted()?;
        if self.is_closed.load(Ordering::Acquire) { Err(LogError::Closed(self.name.clone())) } else { Ok(()) }
    }

    /// The writer lets go of it: waits for changes of its files that are under way, and lets no other one begin.
    pub(crate) fn close(&self) {
        let _names = self.files.lock();
        self.is_closed.store(true, Ordering::Release);
        self.tail.clear();
    }

    pub(crate) fn set_deleted(&self) {
        self.is_deleted.store(true, Ordering::Release);
    }

    /// Notes that the index of a sealed segment was loaded, and unloads the one loaded longest ago if there are too
    /// many.
    pub(crate) fn note_loaded(&self, segment: &Arc<Segment>) {
        let mut loaded = self.loaded.lock();
        loaded.retain(|other| !Arc::ptr_eq(other, segment));
        loaded.push_back(Arc::clone(segment));
        if loaded.len() > limits::LOADED_INDEXES_MAX
            && let Some(oldest) = loaded.pop_front()
        {
            oldest.unload_index();
        }
    }
}
