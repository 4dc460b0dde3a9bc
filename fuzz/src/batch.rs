//! Record batches: at the door, and when they are read again.

use crate::edits::edited;
use bytes::Bytes;
use headwater_protocol::batch::{
    BATCH_HEADER_BYTES, BatchBuilder, BatchLimits, ProduceRules, ProducerStamp, RecordBatch, check_produced_batch,
};
use headwater_protocol::compression::Compression;

/// Where the CRC lies in a batch, and where what it covers begins.
const CRC: std::ops::Range<usize> = 17..21;

/// The first byte chooses a codec, the others edit a batch compressed so; its lengths and CRC are right.
///
/// # Panics
/// When the door lets something through that can't be read, or a reader gets more than the caps allow.
pub fn door(input: &[u8]) {
    let Some((choice, edits)) = input.split_first() else { return };
    let bytes = repaired(edited(&valid(*choice, PRODUCER), edits));
    let limits = BatchLimits::CLIENT;
    let checked = check_produced_batch(&bytes, &limits, &ProduceRules::default());
    let read = RecordBatch::decode(Bytes::copy_from_slice(&bytes));
    let Ok(header) = checked else {
        // Refused at the door; found on a disk it must still not hurt.
        if let Ok(batch) = read
            && let Ok(records) = batch.records(&limits)
        {
            records.iter().take(100_000).for_each(drop);
        }
        return;
    };
    let batch = read.unwrap_or_else(|error| panic!("the door took what can't be read: {error}"));
    assert_eq!((batch.header(), bytes.len()), (&header, header.total_bytes()));
    let records = batch.records(&limits).unwrap_or_else(|error| panic!("the door took it: {error}"));
    assert!(records.payload().len() <= limits.decompressed_bytes_max);
    let mut count = 0;
    for record in records.iter() {
        let record = record.unwrap_or_else(|error| panic!("the door took it: {error}"));
        assert!((header.base_offset..=header.last_offset()).contains(&record.offset));
        record.headers().for_each(drop);
        count += 1;
    }
    assert_eq!(count, records.count());
}

/// Any bytes, as they might come from a disk or a fetch: whole batches are taken off the front, or an error comes.
///
/// # Panics
/// When nothing was taken and nothing said, or bytes are lost.
pub fn fetched(input: &[u8]) {
    let mut bytes = Bytes::copy_from_slice(input);
    let mut taken = 0;
    loop {
        let before = bytes.len();
        match RecordBatch::split_first(&mut bytes) {
            Ok(Some(batch)) => taken += batch.bytes().len(),
            Ok(None) | Err(_) => {
                assert_eq!(bytes.len(), before, "what is not taken stays");
                break;
            }
        }
        assert_eq!(taken + bytes.len(), input.len());
    }
}

/// Whoever makes the batches that are edited.
pub(crate) const PRODUCER: ProducerStamp = ProducerStamp { producer_id: 7, producer_epoch: 1, base_sequence: 5 };

/// A few records of all kinds.
pub(crate) fn valid(choice: u8, stamp: ProducerStamp) -> Vec<u8> {
    let codec = match choice % 3 {
        0 => Compression::None,
        1 => Compression::Lz4,
        _ => Compression::Zstd,
    };
    let mut builder = BatchBuilder::new(codec);
    let value = [b"the same words again ".as_slice(); 12].concat();
    let headers: &[(&str, Option<&[u8]>)] = &[("trace", Some(b"1")), ("none", None)];
    let appended = [
        builder.append(1_000, Some(b"key"), Some(&value), &[]),
        builder.append(1_001, None, Some(b""), headers),
        builder.append(999, Some(b"gone"), None, &[]),
    ];
    assert!(appended.iter().all(Result::is_ok), "{appended:?}");
    builder.build(stamp).map(|bytes| bytes.to_vec()).unwrap_or_default()
}

/// The same bytes with the length and the CRC that they should have.
pub(crate) fn repaired(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= BATCH_HEADER_BYTES {
        let length = i32::try_from(bytes.len() - 12).unwrap_or(i32::MAX);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC.end..]);
        bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::fuzz!(at_the_door, 100_000, door);
    crate::fuzz!(from_a_fetch, 50_000, fetched);

    #[test]
    fn what_is_edited_is_valid_before() {
        for choice in 0..3 {
            let bytes = valid(choice, PRODUCER);
            assert_eq!(repaired(bytes.clone()), bytes);
            check_produced_batch(&bytes, &BatchLimits::CLIENT, &ProduceRules::default()).unwrap();
        }
    }
}
