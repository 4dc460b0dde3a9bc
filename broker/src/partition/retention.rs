//! The thread that looks, every so often, which partitions keep more than their topics ask for.

use super::{PartitionHandle, Partitions};
use crate::clock::unix_time_ms;
use headwater_log::retention::Retention;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The running thread; it ends when this is dropped.
pub(crate) struct RetentionThread {
    /// Dropped to end it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RetentionThread {
    /// Looks every `period`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(partitions: Arc<Partitions>, period: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let run = move || look_again_and_again(&partitions, period, &stopped);
        let thread = std::thread::Builder::new().name("retention".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for RetentionThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the retention thread panicked: this broker has a bug");
        }
    }
}

fn look_again_and_again(partitions: &Partitions, period: Duration, stopped: &Receiver<()>) {
    while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
        for handle in partitions.all() {
            if stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                return;
            }
            apply(&handle, unix_time_ms());
        }
    }
}

/// Deletes what one partition keeps too long, or too much of. What fails is tried again at the next look.
fn apply(handle: &PartitionHandle, now_ms: i64) {
    let settings = handle.settings();
    if handle.is_internal() || !settings.cleanup_policy.delete {
        return;
    }
    let retention = Retention { age_ms_max: settings.retention_ms, bytes_max: settings.retention_bytes };
    let view = handle.view();
    let Some(to) = retention.log_start(&view.reader().segment_facts(), view.high_watermark(), now_ms) else { return };
    match handle.trim_blocking(to, now_ms) {
        Ok((log_start, bytes)) => {
            tracing::info!(topic = %view.topic_name, partition = %view.id, log_start, bytes, "retention");
        }
        Err(error) => tracing::warn!(topic = %view.topic_name, partition = %view.id, %error, "retention has to wait"),
    }
}
