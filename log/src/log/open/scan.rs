//! Reading a partition's segments when it is opened.

use super::RecoveryReport;
use super::files::Files;
use crate::config::LogConfig;
use crate::directory::DataDirectory;
use crate::error::LogError;
use crate::format::epochs::LeaderEpochs;
use crate::format::names;
use crate::limits;
use crate::recovery::{Scan, ScannedSegment, UnscannedSegment};
use crate::segment::{self, Segment, SegmentScan};
use crate::storage::{Open, Storage, StorageFile};
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::RecordBatch;
use std::path::Path;
use std::sync::Arc;

/// What scanning them found.
pub(super) struct Scanned {
    pub(super) scan: Scan,
    pub(super) segments: Vec<(i64, Arc<dyn StorageFile>, SegmentScan)>,
    pub(super) epochs: LeaderEpochs,
    /// The largest timestamp of the last segment's first batch.
    pub(super) first_timestamp: Option<i64>,
    pub(super) batches: u64,
}

/// Scans the segments in order, up to the first fault.
pub(super) fn scan_segments(
    storage: &dyn Storage,
    path: &Path,
    files: &Files,
    scan: Scan,
    config: LogConfig,
    visit: &mut dyn FnMut(&RecordBatch),
) -> Result<Scanned, LogError> {
    // A log whose first segment is lost must not begin later and call what is left the whole of it.
    let mut expected = files.segments.keys().next().map(|first| scan.start_offset.min(*first));
    expected = expected.filter(|_| !lacks(Mutant::LogBeginsLater));
    let mut scanned =
        Scanned { scan, segments: Vec::new(), epochs: LeaderEpochs::default(), first_timestamp: None, batches: 0 };
    let (mut is_faulty, start_offset) = (false, scanned.scan.start_offset);
    for (&base_offset, &file_bytes) in &files.segments {
        if is_faulty {
            scanned.scan.unscanned.push(UnscannedSegment { base_offset, file_bytes });
            continue;
        }
        let file = storage.open(&path.join(names::segment(base_offset)), Open::Write).map_err(LogError::of_storage)?;
        let (epochs, batches) = (&mut scanned.epochs, &mut scanned.batches);
        let mut first_timestamp = None;
        let mut visit = |batch: &RecordBatch| {
            let header = batch.header();
            first_timestamp = first_timestamp.or(Some(header.max_timestamp));
            if header.partition_leader_epoch >= 0 {
                epochs.assign(header.partition_leader_epoch, header.base_offset);
            }
            *batches += 1;
            // What was deleted is not seen again, though it may share a segment with what was not.
            if header.next_offset() > start_offset {
                visit(batch);
            }
        };
        let expected_here = expected.unwrap_or(base_offset);
        let interval_bytes = config.index_interval_bytes;
        let scan = segment::scan(file.as_ref(), base_offset, file_bytes, expected_here, interval_bytes, &mut visit)
            .map_err(LogError::of_storage)?;
        is_faulty = scan.fault.is_some();
        expected = Some(scan.next_offset);
        scanned.scan.scanned.push(ScannedSegment {
            base_offset,
            file_bytes,
            good_bytes: scan.index.covered_bytes(),
            next_offset: scan.next_offset,
            fault: scan.fault.as_ref().map(|(position, reason)| format!("byte {position}: {reason}")),
        });
        scanned.segments.push((base_offset, file, scan));
        scanned.first_timestamp = first_timestamp;
    }
    Ok(scanned)
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
        segments.push(Arc::new(Segment::of_scan(path, file, base_offset, found, synced_bytes)));
    }
    report.segments = segments.len();
    for sealed in segments.iter().rev().skip(1) {
        // Below another segment's records that were synced: so was this one's end.
        if sealed.next_offset() >= scan.recovery_point {
            sealed.distrust_end();
        }
        report.indexes_written += usize::from(sealed.seal(storage));
    }
    segments
}
