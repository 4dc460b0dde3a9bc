//! The door's list, one bad batch a rule. covers reliability §4.4 (batch)

use super::raw::{RawBatch, RawRecord};
use crate::batch::{
    BatchError, BatchHeader, BatchLimits, Compression, ProduceRules, RecordFault, check_produced_batch,
};
use crate::error::ErrorCode;
use crate::ids::{ProcessorNumber, TaskProducer};
use crate::varint::VarintError;

fn check(bytes: &[u8]) -> Result<(), BatchError> {
    check_produced_batch(bytes, &BatchLimits::CLIENT, &ProduceRules::default()).map(drop)
}

fn assert_refused(what: &str, raw: &RawBatch, code: ErrorCode, expected: impl FnOnce(&BatchError) -> bool) {
    let error = check(&raw.bytes()).expect_err(what);
    assert!(expected(&error), "{what}: {error:?}");
    assert_eq!(error.code(), code, "{what}: {error}");
}

fn records(count: i64) -> Vec<RawRecord> {
    (0..count).map(RawRecord::sound).collect()
}

/// Two sound records, one of them changed; the header follows their timestamps.
fn with_record(index: usize, change: impl FnOnce(&mut RawRecord)) -> RawBatch {
    let mut records = records(2);
    change(&mut records[index]);
    RawBatch::of_records(&records)
}

fn fault(index: u32, fault: RecordFault) -> impl FnOnce(&BatchError) -> bool {
    move |error| *error == BatchError::Record { index, fault }
}

#[test]
fn sound_batches_pass() {
    check(&RawBatch::sound().bytes()).unwrap();
    check(&RawBatch::of_records(&records(2)).bytes()).unwrap();
}

#[test]
fn headers_that_lie_are_refused() {
    use ErrorCode::{CorruptMessage, MessageTooLarge};
    for magic in [-1, 0, 1, 3, 127] {
        let raw = RawBatch::sound().with(|header| header.magic = magic);
        assert_refused("magic", &raw, CorruptMessage, |e| *e == BatchError::UnsupportedMagic(magic));
    }
    for count in [-1, 0x7fff, i32::MIN, 3] {
        let raw = RawBatch::sound().with(|header| header.record_count = count);
        assert_refused("count", &raw, CorruptMessage, |e| matches!(e, BatchError::BadCount { .. }));
    }
    let raw = RawBatch::sound().with(|header| header.record_count = 1);
    assert_refused("fewer records than offsets", &raw, CorruptMessage, |e| matches!(e, BatchError::BadCount { .. }));
    let raw = RawBatch::sound().with(|header| (header.record_count, header.last_offset_delta) = (1, 0));
    assert_refused("a record beyond the count", &raw, CorruptMessage, |e| {
        matches!(e, BatchError::TrailingBytes { .. })
    });
    let raw = RawBatch::sound().with(|header| (header.record_count, header.last_offset_delta) = (3, 2));
    assert_refused("a record short of the count", &raw, CorruptMessage, |e| {
        matches!(e, BatchError::Record { index: 2, .. })
    });
    let raw = RawBatch::sound().with(|header| header.record_count = i32::MAX);
    assert_refused("2^31 records", &raw, MessageTooLarge, |e| matches!(e, BatchError::TooManyRecords { .. }));
    for (base_offset, delta) in [(-1, 1), (0, -1), (i64::MAX, 1), (i64::MAX - 1, 1)] {
        let raw =
            RawBatch::sound().with(|header| (header.base_offset, header.last_offset_delta) = (base_offset, delta));
        assert_refused("offsets", &raw, CorruptMessage, |e| matches!(e, BatchError::BadOffsets { .. }));
    }
    let mut empty = RawBatch::sound().with(|header| header.record_count = 0);
    assert_refused("records but count 0", &empty, ErrorCode::InvalidRecord, |e| *e == BatchError::Empty);
    empty.payload.clear();
    assert_refused("no record", &empty, ErrorCode::InvalidRecord, |e| *e == BatchError::Empty);
}

#[test]
fn a_header_alone_shows_more_records_than_its_bytes_can_hold() {
    let sound = RawBatch::sound();
    let room = sound.payload.len() / 7;
    let header_of = |count: i32| {
        let raw = sound.clone().with(|header| (header.record_count, header.last_offset_delta) = (count, count - 1));
        BatchHeader::decode(&raw.bytes()).map(drop)
    };
    assert_eq!(header_of(room as i32), Ok(()));
    assert!(matches!(header_of(room as i32 + 1), Err(BatchError::BadCount { .. })));
}

