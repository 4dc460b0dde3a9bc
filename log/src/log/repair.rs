//! The seam at which a replica hands over what a range in quarantine lacks (LOG-3).

use super::Log;
use crate::error::LogError;
use crate::quarantine::BadRange;
use bytes::Bytes;
use headwater_protocol::batch::RecordBatch;

impl Log {
    /// Puts batches in the place of a range in quarantine, byte for byte as they were, and serves it again.
    ///
    /// They must be whole, with a right CRC, follow one another from the range's first offset to its end, and be as
    /// long as what they replace: replicas hold the same bytes. Blocks for a sync. Crash: until this has returned `Ok`
    /// the range may still be in quarantine; nothing else is touched.
    ///
    /// # Errors
    /// [`LogError::NoRepair`] says what does not fit; [`LogError::DirectoryFailed`] (LOG-7), [`LogError::DiskFull`].
    pub fn repair(&self, range: &BadRange, batches: &[Bytes]) -> Result<(), LogError> {
        let shared = &self.shared;
        shared.check_open()?;
        shared.directory.health().check()?;
        let refuse = |reason| LogError::NoRepair { from: range.from, to: range.to, reason };
        check(range, batches).map_err(refuse)?;
        let _one_at_a_time = shared.quarantining.lock();
        let segments = shared.segments();
        let segment = segments.iter().find(|segment| segment.base_offset == range.segment);
        let segment = segment.filter(|segment| segment.bad_ranges().contains(range));
        let segment = segment.ok_or(refuse("it is not in quarantine (any more)"))?;
        let parts: Vec<&[u8]> = batches.iter().map(Bytes::as_ref).collect();
        // In place: nobody reads there, and after a crash in between the bytes are bad, or good, and in quarantine.
        let failed = |error| shared.directory.failed(error);
        segment.file().write_at(range.position, &parts).map_err(failed)?;
        segment.file().sync().map_err(failed)?;
        let others = segment.bad_ranges().iter().filter(|other| *other != range).cloned().collect();
        segment.set_bad_ranges(others);
        shared.save_quarantine()?;
        tracing::info!(partition = shared.name, from = range.from, to = range.to, "a range in quarantine is repaired");
        Ok(())
    }
}

fn check(range: &BadRange, batches: &[Bytes]) -> Result<(), &'static str> {
    let mut next_offset = range.from;
    let mut bytes = 0_u64;
    for batch in batches {
        let batch = RecordBatch::decode(batch.clone()).map_err(|_| "a batch is not whole, or fails its CRC")?;
        if batch.header().base_offset != next_offset {
            return Err("its batches do not follow one another from the range's first offset on");
        }
        next_offset = batch.header().next_offset();
        bytes += batch.bytes().len() as u64;
    }
    if next_offset != range.to {
        return Err("its batches end at another offset");
    }
    if bytes != range.end_position - range.position {
        return Err("its batches are not as long as what they would replace");
    }
    Ok(())
}
