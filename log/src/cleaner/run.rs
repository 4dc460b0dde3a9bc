//! The cleaning of one log, from the survey to the last swap.

use super::checkpoint::{self, Cleaned};
use super::classifier::{ClassifierError, ClassifierIdentity, RecordClassifier};
use super::fate::Circumstances;
use super::output::Output;
use super::plan::{self, CleaningPolicy, SegmentFacts, Standing};
use super::rewrite::Rewrite;
use super::survey::Survey;
use super::swap;
use crate::checkpoint_file;
use crate::error::{Damage, LogError};
use crate::format::index::Place;
use crate::format::names;
use crate::limits;
use crate::segment::Segment;
use crate::shared::LogShared;
use headwater_protocol::batch::{BatchError, BatchRewriter};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Cleans a log, beside its writer and its readers; clones clean the same log, one at a time.
#[derive(Clone, Debug)]
pub struct LogCleaner {
    shared: Arc<LogShared>,
}

/// How to clean, and up to where.
#[derive(Clone, Copy, Debug)]
pub struct CleaningOrder<'a> {
    /// The topic's settings.
    pub policy: CleaningPolicy,
    /// Nothing at or above this offset changes: not above the high watermark, nor above what is durable (CMP-2).
    pub upto: i64,
    /// Base offsets of the batches whose headers must stay, of those below `upto`: what producers wrote last (CMP-5).
    pub headers_kept: &'a BTreeSet<i64>,
    /// Segments are put together up to so many bytes (`segment.bytes`).
    pub segment_bytes: u64,
    /// Memory for keys and marks; from [`limits::CLEANER_DEDUPE_BYTES_MIN`] on every batch fits.
    pub dedupe_bytes_max: usize,
    /// Keys are hashed with it; random, so that nobody can choose keys that collide.
    pub seed: u64,
    /// Ms since the Unix epoch.
    pub now_ms: i64,
}

/// Told of bytes that are about to be read or were surveyed, it waits as long as they should take.
pub(super) type Pace<'a> = &'a mut dyn FnMut(u64) -> Result<(), Interrupted>;

/// The cleaning was told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the cleaning was interrupted")]
pub struct Interrupted;

/// Why a cleaning ended early. What it has put in place stays, the rest is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// Disk, mostly.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Whoever judges: a guest, mostly.
    #[error("the batch at offset {offset} can't be judged: {source}")]
    Classifier {
        /// The batch's base offset.
        offset: i64,
        /// What went wrong.
        source: ClassifierError,
    },
    /// Us, or the operator.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Disk: a batch passes its checksum and can't be read.
    #[error("a batch can't be read: {0}")]
    Batch(#[from] BatchError),
    /// Us: less memory than a batch may need.
    #[error("the records of the batch at offset {offset} don't fit into {bytes_max} bytes of keys: allow more")]
    NoRoom {
        /// The batch's base offset.
        offset: i64,
        /// The memory that was allowed.
        bytes_max: usize,
    },
    /// Another cleaning of this log is under way, or one could not be finished on the disk.
    #[error("another cleaning of this log has not ended")]
    Busy,
}

impl From<Damage> for CleanError {
    fn from(damage: Damage) -> Self {
        Self::Log(damage.into())
    }
}

/// What a cleaning did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CleaningReport {
    /// How often the keys had to be gathered, because they did not fit the memory at once.
    pub passes: u32,
    /// Bytes read, in both passes.
    pub bytes_read: u64,
    /// Bytes of the log before and after.
    pub bytes_before: u64,
    /// As `bytes_before`.
    pub bytes_after: u64,
    /// Bytes of memory that keys and marks had.
    pub dedupe_bytes: usize,
    /// The first dirty offset now.
    pub first_dirty: i64,
}

impl LogCleaner {
    pub(crate) fn new(shared: Arc<LogShared>) -> Self {
        Self { shared }
    }

