//! What is built is what is read.

use crate::batch::{
    BatchBuilder, BatchLimits, Compression, ProduceRules, ProducerStamp, RecordBatch, check_produced_batch,
};
use crate::batch::{BatchError, RecordFault, stamp};
use crate::ids::LeaderEpoch;
use crate::tests::measure;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const ANY_TIME: ProduceRules = ProduceRules {
    timestamp_min: i64::MIN,
    timestamp_max: i64::MAX,
    keys_required: false,
    task_producers_allowed: true,
};

#[derive(Clone, Debug)]
struct Sample {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sample {
    fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect()
    }
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let bytes = || option::of(vec(any::<u8>(), 0..200));
    let header = ("\\PC{0,8}", bytes());
    let half_range = -(1_i64 << 62)..(1 << 62);
    let sample = (half_range, bytes(), bytes(), vec(header, 0..4))
        .prop_map(|(timestamp, key, value, headers)| Sample { timestamp, key, value, headers });
    vec(sample, 1..60)
}

fn compressions() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
}

fn stamps() -> impl Strategy<Value = ProducerStamp> {
    let named = (0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX).prop_map(|(producer_id, producer_epoch, base_sequence)| {
        ProducerStamp { producer_id, producer_epoch, base_sequence }
    });
    prop_oneof![Just(ProducerStamp::NONE), named]
}

proptest! {
    #[test]
    fn records_survive_the_way_through_a_batch(
        samples in samples(), compression in compressions(), producer in stamps(), base_offset in 0..1_i64 << 62,
    ) {
        let mut builder = BatchBuilder::new(compression);
        for sample in &samples {
            let (key, value) = (sample.key.as_deref(), sample.value.as_deref());
            builder.append(sample.timestamp, key, value, &sample.headers()).unwrap();
        }
        let size_bytes = builder.size_bytes();
        let mut batch = builder.build(producer).unwrap();
        prop_assert!(batch.len() <= size_bytes);
        prop_assert!(builder.is_empty());
        stamp(&mut batch, base_offset, LeaderEpoch(9));
        check_produced_batch(&batch, &BatchLimits::CLIENT, &ANY_TIME).unwrap();

        let batch = RecordBatch::decode(batch.freeze()).unwrap();
        let header = *batch.header();
        prop_assert_eq!(header.total_bytes(), batch.bytes().len());
        prop_assert_eq!((header.base_offset, header.partition_leader_epoch), (base_offset, 9));
        prop_assert_eq!(header.next_offset(), base_offset + samples.len() as i64);
        prop_assert_eq!(header.producer_id, producer.producer_id);
        prop_assert_eq!(header.producer_epoch, producer.producer_epoch);
        prop_assert_eq!(header.base_sequence, producer.base_sequence);
        prop_assert_eq!(Some(header.max_timestamp), samples.iter().map(|sample| sample.timestamp).max());

        let records = batch.records(&BatchLimits::CLIENT).unwrap();
        let payload = records.payload();
        prop_assert_eq!(records.iter().count(), samples.len());
        for ((record, sample), offset) in records.iter().zip(&samples).zip(base_offset..) {
            let record = record.unwrap();
            prop_assert_eq!((record.offset, record.timestamp), (offset, sample.timestamp));
            prop_assert_eq!(record.key, sample.key.as_deref());
            prop_assert_eq!(record.value, sample.value.as_deref());
            prop_assert_eq!(record.key_range().map(|range| &payload[range]), record.key);
            prop_assert_eq!(record.value_range().map(|range| &payload[range]), record.value);
            prop_assert_eq!(&payload[record.headers_range()], record.headers);
            let headers: Result<Vec<_>, _> = record.headers().collect();
            prop_assert_eq!(headers.unwrap(), sample.headers());
        }
    }

    #[test]
    fn raw_headers_and_given_headers_make_the_same_batch(samples in samples()) {
        let mut given = BatchBuilder::new(Compression::None);
        for sample in &samples {
            let (key, value) = (sample.key.as_deref(), sample.value.as_deref());
            given.append(sample.timestamp, key, value, &sample.headers()).unwrap();
        }
        let batch = RecordBatch::decode(given.build(ProducerStamp::NONE).unwrap().freeze()).unwrap();
        let mut raw = BatchBuilder::new(Compression::None);
        for record in &batch.records(&BatchLimits::CLIENT).unwrap() {
            let record = record.unwrap();
            let headers = if record.headers == [0] { &[] } else { record.headers };
            raw.append_raw_headers(record.timestamp, record.key, record.value, headers).unwrap();
        }
        prop_assert_eq!(raw.build(ProducerStamp::NONE).unwrap(), batch.bytes());
    }
}

