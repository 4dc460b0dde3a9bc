//! PURE: what becomes of a batch.

use super::classifier::Verdict;
use super::key_map::KeyMap;
use super::marks::Marks;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::BatchHeader;

/// What becomes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It stays, byte for byte.
    Whole,
    /// Some of its records stay, or it gets a delete horizon.
    Part {
        /// The horizon to stamp, ms since the Unix epoch.
        horizon: Option<i64>,
    },
    /// No record stays, its header does: its producer must not be forgotten (CMP-5).
    Header,
    /// Nothing of it stays.
    Gone,
}

/// What the fate of every batch depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// Ms since the Unix epoch.
    pub(super) now_ms: i64,
    /// `delete.retention.ms`.
    pub(super) delete_retention_ms: u64,
}

/// What is known of the records of one batch.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tally {
    /// Records that there are.
    pub(super) records: u32,
    /// Of these, those without a newer one of their key.
    pub(super) newest: u32,
    /// Of these, tombstones.
    pub(super) tombstones: u32,
}

impl Circumstances {
    /// Whether the batch's tombstones are no longer needed: they have been there since the first cleaning for as long
    /// as readers were promised (CMP-3).
    pub(super) fn tombstones_go(&self, header: &BatchHeader) -> bool {
        let is_over = header.delete_horizon().is_some_and(|horizon| horizon <= self.now_ms);
        is_over || lacks(Mutant::TombstonesGoAtOnce)
    }

    /// What becomes of a batch of records. `is_needed`: what its header says of its producer must stay.
    pub(super) fn fate(&self, header: &BatchHeader, tally: Tally, is_needed: bool) -> Fate {
        let Tally { records, newest, tombstones } = tally;
        debug_assert!(tombstones <= newest && newest <= records, "each is a part of the one before");
        let goes = if self.tombstones_go(header) { tombstones } else { 0 };
        let stay = newest - goes;
        if stay == 0 {
            // An empty batch that is needed is whole already.
            return match (is_needed, records) {
                (true, 0) => Fate::Whole,
                (true, _) => Fate::Header,
                (false, _) => Fate::Gone,
            };
        }
        // The first cleaning that meets a tombstone says until when it stays.
        let is_first = tombstones > goes && header.delete_horizon().is_none();
        let retention_ms = i64::try_from(self.delete_retention_ms).unwrap_or(i64::MAX);
        let horizon = is_first.then(|| self.now_ms.saturating_add(retention_ms));
        if stay == records && horizon.is_none() { Fate::Whole } else { Fate::Part { horizon } }
    }
}

/// The records of a batch that was surveyed.
pub(super) fn tally_of_marks(header: &BatchHeader, marks: &Marks) -> Tally {
    let (newest, tombstones) = marks.count(header.base_offset, header.next_offset());
    Tally { records: u32::try_from(header.record_count).unwrap_or(0), newest, tombstones }
}

/// The records of a batch that was cleaned before, judged again: what the survey met lies behind them.
pub(super) fn tally_of_verdicts(verdicts: &[Verdict], survey: &KeyMap) -> Tally {
    let mut tally = Tally { records: u32::try_from(verdicts.len()).unwrap_or(u32::MAX), ..Tally::default() };
    for verdict in verdicts {
        if is_newest(*verdict, survey) {
            tally.newest += 1;
            tally.tombstones += u32::from(matches!(verdict, Verdict::Key { is_tombstone: true, .. }));
        }
    }
    tally
}

/// Whether a record that lies before all that was surveyed has no newer one there.
pub(super) fn is_newest(verdict: Verdict, survey: &KeyMap) -> bool {
    match verdict {
        Verdict::Keep => true,
        Verdict::Dead => false,
        Verdict::Key { hash, .. } => !survey.contains(hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use headwater_protocol::batch::{
        BatchBuilder, BatchLimits, BatchRewriter, Compression, ProducerStamp, RecordBatch,
    };

    const NOW: Circumstances = Circumstances { now_ms: 1000, delete_retention_ms: 50 };

    fn header(horizon: Option<i64>) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(5, Some(b"k"), None, &[]).unwrap();
        let batch = RecordBatch::decode(builder.build(ProducerStamp::NONE).unwrap().freeze()).unwrap();
        let records = batch.records(&BatchLimits::CLIENT).unwrap();
        let bytes = BatchRewriter::default().rewrite(&records, |_, _| true, horizon).unwrap();
        *RecordBatch::decode(Bytes::from(bytes)).unwrap().header()
    }

    fn fate(horizon: Option<i64>, (records, newest, tombstones): (u32, u32, u32), is_needed: bool) -> Fate {
        NOW.fate(&header(horizon), Tally { records, newest, tombstones }, is_needed)
    }

    #[test]
    fn nothing_is_written_anew_without_need() {
        assert_eq!(fate(None, (5, 5, 0), false), Fate::Whole);
        assert_eq!(fate(None, (5, 4, 0), false), Fate::Part { horizon: None });
        assert_eq!(fate(None, (5, 0, 0), false), Fate::Gone);
    }

    // covers CMP-3
    #[test]
    fn a_tombstone_stays_until_the_horizon_that_its_first_cleaning_stamps() {
        assert_eq!(fate(None, (5, 5, 1), false), Fate::Part { horizon: Some(1050) }, "all stay, and it is stamped");
        assert_eq!(fate(Some(1001), (5, 5, 1), false), Fate::Whole, "not yet, and not stamped anew");
        assert_eq!(fate(Some(1000), (5, 5, 1), false), Fate::Part { horizon: None }, "now");
        assert_eq!(fate(Some(1000), (1, 1, 1), false), Fate::Gone);
        assert_eq!(fate(None, (2, 1, 1), false), Fate::Part { horizon: Some(1050) });
    }

    // covers CMP-5
    #[test]
    fn a_producers_last_batch_stays_without_its_records() {
        assert_eq!(fate(None, (5, 0, 0), true), Fate::Header);
        assert_eq!(fate(Some(0), (1, 1, 1), true), Fate::Header);
        assert_eq!(fate(None, (0, 0, 0), true), Fate::Whole, "it is empty already");
        assert_eq!(fate(None, (0, 0, 0), false), Fate::Gone, "and goes when it is no longer the last");
    }
}
