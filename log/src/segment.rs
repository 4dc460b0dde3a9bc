//! One segment: a file of record batches from a base offset on, and its indexes.

use crate::checkpoint_file;
use crate::error::{Damage, LogError};
use crate::format::index::{Newest, Place, SegmentIndex};
use crate::format::names;
use crate::limits;
use crate::quarantine::{self, BadRange};
use crate::storage::{Open, Storage, StorageError, StorageFile};
use crate::walk::{Stop, Walk, Walked};
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::{BatchHeader, RecordBatch};
use parking_lot::RwLock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A segment as writer and readers share it. Only the writer changes it; readers see what was published.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    directory: PathBuf,
    file: Arc<dyn StorageFile>,
    /// Bytes of whole batches; what a failed write left behind is not counted.
    bytes: AtomicU64,
    next_offset: AtomicI64,
    synced_bytes: AtomicU64,
    /// Counts what may have left bytes behind the end on the disk, though the file was cut: such a cut must be synced
    /// before a later segment counts, or a power cut may bring the bytes back, in the middle of the log.
    cuts: AtomicU64,
    cuts_synced: AtomicU64,
    newest: RwLock<Option<Newest>>,
    index: RwLock<IndexState>,
    interval_bytes: u64,
    /// What is not served, in order.
    bad: RwLock<Arc<Vec<BadRange>>>,
}

#[derive(Debug)]
enum IndexState {
    /// The log's last segment.
    Growing(SegmentIndex),
    /// A sealed segment: in its files, and in memory after somebody asked.
    Sealed(Option<Arc<LoadedIndex>>),
}

/// The index of a sealed segment.
#[derive(Debug)]
pub(crate) struct LoadedIndex {
    index: SegmentIndex,
    /// Made from the segment itself, not believed from a file.
    is_rebuilt: bool,
}

/// What a scan of a segment's batches found.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    pub(crate) index: SegmentIndex,
    pub(crate) next_offset: i64,
    /// The first byte that is no batch, and why.
    pub(crate) fault: Option<(u64, String)>,
    /// Whether the index came from its files and is in them as it is.
    pub(crate) is_saved: bool,
    /// Bad batches that were passed over, in order.
    pub(crate) bad: Vec<BadRange>,
}

impl Segment {
    /// A new, empty segment. Its name is not synced yet.
    pub(crate) fn create(
        storage: &dyn Storage,
        directory: &Path,
        base_offset: i64,
        interval_bytes: u64,
    ) -> Result<Self, StorageError> {
        let file = storage.open(&directory.join(names::segment(base_offset)), Open::Create)?;
        let scan = SegmentScan {
            index: SegmentIndex::new(base_offset, interval_bytes),
            next_offset: base_offset,
            fault: None,
            is_saved: false,
            bad: Vec::new(),
        };
        Ok(Self::of_scan(directory, file, base_offset, scan, 0))
    }

    /// A segment that was scanned and is good up to its end. It may still be written to.
    pub(crate) fn of_scan(
        directory: &Path,
        file: Arc<dyn StorageFile>,
        base_offset: i64,
        scan: SegmentScan,
        synced_bytes: u64,
    ) -> Self {
        Self {
            base_offset,
            directory: directory.to_path_buf(),
            file,
            bytes: AtomicU64::new(scan.index.covered_bytes()),
            next_offset: AtomicI64::new(scan.next_offset),
            synced_bytes: AtomicU64::new(synced_bytes),
            cuts: AtomicU64::new(0),
            cuts_synced: AtomicU64::new(0),
            newest: RwLock::new(scan.index.newest()),
            interval_bytes: scan.index.interval_bytes(),
            index: RwLock::new(IndexState::Growing(scan.index)),
            bad: RwLock::new(Arc::new(scan.bad)),
        }
    }

