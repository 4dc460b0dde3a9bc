//! How a task's changelog is cleaned: state by its keys, outputs and steps below the durable floor (STEP-13).

use headwater_core::producer::sequence::low_bits;
use headwater_core::replica::Cleanable;
use headwater_core::task::commit::{ChangelogVerdict, Commit, CommitError, changelog_verdict};
use headwater_log::cleaner::{ClassifierError, ClassifierIdentity, Judgements, RecordClassifier};
use headwater_log::{LogError, LogReader};
use headwater_protocol::batch::{RecordBatch, Records};

/// Bytes of a changelog that are read at a time.
const SEARCH_READ_BYTES: usize = 1 << 20;

/// Judges the records of commits below the durable floor.
#[derive(Clone, Copy, Default, Debug)]
pub struct ByCommitKey;

impl RecordClassifier for ByCommitKey {
    fn identity(&self) -> ClassifierIdentity {
        *b"commit key, version 1\0\0\0\0\0\0\0\0\0\0\0"
    }

    fn classify(&mut self, records: &Records, judgements: &mut Judgements) -> Result<(), ClassifierError> {
        for record in records {
            let record = record.map_err(|error| ClassifierError(error.to_string()))?;
            match (changelog_verdict(record.key, record.value.is_some()), record.key) {
                (ChangelogVerdict::Key, Some(key)) => judgements.key(key),
                (ChangelogVerdict::Tombstone, Some(key)) => judgements.tombstone(key),
                (ChangelogVerdict::Dead, _) => judgements.dead(),
                (ChangelogVerdict::Keep | ChangelogVerdict::Key | ChangelogVerdict::Tombstone, _) => judgements.keep(),
            }
        }
        Ok(())
    }
}

/// Why a changelog can't be cleaned.
#[derive(Debug, thiserror::Error)]
pub enum ChangelogError {
    /// Disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Disk, or us.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The first offset of a changelog that must stay as it is: that of the commit of the durable floor, or the newest
/// commit's. `None`: there is nothing to clean.
///
/// What is cleanable was asked for when the newest commit was written, and is known to be durable: so is its floor.
///
/// # Errors
/// `ChangelogError`.
pub fn first_uncleanable(reader: &LogReader, cleanable: &Cleanable) -> Result<Option<i64>, ChangelogError> {
    let Some(newest) = cleanable.headers_kept.last().copied() else { return Ok(None) };
    let mut bytes = reader.read(newest, cleanable.upto, 1)?;
    let Some(batch) = RecordBatch::split_first(&mut bytes).map_err(CommitError::from)? else { return Ok(None) };
    let commit = Commit::decode(&batch)?;
    let (tip, floor) = (commit.step().step, commit.step().floor);
    if floor >= tip {
        return Ok(Some(newest));
    }
    // Not far back: only so many steps may be unacknowledged (STEP-15). Segment by segment, the newest first.
    let mut end = newest;
    let ends: Vec<i64> = reader.segment_facts().iter().map(|segment| segment.next_offset).collect();
    let start = reader.start_offset();
    let starts = std::iter::once(start).chain(ends.into_iter().filter(|end| *end > start && *end <= newest));
    for begin in starts.collect::<Vec<_>>().into_iter().rev() {
        if let Some(found) = find_step(reader, begin, end, commit.task().producer_id().map(|id| id.0), floor)? {
            return Ok(Some(found));
        }
        end = begin;
    }
    Ok(None)
}

/// The offset of a step's commit among those from `begin` up to and without `end`.
fn find_step(
    reader: &LogReader,
    begin: i64,
    end: i64,
    producer_id: Option<i64>,
    step: u64,
) -> Result<Option<i64>, ChangelogError> {
    let (mut offset, mut found) = (begin, None);
    while offset < end {
        let mut bytes = reader.read(offset, end, SEARCH_READ_BYTES)?;
        let before = offset;
        while let Some(batch) = RecordBatch::split_first(&mut bytes).map_err(CommitError::from)? {
            let header = batch.header();
            let is_it = Commit::is_commit(header)
                && Some(header.producer_id) == producer_id
                && header.base_sequence == low_bits(step);
            if is_it {
                found = Some(header.base_offset);
            }
            offset = header.next_offset();
        }
        if offset == before {
            break;
        }
    }
    Ok(found)
}
