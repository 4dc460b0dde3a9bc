//! Ranges of a log whose bytes are not what was written: never served, while all others go on (LOG-3).
//!
//! ```text
//!   offsets   …  100 ──────── 180 ──────── 260 …         180 to 260 in quarantine: their batches fail the check
//!   bytes     …  │   good    │ ?????????? │  good …       readers of 100 end at 180, readers of 260 begin there
//! ```
//!
//! A range ends where the next good batch begins. It stays in quarantine over restarts, until its batches are handed
//! over again ([`Log::repair`](crate::Log::repair)) or retention takes it; or until a start finds it whole, because
//! somebody has put the bytes back.

use crate::format::checkpoint::{self, CheckpointError, Fields, Kind};
use crate::format::index::Place;
use crate::format::names;
use crate::limits;
use crate::storage::{StorageError, StorageFile};
use crate::walk::Walk;
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, RecordBatch};
use std::path::{Path, PathBuf};

/// What a quarantine file says that it is.
pub const KIND: Kind = Kind::new("badrange");
/// The version of its payload.
pub const VERSION: u16 = 1;

/// Offsets that can't be served, and where their bytes lie.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BadRange {
    /// Base offset of the segment.
    pub segment: i64,
    /// The first offset that can't be had.
    pub from: i64,
    /// The next one that can.
    pub to: i64,
    /// The first bad byte of the segment's file.
    pub position: u64,
    /// The first byte behind.
    pub end_position: u64,
    /// What is wrong.
    pub reason: String,
}

impl BadRange {
    /// The segment's file, in a partition's directory.
    pub fn file(&self, partition: &Path) -> PathBuf {
        partition.join(names::segment(self.segment))
    }

    /// Where good batches go on.
    pub(crate) fn end(&self) -> Place {
        Place { offset: self.to, position: self.end_position }
    }

    /// Whether this offset is in it.
    pub fn holds(&self, offset: i64) -> bool {
        (self.from..self.to).contains(&offset)
    }
}

/// The file's bytes: u32 count; then, in order: i64 segment, from, to; u64 position, end position; u16 length, reason.
pub(crate) fn encode(ranges: &[BadRange]) -> Vec<u8> {
    let mut payload = u32::try_from(ranges.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    for range in ranges {
        for number in [range.segment, range.from, range.to] {
            payload.extend_from_slice(&number.to_be_bytes());
        }
        for number in [range.position, range.end_position] {
            payload.extend_from_slice(&number.to_be_bytes());
        }
        let reason = range.reason.as_bytes().get(..limits::REASON_BYTES_MAX).unwrap_or(range.reason.as_bytes());
        payload.extend_from_slice(&u16::try_from(reason.len()).unwrap_or(u16::MAX).to_be_bytes());
        payload.extend_from_slice(reason);
    }
    checkpoint::encode(KIND, VERSION, &payload)
}

/// Reads the file's bytes.
///
/// # Errors
/// [`CheckpointError`]; torn also when a range makes no sense.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<BadRange>, CheckpointError> {
    let mut fields = Fields(checkpoint::decode(KIND, VERSION, bytes)?.payload);
    let count = u32::from_be_bytes(fields.take()?);
    let mut ranges = Vec::new();
    for _ in 0..count {
        let [segment, from, to] = [
            i64::from_be_bytes(fields.take()?),
            i64::from_be_bytes(fields.take()?),
            i64::from_be_bytes(fields.take()?),
        ];
        let (position, end_position) = (u64::from_be_bytes(fields.take()?), u64::from_be_bytes(fields.take()?));
        let length = u16::from_be_bytes(fields.take()?);
        let reason = String::from_utf8_lossy(fields.take_slice(length.into())?).into_owned();
        if !(0 <= segment && segment <= from && from < to && position < end_position) {
            return Err(CheckpointError::Torn("a range makes no sense"));
        }
        ranges.push(BadRange { segment, from, to, position, end_position, reason });
    }
    fields.end()?;
    Ok(ranges)
}

