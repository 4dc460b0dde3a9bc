//! What a guest emitted, checked.

use crate::packed::Malformed;
use headwater_protocol::batch::HeaderIter;

/// Bytes of one record in the index.
const STRIDE: usize = 24;
/// Partition number that stands for "by key".
const BY_KEY: u32 = u32::MAX;

/// Records of one `emit`, in the guest's memory. Lengths, headers and timestamps are checked: index and data hold
/// together to the last byte. What is left to the caller: the partition's range, and limits on size.
///
/// Index, 24 bytes a record, little-endian: 0 s64 timestamp | 8 s32 key length | 12 s32 value length | 16 u32 headers
/// length | 20 u32 partition. Data: key, value, headers of each record in turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmittedRecords<'a> {
    index: &'a [[u8; STRIDE]],
    data: &'a [u8],
}

/// One record that a guest wants written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmittedRecord<'a> {
    /// Ms since the Unix epoch, -1 for none.
    pub timestamp: i64,
    /// Key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// Value, `None` for null.
    pub value: Option<&'a [u8]>,
    /// Headers as in record batch v2 (varint count, then pairs); no bytes for none.
    pub headers: &'a [u8],
    /// Partition, `None` for "by key".
    pub partition: Option<u32>,
}

struct Entry {
    timestamp: i64,
    key_bytes: i32,
    value_bytes: i32,
    headers_bytes: u32,
    partition: u32,
}

impl Entry {
    #[inline]
    fn decode(bytes: &[u8; STRIDE]) -> Self {
        let (timestamp, rest) = split::<8>(bytes);
        let (key_bytes, rest) = split::<4>(rest);
        let (value_bytes, rest) = split::<4>(rest);
        let (headers_bytes, rest) = split::<4>(rest);
        let (partition, _) = split::<4>(rest);
        Self {
            timestamp: i64::from_le_bytes(timestamp),
            key_bytes: i32::from_le_bytes(key_bytes),
            value_bytes: i32::from_le_bytes(value_bytes),
            headers_bytes: u32::from_le_bytes(headers_bytes),
            partition: u32::from_le_bytes(partition),
        }
    }
}

/// The first `N` of `bytes`, which has them by [`STRIDE`].
#[inline]
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes.split_first_chunk::<N>().map_or(([0; N], &[]), |(first, rest)| (*first, rest))
}

/// Takes records off index and data in turn.
struct Reader<'a> {
    index: std::slice::Iter<'a, [u8; STRIDE]>,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, field: &str, bytes: i64) -> Result<Option<&'a [u8]>, String> {
        if bytes == -1 {
            return Ok(None);
        }
        let split = usize::try_from(bytes).ok().and_then(|bytes| self.rest.split_at_checked(bytes));
        let Some((taken, rest)) = split else {
            return Err(format!("{field} length {bytes} with {} bytes of data left", self.rest.len()));
        };
        self.rest = rest;
        Ok(Some(taken))
    }

    #[inline]
    fn next_record(&mut self) -> Option<Result<EmittedRecord<'a>, String>> {
        let entry = Entry::decode(self.index.next()?);
        Some(self.read(&entry))
    }

    #[inline]
    fn read(&mut self, entry: &Entry) -> Result<EmittedRecord<'a>, String> {
        Ok(EmittedRecord {
            timestamp: entry.timestamp,
            key: self.take("key", i64::from(entry.key_bytes))?,
            value: self.take("value", i64::from(entry.value_bytes))?,
            headers: self.take("headers", i64::from(entry.headers_bytes))?.unwrap_or_default(),
            partition: (entry.partition != BY_KEY).then_some(entry.partition),
        })
    }
}

impl<'a> EmittedRecords<'a> {
    /// Checks what a guest emitted, to the last byte, without allocating.
    ///
    /// # Errors
    /// [`Malformed`] with the number of the record and what is wrong with it.
    pub fn decode(index: &'a [u8], data: &'a [u8]) -> Result<Self, Malformed> {
        let (entries, remainder) = index.as_chunks::<STRIDE>();
        if !remainder.is_empty() {
            return Err(Malformed(format!("an index of {} bytes is not a multiple of {STRIDE}", index.len())));
        }
        let records = Self { index: entries, data };
        let mut reader = records.reader();
        let mut number = 0_usize;
        while let Some(record) = reader.next_record() {
            record.and_then(|record| check(&record)).map_err(|fault| Malformed(format!("record {number}: {fault}")))?;
            number += 1;
        }
        if !reader.rest.is_empty() {
            return Err(Malformed(format!("{} bytes of data belong to no record", reader.rest.len())));
        }
        Ok(records)
    }

