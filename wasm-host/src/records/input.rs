//! What a guest is given: an index over the records' own bytes.

use bytes::Bytes;
use headwater_protocol::batch::{BatchError, Record, Records};
use std::ops::Range;

/// Bytes of one record in the index.
pub(crate) const INPUT_STRIDE: usize = 40;

/// Why records can't go into one call. Nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A stored batch does not read: it was damaged after it was checked.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Offsets or positions would not fit their 32 bits. Begin another call.
    #[error("records of one call must lie within 2^32 offsets and 2^31 bytes")]
    TooFar,
}

/// The index of one call. Reused from call to call; allocates only to grow.
///
/// 40 bytes a record, little-endian: 0 s64 timestamp | 8 u32 offset delta | 12 u32 key position | 16 s32 key length |
/// 20 u32 value position | 24 s32 value length | 28 u32 headers position | 32 u32 headers length | 36 u32 zero.
#[derive(Default, Debug)]
pub struct InputIndex {
    bytes: Vec<u8>,
}

impl InputIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds those of `records` whose offset is in `offsets`, and says how many they were. `base_offset` is the call's;
    /// `records.payload()` lies at `data_position` of the call's data.
    ///
    /// # Errors
    /// [`InputError`]; the index is as it was.
    pub fn append(
        &mut self,
        base_offset: i64,
        records: &Records,
        data_position: usize,
        offsets: Range<i64>,
    ) -> Result<usize, InputError> {
        let before = self.bytes.len();
        let added = self.append_all(base_offset, records, data_position, offsets);
        if added.is_err() {
            self.bytes.truncate(before);
        }
        added.map(|()| (self.bytes.len() - before) / INPUT_STRIDE)
    }

    fn append_all(
        &mut self,
        base_offset: i64,
        records: &Records,
        data_position: usize,
        offsets: Range<i64>,
    ) -> Result<(), InputError> {
        let end = data_position.saturating_add(records.payload().len());
        // Every position below is at most this, so that adding to one can't overflow.
        i32::try_from(end).map_err(|_| InputError::TooFar)?;
        let data_position = u32::try_from(data_position).map_err(|_| InputError::TooFar)?;
        let start = self.bytes.len();
        // All at once: room for every record that the payload was found to hold.
        self.bytes.resize(start.saturating_add(records.count().saturating_mul(INPUT_STRIDE)), 0);
        let places = self.bytes.get_mut(start..).unwrap_or_default().as_chunks_mut::<INPUT_STRIDE>().0;
        let mut added = 0;
        for record in records {
            let record = record?;
            if record.offset >= offsets.end {
                break;
            }
            if record.offset < offsets.start {
                continue;
            }
            let delta = record.offset.checked_sub(base_offset).and_then(|delta| u32::try_from(delta).ok());
            let (Some(delta), Some(place)) = (delta, places.get_mut(added)) else {
                return Err(InputError::TooFar);
            };
            *place = entry(&record, delta, data_position);
            added += 1;
        }
        self.bytes.truncate(start + added * INPUT_STRIDE);
        Ok(())
    }

    /// Records.
    pub fn len(&self) -> usize {
        self.bytes.len() / INPUT_STRIDE
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The index, as a guest gets it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Part of the index, over the same data: what bisecting needs. Clamped to what is there.
    pub fn slice(&self, records: Range<usize>) -> &[u8] {
        let end = records.end.min(self.len());
        let start = records.start.min(end);
        self.bytes.get(start * INPUT_STRIDE..end * INPUT_STRIDE).unwrap_or_default()
    }

    /// Offset of record `number` of the index, given the call's base offset.
    pub fn offset(&self, base_offset: i64, number: usize) -> Option<i64> {
        let entry = self.bytes.as_chunks::<INPUT_STRIDE>().0.get(number)?;
        let delta = entry.get(8..)?.first_chunk::<4>()?;
        base_offset.checked_add(i64::from(u32::from_le_bytes(*delta)))
    }

    /// The largest timestamp of the index, `None` for no records: stream time after the call is at least this.
    pub fn timestamp_max(&self) -> Option<i64> {
        let entries = self.bytes.as_chunks::<INPUT_STRIDE>().0.iter();
        entries.filter_map(|entry| entry.first_chunk::<8>()).map(|timestamp| i64::from_le_bytes(*timestamp)).max()
    }
}

