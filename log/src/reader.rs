//! The log of one partition: the readers' side.

#[cfg(test)]
mod tests;
mod timestamps;

pub use timestamps::TimestampedOffset;

use crate::cleaner::LogCleaner;
use crate::error::{Damage, LogError};
use crate::format::index::{Place, SegmentIndex};
use crate::limits;
use crate::retention::SegmentFacts;
use crate::segment::Segment;
use crate::shared::LogShared;
use crate::walk::Walked;
use bytes::Bytes;
use headwater_mutants::{Mutant, lacks};
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
        let read = |place| read_segment(&segment, place, from, upto, max_bytes);
        self.follow_index(&segment, |index| index.place_of(from), read)
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

fn read_segment(segment: &Segment, place: Place, from: i64, upto: i64, max_bytes: usize) -> Result<Bytes, LogError> {
    let interval_bytes = usize::try_from(segment.interval_bytes()).unwrap_or(usize::MAX);
    let window_bytes = max_bytes.saturating_add(interval_bytes).clamp(limits::READ_BYTES_MIN, limits::READ_BYTES_MAX);
    let mut walk = segment.walk(place, window_bytes);
    let first = loop {
        match walk.next().map_err(|stop| segment.damage(stop))? {
            Some(walked) if walked.header.last_offset() >= from => break walked,
            Some(_) => {}
            None => return Err(segment.lacks(from)),
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

fn verify(segment: &Segment, walked: &Walked) -> Result<(), Damage> {
    match segment.verify(walked) {
        Err(_) if lacks(Mutant::CrcSkippedOnRead) => Ok(()),
        verified => verified.map(drop),
    }
}
