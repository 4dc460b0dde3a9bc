//! Batches of other implementations: `fixtures/` holds what kafka-python made, `kafka-protocol` reads what we make.

use crate::batch::{
    BatchBuilder, BatchError, BatchLimits, Compression, ProduceRules, ProducerStamp, RecordBatch, check_produced_batch,
    stamp,
};
use crate::ids::LeaderEpoch;
use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression as TheirCompression, Record as TheirRecord, RecordBatchDecoder};
use std::collections::BTreeSet;

macro_rules! batches {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("../../../fixtures/", $name, ".batch")).as_slice())),+]
    };
}

/// The files that `fixtures/make_batches.py` wrote.
const BATCHES: [(&str, &[u8]); 11] = batches!(
    "none-single",
    "none-plain",
    "none-odd",
    "none-idempotent",
    "none-transactional",
    "none-many",
    "lz4-odd",
    "lz4-many",
    "zstd-odd",
    "zstd-many",
    "gzip-some",
);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    compression: String,
    producer_id: Option<i64>,
    producer_epoch: Option<i16>,
    base_sequence: Option<i32>,
    #[serde(default)]
    transactional: bool,
    records: Vec<EntryRecord>,
}

#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryRecord {
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
    #[serde(default)]
    step: i64,
    times: Option<i64>,
}

impl Entry {
    fn bytes(&self) -> &'static [u8] {
        BATCHES.iter().find(|(name, _)| *name == self.name).unwrap().1
    }

    fn compression(&self) -> Compression {
        self.compression.parse().unwrap()
    }

    fn producer(&self) -> ProducerStamp {
        let none = ProducerStamp::NONE;
        ProducerStamp {
            producer_id: self.producer_id.unwrap_or(none.producer_id),
            producer_epoch: self.producer_epoch.unwrap_or(none.producer_epoch),
            base_sequence: self.base_sequence.unwrap_or(none.base_sequence),
        }
    }

    fn records(&self) -> Vec<EntryRecord> {
        let expand = |record: &EntryRecord| {
            let number = |text: &Option<String>, n: i64| text.as_ref().map(|text| text.replace("{i}", &n.to_string()));
            let record = record.clone();
            (0..record.times.unwrap_or(1)).map(move |n| EntryRecord {
                timestamp: record.timestamp + n * record.step,
                key: number(&record.key, n),
                value: number(&record.value, n),
                ..record.clone()
            })
        };
        self.records.iter().flat_map(expand).collect()
    }

    /// The manifest's records through our builder, with the base offset and leader epoch that kafka-python writes.
    fn built(&self) -> BytesMut {
        let mut builder = BatchBuilder::new(self.compression());
        for record in self.records() {
            let headers: Vec<_> =
                record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref().map(str::as_bytes))).collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.append(record.timestamp, key.map(str::as_bytes), value.map(str::as_bytes), &headers).unwrap();
        }
        let mut batch = builder.build(self.producer()).unwrap();
        stamp(&mut batch, 0, LeaderEpoch(0));
        batch
    }

    fn assert_holds(&self, batch: &RecordBatch) {
        let records = batch.records(&BatchLimits::CLIENT).unwrap();
        let expected = self.records();
        assert_eq!(records.iter().count(), expected.len(), "{}", self.name);
        for ((record, expected), offset) in records.iter().zip(&expected).zip(0..) {
            let record = record.unwrap();
            assert_eq!((record.offset, record.timestamp), (offset, expected.timestamp), "{}", self.name);
            assert_eq!(record.key, expected.key.as_deref().map(str::as_bytes));
            assert_eq!(record.value, expected.value.as_deref().map(str::as_bytes));
            let headers: Vec<_> = record.headers().map(Result::unwrap).collect();
            let expected: Vec<_> =
                expected.headers.iter().map(|(k, v)| (k.as_str(), v.as_deref().map(str::as_bytes))).collect();
            assert_eq!(headers, expected, "{}", self.name);
        }
    }
}

fn manifest() -> Vec<Entry> {
    let entries: Vec<Entry> = serde_json::from_str(include_str!("../../../fixtures/manifest.json")).unwrap();
    let named: BTreeSet<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(named, BATCHES.iter().map(|(name, _)| *name).collect(), "every file is in the manifest and in BATCHES");
    entries
}

