//! A log that grows: whether appends, reads and starts cost at its end what they cost at its beginning.

use super::{BATCH_BYTES, NAME, READ_BYTES, SEGMENT_BYTES, batches, config, fresh, last_of, plot};
use crate::Result;
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::median;
use headwater_log::snapshot::Derived;
use headwater_log::storage::file::FileStorage;
use headwater_log::{DataDirectory, Log};
use headwater_protocol::batch::RecordBatch;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Sizes at which it is measured, and as many times more for the last one.
const STEPS: usize = 10;
/// How often a start is measured at each size.
const OPENINGS: usize = 5;

/// What was found at one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) gibibytes: f64,
    /// MB/s, synced at the end of the step.
    pub(super) append: f64,
    /// MB/s, of what was appended last.
    pub(super) read: f64,
    /// Ms until a log that was closed in order can be appended to.
    pub(super) open: f64,
}

pub(super) fn run(options: &Options, scratch: &Path) -> Result<Vec<Figure>> {
    let step_bytes = if options.full { 1 << 30 } else { options.pick(107_374_182, 4 << 20) };
    let place = scratch.join("growth");
    fresh(&place)?;
    let steps = grow(&place, step_bytes)?;
    std::fs::remove_dir_all(&place)?;
    if let Some(path) = &options.plot {
        std::fs::write(path, plot::svg(&steps)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    // Three steps, as one alone may have met another program's work.
    let part = |of: fn(&Step) -> f64, from: usize| median(steps.iter().skip(from).take(3).map(of));
    let (first, last) = (steps.first().ok_or("no steps")?, steps.last().ok_or("no steps")?);
    let sizes = format!("{:.1} to {:.1} GiB", first.gibibytes, last.gibibytes);
    let figure = |name: &str, unit: &str, of: fn(&Step) -> f64, goal| {
        let (begin, end) = (part(of, 0), part(of, STEPS - 3));
        Figure {
            name: format!("log-growth-{name}"),
            what: format!("{name} at the end of {sizes}: {end:.2} {unit}"),
            baseline: format!("at the beginning {begin:.2} {unit}"),
            value: end / begin,
            unit: "",
            goal,
        }
    };
    Ok(vec![
        figure("append", "MB/s", |step| step.append, Goal::None),
        figure("read", "MB/s", |step| step.read, Goal::None),
        figure("open", "ms", |step| step.open, Goal::None),
    ])
}

fn grow(place: &Path, step_bytes: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        let (directory, mut log, _) = open(place)?;
        let from = log.log_end_offset();
        let (mut appended, mut seconds) = (0, 0.0);
        while appended < step_bytes {
            // A piece at a time: ten gibibytes don't fit the memory.
            let some = batches(log.log_end_offset(), (step_bytes - appended).min(256 * BATCH_BYTES))?;
            let start = Instant::now();
            for batch in some {
                appended += batch.len();
                log.append(batch)?;
            }
            seconds += start.elapsed().as_secs_f64();
        }
        let start = Instant::now();
        log.flush()?;
        seconds += start.elapsed().as_secs_f64();
        let start = Instant::now();
        read_from(&log, from)?;
        let read = appended as f64 / 1e6 / start.elapsed().as_secs_f64();
        log.keep_snapshot(vec![0; 1000]);
        let bytes = log.size_bytes();
        close(directory, log)?;
        let mut openings = Vec::new();
        for _ in 0..OPENINGS {
            let (directory, log, milliseconds) = open(place)?;
            openings.push(milliseconds);
            close(directory, log)?;
        }
        let gibibytes = bytes as f64 / f64::from(1 << 30);
        steps.push(Step { gibibytes, append: appended as f64 / 1e6 / seconds, read, open: median(openings) });
    }
    Ok(steps)
}

/// Reads from an offset to the end. The reader ends here: it holds the data directory.
fn read_from(log: &Log, mut offset: i64) -> Result<()> {
    let reader = log.reader();
    while offset < reader.end_offset() {
        offset = last_of(&reader.read(offset, i64::MAX, READ_BYTES)?)?;
    }
    Ok(())
}

fn open(place: &Path) -> Result<(DataDirectory, Log, f64)> {
    let directory = DataDirectory::open(Arc::new(FileStorage), place)?;
    let start = Instant::now();
    let (log, _) = Log::open_derived(&directory, NAME, config(SEGMENT_BYTES), &mut Remembered)?;
    Ok((directory, log, start.elapsed().as_secs_f64() * 1e3))
}

fn close(directory: DataDirectory, log: Log) -> Result<()> {
    log.close()?;
    Ok(directory.checkpoint()?)
}

/// What a broker remembers of producers, as far as the log knows of it: bytes in a snapshot.
struct Remembered;

impl Derived for Remembered {
    fn begin(&mut self) {}

    fn restore(&mut self, _: i64, _: &[u8]) -> std::result::Result<(), String> {
        Ok(())
    }

    fn observe(&mut self, _: &RecordBatch) {}
}
