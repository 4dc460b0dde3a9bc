//! The sparse indexes of one segment: from offset to byte position, from timestamp to offset. Caches (LOG-4): whoever
//! follows one checks that a batch with the entry's offset stands there.

use super::checkpoint::{self, CheckpointError, Fields, Kind};
use crate::limits;
use headwater_protocol::batch::BatchHeader;

/// What the offset index says that it is.
pub const OFFSETS_KIND: Kind = Kind::new("offsets");
/// What the time index says that it is.
pub const TIMES_KIND: Kind = Kind::new("times");
/// The version of both payloads.
pub const VERSION: u16 = 1;
/// Bytes in front of an offset index's entries, and of an entry.
const OFFSETS_HEAD_BYTES: usize = 16;
const OFFSET_ENTRY_BYTES: usize = 8;
/// Bytes in front of a time index's entries, and of an entry.
const TIMES_HEAD_BYTES: usize = 32;
const TIME_ENTRY_BYTES: usize = 12;

/// Where to begin reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Base offset of the batch that stands there.
    pub offset: i64,
    /// Its first byte in the segment.
    pub position: u64,
}

/// A batch with the largest timestamp of those looked at; the first one if there are several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Newest {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The batch's base offset.
    pub base_offset: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct OffsetEntry {
    relative_offset: u32,
    position: u32,
}

/// No record before the batch at `relative_offset` is younger than `timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct TimeEntry {
    timestamp: i64,
    relative_offset: u32,
}

/// Both indexes of a segment, growing with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentIndex {
    base_offset: i64,
    covered_bytes: u64,
    bytes_since_entry: u64,
    interval_bytes: u64,
    newest: Option<Newest>,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
}