#[test]
fn a_python_clients_batches_hold_what_their_manifest_says() {
    for entry in manifest() {
        let batch = RecordBatch::decode(Bytes::from_static(entry.bytes())).unwrap();
        let header = batch.header();
        assert_eq!(header.compression(), Ok(entry.compression()));
        assert_eq!(header.is_transactional(), entry.transactional);
        let producer = entry.producer();
        assert_eq!((header.producer_id, header.producer_epoch), (producer.producer_id, producer.producer_epoch));
        assert_eq!(header.base_sequence, producer.base_sequence);
        let door = check_produced_batch(entry.bytes(), &BatchLimits::CLIENT, &ProduceRules::default());
        if entry.compression() == Compression::Gzip {
            let refused = BatchError::UnsupportedCompression(Compression::Gzip);
            assert_eq!(batch.records(&BatchLimits::CLIENT).map(drop), Err(refused.clone()));
            assert_eq!(door, Err(refused));
            continue;
        }
        entry.assert_holds(&batch);
        if entry.transactional {
            assert!(matches!(door, Err(BatchError::BadAttributes { .. })), "{door:?}");
        } else {
            assert_eq!(door.as_ref(), Ok(header));
        }
    }
}

#[test]
fn our_batches_are_a_python_clients_byte_for_byte() {
    for entry in manifest() {
        if entry.transactional || entry.compression() == Compression::Gzip {
            continue;
        }
        let built = entry.built();
        if entry.compression() == Compression::None {
            assert_eq!(built, entry.bytes(), "{}", entry.name);
            continue;
        }
        // Compressors differ in what they emit; what comes out must not.
        let built = RecordBatch::decode(built.freeze()).unwrap();
        assert_eq!(built.header().compression(), Ok(entry.compression()));
        entry.assert_holds(&built);
    }
}

/// `kafka-protocol` without its compression features asks us to decompress.
fn decompress(bytes: &mut Bytes, codec: TheirCompression) -> Bytes {
    let ours = match codec {
        TheirCompression::None => return std::mem::take(bytes),
        TheirCompression::Lz4 => Compression::Lz4,
        TheirCompression::Zstd => Compression::Zstd,
        other => unreachable!("no fixture uses {other:?}"),
    };
    let mut decompressor = crate::compression::Decompressor::default();
    Bytes::from(decompressor.decompress(ours, bytes, &BatchLimits::CLIENT).unwrap())
}

#[test]
fn kafka_protocol_reads_our_batches() {
    for entry in manifest() {
        if entry.transactional || entry.compression() == Compression::Gzip {
            continue;
        }
        let mut built = entry.built().freeze();
        let codec = |bytes: &mut Bytes, codec| Ok(decompress(bytes, codec));
        let sets = RecordBatchDecoder::decode_with_custom_compression(&mut built, Some(codec)).unwrap();
        let expected = entry.records();
        assert_eq!(sets.records.len(), expected.len());
        for (theirs, ours) in sets.records.iter().zip(&expected) {
            assert_reads_the_same(theirs, ours, &entry);
        }
    }
}

fn assert_reads_the_same(theirs: &TheirRecord, ours: &EntryRecord, entry: &Entry) {
    assert_eq!(theirs.timestamp, ours.timestamp);
    assert_eq!(theirs.key.as_deref(), ours.key.as_deref().map(str::as_bytes));
    assert_eq!(theirs.value.as_deref(), ours.value.as_deref().map(str::as_bytes));
    assert_eq!(theirs.producer_id, entry.producer().producer_id);
    assert_eq!(theirs.producer_epoch, entry.producer().producer_epoch);
    assert!(!theirs.control && !theirs.transactional);
    // Theirs is a map: of headers with one key the last one stays.
    for (key, value) in &theirs.headers {
        let (_, expected) = ours.headers.iter().rev().find(|(name, _)| name == key.as_str()).unwrap();
        assert_eq!(value.as_deref(), expected.as_deref().map(str::as_bytes));
    }
}
