//! Records that own their bytes.

use crate::header::{self, Headers};
use crate::output::{OUTPUT_ENTRY_BYTES, PARTITION_BY_KEY};
use std::borrow::Cow;

/// A record that goes into a test, or came out of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestRecord {
    /// Milliseconds since the Unix epoch, -1 for none.
    pub timestamp: i64,
    /// Key, or null.
    pub key: Option<Vec<u8>>,
    /// Value, or null.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Of an output: the partition the processor chose, none if by key.
    pub partition: Option<u32>,
}

impl TestRecord {
    /// The same at another time.
    #[must_use]
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    /// The key as text; empty for null.
    pub fn key_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default())
    }

    /// The value as text; empty for null.
    pub fn value_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default())
    }
}

impl From<&str> for TestRecord {
    /// A keyless record at time 0.
    fn from(value: &str) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }
}

impl From<(&str, &str)> for TestRecord {
    /// A record with key and value at time 0.
    fn from((key, value): (&str, &str)) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }
}

/// Index and data of an input batch. The data has bytes between the fields that no entry names, as a host's has.
pub(super) fn pack(records: &[TestRecord]) -> (Vec<u8>, Vec<u8>) {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (delta, record) in (0u32..).zip(records) {
        index.extend(record.timestamp.to_le_bytes());
        index.extend(delta.to_le_bytes());
        for field in [&record.key, &record.value] {
            data.extend(b"\xfe\xfe");
            index.extend((data.len() as u32).to_le_bytes());
            index.extend(field.as_ref().map_or(-1, |bytes| bytes.len() as i32).to_le_bytes());
            data.extend(field.iter().flatten());
        }
        let position = data.len();
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        header::encode(&mut data, &headers);
        index.extend((position as u32).to_le_bytes());
        index.extend(((data.len() - position) as u32).to_le_bytes());
        index.extend([0; 4]);
    }
    (index, data)
}

/// The records of an output batch; none if index and data do not hold together.
pub(super) fn unpack(index: &[u8], mut data: &[u8]) -> Option<Vec<TestRecord>> {
    let (entries, []) = index.as_chunks::<OUTPUT_ENTRY_BYTES>() else { return None };
    let mut records = Vec::new();
    for entry in entries {
        let timestamp = i64::from_le_bytes(*entry.first_chunk()?);
        let word =
            |at: usize| entry.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| i32::from_le_bytes(*bytes));
        let mut take = |length: i32| {
            let (bytes, rest) = data.split_at_checked(usize::try_from(length).ok()?)?;
            data = rest;
            Some(bytes)
        };
        let mut field =
            |length: i32| if length == -1 { Some(None) } else { take(length).map(|bytes| Some(bytes.to_vec())) };
        let (key, value) = (field(word(8)?)?, field(word(12)?)?);
        let raw = take(word(16)?)?;
        let headers: Vec<_> =
            Headers::parse(raw).map(|header| (header.name.to_owned(), header.value.map(<[u8]>::to_vec))).collect();
        let partition = word(20)?.cast_unsigned();
        let partition = (partition != PARTITION_BY_KEY).then_some(partition);
        if timestamp < -1 {
            return None;
        }
        records.push(TestRecord { timestamp, key, value, headers, partition });
    }
    data.is_empty().then_some(records)
}