impl SegmentIndex {
    /// The index of an empty segment with one entry per `interval_bytes`, or fewer so that they stay within
    /// [`limits::INDEX_ENTRIES_MAX`].
    pub fn new(base_offset: i64, interval_bytes: u64) -> Self {
        let least =
            (limits::SEGMENT_BYTES_MAX + limits::APPEND_BYTES_MAX as u64) / limits::INDEX_ENTRIES_MAX as u64 + 1;
        Self {
            base_offset,
            covered_bytes: 0,
            bytes_since_entry: 0,
            interval_bytes: interval_bytes.max(least),
            newest: None,
            offsets: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Notes the batch that stands behind those noted so far.
    pub fn push(&mut self, header: &BatchHeader) {
        let position = u32::try_from(self.covered_bytes).ok();
        let relative_offset = u32::try_from(header.base_offset.saturating_sub(self.base_offset)).ok();
        // What 32 bits can't say is found from the entry before it.
        if self.bytes_since_entry >= self.interval_bytes
            && let (Some(position), Some(relative_offset)) = (position, relative_offset)
        {
            self.offsets.push(OffsetEntry { relative_offset, position });
            self.push_time(relative_offset);
            self.bytes_since_entry = 0;
        }
        let bytes = header.total_bytes() as u64;
        self.covered_bytes += bytes;
        self.bytes_since_entry += bytes;
        if self.newest.is_none_or(|newest| newest.timestamp < header.max_timestamp) {
            self.newest = Some(Newest { timestamp: header.max_timestamp, base_offset: header.base_offset });
        }
    }

    fn push_time(&mut self, relative_offset: u32) {
        let Some(newest) = self.newest else {
            return;
        };
        match self.times.last_mut() {
            // Nothing younger came since: the same is true of more batches.
            Some(last) if last.timestamp >= newest.timestamp => last.relative_offset = relative_offset,
            _ => self.times.push(TimeEntry { timestamp: newest.timestamp, relative_offset }),
        }
    }

    /// The segment's base offset.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// How many of the segment's bytes are indexed.
    pub fn covered_bytes(&self) -> u64 {
        self.covered_bytes
    }

    /// How many bytes lie between two entries, at least.
    pub fn interval_bytes(&self) -> u64 {
        self.interval_bytes
    }

    /// A batch with the largest timestamp.
    pub fn newest(&self) -> Option<Newest> {
        self.newest
    }

    /// The last indexed batch that begins at or before `offset`; the segment's first batch if there is none.
    pub fn place_of(&self, offset: i64) -> Place {
        let relative_offset = offset.saturating_sub(self.base_offset);
        let after = self.offsets.partition_point(|entry| i64::from(entry.relative_offset) <= relative_offset);
        self.offsets[..after].last().map_or(Place { offset: self.base_offset, position: 0 }, |entry| Place {
            offset: self.base_offset.saturating_add(i64::from(entry.relative_offset)),
            position: u64::from(entry.position),
        })
    }

    /// A batch before which no record has a timestamp of `timestamp` or younger.
    pub fn place_before(&self, timestamp: i64) -> Place {
        let after = self.times.partition_point(|entry| entry.timestamp < timestamp);
        let relative_offset = self.times[..after].last().map_or(0, |entry| entry.relative_offset);
        self.place_of(self.base_offset.saturating_add(i64::from(relative_offset)))
    }

    /// The bytes of the offset index: base offset (i64), covered bytes (u64), then of each entry the offset relative to
    /// the base (u32) and the position (u32). Big-endian, in a checkpoint frame.
    pub fn encode_offsets(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(OFFSETS_HEAD_BYTES + self.offsets.len() * OFFSET_ENTRY_BYTES);
        payload.extend_from_slice(&self.base_offset.to_be_bytes());
        payload.extend_from_slice(&self.covered_bytes.to_be_bytes());
        for entry in &self.offsets {
            payload.extend_from_slice(&entry.relative_offset.to_be_bytes());
            payload.extend_from_slice(&entry.position.to_be_bytes());
        }
        checkpoint::encode(OFFSETS_KIND, VERSION, &payload)
    }

    /// The bytes of the time index: base offset (i64), covered bytes (u64), the largest timestamp and the base offset
    /// of its batch (i64 each; -1 and -1 without one), then of each entry the timestamp (i64) and the offset relative
    /// to the base (u32). Big-endian, in a checkpoint frame.
    pub fn encode_times(&self) -> Vec<u8> {
        let newest = self.newest.unwrap_or(Newest { timestamp: -1, base_offset: -1 });
        let mut payload = Vec::with_capacity(TIMES_HEAD_BYTES + self.times.len() * TIME_ENTRY_BYTES);
        payload.extend_from_slice(&self.base_offset.to_be_bytes());
        payload.extend_from_slice(&self.covered_bytes.to_be_bytes());
        payload.extend_from_slice(&newest.timestamp.to_be_bytes());
        payload.extend_from_slice(&newest.base_offset.to_be_bytes());
        for entry in &self.times {
            payload.extend_from_slice(&entry.timestamp.to_be_bytes());
            payload.extend_from_slice(&entry.relative_offset.to_be_bytes());
        }
        checkpoint::encode(TIMES_KIND, VERSION, &payload)
    }

    /// Bytes of both files.
    pub fn encoded_bytes(&self) -> u64 {
        let frames = 2 * checkpoint::FRAME_BYTES + OFFSETS_HEAD_BYTES + TIMES_HEAD_BYTES;
        (frames + self.offsets.len() * OFFSET_ENTRY_BYTES + self.times.len() * TIME_ENTRY_BYTES) as u64
    }

    /// Reads the two files of a segment that is `segment_bytes` long.
    ///
    /// # Errors
    /// [`CheckpointError`], also when they are of another segment, or of this one when it was shorter.
    pub fn decode(
        base_offset: i64,
        segment_bytes: u64,
        interval_bytes: u64,
        offsets: &[u8],
        times: &[u8],
    ) -> Result<Self, CheckpointError> {
        let index = Self::decode_beginning(base_offset, segment_bytes, interval_bytes, offsets, times)?;
        if index.covered_bytes != segment_bytes {
            return Err(CheckpointError::Torn("it is the index of other bytes"));
        }
        Ok(index)
    }

    /// Reads the two files of a segment that is `segment_bytes` long, or was shorter when they were written: what they
    /// cover is told by [`Self::covered_bytes`].
    ///
    /// # Errors
    /// [`CheckpointError`], also when they are of another segment, or of a longer one.
    pub fn decode_beginning(
        base_offset: i64,
        segment_bytes: u64,
        interval_bytes: u64,
        offsets: &[u8],
        times: &[u8],
    ) -> Result<Self, CheckpointError> {
        let mut index = Self::new(base_offset, interval_bytes);
        let mut fields = Fields(checkpoint::decode(OFFSETS_KIND, VERSION, offsets)?.payload);
        index.covered_bytes = index.check_identity(&mut fields)?;
        if index.covered_bytes > segment_bytes {
            return Err(CheckpointError::Torn("it is the index of more bytes than there are"));
        }
        index.offsets = decode_offsets(fields, index.covered_bytes)?;
        let mut fields = Fields(checkpoint::decode(TIMES_KIND, VERSION, times)?.payload);
        if index.check_identity(&mut fields)? != index.covered_bytes {
            return Err(CheckpointError::Torn("it is of another moment than its sister"));
        }
        let timestamp = i64::from_be_bytes(fields.take()?);
        let newest_offset = i64::from_be_bytes(fields.take()?);
        index.newest = (newest_offset >= 0).then_some(Newest { timestamp, base_offset: newest_offset });
        index.times = decode_times(fields)?;
        Ok(index)
    }

    /// How many bytes an index file covers, if it is of this segment.
    fn check_identity(&self, fields: &mut Fields<'_>) -> Result<u64, CheckpointError> {
        let base_offset = i64::from_be_bytes(fields.take()?);
        let covered_bytes = u64::from_be_bytes(fields.take()?);
        if base_offset != self.base_offset {
            return Err(CheckpointError::Torn("it is the index of another segment"));
        }
        Ok(covered_bytes)
    }

    /// Notes bytes in which there is no batch, behind those noted so far.
    pub fn pass_over(&mut self, bytes: u64) {
        self.covered_bytes += bytes;
        self.bytes_since_entry += bytes;
    }

    /// Goes back to the indexed batch at or before `offset`, as if the batches from there on had not been noted yet;
    /// says where it stands. What was the newest batch stays so: whoever notes the batches again sees whether it is.
    pub fn go_back_to(&mut self, offset: i64) -> Place {
        let place = self.place_of(offset);
        let relative_offset = u32::try_from(place.offset.saturating_sub(self.base_offset)).unwrap_or(0);
        self.offsets.retain(|entry| u64::from(entry.position) < place.position);
        self.times.retain(|entry| entry.relative_offset < relative_offset);
        self.covered_bytes = place.position;
        // Where an entry stands there was one due.
        self.bytes_since_entry = if place.position > 0 { self.interval_bytes } else { 0 };
        place
    }
}

fn decode_offsets(mut fields: Fields<'_>, segment_bytes: u64) -> Result<Vec<OffsetEntry>, CheckpointError> {
    let mut entries: Vec<OffsetEntry> = Vec::new();
    while !fields.0.is_empty() {
        let relative_offset = u32::from_be_bytes(fields.take()?);
        let position = u32::from_be_bytes(fields.take()?);
        let increases =
            entries.last().is_none_or(|last| last.relative_offset < relative_offset && last.position < position);
        if !increases || u64::from(position) >= segment_bytes {
            return Err(CheckpointError::Torn("its entries make no sense"));
        }
        entries.push(OffsetEntry { relative_offset, position });
    }
    Ok(entries)
}

fn decode_times(mut fields: Fields<'_>) -> Result<Vec<TimeEntry>, CheckpointError> {
    let mut entries: Vec<TimeEntry> = Vec::new();
    while !fields.0.is_empty() {
        let timestamp = i64::from_be_bytes(fields.take()?);
        let relative_offset = u32::from_be_bytes(fields.take()?);
        let increases =
            entries.last().is_none_or(|last| last.timestamp < timestamp && last.relative_offset < relative_offset);
        if !increases {
            return Err(CheckpointError::Torn("its entries make no sense"));
        }
        entries.push(TimeEntry { timestamp, relative_offset });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