fn thousand_records(compression: Compression) -> BatchBuilder {
    let mut builder = BatchBuilder::new(compression);
    for n in 0..1000 {
        builder.append(n, Some(b"a key"), Some(&[n as u8; 100]), &[("header", Some(b"value"))]).unwrap();
    }
    builder
}

#[test]
fn hot_paths_do_not_allocate_per_record() {
    let (mut builder, usage) = measure(|| thousand_records(Compression::None));
    // The buffer doubles.
    assert!(usage.allocations < 20, "{usage:?}");
    let (batch, usage) = measure(|| builder.build(ProducerStamp::NONE).unwrap().freeze());
    // The buffer becomes the batch: nothing but its reference count is made, no payload is copied.
    assert!(usage.allocations <= 2 && usage.peak_bytes < 256, "{usage:?}");
    let (checked, usage) = measure(|| check_produced_batch(&batch, &BatchLimits::CLIENT, &ProduceRules::default()));
    assert_eq!((checked.map(|header| header.record_count), usage.allocations), (Ok(1000), 0));
    let (batch, usage) = measure(|| RecordBatch::decode(batch).unwrap());
    assert_eq!(usage.allocations, 0);
    let (records, usage) = measure(|| batch.records(&BatchLimits::CLIENT).unwrap());
    assert!(usage.allocations <= 1, "{usage:?}");
    assert_eq!(records.payload().as_ptr(), batch.bytes()[61..].as_ptr(), "shares the batch's bytes");
    let (read, usage) = measure(|| records.iter().flatten().map(|record| record.headers().count()).sum::<usize>());
    assert_eq!((read, usage.allocations), (1000, 0));
}

#[test]
fn a_compressing_builder_keeps_its_buffers_from_batch_to_batch() {
    let mut builder = thousand_records(Compression::Zstd);
    let first = builder.build(ProducerStamp::NONE).unwrap();
    let (second, usage) = measure(|| {
        for n in 0..1000 {
            builder.append(n, Some(b"a key"), Some(&[n as u8; 100]), &[("header", Some(b"value"))]).unwrap();
        }
        builder.build(ProducerStamp::NONE).unwrap()
    });
    assert_eq!(first, second);
    // The batch itself, and nothing else.
    assert!(usage.allocations <= 2 && usage.peak_bytes <= second.len() + 256, "{usage:?} for {}", second.len());
}

#[test]
fn a_batch_as_large_as_the_last_one_is_written_without_moving() {
    let mut builder = BatchBuilder::new(Compression::None);
    let mut build = || {
        for n in 0..1000 {
            builder.append(n, Some(b"a key"), Some(&[n as u8; 100]), &[]).unwrap();
        }
        builder.build(ProducerStamp::NONE).unwrap()
    };
    let first = build();
    let (second, usage) = measure(build);
    assert_eq!(first, second);
    assert!(usage.allocations <= 3 && usage.peak_bytes <= second.len() + 256, "{usage:?} for {}", second.len());
}

#[test]
fn batches_are_taken_off_the_front_one_by_one() {
    let mut builder = thousand_records(Compression::Lz4);
    let one = builder.build(ProducerStamp::NONE).unwrap();
    builder.append(5, None, None, &[]).unwrap();
    let two = builder.build(ProducerStamp::NONE).unwrap();
    let whole = Bytes::from([&one[..], &two[..], &one[..one.len() - 1]].concat());
    let mut rest = whole.clone();
    assert_eq!(RecordBatch::split_first(&mut rest).unwrap().unwrap().bytes(), &one);
    assert_eq!(RecordBatch::split_first(&mut rest).unwrap().unwrap().bytes(), &two);
    assert_eq!(RecordBatch::split_first(&mut rest), Ok(None));
    assert_eq!(rest.len(), one.len() - 1, "an unfinished batch stays");
    let mut header_cut = whole.slice(..60);
    assert_eq!(RecordBatch::split_first(&mut header_cut), Ok(None));
}

