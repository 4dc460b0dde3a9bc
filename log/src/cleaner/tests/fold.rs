//! CMP-8: whatever was cleaned when, a reader has at the end what the log as it was written says, wherever it was
//! when something was cleaned; and what is left is what a naive compaction in memory leaves.

use super::{Row, batch_of_rows, fold, open, order, rows};
use crate::cleaner::{ByRecordKey, CleaningOrder, CleaningPolicy};
use crate::storage::memory::{MemoryStorage, Survivors};
use crate::testing::read_all;
use crate::{DataDirectory, Log};
use bytes::Bytes;
use headwater_protocol::batch::{BatchHeader, Compression, ProducerStamp, RecordBatch};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const RETENTION_MS: u64 = 50;

#[derive(Clone, Debug)]
pub(super) enum Act {
    Append { rows: Vec<(Option<u8>, Option<u8>)>, compression: Compression, producer: i64 },
    Clean { part: u8, dedupe_bytes: usize, segment_bytes: u64 },
    Wait(i64),
    NextEpoch,
    Restart(bool),
}

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)];
    // Few keys; seldom none.
    let key = prop_oneof![9 => (0..6_u8).prop_map(Some), 1 => Just(None)];
    let rows = prop::collection::vec((key, prop::option::weighted(0.8, 0..250_u8)), 1..12);
    let append = (rows, compression, -1..3_i64).prop_map(|(rows, compression, producer)| Act::Append {
        rows,
        compression,
        producer,
    });
    // A map of few keys has passes end early; one batch always fits.
    let dedupe = prop_oneof![Just(1 << 20), Just(24 * 20), Just(24 * 32)];
    let clean = (0..=10_u8, dedupe, prop_oneof![Just(1_u64), Just(1024), Just(4096)])
        .prop_map(|(part, dedupe_bytes, segment_bytes)| Act::Clean { part, dedupe_bytes, segment_bytes });
    let act = prop_oneof![
        8 => append,
        3 => clean,
        2 => (1..40_i64).prop_map(Act::Wait),
        1 => Just(Act::NextEpoch),
        1 => any::<bool>().prop_map(Act::Restart),
    ];
    prop::collection::vec(act, 1..80)
}

/// What a naive compaction knows: every batch with its records and its horizon.
#[derive(Clone, Debug)]
struct NaiveBatch {
    rows: Vec<Row>,
    horizon: Option<i64>,
    next_offset: i64,
}

/// A log as a reader may have met it.
struct Seen {
    at_ms: i64,
    rows: Vec<Row>,
    end_offset: i64,
}

struct World {
    storage: MemoryStorage,
    directory: Option<DataDirectory>,
    log: Option<Log>,
    now_ms: i64,
    epoch: i32,
    written: Vec<Row>,
    naive: Vec<NaiveBatch>,
    headers: BTreeMap<i64, BatchHeader>,
    /// The last batch of each producer.
    last: BTreeMap<i64, i64>,
    sequences: BTreeMap<i64, i32>,
    seen: Vec<Seen>,
}

impl World {
    fn new() -> Self {
        let storage = MemoryStorage::new();
        let (directory, log) = open(&storage);
        Self {
            storage,
            directory: Some(directory),
            log: Some(log),
            now_ms: 1000,
            epoch: 0,
            written: Vec::new(),
            naive: Vec::new(),
            headers: BTreeMap::new(),
            last: BTreeMap::new(),
            sequences: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Append { rows, compression, producer } => self.append(&rows, compression, producer),
            Act::Clean { part, dedupe_bytes, segment_bytes } => self.clean(part, dedupe_bytes, segment_bytes),
            Act::Wait(ms) => self.now_ms += ms,
            Act::NextEpoch => {
                self.epoch += 1;
                let epoch = headwater_protocol::ids::LeaderEpoch(self.epoch);
                self.log().begin_epoch(epoch).unwrap();
            }
            Act::Restart(is_power_cut) => {
                self.log().flush().unwrap();
                let epochs = self.log().epochs().clone();
                drop((self.log.take(), self.directory.take()));
                if is_power_cut {
                    self.storage.power_cut(Survivors::None);
                }
                let (directory, log) = open(&self.storage);
                assert_eq!(*log.epochs(), epochs, "what is derived from the log is what it was");
                (self.directory, self.log) = (Some(directory), Some(log));
            }
        }
        self.check();
    }

    fn append(&mut self, rows: &[(Option<u8>, Option<u8>)], compression: Compression, producer: i64) {
        let base_offset = self.log().log_end_offset();
        let mut stamp = ProducerStamp::NONE;
        if producer >= 0 {
            let sequence = self.sequences.entry(producer).or_insert(0);
            stamp = ProducerStamp { producer_id: producer, producer_epoch: 0, base_sequence: *sequence };
            *sequence += i32::try_from(rows.len()).unwrap();
            self.last.insert(producer, base_offset);
        }
        let batch = batch_of_rows(base_offset, self.epoch, compression, stamp, rows);
        self.log().append(batch.clone()).unwrap();
        self.log().flush().unwrap();
        let header = BatchHeader::decode(&batch).unwrap();
        self.headers.insert(base_offset, header);
        let rows = super::rows(&[batch]);
        self.written.extend(rows.iter().cloned());
        self.naive.push(NaiveBatch { rows, horizon: None, next_offset: header.next_offset() });
    }