    pub(crate) fn file(&self) -> &dyn StorageFile {
        self.file.as_ref()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Acquire)
    }

    pub(crate) fn interval_bytes(&self) -> u64 {
        self.interval_bytes
    }

    /// A batch with the largest timestamp.
    pub(crate) fn newest(&self) -> Option<Newest> {
        *self.newest.read()
    }

    /// Whether all that was written so far is known to be synced.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced_bytes.load(Ordering::Acquire) >= self.bytes()
            && self.cuts_synced.load(Ordering::Acquire) >= self.cuts()
    }

    /// How much is known to be synced.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.synced_bytes.load(Ordering::Acquire)
    }

    /// How often what stood behind the end was cut off.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Acquire)
    }

    /// Notes that the first `bytes` and so many cuts are synced.
    pub(crate) fn note_synced(&self, bytes: u64, cuts: u64) {
        debug_assert!(bytes <= self.bytes(), "only what was written can have been synced");
        self.synced_bytes.fetch_max(bytes, Ordering::AcqRel);
        self.cuts_synced.fetch_max(cuts, Ordering::AcqRel);
    }

    /// Notes that an earlier run may have cut off what stood behind the end, and have been killed before it was synced.
    pub(crate) fn distrust_end(&self) {
        self.cuts.fetch_add(1, Ordering::AcqRel);
    }

    /// Writes batches behind the last one. On an error the file may be longer than [`Self::bytes`], but no reader sees
    /// that.
    pub(crate) fn write(&self, batches: &[&[u8]]) -> Result<(), StorageError> {
        self.file.write_at(self.bytes(), batches)
    }

    /// Cuts off what a failed write left behind.
    pub(crate) fn undo_write(&self) -> Result<(), StorageError> {
        self.cuts.fetch_add(1, Ordering::AcqRel);
        self.file.truncate(self.bytes())
    }

    /// Shows batches that were written to readers.
    pub(crate) fn publish(&self, headers: &[BatchHeader]) {
        let Some(last) = headers.last() else {
            return;
        };
        let mut state = self.index.write();
        debug_assert!(matches!(*state, IndexState::Growing(_)), "only the last segment grows");
        let IndexState::Growing(index) = &mut *state else {
            return;
        };
        headers.iter().for_each(|header| index.push(header));
        *self.newest.write() = index.newest();
        self.next_offset.store(last.next_offset(), Ordering::Release);
        self.bytes.store(index.covered_bytes(), Ordering::Release);
    }

    /// Ends the segment's growth: its indexes go to their files and out of memory. Without the files they are made
    /// again when somebody asks (LOG-4). Whether the files had to be written.
    pub(crate) fn seal(&self, storage: &dyn Storage) -> bool {
        let was_saved = self.save_index(storage);
        let mut state = self.index.write();
        if let IndexState::Growing(_) = *state {
            *state = IndexState::Sealed(None);
        }
        was_saved
    }

    /// Ends the growth of a segment whose indexes are in their files.
    pub(crate) fn seal_saved(&self) {
        *self.index.write() = IndexState::Sealed(None);
    }

    /// The files of a growing segment's indexes, as they would be now.
    pub(crate) fn index_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        match &*self.index.read() {
            IndexState::Growing(index) => self.encode(index).into(),
            IndexState::Sealed(_) => Vec::new(),
        }
    }

    /// Writes a growing segment's indexes to their files if these are missing or differ. Whether they did.
    pub(crate) fn save_index(&self, storage: &dyn Storage) -> bool {
        let encoded = match &*self.index.read() {
            IndexState::Growing(index) => self.encode(index),
            IndexState::Sealed(_) => return false,
        };
        let held = |path: &Path| checkpoint_file::read_bytes(storage, path).ok().flatten();
        let is_held = |(path, bytes): &(PathBuf, Vec<u8>)| held(path).is_some_and(|held| held == bytes);
        if encoded.iter().all(is_held) {
            return false;
        }
        save(storage, &encoded);
        true
    }

    /// The files of an index.
    fn encode(&self, index: &SegmentIndex) -> [(PathBuf, Vec<u8>); 2] {
        [
            (self.directory.join(names::offset_index(self.base_offset)), index.encode_offsets()),
            (self.directory.join(names::time_index(self.base_offset)), index.encode_times()),
        ]
    }

    /// Bytes that a growing segment's index takes; `None` once it grows no more.
    pub(crate) fn growing_index_bytes(&self) -> Option<u64> {
        match &*self.index.read() {
            IndexState::Growing(index) => Some(index.encoded_bytes()),
            IndexState::Sealed(_) => None,
        }
    }

    /// Asks the index, which is loaded if need be; no lock is held meanwhile.
    pub(crate) fn ask<T>(
        &self,
        storage: &dyn Storage,
        question: impl Fn(&SegmentIndex) -> T,
    ) -> Result<Answer<T>, StorageError> {
        let loaded = match &*self.index.read() {
            IndexState::Growing(index) => {
                return Ok(Answer { value: question(index), was_loaded: false, is_certain: true });
            }
            IndexState::Sealed(loaded) => loaded.clone(),
        };
        if let Some(loaded) = loaded {
            return Ok(Answer { value: question(&loaded.index), was_loaded: false, is_certain: loaded.is_rebuilt });
        }
        let loaded = match self.load(storage) {
            Some(index) => LoadedIndex { index, is_rebuilt: false },
            None => self.rebuild()?,
        };
        let answer = Answer { value: question(&loaded.index), was_loaded: true, is_certain: loaded.is_rebuilt };
        self.keep(loaded);
        Ok(answer)
    }

    /// Makes the index again from the batches, because its file is of no use.
    pub(crate) fn distrust_index(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        tracing::warn!(segment = %self.file.path().display(), "an index that misleads is made again");
        let rebuilt = self.rebuild()?;
        save(storage, &self.encode(&rebuilt.index));
        self.keep(rebuilt);
        Ok(())
    }

    /// Drops a sealed segment's index from memory.
    pub(crate) fn unload_index(&self) {
        if let IndexState::Sealed(loaded) = &mut *self.index.write() {
            *loaded = None;
        }
    }

    fn keep(&self, loaded: LoadedIndex) {
        if let IndexState::Sealed(place) = &mut *self.index.write() {
            *place = Some(Arc::new(loaded));
        }
    }

    fn load(&self, storage: &dyn Storage) -> Option<SegmentIndex> {
        let read = |name: String| checkpoint_file::read_bytes(storage, &self.directory.join(name)).ok().flatten();
        let offsets = read(names::offset_index(self.base_offset))?;
        let times = read(names::time_index(self.base_offset))?;
        let index = SegmentIndex::decode(self.base_offset, self.bytes(), self.interval_bytes, &offsets, &times);
        index.inspect_err(|error| tracing::warn!(segment = %self.file.path().display(), %error, "bad index")).ok()
    }

    fn rebuild(&self) -> Result<LoadedIndex, StorageError> {
        let (bytes, upto) = (self.bytes(), self.next_offset());
        let index = SegmentIndex::new(self.base_offset, self.interval_bytes);
        let begin = Place { offset: self.base_offset, position: 0 };
        let synced = Synced { below: upto, end_offset: Some(upto) };
        let scan = scan_over_damage(self.file(), index, begin, bytes, synced, |_| {})?;
        Ok(LoadedIndex { index: scan.index, is_rebuilt: true })
    }

    /// What is not served, in order.
    pub(crate) fn bad_ranges(&self) -> Arc<Vec<BadRange>> {
        Arc::clone(&self.bad.read())
    }

    /// Serves no more of this range, or again all of one that is not in it any more.
    pub(crate) fn set_bad_ranges(&self, ranges: Vec<BadRange>) {
        debug_assert!(ranges.is_sorted(), "in order");
        *self.bad.write() = Arc::new(ranges);
    }

    /// The whole range that is bad from a place on.
    pub(crate) fn bad_range(&self, damage: &Damage) -> Result<BadRange, StorageError> {
        let bad = Place { offset: damage.offset, position: damage.position };
        let end = quarantine::next_good(self.file(), bad, self.bytes(), self.next_offset())?;
        Ok(BadRange {
            segment: self.base_offset,
            from: damage.offset,
            to: end.offset,
            position: damage.position,
            end_position: end.position,
            reason: damage.reason.clone(),
        })
    }

    /// A walk from `place` to the end of what is published.
    pub(crate) fn walk(&self, place: Place, window_bytes: usize) -> Walk<'_> {
        Walk::new(self.file(), place.position, self.bytes(), place.offset, window_bytes)
    }

    /// Checks a batch's CRC; what fails it is never served.
    pub(crate) fn verify(&self, walked: &Walked) -> Result<RecordBatch, Damage> {
        RecordBatch::decode(walked.bytes()).map_err(|error| Damage {
            file: self.file.path().to_path_buf(),
            position: walked.position,
            offset: walked.header.base_offset,
            reason: error.finding(),
        })
    }

    /// The damage that no batch holds an offset which the segment must have.
    pub(crate) fn lacks(&self, offset: i64) -> LogError {
        let reason = "no batch holds this offset".to_owned();
        LogError::Damaged(Damage { file: self.file.path().to_path_buf(), position: self.bytes(), offset, reason })
    }

    /// The damage at which a walk stopped.
    pub(crate) fn damage(&self, stop: Stop) -> LogError {
        match stop {
            Stop::Storage(error) => LogError::of_storage(error),
            Stop::Bad { position, expected, why } => LogError::Damaged(Damage {
                file: self.file.path().to_path_buf(),
                position,
                offset: expected,
                reason: why.to_string(),
            }),
        }
    }
}