    fn reader(&self) -> Reader<'a> {
        Reader { index: self.index.iter(), rest: self.data }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of all keys, values and headers.
    pub fn data_bytes(&self) -> usize {
        self.data.len()
    }

    /// One by one, in the order in which they were emitted.
    pub fn iter(&self) -> impl Iterator<Item = EmittedRecord<'a>> + use<'a> {
        let mut reader = self.reader();
        // Was read through once without an error, so it ends where the index ends.
        std::iter::from_fn(move || reader.next_record()?.ok())
    }
}

#[inline]
fn check(record: &EmittedRecord<'_>) -> Result<(), String> {
    if record.timestamp < -1 {
        return Err(format!("timestamp {} is negative", record.timestamp));
    }
    // Nearly every record has none.
    if record.headers.is_empty() || record.headers == [0] {
        return Ok(());
    }
    let fault = HeaderIter::new(record.headers).find_map(Result::err);
    fault.map_or(Ok(()), |fault| Err(format!("headers: {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(timestamp: i64, key: i32, value: i32, headers: u32, partition: u32) -> Vec<u8> {
        let mut bytes = timestamp.to_le_bytes().to_vec();
        bytes.extend(key.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        bytes.extend(headers.to_le_bytes());
        bytes.extend(partition.to_le_bytes());
        bytes
    }

    #[test]
    fn records_come_out_as_emitted() {
        let index = [entry(5, 1, 2, 0, BY_KEY), entry(-1, -1, 0, 7, 3), entry(0, 0, -1, 1, 0)].concat();
        // One header: name "h", value "xyz".
        let headers = [2, 2, b'h', 6, b'x', b'y', b'z'];
        let data = [b"kvv".as_slice(), &headers, &[0]].concat();
        let records = EmittedRecords::decode(&index, &data).unwrap();
        assert_eq!(records.len(), 3);
        assert_eq!(records.data_bytes(), 11);
        let records = records.iter().collect::<Vec<_>>();
        let first = EmittedRecord { timestamp: 5, key: Some(b"k"), value: Some(b"vv"), headers: b"", partition: None };
        assert_eq!(records[0], first);
        let second =
            EmittedRecord { timestamp: -1, key: None, value: Some(b""), headers: &headers, partition: Some(3) };
        assert_eq!(records[1], second);
        let third = EmittedRecord { timestamp: 0, key: Some(b""), value: None, headers: &[0], partition: Some(0) };
        assert_eq!(records[2], third);
        assert!(EmittedRecords::decode(b"", b"").unwrap().is_empty());
    }

    // covers W6 and §4.4 "garbage lengths"
    #[test]
    fn lengths_that_lie_are_refused_by_record() {
        let fault = |index: &[u8], data: &[u8]| EmittedRecords::decode(index, data).unwrap_err().0;
        assert_eq!(fault(&[0; 25], b""), "an index of 25 bytes is not a multiple of 24");
        assert_eq!(fault(&entry(0, -2, -1, 0, 0), b""), "record 0: key length -2 with 0 bytes of data left");
        assert_eq!(
            fault(&entry(0, i32::MIN, -1, 0, 0), b"abc"),
            "record 0: key length -2147483648 with 3 bytes of data left"
        );
        assert_eq!(
            fault(&entry(0, 1, i32::MAX, 0, 0), b"abc"),
            "record 0: value length 2147483647 with 2 bytes of data left"
        );
        let headers = entry(0, -1, -1, u32::MAX, 0);
        assert_eq!(fault(&headers, b"abc"), "record 0: headers length 4294967295 with 3 bytes of data left");
        let second = [entry(0, 1, -1, 0, 0), entry(0, 1, 2, 0, 0)].concat();
        assert_eq!(fault(&second, b"abc"), "record 1: value length 2 with 1 bytes of data left");
        assert_eq!(fault(&entry(0, 1, -1, 0, 0), b"abc"), "2 bytes of data belong to no record");
        assert_eq!(fault(b"", b"a"), "1 bytes of data belong to no record");
        assert_eq!(fault(&entry(-2, -1, -1, 0, 0), b""), "record 0: timestamp -2 is negative");
    }

    #[test]
    fn headers_are_read_to_their_end() {
        let fault = |headers: &[u8]| {
            let length = u32::try_from(headers.len()).unwrap();
            EmittedRecords::decode(&entry(0, -1, -1, length, 0), headers).unwrap_err().0
        };
        // A count without pairs; a negative count; bytes behind the pairs; a name that is not UTF-8.
        for headers in [[2_u8].as_slice(), &[1], &[0, 0], &[2, 2, 0xff, 1]] {
            assert!(fault(headers).starts_with("record 0: headers: "), "{}", fault(headers));
        }
    }
}