#[test]
fn sizes_that_lie_are_refused() {
    let sound = RawBatch::sound().bytes();
    let with_length = |length: i32| {
        let mut bytes = sound.clone();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        check(&bytes).unwrap_err()
    };
    for length in [i32::MIN, -1, 0, 48] {
        assert_eq!(with_length(length), BatchError::BadLength(length));
    }
    assert!(matches!(with_length(i32::MAX), BatchError::TooLarge { .. }));
    assert!(matches!(with_length(sound.len() as i32 - 11), BatchError::Truncated { .. }));
    assert!(matches!(with_length(sound.len() as i32 - 13), BatchError::TrailingBytes { bytes: 1 }));

    let twice = [&sound[..], &sound[..]].concat();
    assert_eq!(check(&twice), Err(BatchError::TrailingBytes { bytes: sound.len() }));
    let limits = BatchLimits { batch_bytes_max: sound.len() - 1, ..BatchLimits::CLIENT };
    let error = check_produced_batch(&sound, &limits, &ProduceRules::default()).unwrap_err();
    assert_eq!(error, BatchError::TooLarge { bytes: sound.len(), max: sound.len() - 1 });
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
}

#[test]
fn attributes_that_are_not_a_clients_are_refused() {
    for bit in 3..16 {
        let raw = RawBatch::sound().with(|header| header.attributes = 1_i16.rotate_left(bit));
        assert_refused("attribute", &raw, ErrorCode::InvalidRecord, |e| matches!(e, BatchError::BadAttributes { .. }));
    }
    let unsupported = ErrorCode::UnsupportedCompressionType;
    for codec in [Compression::Gzip, Compression::Snappy] {
        let raw = RawBatch::sound().with(|header| header.attributes = i16::from(codec.bits()));
        assert_refused("codec", &raw, unsupported, |e| *e == BatchError::UnsupportedCompression(codec));
    }
    for bits in 5..8 {
        let raw = RawBatch::sound().with(|header| header.attributes = i16::from(bits));
        assert_refused("codec", &raw, unsupported, |e| *e == BatchError::UnknownCompression(bits));
    }
}

#[test]
fn producer_fields_that_do_not_fit_are_refused() {
    let with_producer = |id, epoch, sequence| {
        RawBatch::sound()
            .with(|header| (header.producer_id, header.producer_epoch, header.base_sequence) = (id, epoch, sequence))
    };
    for (id, epoch, sequence) in
        [(5, 0, -1), (5, -1, 0), (-1, 0, -1), (-1, -1, 0), (-2, -1, -1), (i64::MIN, 0, 0), (5, i16::MIN, 0)]
    {
        let raw = with_producer(id, epoch, sequence);
        assert_refused("producer", &raw, ErrorCode::InvalidRecord, |e| matches!(e, BatchError::BadProducer { .. }));
    }
    check(&with_producer(5, 0, i32::MAX).bytes()).unwrap();

    // covers STEP-9: a client can't take a task's place
    let task = TaskProducer { processor: ProcessorNumber(1), task: 2, generation: 0 }.producer_id().unwrap();
    let raw = with_producer(task.0, 0, 0);
    assert_refused("task", &raw, ErrorCode::InvalidRecord, |e| matches!(e, BatchError::BadProducer { .. }));
    let rules = ProduceRules { task_producers_allowed: true, ..ProduceRules::default() };
    let header = check_produced_batch(&raw.bytes(), &BatchLimits::INTERNAL, &rules).unwrap();
    assert_eq!(header.producer(), Some(task));
}

#[test]
fn records_that_are_out_of_order_are_refused() {
    use ErrorCode::InvalidRecord;
    for delta in [0, 2, -1, i64::from(i32::MAX)] {
        let raw = with_record(1, |record| record.offset_delta = delta);
        assert_refused("delta", &raw, InvalidRecord, fault(1, RecordFault::BadOffsetDelta(delta as i32)));
    }
    let raw = with_record(1, |record| record.offset_delta = 1 << 31);
    let too_large = RecordFault::Varint(VarintError::TooLarge);
    assert_refused("delta of 33 bits", &raw, ErrorCode::CorruptMessage, fault(1, too_large));
    let raw = with_record(0, |record| record.attributes = 1);
    assert_refused("attributes", &raw, InvalidRecord, fault(0, RecordFault::BadAttributes(1)));
}

#[test]
fn records_whose_lengths_lie_are_refused() {
    use ErrorCode::CorruptMessage;
    for error in [1, -1, 1000, -1000, i64::from(i32::MAX) - 1000] {
        let raw = with_record(1, |record| record.length_error = error);
        assert_refused("length", &raw, CorruptMessage, |e| matches!(e, BatchError::Record { index: 1, .. }));
    }
    for length in [-2, 500, i64::from(i32::MAX), i64::from(i32::MIN)] {
        let raw = with_record(1, |record| record.key_length = length);
        assert_refused("key", &raw, CorruptMessage, fault(1, RecordFault::BadLength(length as i32)));
    }
    let raw = with_record(0, |record| record.headers = vec![]);
    assert_refused("no header count", &raw, CorruptMessage, fault(0, VarintError::Truncated.into()));
}