    fn clean(&mut self, part: u8, dedupe_bytes_max: usize, segment_bytes: u64) {
        let upto = self.log().log_end_offset() * i64::from(part) / 10;
        let headers_kept: BTreeSet<i64> = self.last.values().copied().collect();
        let order = CleaningOrder {
            policy: CleaningPolicy { delete_retention_ms: RETENTION_MS, ..super::POLICY },
            segment_bytes,
            dedupe_bytes_max,
            ..order(&headers_kept, upto, self.now_ms)
        };
        let now_ms = self.now_ms;
        let cleaner = self.log().cleaner();
        let (standing, _) =
            cleaner.look(&order.policy, *b"record key, version 1\0\0\0\0\0\0\0\0\0\0\0", upto, now_ms).unwrap();
        let was_dirty = standing.is_dirty();
        let report = cleaner.clean(&order, &mut ByRecordKey, &mut |_| Ok(())).unwrap();
        assert_eq!(report.passes > 0, was_dirty);
        if was_dirty {
            assert_eq!(report.first_dirty, standing.end);
            self.clean_naively(standing.end);
        }
        let left: Vec<Row> = self.naive.iter().flat_map(|batch| batch.rows.clone()).collect();
        let batches = read_all(self.log());
        assert_eq!(rows(&batches), left, "what a naive compaction leaves");
        self.check_batches(&batches, &headers_kept, if was_dirty { standing.end } else { 0 });
    }

    fn clean_naively(&mut self, end: i64) {
        let mut newest: BTreeMap<Bytes, i64> = BTreeMap::new();
        for row in self.naive.iter().filter(|batch| batch.next_offset <= end).flat_map(|batch| &batch.rows) {
            if let Some(key) = &row.key {
                newest.insert(key.clone(), row.offset);
            }
        }
        for batch in self.naive.iter_mut().filter(|batch| batch.next_offset <= end) {
            let is_over = batch.horizon.is_some_and(|horizon| horizon <= self.now_ms);
            batch.rows.retain(|row| match &row.key {
                None => true,
                Some(key) => newest[key] == row.offset && (row.value.is_some() || !is_over),
            });
            if batch.rows.iter().any(|row| row.key.is_some() && row.value.is_none()) {
                batch.horizon.get_or_insert(self.now_ms + RETENTION_MS as i64);
            }
        }
    }

    /// CMP-5, and what a batch says of itself.
    fn check_batches(&self, batches: &[Bytes], headers_kept: &BTreeSet<i64>, cleaned_end: i64) {
        let mut bases = BTreeSet::new();
        for batch in batches {
            let header = *RecordBatch::decode(batch.clone()).unwrap().header();
            bases.insert(header.base_offset);
            if header.is_filler() {
                let covered = self.headers.range(header.base_offset..header.next_offset());
                let epochs: BTreeSet<i32> = covered.map(|(_, covered)| covered.partition_leader_epoch).collect();
                assert_eq!(epochs, BTreeSet::from([header.partition_leader_epoch]), "a filler is of one epoch");
                continue;
            }
            let written = self.headers[&header.base_offset];
            let identity = |header: &BatchHeader| {
                let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = *header;
                (producer_id, producer_epoch, base_sequence, header.next_offset(), header.partition_leader_epoch)
            };
            assert_eq!(identity(&header), identity(&written));
            let is_needed = headers_kept.contains(&header.base_offset) || header.base_offset >= cleaned_end;
            assert!(header.record_count > 0 || is_needed, "an empty batch has a reason");
            let horizon = self.naive.iter().find(|batch| batch.next_offset == header.next_offset()).unwrap().horizon;
            // One pass may stamp a tombstone that the next one of the same cleaning removes.
            if header.record_count > 0 && horizon.is_some() {
                assert_eq!(header.delete_horizon(), horizon);
            }
        }
        assert!(headers_kept.is_subset(&bases), "producers' last batches");
    }

    /// CMP-8.
    fn check(&mut self) {
        let batches = read_all(self.log());
        let now = rows(&batches);
        let (all, end_offset) = (fold(&self.written), self.log().log_end_offset());
        assert_eq!(fold(&now), all, "a reader that begins now");
        let was_written = |row: &Row| self.written.binary_search_by_key(&row.offset, |row| row.offset);
        assert!(now.iter().all(|row| was_written(row).is_ok_and(|place| self.written[place] == *row)), "CMP-1");
        for seen in self.seen.iter().filter(|seen| self.now_ms - seen.at_ms < RETENTION_MS as i64) {
            for reached in 0..=seen.end_offset {
                let before = seen.rows.iter().filter(|row| row.offset < reached);
                let table = fold(before.chain(now.iter().filter(|row| row.offset >= reached)));
                assert_eq!(table, all, "a reader that was at {reached} at {}", seen.at_ms);
            }
        }
        if self.seen.last().is_none_or(|seen| seen.rows != now || seen.at_ms != self.now_ms) {
            self.seen.push(Seen { at_ms: self.now_ms, rows: now, end_offset });
        }
    }
}

/// Does these one after the other, and looks after each.
pub(super) fn live(acts: Vec<Act>) {
    let mut world = World::new();
    acts.into_iter().for_each(|act| world.act(act));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    // covers CMP-1, CMP-3, CMP-5, CMP-8
    #[test]
    fn every_reader_ends_with_what_was_written(acts in acts()) {
        live(acts);
    }
}
