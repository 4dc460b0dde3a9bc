//! The first pass: goes through dirty batches and finds out which of their records are the newest of their keys.

use super::classifier::{Judgements, RecordClassifier, Verdict};
use super::key_map::KeyMap;
use super::marks::Marks;
use super::run::CleanError;
use crate::limits;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::{BatchLimits, RecordBatch, RecordsReader};

/// What is known of the dirty records from `from` up to and without `end`.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) keys: KeyMap,
    pub(super) marks: Marks,
    pub(super) from: i64,
    pub(super) end: i64,
    pub(super) judgements: Judgements,
    pub(super) reader: RecordsReader,
    /// How many offsets the marks may cover.
    marks_max: i64,
}

impl Survey {
    /// A survey that takes `bytes_max` bytes at most, for about so many records.
    pub(super) fn new(records: usize, bytes_max: usize, seed: u64) -> Self {
        let marks_bytes = bytes_max / limits::CLEANER_MARKS_PART;
        // Two bits each, in whole words.
        let marks_max = i64::try_from((marks_bytes / 16).max(1)).unwrap_or(i64::MAX).saturating_mul(64);
        Self {
            keys: KeyMap::new(records, bytes_max - marks_bytes),
            marks: Marks::with_room(marks_max.min(i64::try_from(records).unwrap_or(i64::MAX))),
            from: 0,
            end: 0,
            judgements: Judgements::new(seed),
            reader: RecordsReader::default(),
            marks_max,
        }
    }

    /// Bytes that it takes now.
    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + self.marks.bytes()
    }

    #[cfg(test)]
    pub(super) fn marks_max(&self) -> i64 {
        self.marks_max
    }

    /// Begins anew at an offset.
    pub(super) fn begin(&mut self, from: i64) {
        self.keys.clear();
        self.marks.clear();
        (self.from, self.end) = (from, from);
    }

    /// Takes in the next batch. `false`: there is no room for it, it begins the next pass.
    pub(super) fn take(
        &mut self,
        batch: &RecordBatch,
        classifier: &mut dyn RecordClassifier,
    ) -> Result<bool, CleanError> {
        let header = batch.header();
        debug_assert!(header.base_offset >= self.end || self.end == self.from, "batches come in order");
        if header.is_control() || header.record_count == 0 {
            self.end = header.next_offset();
            return Ok(true);
        }
        let (base_offset, next_offset) = (header.base_offset, header.next_offset());
        let records = usize::try_from(header.record_count).unwrap_or(usize::MAX);
        // What it needs at most is compared, so that whether it fits does not depend on what is in it.
        if records > self.keys.room() || !self.marks.fits(base_offset, next_offset, self.marks_max) {
            return Ok(false);
        }
        let records = self.reader.records(batch, &BatchLimits::INTERNAL)?;
        self.judgements
            .judge(classifier, &records)
            .map_err(|source| CleanError::Classifier { offset: base_offset, source })?;
        self.marks.cover(base_offset, next_offset);
        for (record, verdict) in records.iter().zip(&self.judgements.verdicts) {
            let offset = record?.offset;
            match *verdict {
                Verdict::Keep => self.marks.set_stays(offset, true),
                Verdict::Dead => {}
                Verdict::Key { hash, is_tombstone } => {
                    let before = self.keys.note(hash, offset);
                    self.marks.set_stays(offset, before.is_none() || !lacks(Mutant::OldestStays));
                    if let Some(before) = before.filter(|_| !lacks(Mutant::OldestStays)) {
                        self.marks.set_stays(before, false);
                    }
                    if is_tombstone {
                        self.marks.set_tombstone(offset);
                    }
                }
            }
        }
        self.end = next_offset;
        Ok(true)
    }
}
