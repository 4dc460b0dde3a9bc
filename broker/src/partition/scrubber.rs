//! The thread that reads everything once in a while, before somebody else needs it: bytes rot in silence (LOG-3).

use super::{PartitionHandle, Partitions};
use crate::metrics as names;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes that are checked at a time, between two pauses.
const PIECE_BYTES: u64 = 1 << 20;

/// The running thread; it ends when this is dropped.
pub(crate) struct Scrubber {
    /// Dropped to end it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The broker stops.
struct Stopped;

impl Scrubber {
    /// Goes through all partitions every `period`, reading `bytes_per_second`; the first time after one period.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(partitions: Arc<Partitions>, period: Duration, bytes_per_second: u64) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let mut scrubbing = Scrubbing { partitions, stopped, bytes_per_second, period };
        let thread = std::thread::Builder::new().name("scrubber".to_owned()).spawn(move || drop(scrubbing.run()))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the scrubber panicked: this broker has a bug");
        }
    }
}

struct Scrubbing {
    partitions: Arc<Partitions>,
    stopped: Receiver<()>,
    bytes_per_second: u64,
    period: Duration,
}

impl Scrubbing {
    fn run(&mut self) -> Result<(), Stopped> {
        loop {
            self.wait(self.period)?;
            let began = Instant::now();
            let (mut bytes, mut damaged) = (0, 0);
            for handle in self.partitions.all() {
                let (of_it, ranges) = self.scrub(&handle)?;
                (bytes, damaged) = (bytes + of_it, damaged + ranges);
            }
            metrics::gauge!(names::QUARANTINED_RANGES).set(damaged as f64);
            tracing::info!(bytes, damaged, seconds = began.elapsed().as_secs(), "all logs were checked");
        }
    }

    /// Checks a partition from its start to where it ended when that began; bytes and damaged ranges.
    fn scrub(&self, handle: &PartitionHandle) -> Result<(u64, usize), Stopped> {
        let reader = handle.view().reader();
        let (mut offset, end, mut bytes, mut damaged) = (reader.start_offset(), reader.end_offset(), 0, 0);
        while offset < end {
            let verified = match reader.verify(offset, PIECE_BYTES) {
                Ok(verified) => verified,
                Err(error) => {
                    // It was deleted meanwhile, or its disk does not answer: the next round tells.
                    tracing::warn!(partition = %handle.view().id, %error, "a log could not be checked");
                    break;
                }
            };
            if verified.next_offset <= offset {
                break;
            }
            offset = verified.next_offset;
            bytes += verified.bytes;
            damaged += verified.bad.len();
            metrics::counter!(names::SCRUBBED_BYTES).increment(verified.bytes);
            let nanoseconds = u128::from(verified.bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
            self.wait(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))?;
        }
        Ok((bytes, damaged))
    }

    fn wait(&self, time: Duration) -> Result<(), Stopped> {
        match self.stopped.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Stopped),
        }
    }
}
