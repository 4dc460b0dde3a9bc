//! What a partition's driver shows to everybody else: the high watermark, and the log to read below it.

use crate::metrics as names;
use headwater_log::{LogError, LogReader, Source};
use headwater_protocol::ids::{LeaderEpoch, TopicPartition};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Called with each new high watermark, on the driver's thread: it must only pass the news on.
pub type WatermarkListener = Box<dyn Fn(i64) + Send>;

/// The readable side of a partition that this broker leads.
pub struct PartitionView {
    /// Which partition it is.
    pub id: TopicPartition,
    /// Name of its topic, for messages.
    pub topic_name: String,
    /// The reign in which this view was opened.
    pub leader_epoch: LeaderEpoch,
    reader: LogReader,
    high_watermark: watch::Sender<i64>,
    listeners: Mutex<Vec<(u64, WatermarkListener)>>,
    next_listener: AtomicU64,
}

impl PartitionView {
    /// The view of a partition whose log `reader` reads.
    #[must_use]
    pub fn new(
        id: TopicPartition,
        topic_name: String,
        leader_epoch: LeaderEpoch,
        reader: LogReader,
        high_watermark: i64,
    ) -> Self {
        Self {
            id,
            topic_name,
            leader_epoch,
            reader,
            high_watermark: watch::Sender::new(high_watermark),
            listeners: Mutex::new(Vec::new()),
            next_listener: AtomicU64::new(0),
        }
    }

    /// Offsets below it are committed; nothing at or above it may be shown.
    #[must_use]
    pub fn high_watermark(&self) -> i64 {
        *self.high_watermark.borrow()
    }

    /// First offset that the partition has.
    #[must_use]
    pub fn log_start_offset(&self) -> i64 {
        self.reader.start_offset()
    }

    /// The log. Whoever reads stays below [`Self::high_watermark`].
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Committed batches from the one that holds `offset` on: whole ones, the first whatever its size.
    ///
    /// # Errors
    /// The log can't be read. The range must have been checked.
    pub fn read_committed(&self, offset: i64, bytes_max: usize) -> Result<bytes::Bytes, LogError> {
        self.read(offset, self.high_watermark(), bytes_max)
    }

    /// As [`LogReader::serve`], and counts where it came from.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn read(&self, offset: i64, upto: i64, bytes_max: usize) -> Result<bytes::Bytes, LogError> {
        let served = self.reader.serve(offset, upto, bytes_max)?;
        match served.source {
            Source::Memory => metrics::counter!(names::LOG_READS, "source" => "memory").increment(1),
            Source::File => metrics::counter!(names::LOG_READS, "source" => "file").increment(1),
            Source::Nothing => {}
        }
        Ok(served.bytes)
    }

    /// Told of each high watermark; ends with an error when the partition is closed.
    pub fn watch_high_watermark(&self) -> watch::Receiver<i64> {
        self.high_watermark.subscribe()
    }

    /// Has `listener` called with each new high watermark until [`Self::unlisten`].
    pub fn listen(&self, listener: WatermarkListener) -> u64 {
        let number = self.next_listener.fetch_add(1, Ordering::Relaxed);
        self.listeners.lock().push((number, listener));
        number
    }

    /// Ends what [`Self::listen`] began.
    pub fn unlisten(&self, number: u64) {
        self.listeners.lock().retain(|(listener, _)| *listener != number);
    }

    /// The driver's: committed offsets moved up.
    pub(super) fn set_high_watermark(&self, offset: i64) {
        let before = self.high_watermark.send_replace(offset);
        assert!(before <= offset, "the high watermark of {} fell from {before} to {offset}", self.id);
        for (_, listener) in self.listeners.lock().iter() {
            listener(offset);
        }
    }

    /// The driver's: the partition is gone. Waiting readers look again and find out.
    pub(super) fn close(&self) {
        self.high_watermark.send_modify(|_| {});
    }
}