#[inline]
fn entry(record: &Record<'_>, offset_delta: u32, data_position: u32) -> [u8; INPUT_STRIDE] {
    let span = record.span();
    let mut bytes = [0; INPUT_STRIDE];
    bytes[0..8].copy_from_slice(&record.timestamp.to_le_bytes());
    bytes[8..12].copy_from_slice(&offset_delta.to_le_bytes());
    bytes[12..16].copy_from_slice(&(data_position + span.key_position).to_le_bytes());
    bytes[16..20].copy_from_slice(&span.key_bytes.to_le_bytes());
    bytes[20..24].copy_from_slice(&(data_position + span.value_position).to_le_bytes());
    bytes[24..28].copy_from_slice(&span.value_bytes.to_le_bytes());
    bytes[28..32].copy_from_slice(&(data_position + span.headers_position).to_le_bytes());
    bytes[32..36].copy_from_slice(&span.headers_bytes.to_le_bytes());
    bytes
}

/// Puts the records of several batches into one call: guests want many records a call, and batches may be small.
/// One batch's payload is shared, not copied; from the second one on the payloads are copied, once, into a buffer that
/// is reused.
#[derive(Default, Debug)]
pub struct InputAssembly {
    index: InputIndex,
    base_offset: i64,
    first: Option<Bytes>,
    joined: Vec<u8>,
}

