use super::*;
use crate::cleaner::{ByRecordKey, CleaningOrder, CleaningPolicy};
use crate::storage::memory::MemoryStorage;
use crate::testing::{NAME, batch_of, directory, fill, open};
use crate::{DataDirectory, Log, LogError, LogReader};
use proptest::prelude::*;
use std::collections::BTreeSet;

const MIB: u64 = 1 << 20;
/// What a batch of `testing::batch` costs, roughly.
const BATCH_BYTES: u64 = 400;

fn tailed(bytes_max: u64) -> (MemoryStorage, DataDirectory, Log) {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    directory.tails().set_bytes_max(bytes_max);
    let (log, _) = open(&directory);
    (storage, directory, log)
}

impl LogReader {
    fn served(&self, from: i64, upto: i64, max_bytes: usize) -> Result<Bytes, LogError> {
        Ok(self.serve(from, upto, max_bytes)?.bytes)
    }
}

fn source(log: &Log, from: i64) -> Source {
    log.reader().serve(from, i64::MAX, 1).unwrap().source
}

/// The first offset that is served from memory.
fn first_kept(log: &Log) -> i64 {
    let kept = |offset: &i64| source(log, *offset) == Source::Memory;
    (log.log_start_offset()..log.log_end_offset()).find(kept).unwrap_or(log.log_end_offset())
}

#[test]
fn the_newest_batches_are_served_as_they_were_written_without_a_call_to_the_disk() {
    let (storage, _directory, mut log) = tailed(MIB);
    let batches = fill(&mut log, 20);
    let reads = storage.reads();
    let reader = log.reader();
    for (number, batch) in batches.iter().enumerate() {
        let served = reader.serve(number as i64 * 2, i64::MAX, 1).unwrap();
        assert_eq!(served.source, Source::Memory);
        assert_eq!(served.bytes.as_ptr(), batch.as_ptr(), "not a copy");
    }
    assert_eq!(reader.served(10, i64::MAX, usize::MAX).unwrap(), batches[5..].concat());
    assert_eq!(storage.reads(), reads);
    assert_eq!(reader.read(0, 2, 1).unwrap(), batches[0], "who wants the file gets it");
    assert!(storage.reads() > reads);
}

// A tail reader does not touch the file while somebody reads everything, whose pages do not come in.
#[test]
fn a_reader_of_everything_leaves_the_tail_alone() {
    let (_storage, directory, mut log) = tailed(10 * BATCH_BYTES);
    fill(&mut log, 200);
    let (reader, held, kept) = (log.reader(), directory.tails().bytes(), first_kept(&log));
    assert!((300..400).contains(&kept), "{kept}");
    let history = std::thread::spawn(move || {
        let mut sources = Vec::new();
        for _ in 0..20 {
            sources.extend((0..kept).step_by(2).map(|offset| reader.serve(offset, kept, 1).unwrap().source));
        }
        sources
    });
    let mut at_end = Vec::new();
    for _ in 0..200 {
        let next = log.log_end_offset();
        fill(&mut log, 1);
        at_end.push(source(&log, next));
    }
    let sources = history.join().unwrap();
    assert!(sources.iter().all(|source| *source == Source::File) && sources.len() == 10 * kept as usize);
    assert_eq!(at_end, vec![Source::Memory; 200]);
    assert_eq!((directory.tails().bytes(), first_kept(&log)), (held, kept + 400), "as if nobody had read");
}

#[test]
fn all_logs_share_one_budget_and_the_oldest_batch_goes_first() {
    let (_storage, directory, mut log) = tailed(10 * BATCH_BYTES);
    let (mut other, _) = Log::open(&directory, "other-0", log.config(), &mut |_| {}).unwrap();
    fill(&mut log, 3);
    assert_eq!(first_kept(&log), 0);
    fill(&mut other, 10);
    assert!(first_kept(&log) > 0, "the other one's are newer");
    fill(&mut other, 50);
    assert_eq!((source(&log, 4), source(&other, 115)), (Source::File, Source::Memory));
    assert!(directory.tails().bytes() <= 10 * BATCH_BYTES);
    let whole = BATCH_BYTES as usize * 10;
    log.append(batch_of(6, 0, &[1], whole)).unwrap();
    assert_eq!((source(&log, 6), directory.tails().bytes()), (Source::File, 0), "larger than all room there is");
}

