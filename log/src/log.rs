//! The log of one partition: the writer's side.

mod delete;
mod keep;
mod open;
mod repair;
#[cfg(test)]
mod tests;
mod trim;

pub(crate) use keep::PendingSnapshot;
pub use open::{LostTail, RecoveryReport};
pub use trim::TrimJob;

use crate::cleaner::LogCleaner;
use crate::config::LogConfig;
use crate::directory::Registration;
use crate::error::LogError;
use crate::flush::{Durable, FlushJob, FlushPlan, FlushResult, PlannedSync, Position};
use crate::format::epochs::LeaderEpochs;
use crate::limits;
use crate::reader::LogReader;
use crate::segment::Segment;
use crate::shared::LogShared;
use bytes::Bytes;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::{BatchError, BatchHeader};
use headwater_protocol::ids::LeaderEpoch;
use keep::Keeping;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The log of one partition, for its one writer. [`Log::reader`] gives readers, [`Log::begin_flush`] flush jobs; both
/// work on other threads meanwhile.
#[derive(Debug)]
pub struct Log {
    // Dropped first: nobody changes the files once the registration is given back.
    _mark: OpenMark,
    shared: Arc<LogShared>,
    registration: Registration,
    config: LogConfig,
    /// The last segment, unless nothing was ever appended.
    active: Option<Arc<Segment>>,
    /// The largest timestamp of the active segment's first batch.
    first_timestamp: Option<i64>,
    epochs: LeaderEpochs,
    /// Counts changes of `epochs`, and which of them is in the file.
    epochs_version: u64,
    epochs_synced: u64,
    /// The version that has to be in the file: what came later is a reign without a record so far.
    epochs_needed: u64,
    /// Counts names made in the partition's directory, and how many of them are synced.
    names_made: u64,
    names_synced: u64,
    /// Whether the name of the partition's directory may not be synced.
    is_new: bool,
    durable_offset: i64,
    /// Where the log ended when it was opened.
    inherited_offset: i64,
    /// Reused from append to append.
    headers: Vec<BatchHeader>,
    keeping: Keeping,
}

/// Tells the cleaner, when dropped, that the log is not open any more.
#[derive(Debug)]
struct OpenMark(Arc<LogShared>);

impl Drop for OpenMark {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Log {
    /// Appends one whole batch, stamped with the log's end offset and its leader epoch, and checked at the door.
    ///
    /// On return it is written: the process may die (LOG-1). Readers see it at once.
    ///
    /// # Errors
    /// As [`Log::append_many`].
    pub fn append(&mut self, batch: Bytes) -> Result<Position, LogError> {
        self.append_many(std::slice::from_ref(&batch))
    }

    /// Appends batches that follow one another, by one write to one segment: all of them or, on an error, none.
    ///
    /// # Errors
    /// [`LogError::DiskFull`]: nothing was appended, and the log takes appends when there is room again.
    /// [`LogError::DirectoryFailed`]: nothing more is appended in this data directory (LOG-7). Else the batches are not
    /// what they should be: [`LogError::NotABatch`], [`LogError::OutOfOrder`], [`LogError::AppendTooLarge`],
    /// [`LogError::EpochFellBack`].
    pub fn append_many(&mut self, batches: &[Bytes]) -> Result<Position, LogError> {
        self.shared.directory.health().check()?;
        let base_offset = self.log_end_offset();
        let bytes = self.check(batches)?;
        let (Some(first), Some(last)) = (self.headers.first().copied(), self.headers.last().copied()) else {
            return Ok(Position { base_offset, next_offset: base_offset });
        };
        let segment = self.segment_for(&first, &last, bytes)?;
        self.write(&segment, batches)?;
        if segment.bytes() == 0 {
            self.first_timestamp = Some(first.max_timestamp);
        }
        segment.publish(&self.headers);
        self.shared.tail.appended(self.shared.directory.tails(), &self.headers, batches);
        self.keeping.appended(bytes as u64);
        for header in &self.headers {
            // An epoch of -1 stands for none.
            if header.partition_leader_epoch >= 0
                && self.epochs.assign(header.partition_leader_epoch, header.base_offset) == Some(true)
            {
                self.epochs_version += 1;
            }
        }
        self.epochs_needed = self.epochs_version;
        self.shared.set_end_offset(last.next_offset());
        if lacks(Mutant::PointAheadOfSync) {
            self.shared.point.next_offset.store(last.next_offset(), Ordering::Release);
        }
        debug_assert_eq!(segment.next_offset(), self.log_end_offset(), "the last segment ends where the log does");
        Ok(Position { base_offset, next_offset: last.next_offset() })
    }

