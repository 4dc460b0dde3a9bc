//! The records of one partition that were not sent yet, in batches. Pure; time is an argument.

use super::delivery::Completion;
use super::record::ProducerRecord;
use crate::limits::{BATCH_RECORDS_MAX, HEADER_OVERHEAD_BYTES_MAX, RECORD_OVERHEAD_BYTES_MAX, SPARE_BUILDERS_MAX};
use headwater_protocol::batch::{BatchBuilder, BatchError};
use headwater_protocol::compression::Compression;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Builders that have built their batch and wait for the next; keeps compressors' memory.
pub(crate) struct Builders {
    compression: Compression,
    spare: Vec<BatchBuilder>,
}

impl Builders {
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression, spare: Vec::new() }
    }

    fn take(&mut self) -> BatchBuilder {
        self.spare.pop().unwrap_or_else(|| BatchBuilder::new(self.compression))
    }

    /// Takes a builder back. One that still has records is let go: they must not get into another batch.
    pub(crate) fn give_back(&mut self, builder: BatchBuilder) {
        if builder.is_empty() && self.spare.len() < SPARE_BUILDERS_MAX {
            self.spare.push(builder);
        }
    }
}

/// A batch that takes records, or has been closed and waits to be sent.
pub(crate) struct PendingBatch {
    pub(crate) builder: BatchBuilder,
    pub(crate) completion: Arc<Completion>,
    /// When its first record came.
    pub(crate) created: Instant,
    /// What its records count for in the producer's buffer.
    pub(crate) buffered_bytes: usize,
}

/// Where an appended record went.
pub(crate) struct Appended<'a> {
    pub(crate) completion: &'a Arc<Completion>,
    /// Its place in the batch.
    pub(crate) index: u32,
    /// What it counts for in the producer's buffer.
    pub(crate) bytes: usize,
    /// Whether a batch began or was closed, so that who sends should look again.
    pub(crate) notable: bool,
}

/// When the oldest batch should be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    /// There is none.
    Empty,
    /// Now: it is full, was flushed, or has lingered.
    Ready,
    /// At this moment, unless it is full before.
    At(Instant),
}

/// A partition's batches, oldest first.
#[derive(Default)]
pub(crate) struct Accumulator {
    closed: VecDeque<PendingBatch>,
    open: Option<PendingBatch>,
}

impl Accumulator {
    /// Appends a record to the open batch, or to a new one where it doesn't fit (a record larger than
    /// `batch_bytes_max` gets one for itself). `now` is only asked when a batch begins: a look at the clock costs as
    /// much as appending a small record.
    ///
    /// # Errors
    /// The builder's; nothing has changed then.
    pub(crate) fn append(
        &mut self,
        partition: u32,
        record: &ProducerRecord<'_>,
        timestamp: i64,
        now: impl FnOnce() -> Instant,
        batch_bytes_max: usize,
        builders: &mut Builders,
    ) -> Result<Appended<'_>, BatchError> {
        let bytes = record_bytes_max(record);
        let fits = self.fits(bytes, batch_bytes_max);
        let mut began = None;
        let batch = match &mut self.open {
            Some(open) if fits => open,
            _ => began.insert(PendingBatch {
                builder: builders.take(),
                completion: Completion::new(partition),
                created: now(),
                buffered_bytes: 0,
            }),
        };
        batch.builder.append(timestamp, record.key, record.value, record.headers)?;
        batch.buffered_bytes += bytes;
        let notable = began.is_some();
        if let Some(began) = began {
            self.close();
            self.open = Some(began);
        }
        let full = self.open.as_ref().is_some_and(|open| is_full(open, batch_bytes_max));
        if full {
            self.close();
        }
        let batch = if full { self.closed.back() } else { self.open.as_ref() };
        let batch = batch.ok_or(BatchError::Empty)?;
        let index = batch.builder.record_count().saturating_sub(1);
        Ok(Appended { completion: &batch.completion, index, bytes, notable: notable || full })
    }

    /// Whether a record of at most `bytes` would go into the open batch.
    pub(crate) fn fits(&self, bytes: usize, batch_bytes_max: usize) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.builder.size_bytes().saturating_add(bytes) <= batch_bytes_max
                && open.builder.record_count() < BATCH_RECORDS_MAX
        })
    }

    /// Closes the open batch: it is ready to be sent.
    pub(crate) fn close(&mut self) {
        self.closed.extend(self.open.take());
    }

    pub(crate) fn readiness(&self, now: Instant, linger: Duration) -> Readiness {
        match (self.closed.front(), &self.open) {
            (Some(_), _) => Readiness::Ready,
            (None, Some(open)) => match open.created + linger {
                at if at <= now => Readiness::Ready,
                at => Readiness::At(at),
            },
            (None, None) => Readiness::Empty,
        }
    }

    /// Takes out the oldest batch.
    pub(crate) fn take(&mut self) -> Option<PendingBatch> {
        self.closed.pop_front().or_else(|| self.open.take())
    }

    /// Bytes of the oldest batch as it is now.
    pub(crate) fn first_bytes(&self) -> usize {
        self.closed.front().or(self.open.as_ref()).map_or(0, |batch| batch.builder.size_bytes())
    }

    /// Takes out the oldest batch if its first record came at or before `limit`.
    pub(crate) fn take_expired(&mut self, limit: Instant) -> Option<PendingBatch> {
        let oldest = self.closed.front().or(self.open.as_ref())?;
        if oldest.created <= limit { self.take() } else { None }
    }

    /// Completions of every batch here.
    pub(crate) fn completions(&self) -> impl Iterator<Item = &Arc<Completion>> {
        self.closed.iter().chain(&self.open).map(|batch| &batch.completion)
    }

    /// Whether a batch is complete and waits to be sent.
    pub(crate) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.is_none()
    }
}

