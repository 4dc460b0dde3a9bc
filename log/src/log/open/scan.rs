//! Reading a partition's segments when it is opened.

use super::RecoveryReport;
use super::files::Files;
use crate::checkpoint_file;
use crate::config::LogConfig;
use crate::directory::DataDirectory;
use crate::error::LogError;
use crate::format::checkpoint::{self, CheckpointError};
use crate::format::epochs::LeaderEpochs;
use crate::format::index::{self, Place, SegmentIndex};
use crate::format::names;
use crate::limits;
use crate::recovery::{Scan, ScannedSegment, UnscannedSegment};
use crate::segment::{self, Segment, SegmentScan, Synced};
use crate::storage::{Open, Storage, StorageError, StorageFile};
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, RecordBatch};
use std::path::Path;
use std::sync::Arc;

/// What scanning them found.
pub(super) struct Scanned {
    pub(super) scan: Scan,
    pub(super) segments: Vec<(i64, Arc<dyn StorageFile>, SegmentScan)>,
    /// As met in the batches that were read.
    pub(super) epochs: LeaderEpochs,
    /// The largest timestamp of the last segment's first batch.
    pub(super) first_timestamp: Option<i64>,
    /// How many batches were read.
    pub(super) batches: u64,
}

/// How much of a log has to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Depth {
    /// Batches from here on are handed to the caller: the others are in the snapshot that it was restored from.
    pub(super) replay_from: i64,
    /// Batches below are believed to be as they were synced; indexes lead there. `i64::MIN` to read everything.
    pub(super) trust_below: i64,
    /// The directory was closed in order: what an index covers as a whole need not be looked at.
    pub(super) was_closed_in_order: bool,
    /// Bad batches below this offset are passed over, and will not be served (LOG-3); `i64::MIN` to stop at them.
    pub(super) pass_over_below: i64,
}

impl Depth {
    /// Reads, and checks, every batch.
    pub(super) fn everything(self) -> Self {
        Self { trust_below: i64::MIN, was_closed_in_order: false, ..self }
    }
}

/// Goes through the segments in order, up to the first fault. `None` when an index turned out to be of other batches:
/// then everything has to be read, and what was observed counts for nothing.
pub(super) fn scan_segments(
    storage: &dyn Storage,
    path: &Path,
    files: &Files,
    scan: Scan,
    (config, depth): (LogConfig, Depth),
    observe: &mut dyn FnMut(&RecordBatch),
) -> Result<Option<Scanned>, LogError> {
    // A log whose first segment is lost must not begin later and call what is left the whole of it.
    let mut expected = files.segments.keys().next().map(|first| scan.start_offset.min(*first));
    expected = expected.filter(|_| !lacks(Mutant::LogBeginsLater));
    let mut scanned =
        Scanned { scan, segments: Vec::new(), epochs: LeaderEpochs::default(), first_timestamp: None, batches: 0 };
    let mut is_faulty = false;
    let replay_from = depth.replay_from.max(scanned.scan.start_offset);
    let last = files.segments.keys().next_back().copied();
    for (&base_offset, &file_bytes) in &files.segments {
        if is_faulty {
            scanned.scan.unscanned.push(UnscannedSegment { base_offset, file_bytes });
            continue;
        }
        let file = storage.open(&path.join(names::segment(base_offset)), Open::Write).map_err(LogError::of_storage)?;
        let (epochs, batches) = (&mut scanned.epochs, &mut scanned.batches);
        let mut visit = |batch: &RecordBatch| {
            let header = batch.header();
            if header.partition_leader_epoch >= 0 {
                epochs.assign(header.partition_leader_epoch, header.base_offset);
            }
            *batches += 1;
            // What was deleted is not seen again, though it may share a segment with what was not.
            if header.next_offset() > replay_from {
                observe(batch);
            }
        };
        let next = files.segments.range(base_offset.saturating_add(1)..).next().map(|(base, _)| *base);
        let synced = Synced { below: depth.pass_over_below, end_offset: next };
        let piece = Piece { storage, path, file: file.as_ref(), base_offset, file_bytes, config, synced };
        let expected_here = expected.unwrap_or(base_offset);
        let end = Some(scanned.scan.recovery_point).filter(|_| last == Some(base_offset));
        let Some(scan) = piece.scan(expected_here, end, depth, &mut visit)? else { return Ok(None) };
        piece.check_newer(&scan)?;
        is_faulty = scan.fault.is_some();
        expected = Some(scan.next_offset);
        if last == Some(base_offset) || is_faulty {
            scanned.first_timestamp = first_timestamp(file.as_ref(), scan.index.covered_bytes())?;
        }
        scanned.scan.scanned.push(ScannedSegment {
            base_offset,
            file_bytes,
            good_bytes: scan.index.covered_bytes(),
            next_offset: scan.next_offset,
            fault: scan.fault.as_ref().map(|(position, reason)| format!("byte {position}: {reason}")),
        });
        scanned.segments.push((base_offset, file, scan));
    }
    Ok(Some(scanned))
}

