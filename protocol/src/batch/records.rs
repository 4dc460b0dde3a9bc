//! A batch's records, read in place.
//!
//! ```text
//! record   length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint │
//!          key length varint, -1 = null │ key │ value length varint, -1 = null │ value │ headers
//! headers  count varint │ (key length varint │ key │ value length varint, -1 = null │ value) …
//! ```

use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, RECORD_BYTES_MIN};
use crate::limits;
use crate::varint;
use bytes::Bytes;
use std::ops::Range;

/// The records of a batch. Owns the uncompressed payload, or shares the batch's bytes where it was not compressed.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    payload: Bytes,
}

impl Records {
    pub(super) fn new(header: BatchHeader, payload: Bytes) -> Result<Self, BatchError> {
        check_count(&header, payload.len())?;
        Ok(Self { header, payload })
    }

    /// Reads the records one by one, without allocating. Ends after the first error.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::new(&self.header, &self.payload)
    }

    /// The records' bytes, uncompressed: what [`Record`]'s ranges and spans point into.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// How many records the header declares; the payload has room for that many.
    pub fn count(&self) -> usize {
        usize::try_from(self.header.record_count).unwrap_or(0)
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Whether `payload_bytes` of records, uncompressed, can hold as many as the header declares, and can be addressed.
pub(super) fn check_count(header: &BatchHeader, payload_bytes: usize) -> Result<(), BatchError> {
    let count = usize::try_from(header.record_count).unwrap_or(usize::MAX);
    if count.saturating_mul(RECORD_BYTES_MIN) > payload_bytes {
        return Err(BatchError::BadCount {
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
            bytes: payload_bytes,
        });
    }
    // Spans are 32 bits wide with a sign; every limit on the way here is lower than that.
    if i32::try_from(payload_bytes).is_err() {
        return Err(BatchError::TooLarge { bytes: payload_bytes, max: i32::MAX as usize });
    }
    Ok(())
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Offset, less the batch's base offset; never negative.
    pub offset_delta: i32,
    /// Ms since the Unix epoch: the producer's, or the broker's where the batch says so.
    pub timestamp: i64,
    /// The key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// The value, `None` for null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// The headers as they are: varint count, then pairs. [`Self::headers`] reads them.
    pub headers: &'a [u8],
    attributes: i8,
    span: RecordSpan,
    /// From the key's length to the record's end.
    encoded_from_key: &'a [u8],
}

/// Where a record's parts lie in [`Records::payload`]: what a host hands to a guest beside the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordSpan {
    /// Position of the key, also where it is null.
    pub key_position: u32,
    /// Bytes of the key, -1 for null.
    pub key_bytes: i32,
    /// Position of the value, also where it is null.
    pub value_position: u32,
    /// Bytes of the value, -1 for null.
    pub value_bytes: i32,
    /// Position of the headers (their varint count).
    pub headers_position: u32,
    /// Bytes of the headers, at least 1.
    pub headers_bytes: u32,
}

fn nullable_range(position: u32, bytes: i32) -> Option<Range<usize>> {
    let bytes = usize::try_from(bytes).ok()?;
    let start = position as usize;
    Some(start..start + bytes)
}

impl<'a> Record<'a> {
    /// The headers, read one by one.
    pub fn headers(&self) -> HeaderIter<'a> {
        HeaderIter::new(self.headers)
    }

    /// Where the parts lie in [`Records::payload`].
    pub fn span(&self) -> RecordSpan {
        self.span
    }

    /// Where the key lies in [`Records::payload`], `None` for null.
    pub fn key_range(&self) -> Option<Range<usize>> {
        nullable_range(self.span.key_position, self.span.key_bytes)
    }

    /// Where the value lies in [`Records::payload`], `None` for null.
    pub fn value_range(&self) -> Option<Range<usize>> {
        nullable_range(self.span.value_position, self.span.value_bytes)
    }

    /// Where the headers (varint count and pairs) lie in [`Records::payload`].
    pub fn headers_range(&self) -> Range<usize> {
        let start = self.span.headers_position as usize;
        start..start + self.span.headers_bytes as usize
    }

    /// Key, value and headers as they are encoded.
    pub(super) fn encoded_from_key(&self) -> &'a [u8] {
        self.encoded_from_key
    }

    /// Record attributes; no bit has a meaning yet.
    pub(super) fn attributes(&self) -> i8 {
        self.attributes
    }
}

/// Reads a batch's records in order. After an error it yields nothing more.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    payload: &'a [u8],
    at: usize,
    index: u32,
    count: u32,
    base_offset: i64,
    base_timestamp: i64,
    append_timestamp: Option<i64>,
    last_offset_delta: i32,
    offset_delta_min: i32,
}

impl<'a> RecordIter<'a> {
    /// `payload` has passed [`check_count`].
    pub(super) fn new(header: &BatchHeader, payload: &'a [u8]) -> Self {
        Self {
            payload,
            at: 0,
            index: 0,
            count: u32::try_from(header.record_count).unwrap_or(0),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_timestamp: header.is_log_append_time().then_some(header.max_timestamp),
            last_offset_delta: header.last_offset_delta,
            offset_delta_min: 0,
        }
    }