/// Writes index files: not synced, and not missed if that fails, for they are caches.
pub(crate) fn save(storage: &dyn Storage, files: &[(PathBuf, Vec<u8>)]) {
    let write = |(path, bytes): &(PathBuf, Vec<u8>)| storage.open(path, Open::Create)?.write_at(0, &[bytes]);
    if let Err(error) = files.iter().try_for_each(write) {
        tracing::warn!(%error, "an index was not saved; it is made again when needed");
    }
}

/// What an index says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<T> {
    /// What it says.
    pub(crate) value: T,
    /// Whether the index was loaded for this answer.
    pub(crate) was_loaded: bool,
    /// Whether it comes from the batches themselves, not from a file.
    pub(crate) is_certain: bool,
}

/// Looks at every batch of a file, CRC included, from its beginning, where offset `expected` is due, to the first one
/// that is bad.
pub(crate) fn scan(
    file: &dyn StorageFile,
    base_offset: i64,
    file_bytes: u64,
    expected: i64,
    interval_bytes: u64,
    visit: impl FnMut(&RecordBatch),
) -> Result<SegmentScan, StorageError> {
    let index = SegmentIndex::new(base_offset, interval_bytes);
    if base_offset != expected {
        let fault = Some((0, format!("a segment begins at offset {base_offset} where {expected} is due")));
        return Ok(SegmentScan { index, next_offset: expected, fault, is_saved: false, bad: Vec::new() });
    }
    scan_from(file, index, Place { offset: base_offset, position: 0 }, file_bytes, visit)
}