    /// Decodes the batches' headers; how many bytes they are together.
    fn check(&mut self, batches: &[Bytes]) -> Result<usize, LogError> {
        self.headers.clear();
        let mut expected = self.log_end_offset();
        let mut newest_epoch = self.epochs.newest().unwrap_or(-1);
        let mut bytes = 0;
        for batch in batches {
            let header = BatchHeader::decode(batch)?;
            let (needed, have) = (header.total_bytes(), batch.len());
            if have < needed {
                return Err(BatchError::Truncated { needed, have }.into());
            }
            if have > needed {
                return Err(BatchError::TrailingBytes { bytes: have - needed }.into());
            }
            if header.base_offset != expected {
                return Err(LogError::OutOfOrder { expected, found: header.base_offset });
            }
            let epoch = header.partition_leader_epoch;
            if epoch >= 0 && epoch < newest_epoch {
                return Err(LogError::EpochFellBack { asked: epoch, newest: newest_epoch });
            }
            newest_epoch = newest_epoch.max(epoch);
            expected = header.next_offset();
            bytes += needed;
            self.headers.push(header);
        }
        if bytes > limits::APPEND_BYTES_MAX {
            return Err(LogError::AppendTooLarge { bytes, bytes_max: limits::APPEND_BYTES_MAX });
        }
        Ok(bytes)
    }

    /// The segment to append to: the active one, or a new one.
    fn segment_for(&mut self, first: &BatchHeader, last: &BatchHeader, bytes: usize) -> Result<Arc<Segment>, LogError> {
        if let Some(active) = &self.active {
            let is_full = active.bytes() + bytes as u64 > self.config.segment_bytes;
            // Offsets in an index are 32 bits wide.
            let is_wide = last.last_offset() - active.base_offset > i64::from(i32::MAX);
            let age = self.first_timestamp.map_or(0, |oldest| first.max_timestamp.saturating_sub(oldest));
            let is_old = u64::try_from(age).is_ok_and(|age| age >= self.config.segment_ms);
            if active.bytes() == 0 || !(is_full || is_wide || is_old) {
                return Ok(Arc::clone(active));
            }
        }
        self.roll()
    }

    /// Ends the active segment and begins a new one at the log's end.
    fn roll(&mut self) -> Result<Arc<Segment>, LogError> {
        let directory = &self.shared.directory;
        let storage = directory.storage().as_ref();
        let (base_offset, interval_bytes) = (self.log_end_offset(), self.config.index_interval_bytes);
        let segment = Segment::create(storage, &self.shared.path, base_offset, interval_bytes)
            .map_err(|error| directory.failed(error))?;
        self.names_made += 1;
        if let Some(sealed) = self.active.take() {
            if sealed.base_offset < self.inherited_offset {
                sealed.distrust_end();
            }
            sealed.seal(storage);
            tracing::debug!(partition = self.shared.name, base_offset, "segment rolled");
            self.keeping.rolled();
        }
        let segment = Arc::new(segment);
        self.shared.add_segment(Arc::clone(&segment));
        self.active = Some(Arc::clone(&segment));
        self.first_timestamp = None;
        Ok(segment)
    }

    fn write(&self, segment: &Segment, batches: &[Bytes]) -> Result<(), LogError> {
        let written = match batches {
            [batch] => segment.write(&[batch]),
            batches => segment.write(&batches.iter().map(Bytes::as_ref).collect::<Vec<_>>()),
        };
        let Err(error) = written else {
            return Ok(());
        };
        let directory = &self.shared.directory;
        // A half batch below the log's end would be there for ever (LOG-7).
        if !lacks(Mutant::HalfBatchStays) {
            segment.undo_write().map_err(|error| directory.failed(error))?;
        }
        Err(directory.failed(error))
    }

    /// Begins a leader's reign at the log's end, even if nothing is appended in it (TRN-2). Durable with the next
    /// flush; [`Log::close`] has none for it alone.
    ///
    /// # Errors
    /// [`LogError::EpochFellBack`] when a newer epoch is known.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) -> Result<(), LogError> {
        let newest = self.epochs.newest().unwrap_or(-1);
        match self.epochs.assign(epoch.0, self.log_end_offset()) {
            None => return Err(LogError::EpochFellBack { asked: epoch.0, newest }),
            Some(true) => self.epochs_version += 1,
            Some(false) => {}
        }
        Ok(())
    }

