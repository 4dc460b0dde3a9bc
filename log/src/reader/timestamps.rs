//! From timestamps to offsets.

use super::LogReader;
use crate::error::{Damage, LogError};
use crate::format::index::Place;
use crate::limits;
use crate::segment::Segment;
use crate::shared::LogShared;
use headwater_protocol::batch::{BatchLimits, RecordBatch};

/// A record's offset and timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampedOffset {
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
}

impl LogReader {
    /// What it shares with the writer.
    pub(crate) fn shared(&self) -> &LogShared {
        &self.shared
    }

    /// The first record below `upto` whose timestamp is `timestamp` or later. Timestamps need not be in order.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when a batch on the way is bad; [`LogError::Deleted`]; [`LogError::Storage`].
    pub fn offset_for_timestamp(&self, timestamp: i64, upto: i64) -> Result<Option<TimestampedOffset>, LogError> {
        self.shared.check_not_deleted()?;
        let (upto, start) = (upto.min(self.end_offset()), self.start_offset());
        for segment in self.shared.segments().iter() {
            let is_old = segment.newest().is_none_or(|newest| newest.timestamp < timestamp);
            if is_old || segment.next_offset() <= start {
                continue;
            }
            if segment.base_offset >= upto {
                break;
            }
            let is_wanted = |found: TimestampedOffset| found.timestamp >= timestamp && found.offset >= start;
            let search = |place| search(segment, place, timestamp, upto, is_wanted);
            if let Some(found) = self.follow_index(segment, |index| index.place_before(timestamp), search)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp of those below `upto`.
    ///
    /// # Errors
    /// As [`LogReader::offset_for_timestamp`].
    pub fn max_timestamp(&self, upto: i64) -> Result<Option<TimestampedOffset>, LogError> {
        self.shared.check_not_deleted()?;
        let (upto, start) = (upto.min(self.end_offset()), self.start_offset());
        let mut largest = None;
        for segment in self.shared.segments().iter() {
            if segment.base_offset >= upto {
                break;
            }
            let newest = if start <= segment.base_offset && segment.next_offset() <= upto {
                segment.newest().map(|newest| newest.timestamp)
            } else {
                newest_between(segment, start, upto)?
            };
            largest = largest.max(newest);
        }
        match largest {
            Some(timestamp) => self.offset_for_timestamp(timestamp, upto),
            None => Ok(None),
        }
    }
}

/// The largest timestamp of the batches that lie in part or whole at or above `start` and as a whole below `upto`.
fn newest_between(segment: &Segment, start: i64, upto: i64) -> Result<Option<i64>, LogError> {
    let mut walk = segment.walk(Place { offset: segment.base_offset, position: 0 }, limits::SCAN_BYTES_MAX);
    let mut newest = None;
    while let Some(walked) = walk.next().map_err(|stop| segment.damage(stop))? {
        let batch = segment.verify(&walked)?;
        if walked.header.last_offset() >= upto {
            break;
        }
        if walked.header.base_offset >= start {
            newest = newest.max(Some(walked.header.max_timestamp));
        } else if walked.header.last_offset() >= start {
            let is_kept = |found: TimestampedOffset| found.offset >= start;
            let all = records(segment, walked.position, &batch, |found| is_kept(found).then_some(found.timestamp))?;
            newest = newest.max(all.into_iter().max());
        }
    }
    Ok(newest)
}

/// The first record from `place` on that is wanted, looking only into batches that reach `timestamp`.
fn search(
    segment: &Segment,
    place: Place,
    timestamp: i64,
    upto: i64,
    is_wanted: impl Fn(TimestampedOffset) -> bool,
) -> Result<Option<TimestampedOffset>, LogError> {
    let mut walk = segment.walk(place, limits::SCAN_BYTES_MAX);
    while let Some(walked) = walk.next().map_err(|stop| segment.damage(stop))? {
        let batch = segment.verify(&walked)?;
        if walked.header.last_offset() >= upto {
            break;
        }
        if walked.header.max_timestamp < timestamp {
            continue;
        }
        let wanted = records(segment, walked.position, &batch, |found| is_wanted(found).then_some(found))?;
        if let Some(found) = wanted.first() {
            return Ok(Some(*found));
        }
    }
    Ok(None)
}

/// What `pick` takes of a batch's records.
fn records<T>(
    segment: &Segment,
    position: u64,
    batch: &RecordBatch,
    pick: impl Fn(TimestampedOffset) -> Option<T>,
) -> Result<Vec<T>, LogError> {
    let header = batch.header();
    let damage = |error: headwater_protocol::batch::BatchError| {
        LogError::Damaged(Damage {
            file: segment.file().path().to_path_buf(),
            position,
            offset: header.base_offset,
            reason: error.to_string(),
        })
    };
    let records = batch.records(&BatchLimits::INTERNAL).map_err(damage)?;
    let mut picked = Vec::new();
    for record in records.iter() {
        let record = record.map_err(damage)?;
        let timestamp = if header.is_log_append_time() { header.max_timestamp } else { record.timestamp };
        picked.extend(pick(TimestampedOffset { offset: record.offset, timestamp }));
    }
    Ok(picked)
}
