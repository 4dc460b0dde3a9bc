//! Timers on stream time: state of the task like any other, persisted in its commits.

use super::commit::TimerChange;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A task's timers, by id and by time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Timers {
    by_id: BTreeMap<Bytes, i64>,
    by_time: BTreeSet<(i64, Bytes)>,
}

impl Timers {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many there would be at most after `changes`.
    pub(super) fn len_after(&self, changes: &[TimerChange]) -> usize {
        let new = |change: &&TimerChange| change.at.is_some() && !self.by_id.contains_key(&change.id);
        self.len() + changes.iter().filter(new).count()
    }

    pub(super) fn apply(&mut self, change: &TimerChange) {
        if let Some((id, before)) = self.by_id.remove_entry(&change.id) {
            self.by_time.remove(&(before, id));
        }
        if let Some(at) = change.at {
            // Copied, for a timer may outlive by far the buffer that its id came in.
            let id = Bytes::copy_from_slice(&change.id);
            self.by_id.insert(id.clone(), at);
            self.by_time.insert((at, id));
        }
    }

    /// Those that `stream_time` has reached: time and id, the earliest first, equal times by id.
    pub(super) fn due(&self, stream_time: i64) -> impl Iterator<Item = (i64, &Bytes)> {
        self.by_time.iter().map(|(at, id)| (*at, id)).take_while(move |(at, _)| *at <= stream_time)
    }

    pub(super) fn agree(&self) -> bool {
        self.by_id.len() == self.by_time.len()
            && self.by_id.iter().all(|(id, at)| self.by_time.contains(&(*at, id.clone())))
    }
}