    /// The job that makes all that was appended so far durable, or `None` when it is so already.
    ///
    /// Several jobs may be under way; a log's jobs run one after the other.
    pub fn begin_flush(&mut self) -> Option<FlushJob> {
        let segments = self.shared.segments();
        // What is not synced is at the end, behind which there may be an empty segment.
        let at_end = segments.iter().rev().take_while(|segment| !segment.is_synced() || segment.bytes() == 0);
        let unsynced = at_end.filter(|segment| !segment.is_synced());
        let plan = FlushPlan {
            next_offset: self.log_end_offset(),
            segments: unsynced.map(PlannedSync::of).collect(),
            names_made: (self.names_made > self.names_synced).then_some(self.names_made),
            is_new: self.is_new,
            epochs: (self.epochs_version > self.epochs_synced).then(|| (self.epochs_version, self.epochs.encode())),
            index: self.index_to_save(),
            snapshot: self.keeping.pending(),
        };
        let is_clean = plan.segments.is_empty()
            && plan.names_made.is_none()
            && plan.epochs.is_none()
            && plan.snapshot.is_none()
            && !plan.is_new;
        if is_clean && self.durable_offset == plan.next_offset {
            return None;
        }
        Some(FlushJob { shared: Arc::clone(&self.shared), plan })
    }

    fn is_clean_but_for_epochs(&self) -> bool {
        let is_synced = self.shared.segments().iter().all(|segment| segment.is_synced());
        // The directory's own name is synced by whoever makes it, for many at a time.
        let is_named = self.names_made <= self.names_synced;
        is_synced && is_named && self.keeping.pending().is_none() && self.durable_offset == self.log_end_offset()
    }

    /// Takes the result of a job of this log: the proof of what is durable now.
    ///
    /// # Errors
    /// What went wrong in the job; [`LogError::DirectoryFailed`] also when something else in the data directory failed
    /// meanwhile (LOG-7); [`LogError::ForeignFlush`].
    pub fn complete_flush(&mut self, result: FlushResult) -> Result<Durable, LogError> {
        if !Arc::ptr_eq(&result.shared, &self.shared) {
            return Err(LogError::ForeignFlush);
        }
        result.outcome?;
        self.shared.directory.health().check()?;
        let plan = result.plan;
        debug_assert!(plan.next_offset <= self.log_end_offset(), "only what was appended can be durable");
        for planned in &plan.segments {
            planned.segment.note_synced(planned.bytes, planned.cuts);
        }
        self.names_synced = self.names_synced.max(plan.names_made.unwrap_or(0));
        self.epochs_synced = self.epochs_synced.max(plan.epochs.map_or(0, |(version, _)| version));
        self.is_new = self.is_new && !plan.is_new;
        if let Some(snapshot) = &plan.snapshot {
            self.keeping.written(snapshot);
        }
        let covered = if lacks(Mutant::FlushCoversLater) { self.log_end_offset() } else { plan.next_offset };
        self.durable_offset = self.durable_offset.max(covered);
        self.shared.point.next_offset.store(self.durable_offset, Ordering::Release);
        Ok(self.durable())
    }

    /// Flushes on this thread: [`Log::begin_flush`], run, [`Log::complete_flush`].
    ///
    /// # Errors
    /// As [`Log::complete_flush`].
    pub fn flush(&mut self) -> Result<Durable, LogError> {
        match self.begin_flush() {
            Some(job) => self.complete_flush(job.run()),
            None => Ok(self.durable()),
        }
    }

    /// What is known to be durable.
    pub fn durable(&self) -> Durable {
        Durable::below(self.durable_offset)
    }

    /// A reader; it sees every append from now on, too.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// What cleans it, on a thread of its own; it ends with the log.
    pub fn cleaner(&self) -> LogCleaner {
        LogCleaner::new(Arc::clone(&self.shared))
    }

    /// The name of the partition's directory.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The partition's directory.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> i64 {
        self.shared.start_offset()
    }

    /// The offset that the next record gets (LEO).
    pub fn log_end_offset(&self) -> i64 {
        self.shared.end_offset()
    }

    /// Bytes of all segments, without indexes.
    pub fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.shared.segments().len()
    }

    /// Where each leader epoch begins.
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// The settings.
    pub fn config(&self) -> LogConfig {
        self.config
    }

    /// Changes the settings, from the next append on.
    ///
    /// # Errors
    /// [`LogError::Config`]; then nothing changes.
    pub fn set_config(&mut self, config: LogConfig) -> Result<(), LogError> {
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// Flushes, saves the indexes, and lets go of the partition. Once all logs are closed,
    /// [`DataDirectory::checkpoint`](crate::DataDirectory::checkpoint) makes what they synced known to the next start.
    ///
    /// # Errors
    /// As [`Log::complete_flush`]; the partition is let go of all the same.
    pub fn close(mut self) -> Result<Durable, LogError> {
        if self.epochs_synced >= self.epochs_needed && self.is_clean_but_for_epochs() {
            // A reign that leaves no record may leave no trace: all that anybody asks of it is where the one before it
            // ended, and that is where the log ends. Ten thousand files to be synced at a stop would be for nothing.
            self.epochs_synced = self.epochs_version;
        }
        let durable = self.flush()?;
        if let Some(active) = &self.active {
            active.save_index(self.shared.directory.storage().as_ref());
        }
        Ok(durable)
    }
}