/// One segment's file.
struct Piece<'a> {
    storage: &'a dyn Storage,
    path: &'a Path,
    file: &'a dyn StorageFile,
    base_offset: i64,
    file_bytes: u64,
    config: LogConfig,
    synced: Synced,
}

impl Piece<'_> {
    /// Reads as much of it as `depth` says; `None` when its index misleads. `end` is where the log was synced to, if
    /// this is its last segment.
    fn scan(
        &self,
        expected: i64,
        end: Option<i64>,
        depth: Depth,
        visit: &mut dyn FnMut(&RecordBatch),
    ) -> Result<Option<SegmentScan>, LogError> {
        let may_trust = expected == self.base_offset && depth.trust_below > self.base_offset;
        let Some(index) = self.index()?.filter(|_| may_trust) else {
            return self.scan_whole(expected, visit).map(Some).map_err(LogError::of_storage);
        };
        let covers_all = index.covered_bytes() == self.file_bytes;
        if let Some(next_offset) = end.filter(|end| covers_all && depth.spares(*end)) {
            return Ok(Some(SegmentScan { index, next_offset, fault: None, is_saved: true, bad: Vec::new() }));
        }
        self.scan_beyond(index, depth, visit)
    }

    /// What is no batch of this version may be one of a later version, and then it is neither torn nor damaged.
    fn check_newer(&self, scan: &SegmentScan) -> Result<(), LogError> {
        let bad = scan.bad.iter().map(|range| range.position);
        for position in bad.chain(scan.fault.iter().map(|(position, _)| *position)) {
            let magic = newer_magic(self.file, position, self.file_bytes).map_err(LogError::of_storage)?;
            if let Some(magic) = magic {
                return Err(LogError::NewerBatch { file: self.file.path().to_path_buf(), position, magic });
            }
        }
        Ok(())
    }

    fn scan_whole(&self, expected: i64, visit: &mut dyn FnMut(&RecordBatch)) -> Result<SegmentScan, StorageError> {
        let interval_bytes = self.config.index_interval_bytes;
        if expected != self.base_offset {
            return segment::scan(self.file, self.base_offset, self.file_bytes, expected, interval_bytes, visit);
        }
        let index = SegmentIndex::new(self.base_offset, interval_bytes);
        let begin = Place { offset: self.base_offset, position: 0 };
        segment::scan_over_damage(self.file, index, begin, self.file_bytes, self.synced, visit)
    }

    /// The index in the segment's files, of all of it or of its beginning; `None` where they are of no use (LOG-4).
    fn index(&self) -> Result<Option<SegmentIndex>, LogError> {
        let read = |name: String| checkpoint_file::read_bytes(self.storage, &self.path.join(name)).ok().flatten();
        let offsets = read(names::offset_index(self.base_offset));
        let times = read(names::time_index(self.base_offset));
        let Some((offsets, times)) = offsets.zip(times) else { return Ok(None) };
        let interval_bytes = self.config.index_interval_bytes;
        match SegmentIndex::decode_beginning(self.base_offset, self.file_bytes, interval_bytes, &offsets, &times) {
            Ok(index) => Ok(Some(index)),
            Err(source @ CheckpointError::Newer { .. }) => {
                let is_offsets = checkpoint::decode(index::OFFSETS_KIND, index::VERSION, &offsets).is_err();
                let name = if is_offsets { names::offset_index } else { names::time_index };
                let file = self.path.join(name(self.base_offset));
                Err(LogError::Checkpoint { file, source })
            }
            Err(error) => {
                tracing::debug!(segment = %self.file.path().display(), %error, "an index is made again");
                Ok(None)
            }
        }
    }

    /// Reads from the place on to which the index leads.
    fn scan_beyond(
        &self,
        mut index: SegmentIndex,
        depth: Depth,
        visit: &mut dyn FnMut(&RecordBatch),
    ) -> Result<Option<SegmentScan>, LogError> {
        let covered_bytes = index.covered_bytes();
        let place = index.go_back_to(depth.replay_from.min(depth.trust_below));
        // What the index calls newest may never have been written, or have been lost: then it is of no use.
        let claimed = index.newest().filter(|newest| newest.base_offset >= place.offset);
        let mut is_borne_out = claimed.is_none();
        let visit = |batch: &RecordBatch| {
            let (offset, timestamp) = (batch.header().base_offset, batch.header().max_timestamp);
            is_borne_out |= claimed.is_some_and(|it| (it.base_offset, it.timestamp) == (offset, timestamp));
            visit(batch);
        };
        let scan = segment::scan_over_damage(self.file, index, place, self.file_bytes, self.synced, visit)
            .map_err(LogError::of_storage)?;
        // Nothing good at the very place: the index misleads, or there is damage; reading all of it tells.
        let leads_somewhere = scan.index.covered_bytes() > place.position || place.position == self.file_bytes;
        let is_saved = scan.fault.is_none() && covered_bytes == self.file_bytes;
        Ok(Some(SegmentScan { is_saved, ..scan }).filter(|_| is_borne_out && leads_somewhere))
    }
}

