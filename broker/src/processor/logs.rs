//! Log lines of a processor's guests: the last ones, in memory, numbered.

use crate::clock::unix_time_ms;
use headwater_protocol::messages::processor::{LogLevel, ProcessorLogLine};
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::watch;

/// Bytes of one line; what is longer is cut.
pub(crate) const LINE_BYTES_MAX: usize = 4096;

/// A processor's lines. The oldest ones make room.
pub struct ProcessorLog {
    lines: Mutex<VecDeque<ProcessorLogLine>>,
    lines_max: usize,
    newest: watch::Sender<u64>,
}

impl ProcessorLog {
    /// An empty log that keeps `lines_max` lines.
    #[must_use]
    pub fn new(lines_max: usize) -> Self {
        Self { lines: Mutex::new(VecDeque::new()), lines_max, newest: watch::Sender::new(0) }
    }

    /// Adds a line.
    pub(crate) fn write(&self, task: u32, level: LogLevel, message: &str) {
        let message = cut(message).to_owned();
        let mut lines = self.lines.lock();
        if lines.len() >= self.lines_max {
            lines.pop_front();
        }
        let number = *self.newest.borrow() + 1;
        lines.push_back(ProcessorLogLine { number, at: unix_time_ms(), task, level, message });
        self.newest.send_replace(number);
    }

    /// Up to `lines_max` lines with numbers above `after`, oldest first.
    pub(crate) fn read(&self, after: u64, lines_max: usize) -> Vec<ProcessorLogLine> {
        let lines = self.lines.lock();
        let begin = lines.partition_point(|line| line.number <= after);
        lines.iter().skip(begin).take(lines_max).cloned().collect()
    }

    /// Completes when there is a line with a number above `after`.
    pub(crate) async fn wait_beyond(&self, after: u64) {
        let mut newest = self.newest.subscribe();
        // The sender lives as long as `self`, so that waiting can't fail.
        if newest.wait_for(|number| *number > after).await.is_err() {
            tracing::debug!("a processor's log ended while it was followed");
        }
    }
}

/// The longest beginning of `message` that fits, ending at a character's boundary.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(LINE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_make_room_and_numbers_go_on() {
        let log = ProcessorLog::new(2);
        for text in ["a", "b", "c"] {
            log.write(0, LogLevel::Info, text);
        }
        let texts = |after| log.read(after, 10).into_iter().map(|line| (line.number, line.message)).collect::<Vec<_>>();
        assert_eq!(texts(0), [(2, "b".to_owned()), (3, "c".to_owned())]);
        assert_eq!(texts(2), [(3, "c".to_owned())]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let log = ProcessorLog::new(2);
        log.write(0, LogLevel::Info, &"é".repeat(LINE_BYTES_MAX));
        let line = &log.read(0, 1)[0].message;
        assert!(line.len() <= LINE_BYTES_MAX && line.chars().all(|letter| letter == 'é'));
    }
}
