//! Output records, gathered and handed over in batches.

use crate::error::EmitError;
use crate::header;
use crate::host::Host;
use crate::limits::OUTPUT_BUFFER_BYTES_MAX;
use crate::packed;
use crate::record::Record;
use std::rc::Rc;

/// Bytes of one index entry of an output batch.
pub(crate) const OUTPUT_ENTRY_BYTES: usize = 24;
/// In the index: the host picks the partition.
pub(crate) const PARTITION_BY_KEY: u32 = u32::MAX;

/// A record to emit. Its bytes are copied once, into the buffer that the host reads.
///
/// ```
/// # use headwater_guest_sdk::OutRecord;
/// let record = OutRecord::at(1_700_000_000_000).key("alice").value("42").headers(&[("unit", Some(b"EUR"))]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OutRecord<'a> {
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: OutHeaders<'a>,
    partition: u32,
}

#[derive(Clone, Copy, Debug)]
enum OutHeaders<'a> {
    Raw(&'a [u8]),
    Pairs(&'a [(&'a str, Option<&'a [u8]>)]),
}

impl<'a> OutRecord<'a> {
    /// A record with a timestamp (ms since the Unix epoch, -1 for none) and nothing else: no key, and a null value,
    /// which is a tombstone where there is a key. Records usually take the timestamp of the input that caused them.
    pub fn at(timestamp: i64) -> Self {
        Self { timestamp, key: None, value: None, headers: OutHeaders::Raw(&[]), partition: PARTITION_BY_KEY }
    }

    /// Sets the key. Records of one key go to one partition (murmur2, as Kafka's clients do).
    #[must_use]
    pub fn key<B: AsRef<[u8]> + ?Sized>(mut self, key: &'a B) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value<B: AsRef<[u8]> + ?Sized>(mut self, value: &'a B) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets the headers.
    #[must_use]
    pub fn headers(mut self, headers: &'a [(&'a str, Option<&'a [u8]>)]) -> Self {
        self.headers = OutHeaders::Pairs(headers);
        self
    }

    /// Names the partition, whatever the key.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = partition;
        self
    }
}

impl<'a> From<&Record<'a>> for OutRecord<'a> {
    /// The same record: timestamp, key, value, headers; the partition by its key.
    fn from(record: &Record<'a>) -> Self {
        let &Record { timestamp, key, value, raw_headers, .. } = record;
        Self { timestamp, key, value, headers: OutHeaders::Raw(raw_headers), partition: PARTITION_BY_KEY }
    }
}

/// The deployment's outputs.
pub struct Outputs {
    host: Rc<dyn Host>,
    buffers: Vec<Buffer>,
}

#[derive(Default)]
struct Buffer {
    index: Vec<u8>,
    data: Vec<u8>,
}

impl Outputs {
    pub(crate) fn new(host: Rc<dyn Host>, count: usize) -> Self {
        Self { host, buffers: (0..count).map(|_| Buffer::default()).collect() }
    }

    /// Emits a record to output number `output`. It is sent once the step has committed, exactly once.
    ///
    /// Records gather in a buffer, so what is wrong with one may be answered to a later call; either fails the batch.
    pub fn emit(&mut self, output: usize, record: OutRecord<'_>) -> Result<(), EmitError> {
        let buffer = self.buffers.get_mut(output).ok_or(EmitError::UnknownOutput)?;
        buffer.push(record);
        if buffer.index.len() + buffer.data.len() < OUTPUT_BUFFER_BYTES_MAX {
            return Ok(());
        }
        flush(&*self.host, output, buffer)
    }

    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    pub(crate) fn flush(&mut self) -> Result<(), EmitError> {
        self.buffers.iter_mut().enumerate().try_for_each(|(output, buffer)| flush(&*self.host, output, buffer))
    }
}

fn flush(host: &dyn Host, output: usize, buffer: &mut Buffer) -> Result<(), EmitError> {
    if buffer.index.is_empty() {
        return Ok(());
    }
    let output = u32::try_from(output).map_err(|_| EmitError::UnknownOutput)?;
    let answer = host.emit(output, &buffer.index, &buffer.data);
    buffer.index.clear();
    buffer.data.clear();
    answer
}

impl Buffer {
    fn push(&mut self, record: OutRecord<'_>) {
        let Self { index, data } = self;
        let OutRecord { timestamp, key, value, headers, partition } = record;
        data.extend_from_slice(key.unwrap_or_default());
        data.extend_from_slice(value.unwrap_or_default());
        let before = data.len();
        match headers {
            OutHeaders::Raw(raw) => data.extend_from_slice(raw),
            OutHeaders::Pairs(pairs) => header::encode(data, pairs),
        }
        let headers_bytes = packed::length(data.len() - before);
        let mut entry = [0; OUTPUT_ENTRY_BYTES];
        entry[..8].copy_from_slice(&timestamp.to_le_bytes());
        entry[8..12].copy_from_slice(&length_or_null(key).to_le_bytes());
        entry[12..16].copy_from_slice(&length_or_null(value).to_le_bytes());
        entry[16..20].copy_from_slice(&headers_bytes.to_le_bytes());
        entry[20..].copy_from_slice(&partition.to_le_bytes());
        index.extend_from_slice(&entry);
    }
}

fn length_or_null(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |bytes| packed::length(bytes.len()))
}
