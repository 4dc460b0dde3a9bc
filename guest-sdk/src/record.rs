//! Input records, read where they lie.

use crate::data::Data;
use crate::error::{ContractError, Failure};
use crate::header::Headers;
use std::borrow::Cow;
use std::fmt::Display;

/// Bytes of one index entry of an input batch.
pub(crate) const INPUT_ENTRY_BYTES: usize = 40;

/// A batch of records of one partition. Iterating lends views into the bytes that the host handed over; nothing is
/// copied, nothing is parsed before it is asked for.
///
/// How records are cut into batches is the host's affair: results must not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    input: usize,
    partition: u32,
    base_offset: i64,
    stream_time: i64,
    entries: &'a [[u8; INPUT_ENTRY_BYTES]],
    data: &'a [u8],
}

/// A record of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its place in the batch, from 0; what [`Failure::index`] refers to.
    pub index: u32,
    /// Offset in the input partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, -1 if it has none.
    pub timestamp: i64,
    /// Stream time with this record: the largest timestamp the task has seen, -1 if none. Never goes back (STR-7).
    pub stream_time: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none in a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers as they are in a record batch.
    pub(crate) raw_headers: &'a [u8],
}

/// The fields of a batch beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchMeta {
    pub(crate) input: u32,
    pub(crate) partition: u32,
    pub(crate) base_offset: i64,
    pub(crate) stream_time: i64,
}

impl<'a> Batch<'a> {
    /// Checks that every position of the index lies in `data`, once, so that reading records can't fail.
    pub(crate) fn parse(meta: BatchMeta, index: &'a [u8], data: &'a [u8]) -> Result<Self, ContractError> {
        let (entries, []) = index.as_chunks() else {
            return Err(ContractError("an input index that is no multiple of 40 bytes"));
        };
        let inside = |position, length| length == -1 || slice(data, position, length).is_some();
        for entry in entries {
            let (key, value) =
                (inside(u32_at::<12>(entry), i32_at::<16>(entry)), inside(u32_at::<20>(entry), i32_at::<24>(entry)));
            if !key || !value || slice(data, u32_at::<28>(entry), i32_at::<32>(entry)).is_none() {
                return Err(ContractError("an input index that points outside of its data"));
            }
        }
        let BatchMeta { input, partition, base_offset, stream_time } = meta;
        let input = usize::try_from(input).map_err(|_| ContractError("an input that can't be"))?;
        Ok(Self { input, partition, base_offset, stream_time, entries, data })
    }

    /// Which of [`Deployment::inputs`](crate::Deployment::inputs) the records come from.
    pub fn input(&self) -> usize {
        self.input
    }

    /// The partition of that input.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Stream time before this batch.
    pub fn stream_time(&self) -> i64 {
        self.stream_time
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The records in offset order.
    pub fn iter(&self) -> Records<'a> {
        Records { batch: *self, next: 0, stream_time: self.stream_time }
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.iter()
    }
}

/// Iterates over a [`Batch`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    batch: Batch<'a>,
    next: usize,
    stream_time: i64,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let Batch { entries, data, base_offset, .. } = self.batch;
        let entry = entries.get(self.next)?;
        let timestamp = i64_at::<0>(entry);
        self.stream_time = self.stream_time.max(timestamp);
        let record = Record {
            index: u32::try_from(self.next).unwrap_or(u32::MAX),
            offset: base_offset.wrapping_add(i64::from(u32_at::<8>(entry))),
            timestamp,
            stream_time: self.stream_time,
            key: slice(data, u32_at::<12>(entry), i32_at::<16>(entry)),
            value: slice(data, u32_at::<20>(entry), i32_at::<24>(entry)),
            raw_headers: slice(data, u32_at::<28>(entry), i32_at::<32>(entry)).unwrap_or_default(),
        };
        self.next += 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}

impl<'a> Record<'a> {
    /// The headers, parsed as they are iterated.
    pub fn headers(&self) -> Headers<'a> {
        Headers::parse(self.raw_headers)
    }

    /// The value of the last header of this name; `Some(None)` if that is null.
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.headers().filter(|header| header.name == name).last().map(|header| header.value)
    }

    /// The value as text, bytes that are no UTF-8 replaced by U+FFFD; empty for a tombstone.
    pub fn value_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.value.unwrap_or_default())
    }

    /// The key as text, likewise; empty without a key.
    pub fn key_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key.unwrap_or_default())
    }

    /// The key as a type; what can't be read is a failure that names this record.
    ///
    /// # Errors
    /// A key that is none of `K`, or null where `K` is no [`Option`].
    pub fn key_as<K: Data>(&self) -> Result<K, Failure> {
        K::decode(self.key).map_err(|why| self.failure(format_args!("the key can't be read: {why}")))
    }

    /// The value as a type, likewise; `Option<V>` where there may be tombstones.
    ///
    /// # Errors
    /// A value that is none of `V`, or null where `V` is no [`Option`].
    pub fn value_as<V: Data>(&self) -> Result<V, Failure> {
        V::decode(self.value).map_err(|why| self.failure(format_args!("the value can't be read: {why}")))
    }

    /// A failure that names this record: the host need not look for it.
    pub fn failure(&self, message: impl Display) -> Failure {
        Failure::at(self.index, message)
    }
}

