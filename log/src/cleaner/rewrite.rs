//! The second pass: what is left of neighbouring segments becomes one.

use super::classifier::RecordClassifier;
use super::fate::{Circumstances, Fate, is_newest, tally_of_marks, tally_of_verdicts};
use super::output::Output;
use super::run::{CleanError, Pace};
use super::survey::Survey;
use crate::format::index::Place;
use crate::limits;
use crate::segment::Segment;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::{BatchLimits, BatchRewriter, RecordBatch, empty_batch};
use std::collections::BTreeSet;

/// What decides, and what is reused from batch to batch.
pub(super) struct Rewrite<'a> {
    pub(super) circumstances: Circumstances,
    pub(super) survey: &'a mut Survey,
    pub(super) headers_kept: &'a BTreeSet<i64>,
    pub(super) classifier: &'a mut dyn RecordClassifier,
    pub(super) rewriter: &'a mut BatchRewriter,
}

impl Rewrite<'_> {
    /// Puts into `output` what is left of a segment.
    pub(super) fn segment(
        &mut self,
        segment: &Segment,
        output: &mut Output<'_>,
        pace: Pace<'_>,
    ) -> Result<(), CleanError> {
        let place = Place { offset: segment.base_offset, position: 0 };
        let mut walk = segment.walk(place, limits::SCAN_BYTES_MAX);
        while let Some(walked) = walk.next().map_err(|stop| segment.damage(stop))? {
            // What is damaged is left to be found, not carried along.
            let batch = segment.verify(&walked).map_err(crate::error::LogError::from)?;
            pace(batch.bytes().len() as u64)?;
            self.batch(&batch, output)?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch, output: &mut Output<'_>) -> Result<(), CleanError> {
        let header = batch.header();
        let is_needed = self.headers_kept.contains(&header.base_offset) && !lacks(Mutant::CleaningForgetsProducers);
        if header.base_offset >= self.survey.end {
            return Ok(output.whole(header, batch.bytes())?);
        }
        if header.is_control() {
            // What it says of its producer, or nothing any more.
            if is_needed {
                output.whole(header, batch.bytes())?;
            } else {
                output.gone(header)?;
            }
            return Ok(());
        }
        let is_surveyed = header.base_offset >= self.survey.from;
        let mut records = None;
        let tally = match header.record_count {
            0 => super::fate::Tally::default(),
            _ if is_surveyed => tally_of_marks(header, &self.survey.marks),
            _ => {
                let read = records.insert(self.survey.reader.records(batch, &BatchLimits::INTERNAL)?);
                let judged = self.survey.judgements.judge(self.classifier, read);
                judged.map_err(|source| CleanError::Classifier { offset: header.base_offset, source })?;
                tally_of_verdicts(&self.survey.judgements.verdicts, &self.survey.keys)
            }
        };
        let horizon = match self.circumstances.fate(header, tally, is_needed) {
            Fate::Whole => return Ok(output.whole(header, batch.bytes())?),
            Fate::Gone => return Ok(output.gone(header)?),
            Fate::Header => return Ok(output.replaced(&empty_batch(header))?),
            Fate::Part { horizon } => horizon,
        };
        let records = match records {
            Some(records) => records,
            None => self.survey.reader.records(batch, &BatchLimits::INTERNAL)?,
        };
        let tombstones_go = self.circumstances.tombstones_go(header);
        let Survey { keys, marks, judgements, .. } = &*self.survey;
        let left = self.rewriter.rewrite(
            &records,
            |index, record| {
                let (is_newest, is_tombstone) = if is_surveyed {
                    (marks.stays(record.offset), marks.is_tombstone(record.offset))
                } else {
                    let verdict = judgements.verdicts.get(index).copied();
                    verdict.map_or((true, false), |verdict| (is_newest(verdict, keys), verdict.is_tombstone()))
                };
                is_newest && !(is_tombstone && tombstones_go)
            },
            horizon,
        )?;
        Ok(output.replaced(&left)?)
    }
}
