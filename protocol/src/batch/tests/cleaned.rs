//! What cleaning leaves of a batch can be read, and says what the batch said.

use crate::batch::{
    BatchBuilder, BatchHeader, BatchLimits, BatchRewriter, Compression, ProducerStamp, RecordBatch, empty_batch,
    filler, stamp,
};
use crate::ids::LeaderEpoch;
use bytes::Bytes;
use proptest::prelude::*;

const STAMP: ProducerStamp = ProducerStamp { producer_id: 7, producer_epoch: 2, base_sequence: 40 };

type Kept = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

fn batch(compression: Compression, timestamps: &[i64]) -> RecordBatch {
    let mut builder = BatchBuilder::new(compression);
    for (number, timestamp) in (0_u8..).zip(timestamps) {
        let value = vec![b'v'; usize::from(number) * 9];
        let value = (number % 3 != 0).then_some(value.as_slice());
        builder.append(*timestamp, Some(&[number]), value, &[("h", Some(&[number]))]).unwrap();
    }
    let mut bytes = builder.build(STAMP).unwrap();
    stamp(&mut bytes, 1000, LeaderEpoch(3));
    RecordBatch::decode(bytes.freeze()).unwrap()
}

fn read(batch: &RecordBatch) -> Vec<Kept> {
    let records = batch.records(&BatchLimits::CLIENT).unwrap();
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let record = |record: Result<crate::batch::Record<'_>, _>| {
        let record = record.unwrap();
        (record.offset, record.timestamp, own(record.key), own(record.value), record.headers.to_vec())
    };
    records.iter().map(record).collect()
}

fn rewritten(batch: &RecordBatch, keep: u64, horizon: Option<i64>) -> RecordBatch {
    let records = batch.records(&BatchLimits::CLIENT).unwrap();
    let bytes = BatchRewriter::default().rewrite(&records, |index, _| keep >> index & 1 == 1, horizon).unwrap();
    RecordBatch::decode(bytes.freeze()).unwrap()
}

/// What must be the same in every batch that is left of `header`'s.
fn identity(header: &BatchHeader) -> (i64, i64, i32, i64, i16, i32, i32) {
    let BatchHeader { base_offset, partition_leader_epoch, producer_id, producer_epoch, base_sequence, .. } = *header;
    let last_sequence = header.last_sequence();
    (
        base_offset,
        header.last_offset(),
        partition_leader_epoch,
        producer_id,
        producer_epoch,
        base_sequence,
        last_sequence,
    )
}

proptest! {
    // covers CMP-1, CMP-3: offsets and what was written stay, with and without a horizon, again and again
    #[test]
    fn what_is_kept_is_as_it_was(
        timestamps in prop::collection::vec(-9_000_000_000_000_i64..9_000_000_000_000, 1..40),
        compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)],
        keep: u64,
        keep_then: u64,
        horizon in prop::option::of(0..9_000_000_000_000_i64),
    ) {
        let whole = batch(compression, &timestamps);
        let all = read(&whole);
        let picked = |records: &[Kept], keep: u64| -> Vec<Kept> {
            (0..).zip(records).filter(|(index, _)| keep >> index & 1 == 1).map(|(_, record)| record.clone()).collect()
        };
        let once = rewritten(&whole, keep, horizon);
        let kept = picked(&all, keep);
        prop_assert_eq!(read(&once), kept.clone());
        prop_assert_eq!(identity(once.header()), identity(whole.header()));
        prop_assert!(once.bytes().len() <= whole.bytes().len() + kept.len() * 9 + 9);
        if !kept.is_empty() {
            prop_assert_eq!(Some(once.header().max_timestamp), kept.iter().map(|record| record.1).max());
            prop_assert_eq!(once.header().delete_horizon(), horizon);
        }
        // A horizon that is there stays.
        let twice = rewritten(&once, keep_then, Some(5));
        prop_assert_eq!(read(&twice), picked(&kept, keep_then));
        prop_assert_eq!(identity(twice.header()), identity(whole.header()));
        if twice.header().record_count > 0 {
            prop_assert_eq!(twice.header().delete_horizon(), horizon.or(Some(5)));
        }
    }
}

#[test]
fn nothing_kept_leaves_the_header_and_no_time() {
    // covers CMP-5
    let whole = batch(Compression::Zstd, &[5, 6, 7]);
    let emptied = rewritten(&whole, 0, Some(9));
    assert_eq!(emptied.bytes().as_ref(), empty_batch(whole.header()));
    let header = emptied.header();
    assert_eq!((header.record_count, header.max_timestamp, header.attributes), (0, -1, 0));
    assert_eq!(identity(header), identity(whole.header()));
    assert!(!header.is_filler() && read(&emptied).is_empty());
}

#[test]
fn golden_bytes_of_a_filler() {
    let bytes = filler(4, 10, 3);
    let batch = RecordBatch::decode(Bytes::copy_from_slice(&bytes)).unwrap();
    let header = batch.header();
    assert!(header.is_filler());
    assert_eq!((header.base_offset, header.next_offset(), header.partition_leader_epoch), (4, 10, 3));
    assert_eq!(header.producer(), None);
    assert_eq!(header.last_sequence(), -1);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let front = "00000000000000040000003100000003029eec6655000000000005";
    assert_eq!(hex, [front, &"ff".repeat(30), "00000000"].concat());
}
