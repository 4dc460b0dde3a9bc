//! Bytes that are no batch, or no longer: refused, and never a panic. covers reliability §4.4 (batch)

use super::raw::RawBatch;
use crate::batch::{
    BatchBuilder, BatchError, BatchHeader, BatchLimits, Compression, HeaderIter, ProduceRules, ProducerStamp,
    RecordBatch, check_produced_batch,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

/// Everything that reads bytes, on these bytes. The door's promise is checked on the way: what it lets in, reads.
fn read_everything(bytes: &[u8]) {
    let door = check_produced_batch(bytes, &BatchLimits::CLIENT, &ProduceRules::default());
    if let Ok(header) = BatchHeader::decode(bytes) {
        assert!(header.total_bytes() >= 61 && header.base_offset >= 0 && header.last_sequence() >= -1);
        assert!(header.base_offset <= header.last_offset() && header.last_offset() < header.next_offset());
    }
    let first = RecordBatch::split_first(&mut Bytes::copy_from_slice(bytes));
    assert!(door.is_err() || first.is_ok_and(|first| first.is_some()), "the door let in what can't be taken off");
    let batch = RecordBatch::decode(Bytes::copy_from_slice(bytes));
    assert!(door.is_err() || batch.is_ok(), "the door let in what does not decode");
    let Ok(batch) = batch else { return };
    let records = batch.records(&BatchLimits::CLIENT);
    assert!(door.is_err() || records.is_ok(), "the door let in what does not decompress");
    let Ok(records) = records else { return };
    let mut whole = 0;
    for record in &records {
        let Ok(record) = record else { continue };
        whole += 1;
        assert_eq!(record.key_range().map(|range| &records.payload()[range]), record.key);
        assert_eq!(record.value_range().map(|range| &records.payload()[range]), record.value);
        let headers = record.headers().collect::<Vec<_>>();
        assert!(door.is_err() || headers.iter().all(Result::is_ok));
    }
    assert!(door.is_err() || whole == records.count(), "the door let in a record that does not read");
}

fn batch_of(compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(compression);
    for n in 0..20 {
        let value = "some words that repeat, repeat, repeat";
        builder.append(1000 + n, Some(b"key"), Some(value.as_bytes()), &[("header", Some(b"x"))]).unwrap();
    }
    let batch = builder.build(ProducerStamp { producer_id: 7, producer_epoch: 0, base_sequence: 0 }).unwrap();
    assert_eq!(BatchHeader::decode(&batch).unwrap().compression(), Ok(compression));
    batch.to_vec()
}

const CODECS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

#[test]
fn every_flipped_bit_is_noticed() {
    for codec in CODECS {
        let mut batch = batch_of(codec);
        // Base offset and leader epoch are the broker's to write: the checksum leaves them out.
        let covered = (8..12).chain(16..batch.len());
        for position in covered {
            for bit in 0..8 {
                batch[position] ^= 1 << bit;
                let decoded = RecordBatch::decode(Bytes::copy_from_slice(&batch));
                assert!(decoded.is_err(), "{codec}: byte {position}, bit {bit}");
                let door = check_produced_batch(&batch, &BatchLimits::CLIENT, &ProduceRules::default());
                assert!(door.is_err(), "{codec}: byte {position}, bit {bit}");
                if position >= 61 {
                    assert!(matches!(decoded, Err(BatchError::CrcMismatch { .. })));
                }
                batch[position] ^= 1 << bit;
            }
        }
        read_everything(&batch);
    }
}

#[test]
fn every_cut_is_noticed() {
    for codec in CODECS {
        let batch = batch_of(codec);
        for length in 0..batch.len() {
            let cut = &batch[..length];
            assert!(RecordBatch::decode(Bytes::copy_from_slice(cut)).is_err());
            assert_eq!(RecordBatch::split_first(&mut Bytes::copy_from_slice(cut)), Ok(None));
            read_everything(cut);
        }
    }
}

#[test]
fn zeros_are_no_batch() {
    // What a file system may leave of a file that was extended but not written.
    assert!(BatchHeader::decode(&[0; 200]).is_err());
}

fn codecs() -> impl Strategy<Value = Compression> {
    proptest::sample::select(CODECS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
        let _ = HeaderIter::new(&bytes).count();
    }

    #[test]
    fn arbitrary_payloads_behind_a_sound_header_never_panic(
        payload in vec(any::<u8>(), 0..300), attributes in 0..16_i16, count in 0..40_i32,
    ) {
        let mut raw = RawBatch::sound().with(|header| {
            header.attributes = attributes;
            header.record_count = count;
            header.last_offset_delta = (count - 1).max(0);
        });
        raw.payload = payload;
        read_everything(&raw.bytes());
    }

    #[test]
    fn damage_with_a_right_checksum_never_panics(
        codec in codecs(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in 0..20_usize,
    ) {
        let bytes = batch_of(codec);
        let mut raw = RawBatch { header: BatchHeader::decode(&bytes).unwrap(), payload: bytes[61..].to_vec() };
        for (position, byte) in damage {
            *position.get_mut(&mut raw.payload) = byte;
        }
        raw.payload.truncate(raw.payload.len() - cut);
        read_everything(&raw.bytes());
    }

    #[test]
    fn damaged_records_recompressed_never_panic(
        codec in codecs(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let bytes = batch_of(Compression::None);
        let mut payload = bytes[61..].to_vec();
        for (position, byte) in damage {
            *position.get_mut(&mut payload) = byte;
        }
        if codec != Compression::None {
            payload = crate::compression::Compressor::default().compress(codec, &payload).unwrap().to_vec();
        }
        let header = BatchHeader::decode(&bytes).unwrap();
        read_everything(&RawBatch { header, payload: vec![] }.with_payload(codec, payload).bytes());
    }

    #[test]
    fn any_header_fields_can_be_calculated_with(bytes in vec(any::<u8>(), 61), length in 49..70_000_i32) {
        // Mostly plausible, so that the checks behind magic and length are reached.
        let mut bytes = bytes;
        bytes[0] &= 0x7f;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        bytes[23..25].fill(0);
        bytes[57..59].fill(0);
        if let Ok(header) = BatchHeader::decode(&bytes) {
            prop_assert_eq!(header.total_bytes(), length as usize + 12);
        }
        read_everything(&bytes);
    }
}
