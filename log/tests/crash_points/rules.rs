//! What must hold of every disk that comes back.

use super::world::{BATCH_RECORDS, CONFIG, DATA, Existence, NAME, Promises, Seen, batch, lost_bytes, timestamp};
use bytes::Bytes;
use headwater_log::storage::memory::{MemoryStorage, Survivors};
use headwater_log::{DataDirectory, Log, RecoveryReport};
use headwater_protocol::batch::RecordBatch;
use std::path::Path;
use std::sync::Arc;

/// What a start found.
struct Found {
    directory: DataDirectory,
    log: Log,
    report: RecoveryReport,
    batches: Vec<Bytes>,
    seen: Seen,
}

/// Opens what came back, holds it against what was promised, and goes on working with it.
///
/// # Errors
/// The rule that is violated, and how.
pub(crate) fn check(storage: &MemoryStorage, promises: &Promises) -> Result<(), String> {
    if promises.existence != Existence::There {
        let directory = open_directory(storage)?;
        let is_there = directory.partitions().map_err(text)?.iter().any(|name| name == NAME);
        match promises.existence {
            Existence::Gone if is_there => return Err("a partition came back that was removed".to_owned()),
            _ if !is_there => return begins_anew(&directory, storage),
            _ => {}
        }
    }
    let lost_before = lost_bytes(storage);
    let found = open(storage)?;
    let start = found.log.log_start_offset();
    compare(&found, promises)?;
    promises.compare_derived(&found.seen, start)?;
    let seen = found.seen.clone();
    if let Some(lost) = &found.report.lost_tail
        && lost_bytes(storage) < lost_before + lost.bytes
    {
        return Err(format!("LOG-2: {} bytes were cut off and are not in lost+found", lost.bytes));
    }
    let (batches, end) = (found.batches.clone(), found.log.log_end_offset());
    lookups(&found)?;
    drop(found);

    // A second start finds the same, with nothing to mend.
    let mut again = open(storage).map_err(|error| format!("at the second start: {error}"))?;
    if again.batches != batches
        || again.log.log_start_offset() != start
        || again.report.lost_tail.is_some()
        || again.seen != seen
    {
        return Err(format!("LOG-2: a second start finds something else: {:?}", again.report));
    }
    go_on(&mut again, storage, &batches, end)
}

/// The log works, and what it promises now holds as well.
fn go_on(found: &mut Found, storage: &MemoryStorage, batches: &[Bytes], end: i64) -> Result<(), String> {
    let epoch = found.log.epochs().newest().unwrap_or(0);
    let mut expected = batches.to_vec();
    // Two segments' worth, so that the end of what came back is sealed as well.
    for number in (end / BATCH_RECORDS..).take(7) {
        let bytes = batch(number, epoch, 99);
        found.log.append(bytes.clone()).map_err(|error| format!("the next append: {error}"))?;
        expected.push(bytes);
    }
    found.log.flush().map_err(text)?;
    found.directory.checkpoint().map_err(text)?;
    storage.power_cut(Survivors::None);
    let last = open(storage).map_err(|error| format!("after going on: {error}"))?;
    if last.batches != expected {
        return Err("LOG-1: what was made durable after the crash is not there after another one".to_owned());
    }
    lookups(&last)
}

/// After a removal the name is free: a new partition is empty and works.
fn begins_anew(directory: &DataDirectory, storage: &MemoryStorage) -> Result<(), String> {
    let (mut log, _) = Log::open(directory, NAME, CONFIG, &mut |_| {}).map_err(text)?;
    if log.log_end_offset() != 0 {
        return Err("LOG-10: a new partition begins where a removed one ended".to_owned());
    }
    let first = batch(0, 0, 98);
    log.append(first.clone()).and_then(|_| log.flush()).map_err(text)?;
    drop(log);
    storage.power_cut(Survivors::None);
    let found = open(storage).map_err(|error| format!("after a removal: {error}"))?;
    if found.batches == [first] { Ok(()) } else { Err("LOG-1: the new partition lost what was durable".to_owned()) }
}

