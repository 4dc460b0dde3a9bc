//! Starting on a log after a crash, beside reading its files.

use super::{NAME, READ_BYTES, SEGMENT_BYTES, config, megabytes_per_second, read_plainly, segments};
use crate::Result;
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use headwater_log::limits::SCAN_BYTES_MAX;
use headwater_log::storage::file::FileStorage;
use headwater_log::{DataDirectory, Log};
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What a crash has left of what is known of a log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// All was synced, and that is known; the indexes are lost.
    RecoveryPoint,
    /// Nothing is known to be synced: what is good is written once more (LOG-7).
    Nothing,
}

pub(super) fn run(options: &Options, template: &Path, bytes: u64) -> Result<Vec<Figure>> {
    let start = |left: Left| -> Result<f64> {
        forget(template, left)?;
        let directory = DataDirectory::open(Arc::new(FileStorage), template)?;
        let start = Instant::now();
        let mut batches = 0_u64;
        let (log, _) = Log::open(&directory, NAME, config(SEGMENT_BYTES), &mut |_| batches += 1)?;
        let taken = start.elapsed();
        if log.size_bytes() < bytes || batches < bytes / super::BATCH_BYTES as u64 {
            return Err(format!("{batches} batches of {} bytes were found, of {bytes}", log.size_bytes()).into());
        }
        let read = usize::try_from(log.size_bytes())?;
        log.close()?;
        directory.checkpoint()?;
        Ok(megabytes_per_second(read, taken))
    };
    let mut plain_read = || {
        let start = Instant::now();
        let bytes = read_plainly(template, SCAN_BYTES_MAX, |_| {})?;
        Ok(megabytes_per_second(bytes, start.elapsed()))
    };
    let rounds = options.pick(7, 1);
    let mut checked_read = || {
        let start = Instant::now();
        let bytes = read_plainly(template, SCAN_BYTES_MAX, |piece| {
            black_box(crc32c::crc32c(piece));
        })?;
        Ok(megabytes_per_second(bytes, start.elapsed()))
    };
    let samples = interleave(rounds, [&mut || start(Left::RecoveryPoint), &mut plain_read, &mut checked_read])?;
    let what = format!("recovery scan {:.0} MB/s", samples.median(0));
    let scan = Figure {
        name: "log-recovery".to_owned(),
        what: what.clone(),
        baseline: format!("pread of 2 MiB {:.0} MB/s", samples.median(1)),
        value: samples.median_of(|[ours, plain, _]| ours / plain),
        unit: "",
        goal: Goal::AtLeast(0.7),
    };
    let checked = Figure {
        name: "log-recovery-checked".to_owned(),
        what,
        baseline: format!("pread of 2 MiB and its CRC {:.0} MB/s", samples.median(2)),
        value: samples.median_of(|[ours, _, checked]| ours / checked),
        unit: "",
        goal: Goal::None,
    };
    let mut write_again = || {
        let start = Instant::now();
        let bytes = read_plainly(template, SCAN_BYTES_MAX, |_| {})? + write_plainly(template)?;
        Ok(megabytes_per_second(bytes / 2, start.elapsed()))
    };
    let samples = interleave(rounds, [&mut || start(Left::Nothing), &mut write_again])?;
    let unsynced = Figure {
        name: "log-recovery-unsynced".to_owned(),
        what: format!("scan, and write again what may not be synced {:.0} MB/s", samples.median(0)),
        baseline: format!("pread of 2 MiB, then pread and pwrite of 1 MiB {:.0} MB/s", samples.median(1)),
        value: samples.median_of(|[ours, plain]| ours / plain),
        unit: "",
        goal: Goal::None,
    };
    Ok(vec![scan, checked, unsynced])
}

/// Takes away what a start would believe.
fn forget(path: &Path, left: Left) -> Result<()> {
    for directory in [path.to_path_buf(), path.join(NAME)] {
        for entry in std::fs::read_dir(directory)? {
            let file = entry?.path();
            let extension = file.extension().and_then(|extension| extension.to_str());
            let is_point = file.file_name().is_some_and(|name| name == "recovery-points.checkpoint");
            let goes = matches!(extension, Some("checkpoint" | "index" | "timeindex" | "snapshot"));
            if file.is_file() && goes && !(is_point && left == Left::RecoveryPoint) {
                std::fs::remove_file(file)?;
            }
        }
    }
    Ok(())
}

/// Writes every byte of the log's files once more, where it is; how many bytes that were.
fn write_plainly(path: &Path) -> Result<usize> {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    for path in segments(path)? {
        let (from, to) = (File::open(&path)?, OpenOptions::new().write(true).open(&path)?);
        let mut position = 0;
        loop {
            let read = from.read_at(&mut buffer, position)?;
            let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
            to.write_all_at(piece, position)?;
            position += read as u64;
        }
        bytes += usize::try_from(position)?;
    }
    Ok(bytes)
}
