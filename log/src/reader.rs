//! The log of one partition: the readers' side.

#[cfg(test)]
mod tests;
mod timestamps;

pub use timestamps::TimestampedOffset;

use crate::cleaner::LogCleaner;
use crate::error::{Damage, LogError};
use crate::format::index::{Place, SegmentIndex};
use crate::limits;
use crate::quarantine::BadRange;
use crate::retention::SegmentFacts;
use crate::segment::Segment;
use crate::shared::LogShared;
use crate::walk::{Stop, Walked};
use bytes::Bytes;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::RecordBatch;
use std::path::Path;
use std::sync::Arc;

/// Reads a log while it is appended to; clones read the same log. No lock is held during I/O.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<LogShared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<LogShared>) -> Self {
        Self { shared }
    }

    /// Whole batches, one behind the other as they are on the disk, from the one that holds `from` up to and without
    /// `upto` (a high watermark, say) or the log's end; their CRCs are checked.
    ///
    /// As many as fit `max_bytes` and lie in one segment, but at least one however long it is. None (no bytes) only
    /// when no whole batch lies between `from` and `upto`. The first may begin before `from`: a batch is not cut.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] when `from` is below the log's start or above its end; [`LogError::Damaged`] when
    /// the first batch is bad, as a bad one is never served; [`LogError::Deleted`]; [`LogError::Storage`].
    pub fn read(&self, from: i64, upto: i64, max_bytes: usize) -> Result<Bytes, LogError> {
        self.shared.check_not_deleted()?;
        // In this order: the start only rises, and what is below an end that was seen is there.
        let (end, start) = (self.end_offset(), self.start_offset());
        let out_of_range = LogError::OffsetOutOfRange { asked: from, start, end };
        if from < start || from > end {
            return Err(out_of_range);
        }
        let upto = upto.min(end);
        if from >= upto {
            return Ok(Bytes::new());
        }
        let Some(segment) = self.shared.segment_of(from) else {
            return Err(out_of_range);
        };
        loop {
            let (damage, known) = match self.read_around(&segment, from, upto, max_bytes) {
                Err(LogError::Damaged(damage)) => (damage, segment.bad_ranges().len()),
                outcome => return outcome,
            };
            let range = self.shared.quarantine(&segment, &damage)?;
            if range.holds(from) {
                return Err(quarantined(&segment, &range));
            }
            // What lies on the way was bad; from behind it the way is another one.
            if segment.bad_ranges().len() <= known {
                return Err(LogError::Damaged(damage));
            }
        }
    }

    /// Reads past the ranges in quarantine.
    fn read_around(&self, segment: &Arc<Segment>, from: i64, upto: i64, max_bytes: usize) -> Result<Bytes, LogError> {
        let bad = segment.bad_ranges();
        if let Some(range) = bad.iter().find(|range| range.holds(from)) {
            return Err(quarantined(segment, range));
        }
        // Up to the next bad range, and from behind the last one.
        let upto = bad.iter().find(|range| range.from > from).map_or(upto, |range| upto.min(range.from));
        let read = |place: Place| {
            let behind = bad.iter().rev().find(|range| range.to <= from).map(BadRange::end);
            let place = behind.filter(|behind| behind.position > place.position).unwrap_or(place);
            read_segment(segment, place, from, upto, max_bytes)
        };
        self.follow_index(segment, |index| index.place_of(from), read)
    }

    /// The partition's directory.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// All ranges in quarantine, in order (LOG-3).
    pub fn bad_ranges(&self) -> Vec<BadRange> {
        self.shared.segments().iter().flat_map(|segment| segment.bad_ranges().to_vec()).collect()
    }

    /// Checks every batch from the one that holds `from` on, until about `bytes_max` bytes were read or the segment or
    /// the log ends. What turns out bad goes into quarantine.
    ///
    /// # Errors
    /// As [`LogReader::read`], but not for what is damaged.
    pub fn verify(&self, from: i64, bytes_max: u64) -> Result<Verified, LogError> {
        self.shared.check_not_deleted()?;
        let (end, start) = (self.end_offset(), self.start_offset());
        let mut verified = Verified { next_offset: from.max(start), ..Verified::default() };
        let Some(segment) = self.shared.segment_of(verified.next_offset).filter(|_| verified.next_offset < end) else {
            verified.next_offset = end;
            return Ok(verified);
        };
        let upto = segment.next_offset();
        while verified.next_offset < upto && verified.bytes < bytes_max && verified.bad.len() < limits::VERIFIED_BAD_MAX
        {
            let left = usize::try_from(bytes_max - verified.bytes).unwrap_or(usize::MAX);
            match self.read(verified.next_offset, upto, left.min(limits::SCAN_BYTES_MAX)) {
                Ok(mut bytes) => {
                    verified.bytes += bytes.len() as u64;
                    while let Ok(Some(batch)) = RecordBatch::split_first(&mut bytes) {
                        verified.next_offset = batch.header().next_offset();
                        verified.batches += 1;
                    }
                }
                Err(LogError::Quarantined { range, .. }) => {
                    verified.next_offset = range.to;
                    verified.bytes += range.end_position - range.position;
                    verified.bad.push(*range);
                }
                Err(LogError::OffsetOutOfRange { start, .. }) if start > verified.next_offset => {
                    verified.next_offset = start;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(verified)
    }

    /// Has a segment's index answer `question` and acts on the place that it names. An index is believed only as far as
    /// the batches bear it out (LOG-4): if the place turns out bad, the index is made again and asked again.
    fn follow_index<T>(
        &self,
        segment: &Arc<Segment>,
        question: impl Fn(&SegmentIndex) -> Place,
        act: impl Fn(Place) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let storage = self.shared.directory.storage().as_ref();
        let ask = || {
            let answer = segment.ask(storage, &question)?;
            if answer.was_loaded {
                self.shared.note_loaded(segment);
            }
            Ok::<_, LogError>(answer)
        };
        let answer = ask()?;
        match act(answer.value) {
            Err(LogError::Damaged(_)) if !answer.is_certain => {
                segment.distrust_index(storage)?;
                self.shared.note_loaded(segment);
                act(ask()?.value)
            }
            outcome => outcome,
        }
    }

    /// What cleans the log, beside its readers; it ends with the log's writer.
    pub fn cleaner(&self) -> LogCleaner {
        LogCleaner::new(Arc::clone(&self.shared))
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> i64 {
        self.shared.start_offset()
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.shared.end_offset()
    }

    /// Bytes of all segments, without indexes.
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    /// What retention needs to know of each segment, oldest first.
    pub fn segment_facts(&self) -> Vec<SegmentFacts> {
        let facts = |segment: &Arc<Segment>| SegmentFacts {
            next_offset: segment.next_offset(),
            bytes: segment.bytes(),
            newest_timestamp: segment.newest().map(|newest| newest.timestamp),
        };
        self.shared.segments().iter().map(facts).collect()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.shared.segments().len()
    }
}

/// What [`LogReader::verify`] found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Verified {
    /// Where to go on; the log's end when that is all.
    pub next_offset: i64,
    /// Batches that are as they were written.
    pub batches: u64,
    /// Bytes that were looked at.
    pub bytes: u64,
    /// What is not as it was written, in order.
    pub bad: Vec<BadRange>,
}

fn quarantined(segment: &Segment, range: &BadRange) -> LogError {
    LogError::Quarantined { file: segment.file().path().to_path_buf(), range: Box::new(range.clone()) }
}

fn read_segment(segment: &Segment, place: Place, from: i64, upto: i64, max_bytes: usize) -> Result<Bytes, LogError> {
    let interval_bytes = usize::try_from(segment.interval_bytes()).unwrap_or(usize::MAX);
    let window_bytes = max_bytes.saturating_add(interval_bytes).clamp(limits::READ_BYTES_MIN, limits::READ_BYTES_MAX);
    let mut walk = segment.walk(place, window_bytes);
    let first = loop {
        match walk.next() {
            Ok(Some(walked)) if walked.header.last_offset() >= from => break walked,
            Ok(Some(_)) => {}
            Ok(None) => return Err(segment.lacks(from)),
            Err(stop @ Stop::Bad { .. }) => return Err(first_damage(segment, place, stop)),
            Err(stop) => return Err(segment.damage(stop)),
        }
    };
    // Before anything is concluded from the header.
    verify(segment, &first)?;
    if first.header.last_offset() >= upto {
        return Ok(Bytes::new());
    }
    let mut bytes = first.header.total_bytes();
    // What is bad further on is told to whoever asks for it.
    while let Ok(Some(next)) = walk.next_in_memory() {
        let total_bytes = next.header.total_bytes();
        let fits = next.header.last_offset() < upto && bytes + total_bytes <= max_bytes;
        if !fits || verify(segment, &next).is_err() {
            break;
        }
        bytes += total_bytes;
    }
    Ok(first.window.slice(..bytes))
}

/// What is bad on the way from `place` to where a walk stopped: the batch there, or one before it that was passed over
/// unchecked and lies about its length or its offsets.
fn first_damage(segment: &Segment, place: Place, stop: Stop) -> LogError {
    let mut walk = segment.walk(place, limits::SCAN_BYTES_MAX);
    while let Ok(Some(walked)) = walk.next() {
        if let Err(damage) = segment.verify(&walked) {
            return damage.into();
        }
    }
    segment.damage(stop)
}

fn verify(segment: &Segment, walked: &Walked) -> Result<(), Damage> {
    match segment.verify(walked) {
        Err(_) if lacks(Mutant::CrcSkippedOnRead) => Ok(()),
        verified => verified.map(drop),
    }
}