#[test]
fn headers_that_lie_are_refused_record_by_record() {
    use ErrorCode::{CorruptMessage, InvalidRecord};
    let with_headers = |headers: &[u8]| with_record(0, |record| record.headers = headers.to_vec());
    // Counts are zigzag: 1 is -1, 2 is 1.
    assert_refused("negative", &with_headers(&[1]), InvalidRecord, fault(0, RecordFault::BadHeaderCount(-1)));
    let many = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    assert_refused("2^31", &with_headers(&many), InvalidRecord, fault(0, RecordFault::BadHeaderCount(i32::MAX)));
    assert_refused("none", &with_headers(&[2]), CorruptMessage, fault(0, VarintError::Truncated.into()));
    assert_refused("left over", &with_headers(&[0, 0]), CorruptMessage, fault(0, RecordFault::TrailingBytes(1)));
    assert_refused("null key", &with_headers(&[2, 1, 1]), CorruptMessage, fault(0, RecordFault::BadLength(-1)));
    let not_text = [2, 2, 0xff, 1];
    assert_refused("no text", &with_headers(&not_text), InvalidRecord, fault(0, RecordFault::HeaderKeyNotUtf8));
    let overlong_text = [2, 4, 0xc0, 0x80, 1];
    assert_refused("overlong", &with_headers(&overlong_text), InvalidRecord, fault(0, RecordFault::HeaderKeyNotUtf8));
    assert_refused("overlong", &with_headers(&[0x80, 0]), CorruptMessage, fault(0, VarintError::Overlong.into()));
}

#[test]
fn timestamps_are_held_to_the_topics_range() {
    let far_off = |timestamp, min, max| fault(0, RecordFault::TimestampOutOfRange { timestamp, min, max });
    let early = with_record(0, |record| record.timestamp_delta = -1001);
    assert_refused("before 1970", &early, ErrorCode::InvalidRecord, far_off(-1, 0, i64::MAX));
    let rules = ProduceRules { timestamp_min: 1000, timestamp_max: 1001, ..ProduceRules::default() };
    let sound = RawBatch::of_records(&records(2)).bytes();
    check_produced_batch(&sound, &BatchLimits::CLIENT, &rules).unwrap();
    let late = ProduceRules { timestamp_max: 1000, ..rules };
    let error = check_produced_batch(&sound, &BatchLimits::CLIENT, &late).unwrap_err();
    let out = RecordFault::TimestampOutOfRange { timestamp: 1001, min: 1000, max: 1000 };
    assert_eq!(error, BatchError::Record { index: 1, fault: out });

    let overflow = with_record(1, |record| record.timestamp_delta = i64::MAX);
    assert_refused("overflow", &overflow, ErrorCode::InvalidRecord, fault(1, RecordFault::TimestampOverflow));
    let max = RawBatch::sound().with(|header| header.max_timestamp = 5000);
    assert_refused("a lie about the largest", &max, ErrorCode::InvalidRecord, |e| {
        *e == BatchError::BadMaxTimestamp { stored: 5000, computed: 1001 }
    });
}

#[test]
fn a_compacted_topic_takes_only_records_with_a_key() {
    // covers CMP-6
    let rules = ProduceRules { keys_required: true, ..ProduceRules::default() };
    let keyless = with_record(1, |record| (record.key_length, record.key) = (-1, vec![]));
    check(&keyless.bytes()).unwrap();
    let error = check_produced_batch(&keyless.bytes(), &BatchLimits::CLIENT, &rules).unwrap_err();
    assert_eq!(error, BatchError::Record { index: 1, fault: RecordFault::KeyMissing });
    let keyed = RawBatch::of_records(&records(2)).bytes();
    check_produced_batch(&keyed, &BatchLimits::CLIENT, &rules).unwrap();
}

#[test]
fn a_compressed_batch_is_checked_to_its_last_record_too() {
    for codec in [Compression::Lz4, Compression::Zstd] {
        let mut records = records(3);
        records[2].offset_delta = 7;
        let raw = RawBatch::of_records(&records);
        let payload = crate::compression::Compressor::default().compress(codec, &raw.payload).unwrap().to_vec();
        let raw = raw.with_payload(codec, payload);
        assert_refused("delta", &raw, ErrorCode::InvalidRecord, fault(2, RecordFault::BadOffsetDelta(7)));
    }
}

#[test]
fn two_sets_of_records_in_one_compressed_payload_are_refused() {
    for codec in [Compression::Lz4, Compression::Zstd] {
        let one = RawBatch::of_records(&records(2));
        let twice = [&one.payload[..], &one.payload[..]].concat();
        let payload = crate::compression::Compressor::default().compress(codec, &twice).unwrap().to_vec();
        let raw = one.with_payload(codec, payload);
        assert_refused("two sets", &raw, ErrorCode::CorruptMessage, |e| matches!(e, BatchError::TrailingBytes { .. }));
    }
}