/// Where bad batches are damage, to be passed over, and not the torn end of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Synced {
    /// All batches below this offset were good once.
    pub(crate) below: i64,
    /// Where the segment ends, if that is known.
    pub(crate) end_offset: Option<i64>,
}

/// As [`scan_from`], but goes on behind bad batches that were good once, as far as there are good ones.
pub(crate) fn scan_over_damage(
    file: &dyn StorageFile,
    index: SegmentIndex,
    place: Place,
    file_bytes: u64,
    synced: Synced,
    mut visit: impl FnMut(&RecordBatch),
) -> Result<SegmentScan, StorageError> {
    let segment = index.base_offset();
    let mut scan = scan_from(file, index, place, file_bytes, &mut visit)?;
    let mut bad = Vec::new();
    while bad.len() < limits::BAD_RANGES_MAX
        && let Some((position, reason)) = scan.fault.take_if(|_| scan.next_offset < synced.below)
    {
        let from = scan.next_offset;
        let begin = Place { offset: from, position };
        let mut next = quarantine::next_good(file, begin, file_bytes, synced.end_offset.unwrap_or(i64::MAX))?;
        if next.position == file_bytes {
            next.offset = synced.end_offset.unwrap_or(synced.below);
        }
        bad.push(BadRange { segment, from, to: next.offset, position, end_position: next.position, reason });
        let mut index = scan.index;
        index.pass_over(next.position - position);
        scan = scan_from(file, index, next, file_bytes, &mut visit)?;
    }
    Ok(SegmentScan { bad, ..scan })
}

/// As [`scan`], but from `place` on, to which the index has gone back.
pub(crate) fn scan_from(
    file: &dyn StorageFile,
    index: SegmentIndex,
    place: Place,
    file_bytes: u64,
    mut visit: impl FnMut(&RecordBatch),
) -> Result<SegmentScan, StorageError> {
    let mut scan = SegmentScan { index, next_offset: place.offset, fault: None, is_saved: false, bad: Vec::new() };
    let mut walk = Walk::new(file, place.position, file_bytes, place.offset, limits::SCAN_BYTES_MAX);
    loop {
        let walked = match walk.next() {
            Ok(Some(walked)) => walked,
            Ok(None) => return Ok(scan),
            Err(Stop::Storage(error)) => return Err(error),
            Err(Stop::Bad { position, why, .. }) => {
                scan.fault = Some((position, why.to_string()));
                return Ok(scan);
            }
        };
        match RecordBatch::decode(walked.bytes()) {
            Ok(batch) => visit(&batch),
            Err(_) if lacks(Mutant::CrcSkippedAtRecovery) => {}
            Err(error) => {
                scan.fault = Some((walked.position, error.to_string()));
                return Ok(scan);
            }
        }
        scan.index.push(&walked.header);
        scan.next_offset = walked.header.next_offset();
    }
}