impl InputAssembly {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.index.clear();
        self.first = None;
        self.joined.clear();
    }

    /// Adds those of `records` whose offset is in `offsets`, and says how many they were. The first batch's base offset
    /// becomes the call's; batches come in offset order.
    ///
    /// # Errors
    /// [`InputError`]; the assembly is as it was.
    pub fn push(&mut self, records: &Records, offsets: Range<i64>) -> Result<usize, InputError> {
        let Some(first) = &self.first else {
            let base_offset = records.header().base_offset;
            let added = self.index.append(base_offset, records, 0, offsets)?;
            if added > 0 {
                self.base_offset = base_offset;
                self.first = Some(records.payload().clone());
            }
            return Ok(added);
        };
        let data_position = if self.joined.is_empty() { first.len() } else { self.joined.len() };
        let added = self.index.append(self.base_offset, records, data_position, offsets)?;
        if added > 0 {
            if self.joined.is_empty() {
                self.joined.extend_from_slice(first);
            }
            self.joined.extend_from_slice(records.payload());
        }
        Ok(added)
    }

    /// The index.
    pub fn index(&self) -> &InputIndex {
        &self.index
    }

    /// What the index points into.
    pub fn data(&self) -> &[u8] {
        match &self.first {
            Some(first) if self.joined.is_empty() => first,
            _ => &self.joined,
        }
    }

    /// What the index's offset deltas count from.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Records.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::batch::{BatchBuilder, BatchLimits, ProducerStamp, RecordBatch, stamp};
    use headwater_protocol::compression::Compression;
    use headwater_protocol::ids::LeaderEpoch;

    fn records(compression: Compression, base_offset: i64, values: &[&str]) -> Records {
        let mut builder = BatchBuilder::new(compression);
        for (value, timestamp) in values.iter().zip(1000..) {
            let key = value.as_bytes().first_chunk::<1>().map(|key| key.as_slice());
            builder.append(timestamp, key, Some(value.as_bytes()), &[("h", Some(b"1"))]).unwrap();
        }
        let mut bytes = builder.build(ProducerStamp::NONE).unwrap();
        stamp(&mut bytes, base_offset, LeaderEpoch(1));
        RecordBatch::decode(bytes.freeze()).unwrap().records(&BatchLimits::default()).unwrap()
    }

    fn u32_at(entry: &[u8], at: usize) -> usize {
        u32::from_le_bytes(*entry[at..].first_chunk::<4>().unwrap()) as usize
    }

    /// Offset, timestamp, key, value, headers.
    type Seen = (i64, i64, Option<String>, String, Vec<u8>);

    /// What a guest reads through the index.
    fn read(index: &[u8], data: &[u8], base_offset: i64) -> Vec<Seen> {
        let text = |position: usize, length: usize| String::from_utf8(data[position..][..length].to_vec()).unwrap();
        let entries = index.chunks_exact(INPUT_STRIDE).map(|entry| {
            let timestamp = i64::from_le_bytes(*entry.first_chunk().unwrap());
            let key_bytes = i32::from_le_bytes(*entry[16..].first_chunk::<4>().unwrap());
            let key = usize::try_from(key_bytes).ok().map(|length| text(u32_at(entry, 12), length));
            let value = text(u32_at(entry, 20), u32_at(entry, 24));
            let headers = data[u32_at(entry, 28)..][..u32_at(entry, 32)].to_vec();
            assert_eq!(u32_at(entry, 36), 0);
            (base_offset + i64::try_from(u32_at(entry, 8)).unwrap(), timestamp, key, value, headers)
        });
        entries.collect()
    }

    #[test]
    fn index_names_the_parts_of_each_record_in_the_payload() {
        let records = records(Compression::None, 70, &["", "one", "two"]);
        let mut index = InputIndex::new();
        assert_eq!(index.append(60, &records, 0, 0..i64::MAX).unwrap(), 3);
        let read = read(index.bytes(), records.payload(), 60);
        let header = vec![2, 2, b'h', 2, b'1'];
        assert_eq!(read[0], (70, 1000, None, String::new(), header.clone()));
        assert_eq!(read[1], (71, 1001, Some("o".to_owned()), "one".to_owned(), header.clone()));
        assert_eq!(read[2], (72, 1002, Some("t".to_owned()), "two".to_owned(), header));
        assert_eq!(index.timestamp_max(), Some(1002));
        assert_eq!(index.offset(60, 2), Some(72));
        assert_eq!(index.offset(60, 3), None);
        assert_eq!(index.slice(1..2), &index.bytes()[40..80]);
        assert_eq!(index.slice(2..9), &index.bytes()[80..]);
        assert!(index.slice(5..9).is_empty());
    }

    #[test]
    fn only_asked_offsets_are_taken() {
        let records = records(Compression::None, 70, &["a", "b", "c", "d"]);
        let mut index = InputIndex::new();
        assert_eq!(index.append(70, &records, 0, 71..73).unwrap(), 2);
        let values = read(index.bytes(), records.payload(), 70).into_iter().map(|record| record.3);
        assert_eq!(values.collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn batches_that_are_too_far_apart_need_two_calls() {
        let records = records(Compression::None, 1 << 33, &["a"]);
        let mut index = InputIndex::new();
        assert!(matches!(index.append(0, &records, 0, 0..i64::MAX), Err(InputError::TooFar)));
        assert!(matches!(index.append(1 << 40, &records, 0, 0..i64::MAX), Err(InputError::TooFar)));
        assert!(matches!(index.append(1 << 33, &records, usize::MAX, 0..i64::MAX), Err(InputError::TooFar)));
        assert!(index.is_empty());
    }

    #[test]
    fn one_batch_is_shared_and_several_are_joined() {
        let one = records(Compression::None, 10, &["aa", "bb"]);
        let two = records(Compression::Lz4, 12, &["cc", "dd"]);
        let three = records(Compression::Zstd, 20, &["ee"]);
        let mut assembly = InputAssembly::new();
        for _ in 0..2 {
            assembly.clear();
            assert_eq!(assembly.push(&one, 0..10).unwrap(), 0);
            assert_eq!(assembly.push(&one, 11..i64::MAX).unwrap(), 1);
            assert_eq!(assembly.data().as_ptr(), one.payload().as_ptr(), "not copied");
            assert_eq!(assembly.push(&two, 0..i64::MAX).unwrap(), 2);
            assert_eq!(assembly.push(&three, 0..i64::MAX).unwrap(), 1);
            let read = read(assembly.index().bytes(), assembly.data(), assembly.base_offset());
            let read = read.into_iter().map(|record| (record.0, record.3)).collect::<Vec<_>>();
            let expected = [(11, "bb"), (12, "cc"), (13, "dd"), (20, "ee")];
            assert_eq!(read, expected.map(|(offset, value)| (offset, value.to_owned())));
        }
    }
}