impl Depth {
    /// Whether nothing of a last segment that ends at `end` need be read.
    fn spares(self, end: i64) -> bool {
        self.was_closed_in_order && self.replay_from >= end && self.trust_below >= end
    }
}

/// The largest timestamp of the batch at the beginning of a file.
fn first_timestamp(file: &dyn StorageFile, good_bytes: u64) -> Result<Option<i64>, LogError> {
    if good_bytes == 0 {
        return Ok(None);
    }
    let header = file.read_at(0, BATCH_HEADER_BYTES).map_err(LogError::of_storage)?;
    Ok(BatchHeader::decode(&header).ok().map(|header| header.max_timestamp))
}

/// Writes what lies above the recovery point once more, byte for byte where it is.
///
/// An earlier run may have seen a sync of it fail: the kernel then has the bytes in its cache, calls them clean, and
/// the next sync succeeds without writing them (LOG-7). Only the death of the machine would tell. Written again they
/// are dirty again, so that the next flush is a promise that holds.
pub(super) fn write_again(directory: &DataDirectory, scanned: &Scanned) -> Result<(), LogError> {
    let recovery_point = scanned.scan.recovery_point;
    for (base_offset, file, found) in &scanned.segments {
        if found.next_offset <= recovery_point || lacks(Mutant::NotWrittenAgain) {
            continue;
        }
        let good_bytes = found.index.covered_bytes();
        let mut position = found.index.place_of(recovery_point.max(*base_offset)).position;
        while position < good_bytes {
            let left = usize::try_from(good_bytes - position).unwrap_or(usize::MAX);
            let bytes = file.read_at(position, left.min(limits::COPY_BYTES_MAX)).map_err(LogError::of_storage)?;
            if bytes.is_empty() {
                break;
            }
            file.write_at(position, &[&bytes]).map_err(|error| directory.failed(error))?;
            position += bytes.len() as u64;
        }
    }
    Ok(())
}

/// Makes segments of what was scanned and stays; all but the last are sealed.
pub(super) fn build_segments(
    storage: &dyn Storage,
    path: &Path,
    scanned: Vec<(i64, Arc<dyn StorageFile>, SegmentScan)>,
    scan: &Scan,
    end_offset: i64,
    report: &mut RecoveryReport,
) -> Vec<Arc<Segment>> {
    let stays = |base_offset: i64, found: &SegmentScan| found.index.covered_bytes() > 0 || base_offset == end_offset;
    let mut segments = Vec::new();
    for (base_offset, file, found) in scanned.into_iter().filter(|(base_offset, _, found)| stays(*base_offset, found)) {
        // What the recovery point does not cover as a whole may be with the operating system only.
        let is_synced = found.next_offset <= scan.recovery_point;
        let synced_bytes = if is_synced { found.index.covered_bytes() } else { 0 };
        report.bytes += found.index.covered_bytes();
        let is_saved = found.is_saved;
        segments.push((Arc::new(Segment::of_scan(path, file, base_offset, found, synced_bytes)), is_saved));
    }
    report.segments = segments.len();
    for (sealed, is_saved) in segments.iter().rev().skip(1) {
        // Below another segment's records that were synced: so was this one's end.
        if sealed.next_offset() >= scan.recovery_point {
            sealed.distrust_end();
        }
        if *is_saved {
            sealed.seal_saved();
        } else {
            report.indexes_written += usize::from(sealed.seal(storage));
        }
    }
    segments.into_iter().map(|(segment, _)| segment).collect()
}

/// The magic of a whole batch of the next format at `position`: its length, magic and CRC-32C stand where v2 has
/// them, and the checksum, over what follows it, is right. Bytes that were torn are not that; where a bit rots, one in
/// a whole batch makes it so. Of any higher magic it is likelier that it has rotted.
fn newer_magic(file: &dyn StorageFile, position: u64, file_bytes: u64) -> Result<Option<i8>, StorageError> {
    const NEXT_MAGIC: i8 = 3;
    const LENGTH: usize = 8;
    const MAGIC: usize = 16;
    const CRC: usize = 17;
    if position + BATCH_HEADER_BYTES as u64 > file_bytes {
        return Ok(None);
    }
    let header = file.read_at(position, BATCH_HEADER_BYTES)?;
    let Some((length, magic)) = header.get(LENGTH..).and_then(|rest| rest.first_chunk()).zip(header.get(MAGIC)) else {
        return Ok(None);
    };
    let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).saturating_add(LENGTH + 4);
    let magic = magic.cast_signed();
    let fits =
        (BATCH_HEADER_BYTES..=limits::APPEND_BYTES_MAX).contains(&bytes) && bytes as u64 <= file_bytes - position;
    if magic != NEXT_MAGIC || !fits {
        return Ok(None);
    }
    let batch = file.read_at(position, bytes)?;
    let Some((stored, rest)) = batch.get(CRC..).and_then(|rest| rest.split_first_chunk()) else { return Ok(None) };
    Ok((u32::from_be_bytes(*stored) == crc32c::crc32c(rest)).then_some(magic))
}