    /// Bytes of the payload that were read: where the record that came last ends.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    fn read_record(&mut self) -> Result<Record<'a>, RecordFault> {
        let rest = self.payload.get(self.at..).unwrap_or_default();
        let (length, prefix) = varint::read_i32(rest)?;
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(prefix));
        let Some(record) = end.and_then(|end| rest.get(..end)) else {
            return Err(RecordFault::BadLength(length));
        };
        let mut fields = Fields { bytes: record, at: prefix };
        let attributes = fields.byte()?.cast_signed();
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let start = self.at as u32;
        let encoded_from_key = fields.rest();
        let (key, key_position, key_bytes) = fields.nullable()?;
        let (value, value_position, value_bytes) = fields.nullable()?;
        let headers = fields.rest();
        if headers.is_empty() {
            return Err(varint::VarintError::Truncated.into());
        }
        let span = RecordSpan {
            key_position: start + key_position,
            key_bytes,
            value_position: start + value_position,
            value_bytes,
            headers_position: start + fields.at as u32,
            headers_bytes: headers.len() as u32,
        };
        if offset_delta < self.offset_delta_min || offset_delta > self.last_offset_delta {
            return Err(RecordFault::BadOffsetDelta(offset_delta));
        }
        let timestamp = match self.append_timestamp {
            Some(timestamp) => timestamp,
            None => self.base_timestamp.checked_add(timestamp_delta).ok_or(RecordFault::TimestampOverflow)?,
        };
        self.at += record.len();
        self.offset_delta_min = offset_delta.saturating_add(1);
        let offset = self.base_offset + i64::from(offset_delta);
        Ok(Record { offset, offset_delta, timestamp, key, value, headers, attributes, span, encoded_from_key })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            let bytes = self.payload.len() - self.at;
            self.at = self.payload.len();
            return (bytes > 0).then_some(Err(BatchError::TrailingBytes { bytes }));
        }
        let record = self.read_record().map_err(|fault| BatchError::record(self.index, fault));
        match record {
            Ok(_) => self.index += 1,
            Err(_) => {
                self.index = self.count;
                self.at = self.payload.len();
            }
        }
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more for the error that follows the last record.
        (0, Some((self.count - self.index) as usize + 1))
    }
}

/// Takes fields off the bytes of one record.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, RecordFault> {
        let byte = self.bytes.get(self.at).copied().ok_or(varint::VarintError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, RecordFault> {
        let (value, bytes) = varint::read_i32(self.rest())?;
        self.at += bytes;
        Ok(value)
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, RecordFault> {
        let (value, bytes) = varint::read_i64(self.rest())?;
        self.at += bytes;
        Ok(value)
    }

    /// A length and that many bytes, `None` for length -1; with position in the record and length.
    #[inline]
    fn nullable(&mut self) -> Result<(Option<&'a [u8]>, u32, i32), RecordFault> {
        let length = self.varint()?;
        let position = self.at as u32;
        if length == -1 {
            return Ok((None, position, length));
        }
        let wanted = usize::try_from(length).ok();
        let Some(bytes) = wanted.and_then(|wanted| self.rest().get(..wanted)) else {
            return Err(RecordFault::BadLength(length));
        };
        self.at += bytes.len();
        Ok((Some(bytes), position, length))
    }
}

/// A record's header: key, and value or `None` for null.
pub type RecordHeader<'a> = (&'a str, Option<&'a [u8]>);

/// Reads a record's headers in order: key and value. After an error it yields nothing more.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    bytes: &'a [u8],
    at: usize,
    /// `None` before the count was read.
    left: Option<u32>,
}

impl<'a> HeaderIter<'a> {
    /// Over a headers section: varint count, then pairs. No bytes at all are no headers.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, left: if bytes.is_empty() { Some(0) } else { None } }
    }

    fn end(&mut self) {
        self.left = Some(0);
        self.at = self.bytes.len();
    }

    fn read(&mut self) -> Result<Option<RecordHeader<'a>>, RecordFault> {
        let mut fields = Fields { bytes: self.bytes, at: self.at };
        let left = match self.left {
            Some(left) => left,
            None => {
                let count = fields.varint()?;
                u32::try_from(count)
                    .ok()
                    .filter(|count| *count <= limits::HEADERS_PER_RECORD_MAX)
                    .ok_or(RecordFault::BadHeaderCount(count))?
            }
        };
        let Some(left) = left.checked_sub(1) else {
            let trailing = fields.rest().len();
            self.end();
            return if trailing > 0 { Err(RecordFault::TrailingBytes(trailing)) } else { Ok(None) };
        };
        let (key, ..) = fields.nullable()?;
        let key =
            std::str::from_utf8(key.ok_or(RecordFault::BadLength(-1))?).map_err(|_| RecordFault::HeaderKeyNotUtf8)?;
        let (value, ..) = fields.nullable()?;
        self.left = Some(left);
        self.at = fields.at;
        Ok(Some((key, value)))
    }
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Result<RecordHeader<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.read();
        if header.is_err() {
            self.end();
        }
        header.transpose()
    }
}

/// Reads a headers section to its end.
pub(super) fn check_headers(bytes: &[u8]) -> Result<(), RecordFault> {
    // Nearly every record has none.
    if bytes == [0] {
        return Ok(());
    }
    if bytes.is_empty() {
        return Err(varint::VarintError::Truncated.into());
    }
    HeaderIter::new(bytes).try_for_each(|header| header.map(drop))
}
