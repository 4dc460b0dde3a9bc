//! Moving a log's start: readers see it at once, the files go later, on somebody else's thread.

use super::Log;
use crate::error::LogError;
use crate::format::names;
use crate::segment::Segment;
use crate::shared::LogShared;
use headwater_mutants::{Mutant, lacks};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is left to do after [`Log::trim`]: make the new start durable, then remove the files below it.
#[must_use = "the log's start is not durable, and no space is freed, before it has run"]
#[derive(Debug)]
pub struct TrimJob {
    shared: Arc<LogShared>,
    removed: Vec<Arc<Segment>>,
    log_start_offset: i64,
}

impl Log {
    /// Lets the log begin at `to`: nothing below is read any more, and segments that lie below as a whole go when the
    /// job runs. Only what is durable can go; a start that is not later than the present one changes nothing.
    ///
    /// # Errors
    /// [`LogError::DiskFull`], [`LogError::DirectoryFailed`] (LOG-7): nothing changed.
    pub fn trim(&mut self, to: i64) -> Result<TrimJob, LogError> {
        self.shared.directory.health().check()?;
        let to = to.min(self.durable_offset);
        let mut removed = Vec::new();
        if to > self.log_start_offset() {
            // The last segment says by its name where the log ends; so it can only go when there is a later one.
            if self.active.as_ref().is_some_and(|active| active.bytes() > 0 && active.next_offset() <= to) {
                self.roll()?;
            }
            // In this order: who sees a segment missing sees why.
            self.shared.point.start_offset.store(to, Ordering::Release);
            self.shared.tail.forget_below(to);
            removed = self.shared.remove_below(to);
        }
        Ok(TrimJob { shared: Arc::clone(&self.shared), removed, log_start_offset: self.log_start_offset() })
    }
}

impl TrimJob {
    /// Where the log begins now.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Makes the start durable, then removes the files. Blocks. Readers that are in the middle of one finish.
    ///
    /// Crash: before the start is durable the log may begin where it did, with all its files; after that, the next
    /// open removes what is left of them.
    ///
    /// # Errors
    /// [`LogError::DiskFull`]: the start is not durable yet, and the files are there until the next open;
    /// [`LogError::DirectoryFailed`] (LOG-7).
    pub fn run(self) -> Result<u64, LogError> {
        let directory = &self.shared.directory;
        let storage = directory.storage().as_ref();
        directory.health().check()?;
        if !self.removed.is_empty() && !lacks(Mutant::StartBeforeName) {
            // The segment behind them may be new: without its name the log would end before its start.
            storage.sync_directory(&self.shared.path).map_err(|error| directory.failed(error))?;
        }
        if !lacks(Mutant::FilesBeforeStart) {
            directory.checkpoint()?;
        }
        let mut bytes = 0;
        let _names = self.shared.files.lock();
        for segment in &self.removed {
            // A cleaner may have put a segment in its place that reaches behind the new start.
            if self.shared.has(segment.base_offset) {
                continue;
            }
            bytes += segment.bytes();
            remove_files(directory, &self.shared.path, segment.base_offset)?;
        }
        if lacks(Mutant::FilesBeforeStart) {
            directory.checkpoint()?;
        }
        Ok(bytes)
    }
}

/// Removes a segment and its indexes; what is not there is no error.
pub(super) fn remove_files(
    directory: &crate::directory::DataDirectory,
    path: &std::path::Path,
    base_offset: i64,
) -> Result<(), LogError> {
    let files = [names::segment(base_offset), names::offset_index(base_offset), names::time_index(base_offset)];
    for name in files {
        match directory.storage().remove_file(&path.join(name)) {
            Err(error) if !error.is_not_found() => return Err(directory.failed(error)),
            _ => {}
        }
    }
    Ok(())
}