#[test]
fn what_was_there_at_the_look_before_is_forgotten() {
    let (_storage, directory, mut log) = tailed(MIB);
    fill(&mut log, 4);
    directory.tails().expire();
    fill(&mut log, 1);
    assert_eq!(first_kept(&log), 0);
    directory.tails().expire();
    assert_eq!(first_kept(&log), 8, "what came since then stays for another time");
    directory.tails().expire();
    assert_eq!((first_kept(&log), directory.tails().bytes()), (10, 0));
    assert_eq!(log.reader().shared().tail.capacity(), 0, "an idle log holds nothing");
}

#[test]
fn a_new_start_and_a_cleaning_take_their_batches_out_of_memory() {
    let (_storage, _directory, mut log) = tailed(MIB);
    fill(&mut log, 20);
    log.flush().unwrap();
    assert_eq!(first_kept(&log), 0);
    log.trim(11).unwrap().run().unwrap();
    assert_eq!((first_kept(&log), log.reader().serve(11, i64::MAX, 1).unwrap().source), (11, Source::Memory));
    clean(&log);
    let sealed_end = log.reader().segment_facts().iter().rev().nth(1).unwrap().next_offset;
    assert!(sealed_end > 20 && sealed_end < 40, "{sealed_end}");
    assert_eq!(first_kept(&log), sealed_end, "what grows is not cleaned");
}

// LOG-3: what the disk has lost is still good here, and the scrubber looks at the disk.
#[test]
fn damage_on_the_disk_is_found_though_the_tail_is_in_memory() {
    let (storage, directory, mut log) = tailed(MIB);
    let batches = fill(&mut log, 4);
    let path = crate::testing::path_of("00000000000000000000.log");
    let mut flipped = storage.contents(&path).unwrap();
    flipped[batches[0].len() + 70] ^= 1;
    storage.overwrite(&path, &flipped);
    let bad = log.reader().verify(0, u64::MAX).unwrap().bad;
    assert_eq!((bad.len(), bad[0].from), (1, 2));
    assert_eq!(log.reader().served(2, i64::MAX, 1).unwrap(), batches[1], "memory has not lost it");
    directory.tails().expire();
    directory.tails().expire();
    assert!(matches!(log.reader().served(2, i64::MAX, 1), Err(LogError::Quarantined { .. })));
}

fn clean(log: &Log) {
    let order = CleaningOrder {
        policy: CleaningPolicy { dirty_ratio_min: 0.0, lag_ms_min: 0, lag_ms_max: None, delete_retention_ms: 1000 },
        upto: log.durable().next_offset(),
        headers_kept: &BTreeSet::new(),
        segment_bytes: log.config().segment_bytes,
        dedupe_bytes_max: 16 * 1024,
        seed: 7,
        now_ms: 1_000_000,
    };
    log.cleaner().clean(&order, &mut ByRecordKey, &mut |_| Ok(())).unwrap();
}

#[derive(Clone, Debug)]
enum Action {
    Append(Vec<usize>),
    FailToAppend,
    Flush,
    Trim(usize),
    Clean,
    Expire,
    Budget(u64),
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let append = || prop::collection::vec(1_usize..200, 1..5).prop_map(Action::Append);
    let action = prop_oneof![
        6 => append(),
        1 => Just(Action::FailToAppend),
        2 => Just(Action::Flush),
        2 => (0_usize..100).prop_map(Action::Trim),
        1 => Just(Action::Clean),
        1 => Just(Action::Expire),
        1 => prop_oneof![Just(0), Just(MIB), 0..4000_u64].prop_map(Action::Budget),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..40)
}