    /// How the log stands, and whether it should be cleaned, by the classifier of this identity, at `now_ms`.
    ///
    /// # Errors
    /// The disk's; [`LogError::Checkpoint`] for a file of a newer version.
    pub fn look(
        &self,
        policy: &CleaningPolicy,
        identity: ClassifierIdentity,
        upto: i64,
        now_ms: i64,
    ) -> Result<(Standing, bool), LogError> {
        let segments = self.shared.segments();
        let first_dirty = self.first_dirty(identity)?;
        let standing = Standing::of(policy, &facts(&segments), first_dirty, upto, now_ms);
        let oldest_dirty = match policy.lag_ms_max {
            Some(_) if standing.is_dirty() => oldest_dirty(&segments, standing.first_dirty)?,
            _ => None,
        };
        Ok((standing, standing.is_due(policy, oldest_dirty, now_ms)))
    }

    /// What the checkpoint says: below which offset everything was cleaned, by whichever classifier; 0 without one.
    ///
    /// # Errors
    /// As [`LogCleaner::look`].
    pub fn checkpoint(&self, identity: ClassifierIdentity) -> Result<i64, LogError> {
        self.first_dirty(identity)?;
        Ok(self.shared.cleaned.lock().map_or(0, |cleaned| cleaned.first_dirty))
    }

    /// Below it everything was cleaned by the classifier of this identity.
    fn first_dirty(&self, identity: ClassifierIdentity) -> Result<i64, LogError> {
        let mut cleaned = self.shared.cleaned.lock();
        if cleaned.is_none() {
            let directory = &self.shared.directory;
            let path = self.shared.path.join(names::CLEANER);
            let read = checkpoint_file::read(directory.storage().as_ref(), &path, checkpoint::decode)?;
            *cleaned = Some(read.unwrap_or(Cleaned { first_dirty: 0, identity }));
        }
        let known = cleaned.filter(|cleaned| cleaned.identity == identity);
        Ok(known.map_or(0, |cleaned| cleaned.first_dirty))
    }

    /// Cleans everything that can be cleaned, whether or not it is due. Blocks as long as that takes; `pace` is told
    /// of bytes before they are handled, and may wait or end it.
    ///
    /// Crash: at each moment the log is as it was, or with some of its segments cleaned; what it says of each key is
    /// the same (CMP-7, CMP-8).
    ///
    /// # Errors
    /// [`CleanError`].
    pub fn clean(
        &self,
        order: &CleaningOrder<'_>,
        classifier: &mut dyn RecordClassifier,
        pace: &mut dyn FnMut(u64) -> Result<(), Interrupted>,
    ) -> Result<CleaningReport, CleanError> {
        let Some(_one_at_a_time) = self.shared.cleaning.try_lock() else { return Err(CleanError::Busy) };
        if self.shared.swap_is_open.load(Ordering::Acquire) {
            return Err(CleanError::Busy);
        }
        let mut report = CleaningReport { bytes_before: self.shared.size_bytes(), ..CleaningReport::default() };
        let identity = classifier.identity();
        let (mut standing, _) = self.look(&order.policy, identity, order.upto, order.now_ms)?;
        let records = usize::try_from(standing.end - standing.first_dirty).unwrap_or(0);
        let mut survey = Survey::new(records, order.dedupe_bytes_max, order.seed);
        let mut counted = 0;
        let mut pace = |bytes| {
            counted += bytes;
            pace(bytes)
        };
        while standing.is_dirty() {
            self.survey(&standing, &mut survey, classifier, &mut pace)?;
            if survey.end <= standing.first_dirty {
                return Err(CleanError::NoRoom { offset: standing.first_dirty, bytes_max: order.dedupe_bytes_max });
            }
            self.rewrite(order, standing.end, &mut survey, classifier, &mut pace)?;
            standing.first_dirty = survey.end;
            self.note(Cleaned { first_dirty: survey.end, identity })?;
            report.passes += 1;
        }
        report.dedupe_bytes = survey.bytes();
        report.bytes_read = counted;
        report.bytes_after = self.shared.size_bytes();
        report.first_dirty = standing.first_dirty;
        Ok(report)
    }