#[test]
fn a_builder_refuses_what_no_reader_would_take_and_stays_as_it_was() {
    let mut builder = BatchBuilder::new(Compression::None);
    assert_eq!(builder.build(ProducerStamp::NONE), Err(BatchError::Empty));
    builder.append(1, None, Some(b"v"), &[]).unwrap();
    let size = builder.size_bytes();
    let overflow = BatchError::Record { index: 1, fault: RecordFault::TimestampOverflow };
    assert_eq!(builder.append(i64::MIN, None, None, &[]), Err(overflow));
    let large = vec![0; 16 << 20];
    assert!(matches!(builder.append(1, None, Some(&large), &[]), Err(BatchError::TooLarge { .. })));
    let too_many = vec![("h", None); 1025];
    assert!(matches!(builder.append(1, None, None, &too_many), Err(BatchError::Record { .. })));
    // Count 1 but no pair; a pair too many; a key that is not UTF-8.
    for headers in [&[2][..], &[0, 0], &[2, 2, 0xff, 1]] {
        assert!(matches!(builder.append_raw_headers(1, None, None, headers), Err(BatchError::Record { .. })));
    }
    let unsound = ProducerStamp { producer_id: 1, producer_epoch: 0, base_sequence: -1 };
    assert!(matches!(builder.build(unsound), Err(BatchError::BadProducer { .. })));
    assert_eq!((builder.size_bytes(), builder.record_count()), (size, 1));
    check_produced_batch(&builder.build(ProducerStamp::NONE).unwrap(), &BatchLimits::CLIENT, &ANY_TIME).unwrap();

    for codec in [Compression::Gzip, Compression::Snappy] {
        let refused = BatchBuilder::new(codec).append(0, None, None, &[]);
        assert_eq!(refused, Err(BatchError::UnsupportedCompression(codec)));
    }
}

#[test]
fn control_batches_are_marked_and_refused_at_the_door() {
    let mut builder = BatchBuilder::control();
    builder.append(0, Some(b"type"), Some(b"content"), &[]).unwrap();
    let batch = RecordBatch::decode(builder.build(ProducerStamp::NONE).unwrap().freeze()).unwrap();
    assert!(batch.header().is_control());
    let refused = check_produced_batch(batch.bytes(), &BatchLimits::CLIENT, &ANY_TIME);
    assert!(matches!(refused, Err(BatchError::BadAttributes { .. })));
}

#[test]
fn what_compression_does_not_help_is_stored_as_it_is() {
    for codec in [Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        builder.append(0, None, Some(b"tiny"), &[]).unwrap();
        let tiny = RecordBatch::decode(builder.build(ProducerStamp::NONE).unwrap().freeze()).unwrap();
        assert_eq!(tiny.header().compression(), Ok(Compression::None));
        // Zeros compress so well that every reader would stop at its ratio cap.
        builder.append(0, None, Some(&vec![0; 8 << 20]), &[]).unwrap();
        let zeros = RecordBatch::decode(builder.build(ProducerStamp::NONE).unwrap().freeze()).unwrap();
        assert_eq!(zeros.header().compression(), Ok(Compression::None));
        assert_eq!(zeros.records(&BatchLimits::CLIENT).unwrap().iter().filter(Result::is_ok).count(), 1);
        // As many as an ordinary batch holds are compressed all the same.
        builder.append(0, None, Some(&vec![0; 1 << 19]), &[]).unwrap();
        let zeros = RecordBatch::decode(builder.build(ProducerStamp::NONE).unwrap().freeze()).unwrap();
        assert_eq!(zeros.header().compression(), Ok(codec));
        assert_eq!(zeros.records(&BatchLimits::CLIENT).unwrap().iter().filter(Result::is_ok).count(), 1);
    }
}

#[test]
fn sequence_numbers_wrap_behind_the_largest() {
    // covers IDP-1
    let mut builder = thousand_records(Compression::None);
    let producer = ProducerStamp { producer_id: 1, producer_epoch: 0, base_sequence: i32::MAX - 1 };
    let batch = RecordBatch::decode(builder.build(producer).unwrap().freeze()).unwrap();
    assert_eq!(batch.header().last_sequence(), 997);
    let mut builder = thousand_records(Compression::None);
    let batch = RecordBatch::decode(builder.build(ProducerStamp::NONE).unwrap().freeze()).unwrap();
    assert_eq!(batch.header().last_sequence(), -1);
}
