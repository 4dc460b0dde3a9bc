//! Timers on stream time.

use crate::error::{ContractError, Failure, TimerError};
use crate::host::Host;
use crate::limits::TIMER_CHANGES_BYTES_MAX;
use crate::packed::{self, Reader};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;

/// The task's timers, kept with its state and as durable as it.
///
/// When stream time reaches a timer's time, [`Processor::on_timers`](crate::Processor::on_timers) is called with its
/// id, in the same step, after the batch that moved stream time. Without new records stream time stands still.
pub struct Timers {
    host: Rc<dyn Host>,
    /// The last word on each id: its time, or none for cancelled.
    changes: BTreeMap<Vec<u8>, Option<i64>>,
    bytes: usize,
}

impl Timers {
    pub(crate) fn new(host: Rc<dyn Host>) -> Self {
        Self { host, changes: BTreeMap::new(), bytes: 0 }
    }

    /// Sets the timer `id` to stream time `at`, in ms since the Unix epoch, in place of an earlier time of that id.
    pub fn set(&mut self, at: i64, id: &[u8]) -> Result<(), TimerError> {
        self.change(id, Some(at))
    }

    /// Cancels the timer `id`, if it is set.
    pub fn cancel(&mut self, id: &[u8]) -> Result<(), TimerError> {
        self.change(id, None)
    }

    fn change(&mut self, id: &[u8], at: Option<i64>) -> Result<(), TimerError> {
        if let Some(known) = self.changes.get_mut(id) {
            *known = at;
            return Ok(());
        }
        self.changes.insert(id.to_vec(), at);
        self.bytes += id.len();
        if self.bytes > TIMER_CHANGES_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Hands the changes over: cancelled ones first, to make room under the limit. Each id is in one list only.
    pub(crate) fn flush(&mut self) -> Result<(), TimerError> {
        let (mut set, mut cancelled) = (Vec::new(), Vec::new());
        for (id, at) in &self.changes {
            if let Some(at) = at {
                set.extend_from_slice(&at.to_le_bytes());
                packed::push(&mut set, Some(id));
            } else {
                packed::push(&mut cancelled, Some(id));
            }
        }
        self.forget();
        if !cancelled.is_empty() {
            self.host.cancel_timers(&cancelled)?;
        }
        if set.is_empty() { Ok(()) } else { self.host.set_timers(&set) }
    }

    /// Drops what was not handed over.
    pub(crate) fn forget(&mut self) {
        self.changes.clear();
        self.bytes = 0;
    }
}

/// Timers that stream time has reached, in order of (time, id). None of them is set any more.
#[derive(Clone, Debug)]
pub struct DueTimers<'a> {
    stream_time: i64,
    packed: &'a [u8],
}

/// A timer whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueTimer<'a> {
    /// Its place in the list, from 0; what [`Failure::index`] refers to.
    pub index: u32,
    /// The time it was set to.
    pub at: i64,
    /// What it was called.
    pub id: &'a [u8],
}

impl DueTimer<'_> {
    /// A failure that names this timer.
    pub fn failure(&self, message: impl Display) -> Failure {
        Failure::at(self.index, message)
    }
}

impl<'a> DueTimers<'a> {
    /// Checks that the list holds together, once, so that reading it can't fail.
    pub(crate) fn parse(stream_time: i64, packed: &'a [u8]) -> Result<Self, ContractError> {
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            reader.i64()?;
            reader.present()?;
        }
        Ok(Self { stream_time, packed })
    }

    /// Stream time now; not before any of the timers.
    pub fn stream_time(&self) -> i64 {
        self.stream_time
    }

    /// The timers.
    pub fn iter(&self) -> impl Iterator<Item = DueTimer<'a>> + use<'a> {
        let mut reader = Reader::new(self.packed);
        (0..).map_while(move |index| {
            let (at, id) = (reader.i64().ok()?, reader.present().ok()?);
            Some(DueTimer { index, at, id })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_timers_are_read_in_order() {
        let packed = b"\x05\0\0\0\0\0\0\0\x01\0\0\0a\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0";
        let due = DueTimers::parse(9, packed).unwrap();
        let read: Vec<_> = due.iter().map(|timer| (timer.index, timer.at, timer.id)).collect();
        assert_eq!(read, [(0, 5, &b"a"[..]), (1, -1, b"")]);
        DueTimers::parse(9, &packed[..packed.len() - 1]).unwrap_err();
    }
}
