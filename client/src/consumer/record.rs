//! What is read: batches as they are, or record by record.

use crate::error::ClientError;
use bytes::Bytes;
use headwater_protocol::batch::{BatchError, BatchLimits, HeaderIter, Record, RecordBatch, Records};
use std::sync::Arc;

/// A record that was read. Key, value and headers share the buffer of their whole response: copy what is kept for long.
#[derive(Clone, Debug)]
pub struct ConsumerRecord {
    /// Name of its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: u32,
    /// Its offset. Offsets rise, and may leave gaps (RDC-4).
    pub offset: i64,
    /// Ms since the Unix epoch.
    pub timestamp: i64,
    /// The key, `None` for null.
    pub key: Option<Bytes>,
    /// The value, `None` for null: a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

/// The headers of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

impl Headers {
    /// Names and values, in order. Ends at the first one that is damaged.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        HeaderIter::new(&self.0).map_while(Result::ok)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// Records of one batch that were not read yet.
#[derive(Clone, Debug)]
pub struct ConsumedBatch {
    topic: Arc<str>,
    partition: u32,
    records: Records,
    /// Records below were not asked for, or were handed out before.
    from_offset: i64,
    next_offset: i64,
    high_watermark: i64,
}

impl ConsumedBatch {
    /// Decompresses a batch, within the limits for what clients read.
    pub(crate) fn open(
        topic: Arc<str>,
        partition: u32,
        batch: &RecordBatch,
        from_offset: i64,
        high_watermark: i64,
    ) -> Result<Self, ClientError> {
        let records = batch
            .records(&BatchLimits::INTERNAL)
            .map_err(|error| damaged(&topic, partition, batch.header().base_offset, &error))?;
        let next_offset = batch.header().next_offset();
        Ok(Self { topic, partition, records, from_offset, next_offset, high_watermark })
    }

    /// Name of the topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The offset from which on records are handed out.
    pub(crate) fn first_offset(&self) -> i64 {
        self.from_offset.max(self.records.header().base_offset)
    }

    /// The offset that follows the batch: the consumer's position after it.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The partition's high watermark when the batch was fetched: what is below it can be read.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// How many records there are at most.
    pub fn record_count(&self) -> usize {
        self.records.count()
    }

    /// The records in order, borrowed from the batch; ends after an error.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, ClientError>> {
        self.records
            .iter()
            .filter(|record| record.as_ref().map_or(true, |record| record.offset >= self.from_offset))
            .map(|record| record.map_err(|error| self.damaged(&error)))
    }

    /// The records with a life of their own.
    pub(crate) fn owned_records(&self) -> impl Iterator<Item = Result<ConsumerRecord, ClientError>> {
        let payload = self.records.payload();
        self.records().map(move |record| {
            let record = record?;
            Ok(ConsumerRecord {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key_range().map(|range| payload.slice(range)),
                value: record.value_range().map(|range| payload.slice(range)),
                headers: Headers(payload.slice(record.headers_range())),
            })
        })
    }

    /// The rest of the batch from an offset on.
    pub(crate) fn from(mut self, offset: i64) -> Self {
        self.from_offset = offset;
        self
    }

    fn damaged(&self, error: &BatchError) -> ClientError {
        damaged(&self.topic, self.partition, self.records.header().base_offset, error)
    }
}

/// What to say about a batch that can't be read.
pub(crate) fn damaged(topic: &str, partition: u32, offset: i64, error: &BatchError) -> ClientError {
    ClientError::Batch {
        place: format!("the batch of {topic}-{partition} at offset {offset} can't be read"),
        reason: format!("{error}; seek beyond it to go on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::batch::{BatchBuilder, ProducerStamp, stamp};
    use headwater_protocol::compression::Compression;
    use headwater_protocol::ids::LeaderEpoch;

    fn batch(compression: Compression, base_offset: i64) -> RecordBatch {
        let mut builder = BatchBuilder::new(compression);
        for n in 0..5_u8 {
            let value = vec![n; 200];
            builder.append(i64::from(n), Some(&[n]), Some(&value), &[("h", Some(b"x")), ("i", None)]).unwrap();
        }
        builder.append(5, None, None, &[]).unwrap();
        let mut bytes = builder.build(ProducerStamp::NONE).unwrap();
        stamp(&mut bytes, base_offset, LeaderEpoch(0));
        RecordBatch::decode(bytes.freeze()).unwrap()
    }

    #[test]
    fn records_below_the_position_are_skipped_and_the_rest_shares_the_buffer() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let source = batch(compression, 100);
            let batch = ConsumedBatch::open("t".into(), 3, &source, 102, 200).unwrap();
            let offsets: Vec<i64> = batch.records().map(|record| record.unwrap().offset).collect();
            assert_eq!(offsets, [102, 103, 104, 105]);
            assert_eq!((batch.next_offset(), batch.high_watermark(), batch.partition()), (106, 200, 3));
            let owned: Vec<_> = batch.owned_records().map(Result::unwrap).collect();
            let first = &owned[0];
            assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&[2][..]), Some(&[2; 200][..])));
            assert_eq!(first.headers.iter().collect::<Vec<_>>(), [("h", Some(&b"x"[..])), ("i", None)]);
            let payload = batch.records.payload().as_ptr_range();
            assert!(payload.contains(&first.value.as_ref().unwrap().as_ptr()), "no copy");
            let last = &owned[3];
            assert!(last.key.is_none() && last.value.is_none() && last.headers.is_empty());
            assert_eq!(batch.from(105).records().count(), 1);
        }
    }
}
