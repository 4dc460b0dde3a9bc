//! The storage engine beside plain files: what appends, syncs, reads and starts cost beyond the bytes themselves.
//!
//! Baselines write and read the very same bytes, in pieces of the same size, through an open file, with one buffer that
//! is used again and again; the page cache is as warm for them as for the log.

mod growth;
mod plot;
mod producers;
mod recovery;

use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use crate::{Result, flush, framing};
use bytes::{Bytes, BytesMut};
use headwater_log::storage::file::FileStorage;
use headwater_log::{DataDirectory, Log, LogConfig};
use headwater_protocol::batch::{BATCH_HEADER_BYTES, stamp};
use headwater_protocol::ids::LeaderEpoch;
use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAME: &str = "topic-0";
/// Bytes of a batch, its header included.
const BATCH_BYTES: usize = 64 << 10;
/// Of those that are synced, so many bytes lie between two syncs.
const SYNC_BYTES: usize = 1 << 20;
/// Bytes asked for by one read.
const READ_BYTES: usize = 1 << 20;
/// Segments of what is read.
const SEGMENT_BYTES: u64 = 64 << 20;

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let scratch = options.scratch()?;
    let bytes = options.pick(256 << 20, 8 << 20);
    let batches = batches(0, bytes)?;
    let mut figures = vec![
        appends(options, scratch.path(), &batches, "log-append", None)?,
        appends(options, scratch.path(), &batches, "log-append-synced", Some(SYNC_BYTES))?,
    ];
    let template = scratch.path().join("template");
    write_log(&template, &batches, SEGMENT_BYTES)?;
    figures.extend(reads(options, &template)?);
    figures.extend(recovery::run(options, &template, bytes as u64)?);
    drop(batches);
    fs::remove_dir_all(&template)?;
    figures.extend(producers::run(options)?);
    figures.extend(growth::run(options, scratch.path())?);
    // Where all are wanted it comes by itself.
    if !options.chooses("flush") {
        figures.extend(flush::run(options)?);
    }
    Ok(figures)
}

fn megabytes_per_second(bytes: usize, taken: Duration) -> f64 {
    bytes as f64 / 1e6 / taken.as_secs_f64()
}

/// Batches of 64 KiB, stamped as they follow one another from an offset on, about so many bytes of them.
fn batches(mut offset: i64, bytes: usize) -> Result<Vec<Bytes>> {
    // Bytes that no disk can shorten.
    let value: Vec<u8> = (0..1000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let records = (BATCH_BYTES - BATCH_HEADER_BYTES) / (value.len() + 10);
    let batch = framing::encode((0..records).map(|_| (None, &value[..])))?;
    let mut batches = Vec::new();
    for _ in 0..bytes.div_ceil(batch.len()) {
        let mut batch = BytesMut::from(&batch[..]);
        stamp(&mut batch, offset, LeaderEpoch(0));
        batches.push(batch.freeze());
        offset += i64::try_from(records)?;
    }
    Ok(batches)
}

fn config(segment_bytes: u64) -> LogConfig {
    LogConfig { segment_bytes, segment_ms: i64::MAX as u64, ..LogConfig::default() }
}

/// A fresh, empty directory.
fn fresh(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    Ok(fs::create_dir_all(path)?)
}

/// A log of these batches, synced and closed in order.
fn write_log(path: &Path, batches: &[Bytes], segment_bytes: u64) -> Result<()> {
    fresh(path)?;
    let directory = DataDirectory::open(Arc::new(FileStorage), path)?;
    let (mut log, _) = Log::open(&directory, NAME, config(segment_bytes), &mut |_| {})?;
    for batch in batches {
        log.append(batch.clone())?;
    }
    log.close()?;
    Ok(directory.checkpoint()?)
}

/// Appends beside plain writes, both synced after so many bytes, or never.
fn appends(
    options: &Options,
    scratch: &Path,
    batches: &[Bytes],
    name: &str,
    sync_bytes: Option<usize>,
) -> Result<Figure> {
    let per_sync = sync_bytes.map_or(batches.len(), |bytes| bytes.div_ceil(BATCH_BYTES));
    let (place, is_synced) = (scratch.join(name), sync_bytes.is_some());
    let bytes: usize = batches.iter().map(Bytes::len).sum();
    let speed = |taken| megabytes_per_second(bytes, taken);
    let mut ours = || {
        fresh(&place)?;
        let directory = DataDirectory::open(Arc::new(FileStorage), &place)?;
        let (mut log, _) = Log::open(&directory, NAME, config(1 << 30), &mut |_| {})?;
        log.flush()?;
        let start = Instant::now();
        for some in batches.chunks(per_sync) {
            for batch in some {
                log.append(batch.clone())?;
            }
            if is_synced {
                log.flush()?;
            }
        }
        Ok(speed(start.elapsed()))
    };
    let file = scratch.join(format!("{name}-plain"));
    let mut plain = || {
        let file = File::create(&file)?;
        file.sync_all()?;
        let start = Instant::now();
        let mut position = 0;
        for some in batches.chunks(per_sync) {
            for batch in some {
                file.write_all_at(batch, position)?;
                position += batch.len() as u64;
            }
            if is_synced {
                file.sync_data()?;
            }
        }
        Ok(speed(start.elapsed()))
    };
    let samples = interleave(options.pick(7, 1), [&mut ours, &mut plain])?;
    fs::remove_dir_all(&place)?;
    fs::remove_file(&file)?;
    let how =
        if is_synced { format!("{} KiB, sync each MiB", BATCH_BYTES >> 10) } else { "64 KiB, no sync".to_owned() };
    Ok(Figure {
        name: name.to_owned(),
        what: format!("append of {how}: {:.0} MB/s", samples.median(0)),
        baseline: format!("pwrite {:.0} MB/s", samples.median(1)),
        value: samples.median_of(|[ours, plain]| ours / plain),
        unit: "",
        goal: Goal::AtLeast(0.8),
    })
}

/// Reads a log to its end; how many bytes that were.
fn read_all(log: &Log) -> Result<usize> {
    let reader = log.reader();
    let (mut offset, end, mut bytes) = (reader.start_offset(), reader.end_offset(), 0);
    while offset < end {
        let read = reader.read(offset, end, READ_BYTES)?;
        bytes += read.len();
        offset = last_of(&read)?;
    }
    Ok(bytes)
}

/// The offset behind the last of some batches.
fn last_of(bytes: &Bytes) -> Result<i64> {
    let (mut place, mut next) = (0, None);
    while let Some(rest) = bytes.get(place..).filter(|rest| !rest.is_empty()) {
        let header = headwater_protocol::batch::BatchHeader::decode(rest)?;
        next = Some(header.next_offset());
        place += header.total_bytes();
    }
    next.ok_or_else(|| "nothing was read".into())
}

/// The files of the log's segments, in order.
fn segments(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path.join(NAME))?.collect::<std::io::Result<Vec<_>>>()?;
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_segment).collect();
    files.sort();
    Ok(files)
}

