//! Flush rounds: many logs made durable by one round of the pool, beside as many files synced one by one.

use crate::Result;
use crate::disk::PlainFiles;
use crate::framing::encode;
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use bytes::{Bytes, BytesMut};
use headwater_log::storage::file::FileStorage;
use headwater_log::{DataDirectory, FLUSH_THREADS_DEFAULT, FlushPool, FlushResult, Log, LogConfig};
use headwater_protocol::batch::stamp;
use headwater_protocol::ids::LeaderEpoch;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bytes that each partition has to flush in a round.
const DIRTY_BYTES: usize = 4096;
/// Dirty partitions, and rounds of a real run.
const CASES: [(usize, usize); 4] = [(1, 31), (100, 9), (1000, 5), (10_000, 3)];
/// Files that the baseline has open at the same time; of each it takes the same time.
const PLAIN_FILES_MAX: usize = 4000;
/// Of the directory, pools, and whatever else has files open.
const OTHER_FILES_MAX: u64 = 200;

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let cases = CASES.iter().take(options.pick(CASES.len(), 2));
    cases.map(|(partitions, rounds)| measure(options, *partitions, options.pick(*rounds, 1))).collect()
}

fn measure(options: &Options, partitions: usize, rounds: usize) -> Result<Figure> {
    let scratch = options.scratch()?;
    let plain = partitions.min(PLAIN_FILES_MAX);
    allow_files((partitions + plain) as u64 + OTHER_FILES_MAX)?;
    let batch = encode([(None, &[b'x'; DIRTY_BYTES][..])])?;
    let mut logs = Logs::open(&scratch.path().join("logs"), partitions)?;
    let mut files = PlainFiles::create(&scratch.path().join("files"), plain)?;
    let each = |taken: Duration, count: usize| taken.as_secs_f64() * 1e6 / count as f64;
    let mut round = || logs.append_and_flush(&batch).map(|taken| each(taken, partitions));
    let mut one_by_one = || files.append_and_sync(&batch).map(|taken| each(taken, plain));
    let samples = interleave(rounds, [&mut round, &mut one_by_one])?;
    Ok(Figure {
        name: format!("flush-{partitions}"),
        what: format!("flush round {:.0} µs/partition", samples.median(0)),
        baseline: format!("one by one {:.0} µs/file", samples.median(1)),
        value: samples.median_of(|[round, one_by_one]| round / one_by_one),
        unit: "",
        goal: Goal::None,
    })
}

/// Raises the limit of open files, as a broker does.
fn allow_files(count: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    match limit.maximum {
        Some(maximum) if maximum < count => {
            Err(format!("{count} open files are needed, {maximum} are allowed: raise the hard limit (ulimit -Hn)")
                .into())
        }
        _ => Ok(()),
    }
}

/// Logs of one data directory, and the pool that flushes them.
struct Logs {
    logs: Vec<Log>,
    pool: FlushPool<usize>,
    done: mpsc::Receiver<(usize, FlushResult)>,
}

impl Logs {
    fn open(path: &Path, count: usize) -> Result<Self> {
        let directory = DataDirectory::open(Arc::new(FileStorage), path)?;
        let open = |number| Log::open(&directory, &format!("partition-{number}"), LogConfig::default(), &mut |_| {});
        let logs = (0..count).map(|number| Ok(open(number)?.0)).collect::<Result<Vec<Log>>>()?;
        let (tell, done) = mpsc::channel();
        let pool = FlushPool::start(FLUSH_THREADS_DEFAULT, move |number, result| {
            // Nobody listens any more when a round was given up.
            drop(tell.send((number, result)));
        })?;
        Ok(Self { logs, pool, done })
    }

    /// Appends a batch to every log, then has one round flush them all; how long the flushing took.
    fn append_and_flush(&mut self, batch: &Bytes) -> Result<Duration> {
        for log in &mut self.logs {
            let mut batch = BytesMut::from(&batch[..]);
            stamp(&mut batch, log.log_end_offset(), LeaderEpoch(0));
            log.append(batch.freeze())?;
        }
        let start = Instant::now();
        let logs = self.logs.iter_mut().enumerate();
        let jobs: Vec<_> = logs.filter_map(|(number, log)| Some((number, log.begin_flush()?))).collect();
        let count = jobs.len();
        self.pool.submit(jobs).map_err(|_| "the flush pool is closed")?;
        for _ in 0..count {
            let (number, result) = self.done.recv()?;
            self.logs.get_mut(number).ok_or("a flush of no log")?.complete_flush(result)?;
        }
        let taken = start.elapsed();
        let is_durable = |log: &Log| log.durable().next_offset() == log.log_end_offset();
        if count == self.logs.len() && self.logs.iter().all(is_durable) {
            Ok(taken)
        } else {
            Err("a log is not durable after its round".into())
        }
    }
}