/// Where good batches go on behind a bad one, which begins at `bad` in a segment that ends before byte `end` and offset
/// `upto`; the segment's end if nowhere before that.
///
/// First where the bad batch says that it ends, then at every byte: a batch counts only with its CRC and an offset
/// between those around it.
pub(crate) fn next_good(file: &dyn StorageFile, bad: Place, end: u64, upto: i64) -> Result<Place, StorageError> {
    let the_end = Place { offset: upto, position: end };
    let header = file.read_at(bad.position, BATCH_HEADER_BYTES)?;
    if let Ok(header) = BatchHeader::decode(&header) {
        let position = bad.position.saturating_add(header.total_bytes() as u64);
        if position == end && header.next_offset() == upto {
            return Ok(the_end);
        }
        if let Some(place) = good_at(file, position, bad.offset, (end, upto))? {
            return Ok(place);
        }
    }
    let mut position = bad.position + 1;
    while position + (BATCH_HEADER_BYTES as u64) <= end {
        let left = usize::try_from(end - position).unwrap_or(usize::MAX);
        let window = file.read_at(position, left.min(limits::SCAN_BYTES_MAX))?;
        let places = window.len().saturating_sub(BATCH_HEADER_BYTES - 1);
        for place in 0..places {
            // The magic is cheap to compare, and wrong nearly everywhere.
            let may_be = window[place + MAGIC] == 2;
            let at = position + place as u64;
            if may_be && let Some(found) = good_at(file, at, bad.offset, (end, upto))? {
                return Ok(found);
            }
        }
        if places == 0 {
            break;
        }
        position += places as u64;
    }
    Ok(the_end)
}

/// Whether all that a range lacks stands there again: good batches that follow one another from its first offset to its
/// end, and fill its bytes.
pub(crate) fn is_whole(file: &dyn StorageFile, range: &BadRange) -> bool {
    let mut walk = Walk::new(file, range.position, range.end_position, range.from, limits::SCAN_BYTES_MAX);
    let mut next_offset = range.from;
    loop {
        match walk.next() {
            Ok(Some(walked)) if RecordBatch::decode(walked.bytes()).is_ok() => {
                next_offset = walked.header.next_offset();
            }
            Ok(None) => return next_offset == range.to,
            // What can't be read can't be served either.
            Ok(Some(_)) | Err(_) => return false,
        }
    }
}

/// Where a batch has its magic.
const MAGIC: usize = 16;

/// Whether a good batch stands at a byte, of an offset above `after`.
fn good_at(
    file: &dyn StorageFile,
    position: u64,
    after: i64,
    (end, upto): (u64, i64),
) -> Result<Option<Place>, StorageError> {
    if position.saturating_add(BATCH_HEADER_BYTES as u64) > end {
        return Ok(None);
    }
    let Ok(header) = BatchHeader::decode(&file.read_at(position, BATCH_HEADER_BYTES)?) else { return Ok(None) };
    let fits = position + header.total_bytes() as u64 <= end;
    if !fits || header.base_offset <= after || header.next_offset() > upto {
        return Ok(None);
    }
    let batch = RecordBatch::decode(file.read_at(position, header.total_bytes())?);
    Ok(batch.is_ok().then_some(Place { offset: header.base_offset, position }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_it_was_written_and_refused_when_it_makes_no_sense() {
        let range = BadRange { segment: 0, from: 4, to: 8, position: 100, end_position: 300, reason: "CRC".into() };
        let bytes = encode(&[range.clone(), BadRange { segment: 10, from: 12, to: 14, ..range.clone() }]);
        assert_eq!(decode(&bytes).map(|ranges| (ranges.len(), ranges[0].clone())), Ok((2, range.clone())));
        for senseless in [BadRange { to: 4, ..range.clone() }, BadRange { end_position: 100, ..range.clone() }] {
            assert!(decode(&encode(&[senseless])).is_err_and(|error| error.is_torn()));
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
        }
    }
}
