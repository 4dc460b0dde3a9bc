//! Decoding and encoding, the same for guests and for native code: batches in, batches of one partition each out.

use crate::Result;
use bytes::Bytes;
use headwater_protocol::batch::{BatchBuilder, BatchError, BatchLimits, ProducerStamp, RecordBatch, Records};
use headwater_protocol::compression::Compression;
use headwater_protocol::partitioner::partition_for_key;

/// When the first record was made, in ms since the Unix epoch.
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// Checks a batch and opens it, as a task does with its input.
pub(crate) fn decode(batch: &Bytes) -> Result<Records> {
    Ok(RecordBatch::decode(batch.clone())?.records(&BatchLimits::INTERNAL)?)
}

/// Makes a batch of these keys and values.
pub(crate) fn encode<'a>(records: impl IntoIterator<Item = (Option<&'a [u8]>, &'a [u8])>) -> Result<Bytes> {
    let mut builder = BatchBuilder::new(Compression::None);
    for (timestamp, (key, value)) in (FIRST_TIMESTAMP..).zip(records) {
        builder.append(timestamp, key, Some(value), &[])?;
    }
    Ok(builder.build(ProducerStamp::NONE)?.freeze())
}

/// The batches under construction of an output's partitions.
pub(crate) struct Framing {
    partitions: Vec<BatchBuilder>,
}

impl Framing {
    pub(crate) fn new(partitions: usize) -> Self {
        Self { partitions: (0..partitions).map(|_| BatchBuilder::new(Compression::None)).collect() }
    }

    /// Puts a record where its key belongs.
    #[inline]
    pub(crate) fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
    ) -> std::result::Result<(), BatchError> {
        let number = match self.partitions.len() {
            0 | 1 => 0,
            // There are a handful.
            count => key.map_or(0, |key| partition_for_key(key, count as u32) as usize),
        };
        match self.partitions.get_mut(number) {
            Some(partition) => partition.append_raw_headers(timestamp, key, value, headers),
            None => Ok(()),
        }
    }

    /// Builds what was appended and starts over; partitions that got nothing are left out.
    pub(crate) fn build(&mut self) -> Result<Vec<Bytes>> {
        let filled = self.partitions.iter_mut().filter(|partition| !partition.is_empty());
        filled.map(|partition| Ok(partition.build(ProducerStamp::NONE)?.freeze())).collect()
    }
}