/// Reads every byte of the log's files, so many at a time, and shows them to `check`.
fn read_plainly(path: &Path, piece_bytes: usize, mut check: impl FnMut(&[u8])) -> Result<usize> {
    let mut buffer = vec![0; piece_bytes];
    let mut bytes = 0;
    for path in segments(path)? {
        let file = File::open(path)?;
        let mut position = 0;
        loop {
            match file.read_at(&mut buffer, position)? {
                0 => break,
                read => {
                    check(buffer.get(..read).unwrap_or_default());
                    position += read as u64;
                }
            }
        }
        bytes += usize::try_from(position)?;
    }
    Ok(bytes)
}

/// Reading a log from its beginning, each batch checked, beside reading its files.
fn reads(options: &Options, template: &Path) -> Result<Vec<Figure>> {
    let directory = DataDirectory::open(Arc::new(FileStorage), template)?;
    let (log, _) = Log::open(&directory, NAME, config(SEGMENT_BYTES), &mut |_| {})?;
    let timed = |read: &dyn Fn() -> Result<usize>| {
        let start = Instant::now();
        let bytes = read()?;
        Ok(megabytes_per_second(bytes, start.elapsed()))
    };
    let mut ours = || timed(&|| read_all(&log));
    let mut plain = || timed(&|| read_plainly(template, READ_BYTES, |_| {}));
    // The least that a reader who checks can do: the bytes, and their checksum while they are in the CPU's cache.
    let mut checked = || {
        timed(&|| {
            read_plainly(template, READ_BYTES, |piece| {
                black_box(crc32c::crc32c(piece));
            })
        })
    };
    let samples = interleave(options.pick(7, 1), [&mut ours, &mut plain, &mut checked])?;
    log.close()?;
    directory.checkpoint()?;
    let what = format!("read, each CRC checked: {:.0} MB/s", samples.median(0));
    Ok(vec![
        Figure {
            name: "log-read".to_owned(),
            what: what.clone(),
            baseline: format!("pread of 1 MiB {:.0} MB/s", samples.median(1)),
            value: samples.median_of(|[ours, plain, _]| ours / plain),
            unit: "",
            goal: Goal::AtLeast(0.8),
        },
        Figure {
            name: "log-read-checked".to_owned(),
            what,
            baseline: format!("pread of 1 MiB and its CRC {:.0} MB/s", samples.median(2)),
            value: samples.median_of(|[ours, _, checked]| ours / checked),
            unit: "",
            goal: Goal::None,
        },
    ])
}