fn act(storage: &MemoryStorage, directory: &DataDirectory, log: &mut Option<Log>, action: &Action) {
    let open = log.as_mut().unwrap();
    match action {
        Action::Append(sizes) => {
            let mut next = open.log_end_offset();
            let batches = sizes.iter().map(|bytes| {
                let batch = batch_of(next, 0, &[next, next + 1], *bytes);
                next += 2;
                batch
            });
            open.append_many(&batches.collect::<Vec<_>>()).unwrap();
        }
        Action::FailToAppend => {
            storage.set_capacity(Some(0));
            let next = open.log_end_offset();
            assert!(matches!(open.append(batch_of(next, 0, &[1], 10)), Err(LogError::DiskFull(_))));
            storage.set_capacity(None);
        }
        Action::Flush => assert!(open.flush().is_ok()),
        Action::Trim(percent) => {
            let (start, end) = (open.log_start_offset(), open.log_end_offset());
            open.trim(start + (end - start) * *percent as i64 / 100).unwrap().run().unwrap();
        }
        Action::Clean => clean(open),
        Action::Expire => directory.tails().expire(),
        Action::Budget(bytes) => directory.tails().set_bytes_max(*bytes),
        Action::Reopen => {
            log.take().unwrap().close().unwrap();
            *log = Some(Log::open(directory, NAME, crate::testing::CONFIG, &mut |_| {}).unwrap().0);
        }
    }
}

/// Both give the same batches, as far as both go; and both give some, or none, or refuse alike.
fn compare(reader: &LogReader, from: i64, upto: i64, max_bytes: usize) -> bool {
    let file = reader.read(from, upto, max_bytes);
    match (reader.serve(from, upto, max_bytes), file) {
        (Ok(served), Ok(file)) => {
            assert_eq!(served.bytes.is_empty(), file.is_empty(), "{from} up to {upto}: {:?}", served.source);
            // A read of a file ends with its segment.
            assert!(served.bytes.starts_with(&file), "{from} up to {upto}, {max_bytes} bytes at most");
            let first = BatchHeader::decode(&served.bytes).map(|first| first.total_bytes()).unwrap_or(0);
            assert!(served.bytes.len() <= max_bytes.max(first), "no more than fits, but for the first");
            served.source == Source::Memory
        }
        (served, file) => {
            assert_eq!(served.map_err(|error| error.to_string()).err(), file.map_err(|error| error.to_string()).err());
            false
        }
    }
}

/// Every batch once, so that the wrong end of a range would show.
fn walk(reader: &LogReader, upto: i64, serve: impl Fn(i64) -> Bytes) -> Vec<Bytes> {
    let (mut offset, mut batches) = (reader.start_offset(), Vec::new());
    while offset < upto {
        let mut bytes = serve(offset);
        if bytes.is_empty() {
            break;
        }
        while let Ok(header) = BatchHeader::decode(&bytes) {
            offset = header.next_offset();
            batches.push(bytes.split_to(header.total_bytes()));
        }
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn memory_answers_as_the_files_would(
        actions in actions(),
        bytes_max in prop_oneof![Just(MIB), 500..5000_u64],
        reads in prop::collection::vec((-2..300_i64, 0..40_i64, 0_usize..2000), 1..20),
    ) {
        let (storage, directory, log) = tailed(bytes_max);
        let mut log = Some(log);
        for action in &actions {
            act(&storage, &directory, &mut log, action);
            let reader = log.as_ref().unwrap().reader();
            for (from, length, max_bytes) in &reads {
                compare(&reader, *from, from + length, *max_bytes);
            }
            let end = reader.end_offset();
            for upto in [end, end - 1] {
                let served = walk(&reader, upto, |offset| reader.served(offset, upto, 1000).unwrap());
                let file = walk(&reader, upto, |offset| reader.read(offset, upto, 1000).unwrap());
                prop_assert_eq!(served, file);
            }
            prop_assert!(directory.tails().bytes() <= bytes_max.max(MIB));
        }
    }
}