/// Whether hardly another record would fit.
fn is_full(batch: &PendingBatch, batch_bytes_max: usize) -> bool {
    batch.builder.size_bytes().saturating_add(RECORD_OVERHEAD_BYTES_MAX) > batch_bytes_max
        || batch.builder.record_count() >= BATCH_RECORDS_MAX
}

/// What a record takes in a batch at most; also what it counts for in the producer's buffer.
pub(crate) fn record_bytes_max(record: &ProducerRecord<'_>) -> usize {
    let part = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = record.headers.iter().fold(0_usize, |sum, (name, value)| {
        sum.saturating_add(name.len()).saturating_add(part(*value)).saturating_add(HEADER_OVERHEAD_BYTES_MAX)
    });
    RECORD_OVERHEAD_BYTES_MAX
        .saturating_add(part(record.key))
        .saturating_add(part(record.value))
        .saturating_add(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::batch::{BATCH_HEADER_BYTES, ProducerStamp, RecordBatch};

    const BATCH_BYTES: usize = 1024;
    const LINGER: Duration = Duration::from_millis(5);

    struct Bench {
        accumulator: Accumulator,
        builders: Builders,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let builders = Builders::new(Compression::None);
            Self { accumulator: Accumulator::default(), builders, start: Instant::now() }
        }

        fn append(&mut self, value: &[u8], at_ms: u64) -> (u32, bool) {
            let record = ProducerRecord::new("t", None, Some(value));
            let now = || self.start + Duration::from_millis(at_ms);
            let appended = self.accumulator.append(3, &record, 1000, now, BATCH_BYTES, &mut self.builders).unwrap();
            (appended.index, appended.notable)
        }

        fn readiness(&self, at_ms: u64) -> Readiness {
            self.accumulator.readiness(self.start + Duration::from_millis(at_ms), LINGER)
        }
    }

    #[test]
    fn a_batch_is_ready_when_it_has_lingered_since_its_first_record() {
        let mut bench = Bench::new();
        assert_eq!(bench.readiness(100), Readiness::Empty);
        assert_eq!(bench.append(b"a", 0), (0, true));
        assert_eq!(bench.append(b"b", 4), (1, false), "nobody is woken for every record");
        assert_eq!(bench.readiness(4), Readiness::At(bench.start + LINGER));
        assert_eq!(bench.readiness(5), Readiness::Ready);
        let mut batch = bench.accumulator.take().unwrap();
        assert_eq!(batch.builder.record_count(), 2);
        assert_eq!(bench.readiness(100), Readiness::Empty);
        let bytes = batch.builder.build(ProducerStamp::NONE).unwrap().freeze();
        assert_eq!(RecordBatch::decode(bytes).unwrap().header().record_count, 2);
        bench.builders.give_back(batch.builder);
        assert_eq!(bench.builders.spare.len(), 1);
    }

    #[test]
    fn full_batches_are_ready_at_once_and_never_over_the_size_but_for_one_large_record() {
        let mut bench = Bench::new();
        for n in 0..40 {
            bench.append(&[n; 100], 0);
        }
        assert_eq!(bench.readiness(0), Readiness::Ready);
        bench.append(&[0; 5000], 0);
        bench.append(b"after", 0);
        let (mut sizes, mut counts) = (Vec::new(), Vec::new());
        while let Some(batch) = bench.accumulator.take() {
            sizes.push(batch.builder.size_bytes());
            counts.push(batch.builder.record_count());
        }
        assert_eq!(counts.iter().sum::<u32>(), 42);
        assert_eq!(sizes.iter().filter(|size| **size > BATCH_BYTES).count(), 1, "{sizes:?}");
        let large = sizes.iter().position(|size| *size > BATCH_BYTES).unwrap();
        assert_eq!((counts[large], counts[large + 1]), (1, 1), "{counts:?}");
    }

    #[test]
    fn what_a_record_counts_for_is_never_less_than_what_it_takes() {
        let headers: [(&str, Option<&[u8]>); 3] = [("name", Some(b"value")), ("", None), ("x", Some(&[0; 300]))];
        for (key, value, headers) in [
            (None, None, &headers[..0]),
            (Some(&[1; 70][..]), Some(&[2; 20_000][..]), &headers[..]),
            (Some(&[][..]), Some(&[][..]), &headers[..1]),
        ] {
            let record = ProducerRecord { headers, ..ProducerRecord::new("t", key, value) };
            let mut builder = BatchBuilder::new(Compression::None);
            builder.append(i64::MAX, record.key, record.value, record.headers).unwrap();
            assert!(builder.size_bytes() <= BATCH_HEADER_BYTES + record_bytes_max(&record));
        }
    }

    #[test]
    fn a_record_that_can_not_be_written_changes_nothing() {
        let mut bench = Bench::new();
        bench.append(b"a", 0);
        let headers = vec![("h", None); 2000];
        let record = ProducerRecord { headers: &headers, ..ProducerRecord::new("t", None, None) };
        let (accumulator, builders) = (&mut bench.accumulator, &mut bench.builders);
        assert!(accumulator.append(3, &record, 0, Instant::now, BATCH_BYTES, builders).is_err());
        assert_eq!(bench.accumulator.completions().count(), 1);
        assert_eq!(bench.append(b"b", 0).0, 1);
    }

    #[test]
    fn records_expire_batch_by_batch_from_the_oldest() {
        let mut bench = Bench::new();
        bench.append(b"a", 0);
        bench.accumulator.close();
        bench.append(b"b", 10);
        let limit = bench.start + Duration::from_millis(9);
        assert!(bench.accumulator.take_expired(limit).is_some());
        assert!(bench.accumulator.take_expired(limit).is_none());
        assert!(!bench.accumulator.is_empty());
    }
}
