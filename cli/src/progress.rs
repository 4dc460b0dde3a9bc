//! A progress bar for what takes long, on a terminal only.

use crate::limits::PROGRESS_AFTER_MS;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Progress in bytes. Draws nothing in the first second, and nothing when standard error is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// Whether it may still appear.
    pending: bool,
}

impl Progress {
    /// Of `total_bytes`, where they are known; `wanted` false: never draws.
    pub(crate) fn new(total_bytes: Option<u64>, wanted: bool) -> Self {
        let bar = ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::hidden());
        let template = match total_bytes {
            Some(_) => "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
            None => "{spinner} {bytes} {bytes_per_sec} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, began: Instant::now(), pending: wanted && std::io::stderr().is_terminal() }
    }

    /// Now `done_bytes` are done.
    pub(crate) fn set(&mut self, done_bytes: u64, message: impl FnOnce() -> String) {
        if self.pending && self.began.elapsed() >= Duration::from_millis(PROGRESS_AFTER_MS) {
            self.pending = false;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done_bytes);
        if !self.bar.is_hidden() {
            self.bar.set_message(message());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