fn open_directory(storage: &MemoryStorage) -> Result<DataDirectory, String> {
    DataDirectory::open(Arc::new(storage.clone()), Path::new(DATA)).map_err(text)
}

fn open(storage: &MemoryStorage) -> Result<Found, String> {
    let directory = open_directory(storage)?;
    let mut seen = Seen::default();
    let (log, report) = Log::open_derived(&directory, NAME, CONFIG, &mut seen).map_err(text)?;
    let batches = read_all(&log)?;
    Ok(Found { directory, log, report, batches, seen })
}

fn read_all(log: &Log) -> Result<Vec<Bytes>, String> {
    let (reader, mut batches) = (log.reader(), Vec::new());
    let mut offset = reader.start_offset();
    while offset < reader.end_offset() {
        let mut bytes = reader.read(offset, i64::MAX, 700).map_err(text)?;
        let before = offset;
        while let Some(batch) = RecordBatch::split_first(&mut bytes).map_err(text)? {
            offset = batch.header().next_offset();
            batches.push(batch.into_bytes());
        }
        if offset == before {
            return Err(format!("LOG-1: nothing can be read at offset {offset}"));
        }
    }
    Ok(batches)
}

fn compare(found: &Found, promises: &Promises) -> Result<(), String> {
    let (start, end) = (found.log.log_start_offset(), found.log.log_end_offset());
    if end < promises.durable {
        return Err(format!("LOG-1: the log ends at {end}, but {} was promised", promises.durable));
    }
    if !(promises.start..=promises.start_asked.max(promises.start)).contains(&start) {
        let (least, most) = (promises.start, promises.start_asked);
        return Err(format!("LOG-6: the log begins at {start}; {least} to {most} is what was asked for"));
    }
    let first = usize::try_from(start / BATCH_RECORDS).unwrap_or(usize::MAX);
    let expected = [promises.appended.as_slice(), &promises.in_flight].concat();
    if !expected.get(first..).unwrap_or_default().starts_with(&found.batches) {
        return Err(format!("LOG-2: what is served from {start} on is not what was appended"));
    }
    for batch in &found.batches {
        let header = RecordBatch::decode(batch.clone()).map_err(text)?;
        let (offset, epoch) = (header.header().base_offset, header.header().partition_leader_epoch);
        if found.log.epochs().epoch_at(offset) != Some(epoch) {
            let epochs = found.log.epochs().entries();
            return Err(format!("LOG-6: the batch at {offset} is of epoch {epoch}, not as in {epochs:?}"));
        }
    }
    Ok(())
}

/// Every offset and every timestamp is found, whatever became of the indexes (LOG-4).
fn lookups(found: &Found) -> Result<(), String> {
    let reader = found.log.reader();
    let (start, end) = (reader.start_offset(), reader.end_offset());
    for offset in start..end {
        let mut bytes = reader.read(offset, i64::MAX, 1).map_err(text)?;
        let batch = RecordBatch::split_first(&mut bytes).map_err(text)?;
        let range = batch.map_or(0..0, |batch| batch.header().base_offset..batch.header().next_offset());
        if !range.contains(&offset) {
            return Err(format!("LOG-4: asked for {offset}, the log gives {range:?}"));
        }
    }
    let stamps: Vec<i64> =
        (start..end).map(|offset| timestamp(offset / BATCH_RECORDS, offset % BATCH_RECORDS)).collect();
    for wanted in stamps.first().map_or(0..0, |first| *first - 5..stamps[stamps.len() - 1] + 5).step_by(5) {
        let place = stamps.iter().position(|stamp| *stamp >= wanted);
        let expected = place.map(|place| start + place as i64);
        let answer = reader.offset_for_timestamp(wanted, i64::MAX).map_err(text)?.map(|found| found.offset);
        if answer != expected {
            return Err(format!("LOG-4: at timestamp {wanted} comes {answer:?}, not {expected:?}"));
        }
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
