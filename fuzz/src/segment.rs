//! A partition's directory with edited files: opened, read, opened again.

use crate::batch;
use crate::edits::edited;
use bytes::Bytes;
use headwater_log::storage::Storage;
use headwater_log::storage::memory::{MemoryStorage, Survivors};
use headwater_log::{DataDirectory, DumpError, Log, LogConfig, dump_segment};
use headwater_protocol::batch::{RecordBatch, stamp};
use headwater_protocol::ids::LeaderEpoch;
use std::path::Path;
use std::sync::Arc;

const DATA: &str = "/data";
const NAME: &str = "topic-0";
const BATCHES: usize = 9;

/// The first byte chooses which file is edited and whether the recovery points are written; the others edit it.
///
/// # Panics
/// When a log opens and can't be read to its end, serves what was never appended, or opens differently a second time.
pub fn recovery(input: &[u8]) {
    let Some((choice, edits)) = input.split_first() else { return };
    let (storage, appended) = written(choice & 1 == 1);
    let partition = Path::new(DATA).join(NAME);
    let mut paths = vec![Path::new(DATA).join("recovery-points.checkpoint")];
    let listed = storage.list(&partition).unwrap_or_default();
    paths.extend(listed.iter().map(|entry| partition.join(&entry.name)));
    let path = &paths[usize::from(choice / 2) % paths.len()];
    let Some(contents) = storage.contents(path) else { return };
    let planted = storage.plant(path, &edited(&contents, edits));
    assert!(planted.is_ok(), "{planted:?}");

    let Some(first) = opened(&storage) else { return };
    let served: Vec<&Bytes> = first.iter().collect();
    let known = |batch: &&&Bytes| appended.iter().any(|known| known == **batch);
    // An edit may change a batch's epoch, which its CRC does not cover; its records it can't.
    let strange = served.iter().filter(|batch| !known(batch)).count();
    let same_records = |batch: &Bytes| appended.iter().any(|known| known[16..] == batch[16..]);
    assert!(strange == 0 || served.iter().all(|batch| same_records(batch)), "nothing is served that was not appended");
    let again = opened(&storage);
    assert_eq!(again.as_ref(), Some(&first), "a second start finds the same");
}

/// Any bytes as a segment for whoever dumps it.
///
/// # Panics
/// Never, or the dump does.
pub fn dump(input: &[u8]) {
    let storage = MemoryStorage::new();
    let path = Path::new("/00000000000000000000.log");
    let bytes = if input.first().is_some_and(|first| first % 2 == 0) {
        edited(&written(false).1.concat(), input.get(1..).unwrap_or_default())
    } else {
        input.to_vec()
    };
    let planted = storage.plant(path, &bytes);
    assert!(planted.is_ok(), "{planted:?}");
    let mut bytes_seen = 0;
    let dumped = dump_segment::<DumpError>(&storage, path, |dumped| {
        bytes_seen += dumped.header.total_bytes() as u64;
        Ok(())
    });
    if let Ok(summary) = dumped {
        assert!(bytes_seen <= summary.bytes);
    }
}

/// A disk with a log of a few segments that was in use, and its batches.
fn written(is_checkpointed: bool) -> (MemoryStorage, Vec<Bytes>) {
    let storage = MemoryStorage::new();
    let mut appended = Vec::new();
    let Some((directory, mut log)) = open(&storage) else { return (storage, appended) };
    for number in 0..BATCHES {
        let mut batch = batch::valid(0, batch::PRODUCER);
        stamp(&mut batch, log.log_end_offset(), LeaderEpoch((number / 4) as i32));
        let batch = Bytes::from(batch);
        let outcome = log.append(batch.clone());
        assert!(outcome.is_ok(), "{outcome:?}");
        appended.push(batch);
    }
    assert!(log.flush().is_ok());
    if is_checkpointed {
        assert!(directory.checkpoint().is_ok());
    }
    drop((directory, log));
    storage.power_cut(Survivors::All);
    storage.write_back();
    (storage, appended)
}

fn open(storage: &MemoryStorage) -> Option<(DataDirectory, Log)> {
    let config = LogConfig { segment_bytes: 1024, index_interval_bytes: 1, ..LogConfig::default() };
    let directory = DataDirectory::open(Arc::new(storage.clone()), Path::new(DATA)).ok()?;
    let (log, _) = Log::open(&directory, NAME, config, &mut |_| {}).ok()?;
    Some((directory, log))
}

/// All that is served, or `None` when the partition is refused.
fn opened(storage: &MemoryStorage) -> Option<Vec<Bytes>> {
    let (_directory, log) = open(storage)?;
    let (reader, mut batches) = (log.reader(), Vec::new());
    let mut offset = reader.start_offset();
    while offset < reader.end_offset() {
        let read = reader.read(offset, i64::MAX, 10_000);
        let mut bytes = read.unwrap_or_else(|error| panic!("it opened and can't be read at {offset}: {error}"));
        let before = offset;
        while let Ok(Some(batch)) = RecordBatch::split_first(&mut bytes) {
            offset = batch.header().next_offset();
            batches.push(batch.into_bytes());
        }
        assert!(offset > before, "reading goes on");
    }
    Some(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_mutants::Mutant;

    crate::fuzz!(segment_recovery, 20_000, recovery);
    crate::fuzz!(dumps, 10_000, dump);

    #[test]
    fn a_target_notices_what_it_should() {
        // One flipped bit at byte 100 of each file in turn, nothing of which is below a recovery point.
        let noticed = |mutant| {
            let run = || (0..40).for_each(|choice| recovery(&[choice * 2, 1, 0, 100]));
            std::panic::catch_unwind(|| headwater_mutants::without(Some(mutant), run)).is_err()
        };
        assert!(noticed(Mutant::CrcSkippedAtRecovery), "a damaged batch is let in, and then can't be read");
    }

    #[test]
    fn what_is_edited_is_valid_before() {
        let (storage, appended) = written(true);
        assert_eq!((opened(&storage), appended.len()), (Some(appended), BATCHES));
    }
}