    fn survey(
        &self,
        standing: &Standing,
        survey: &mut Survey,
        classifier: &mut dyn RecordClassifier,
        pace: Pace<'_>,
    ) -> Result<(), CleanError> {
        survey.begin(standing.first_dirty);
        for segment in self.shared.segments().iter() {
            if segment.next_offset() <= standing.first_dirty {
                continue;
            }
            if segment.base_offset >= standing.end {
                break;
            }
            let place = Place { offset: segment.base_offset, position: 0 };
            let mut walk = segment.walk(place, limits::SCAN_BYTES_MAX);
            while let Some(walked) = walk.next().map_err(|stop| segment.damage(stop))? {
                if walked.header.next_offset() <= standing.first_dirty {
                    continue;
                }
                let batch = segment.verify(&walked)?;
                pace(batch.bytes().len() as u64)?;
                if !survey.take(&batch, classifier)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Rewrites what lies below `end`, as far as the survey knows of it.
    fn rewrite(
        &self,
        order: &CleaningOrder<'_>,
        end: i64,
        survey: &mut Survey,
        classifier: &mut dyn RecordClassifier,
        pace: Pace<'_>,
    ) -> Result<(), CleanError> {
        let segments = self.shared.segments();
        let end = end.min(survey.end);
        let concerned = segments.iter().take_while(|segment| segment.base_offset < end).count();
        let mut segments = &segments[..concerned];
        let (now_ms, delete_retention_ms) = (order.now_ms, order.policy.delete_retention_ms);
        let mut rewriter = BatchRewriter::default();
        for count in plan::groups(&facts(segments), order.segment_bytes) {
            let (group, rest) = segments.split_at(count.min(segments.len()));
            segments = rest;
            let Some(first) = group.first() else { break };
            let mut rewrite = Rewrite {
                circumstances: Circumstances { now_ms, delete_retention_ms },
                survey,
                headers_kept: order.headers_kept,
                classifier,
                rewriter: &mut rewriter,
            };
            let mut output = Output::new(&self.shared, first);
            let written = rewrite_group(group, &mut rewrite, &mut output, pace);
            match written {
                Ok(Some(written)) => drop(swap::swap(&self.shared, group, written)?),
                Ok(None) => {}
                Err(error) => {
                    output.discard();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes down how far the log is cleaned.
    fn note(&self, cleaned: Cleaned) -> Result<(), LogError> {
        let directory = &self.shared.directory;
        let _names = self.shared.files.lock();
        self.shared.check_open()?;
        directory.health().check()?;
        let path = self.shared.path.join(names::CLEANER);
        checkpoint_file::write(directory.storage().as_ref(), &path, &checkpoint::encode(&cleaned))
            .map_err(|error| directory.failed(error))?;
        *self.shared.cleaned.lock() = Some(cleaned);
        Ok(())
    }
}

fn rewrite_group(
    group: &[Arc<Segment>],
    rewrite: &mut Rewrite<'_>,
    output: &mut Output<'_>,
    pace: Pace<'_>,
) -> Result<Option<super::output::Written>, CleanError> {
    if group.len() > 1 {
        output.start()?;
    }
    for segment in group {
        rewrite.segment(segment, output, pace)?;
    }
    Ok(output.finish()?)
}

fn facts(segments: &[Arc<Segment>]) -> Vec<SegmentFacts> {
    let facts = |segment: &Arc<Segment>| SegmentFacts {
        base_offset: segment.base_offset,
        next_offset: segment.next_offset(),
        bytes: segment.bytes(),
        newest_timestamp: segment.newest().map(|newest| newest.timestamp).filter(|timestamp| *timestamp >= 0),
        is_synced: segment.is_synced(),
    };
    segments.iter().map(facts).collect()
}

/// The timestamp of the first dirty batch that has one.
fn oldest_dirty(segments: &[Arc<Segment>], first_dirty: i64) -> Result<Option<i64>, LogError> {
    let Some(segment) = segments.iter().find(|segment| segment.next_offset() > first_dirty) else { return Ok(None) };
    let place = Place { offset: segment.base_offset, position: 0 };
    let mut walk = segment.walk(place, limits::READ_BYTES_MIN);
    while let Some(walked) = walk.next().map_err(|stop| segment.damage(stop))? {
        if walked.header.next_offset() > first_dirty && walked.header.max_timestamp >= 0 {
            return Ok(Some(walked.header.max_timestamp));
        }
    }
    Ok(None)
}