/// The bytes at a position; none for length -1 and for what is not there. Sums can't overflow, also in 32 bits.
fn slice(data: &[u8], position: u32, length: i32) -> Option<&[u8]> {
    let length = usize::try_from(length).ok()?;
    data.get(usize::try_from(position).ok()?..)?.get(..length)
}

fn bytes_at<const AT: usize, const N: usize>(entry: &[u8; INPUT_ENTRY_BYTES]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&entry[AT..AT + N]);
    bytes
}

fn i64_at<const AT: usize>(entry: &[u8; INPUT_ENTRY_BYTES]) -> i64 {
    i64::from_le_bytes(bytes_at::<AT, 8>(entry))
}

fn u32_at<const AT: usize>(entry: &[u8; INPUT_ENTRY_BYTES]) -> u32 {
    u32::from_le_bytes(bytes_at::<AT, 4>(entry))
}

fn i32_at<const AT: usize>(entry: &[u8; INPUT_ENTRY_BYTES]) -> i32 {
    i32::from_le_bytes(bytes_at::<AT, 4>(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: BatchMeta = BatchMeta { input: 1, partition: 4, base_offset: 100, stream_time: 50 };

    fn entry(timestamp: i64, delta: u32, key: (u32, i32), value: (u32, i32), headers: (u32, u32)) -> Vec<u8> {
        let mut entry = timestamp.to_le_bytes().to_vec();
        entry.extend(delta.to_le_bytes());
        for (position, length) in [key, value] {
            entry.extend(position.to_le_bytes());
            entry.extend(length.to_le_bytes());
        }
        entry.extend(headers.0.to_le_bytes());
        entry.extend(headers.1.to_le_bytes());
        entry.extend([0xaa; 4]); // reserved: ignored
        entry
    }

    #[test]
    fn views_follow_the_index() {
        let data = b"xxkeyvalue\x02\x02h\x02v";
        let mut index = entry(40, 0, (2, 3), (5, 5), (10, 5));
        index.extend(entry(70, 3, (0, -1), (0, -1), (0, 0)));
        index.extend(entry(60, 4, (15, 0), (0, 0), (0, 0)));
        let batch = Batch::parse(META, &index, data).unwrap();
        let records: Vec<_> = batch.iter().collect();
        assert_eq!((batch.input(), batch.partition(), batch.len(), batch.stream_time()), (1, 4, 3, 50));
        assert_eq!((records[0].key, records[0].value), (Some(&b"key"[..]), Some(&b"value"[..])));
        assert_eq!(records[0].header("h"), Some(Some(&b"v"[..])));
        assert_eq!(records[0].header("other"), None);
        assert_eq!((records[1].key, records[1].value, records[1].offset), (None, None, 103));
        assert_eq!((records[2].key, records[2].value, records[2].index), (Some(&b""[..]), Some(&b""[..]), 2));
    }

    // covers STR-7: stream time is the largest timestamp so far and never goes back.
    #[test]
    fn stream_time_runs_with_the_records() {
        let index: Vec<u8> = [40, 70, 60, 71].iter().flat_map(|ts| entry(*ts, 0, (0, -1), (0, -1), (0, 0))).collect();
        let batch = Batch::parse(META, &index, b"").unwrap();
        assert_eq!(batch.iter().map(|record| record.stream_time).collect::<Vec<_>>(), [50, 70, 70, 71]);
    }

    #[test]
    fn an_index_that_does_not_hold_together_is_refused() {
        let refused = |index: &[u8]| Batch::parse(META, index, b"0123456789").unwrap_err();
        refused(&[0; 39]);
        refused(&entry(0, 0, (8, 3), (0, 0), (0, 0)));
        refused(&entry(0, 0, (0, 0), (11, 0), (0, 0)));
        refused(&entry(0, 0, (0, 0), (0, -2), (0, 0)));
        refused(&entry(0, 0, (0, 0), (u32::MAX, i32::MAX), (0, 0)));
        refused(&entry(0, 0, (0, 0), (0, 0), (1, 10)));
        refused(&entry(0, 0, (0, 0), (0, 0), (0, u32::MAX)));
        Batch::parse(META, &entry(0, 0, (10, 0), (0, 10), (1, 9)), b"0123456789").unwrap();
    }
}
