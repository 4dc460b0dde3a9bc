//! Replies that wait until what they say is true.

use super::{Outcome, ReplyToken};
use crate::cluster::Durability;
use crate::producer::Admission;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::messages::records::Acks;
use std::collections::VecDeque;

/// What must have reached an offset before a reply goes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// The log's end.
    Written,
    /// What this broker's disk holds.
    Durable,
    /// The high watermark.
    Committed,
}

impl Condition {
    /// LOG-1: the leader's own copy counts once it is as durable as the topic asks. STEP-10: what a task is told is
    /// true of what is below the high watermark, whatever `acks` says.
    pub(super) fn of(acks: Acks, admission: Admission, durability: Durability) -> Self {
        match (admission, acks, durability) {
            (Admission::TaskOutput { .. }, _, _) if lacks(Mutant::TaskReplyOnAppend) => Self::Written,
            (Admission::Client, Acks::Leader, _) if lacks(Mutant::LeaderAckBeforeFlush) => Self::Written,
            (Admission::TaskOutput { .. } | Admission::TaskCommit { .. }, _, _) | (_, Acks::All, _) => Self::Committed,
            (_, Acks::Leader, Durability::Fsync) => Self::Durable,
            (_, Acks::Leader, Durability::Os) | (_, Acks::None, _) => Self::Written,
        }
    }
}

/// A reply and the offset that the condition must reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiter {
    pub(super) until: i64,
    pub(super) token: ReplyToken,
    pub(super) outcome: Outcome,
}

/// A queue for each condition, ordered by offset; among equals, by arrival.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Waiting {
    written: VecDeque<Waiter>,
    durable: VecDeque<Waiter>,
    committed: VecDeque<Waiter>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.written.len() + self.durable.len() + self.committed.len()
    }

    pub(super) fn queue(&self, condition: Condition) -> &VecDeque<Waiter> {
        match condition {
            Condition::Written => &self.written,
            Condition::Durable => &self.durable,
            Condition::Committed => &self.committed,
        }
    }

    fn queue_mut(&mut self, condition: Condition) -> &mut VecDeque<Waiter> {
        match condition {
            Condition::Written => &mut self.written,
            Condition::Durable => &mut self.durable,
            Condition::Committed => &mut self.committed,
        }
    }

    pub(super) fn push(&mut self, condition: Condition, waiter: Waiter) {
        let queue = self.queue_mut(condition);
        match queue.back() {
            // Only a retry waits for less than the newest batch.
            Some(last) if last.until > waiter.until => {
                let place = queue.partition_point(|other| other.until <= waiter.until);
                queue.insert(place, waiter);
            }
            _ => queue.push_back(waiter),
        }
    }

    /// The next reply whose condition is fulfilled now that it has reached `offset`.
    pub(super) fn pop_reached(&mut self, condition: Condition, offset: i64) -> Option<Waiter> {
        self.queue_mut(condition).pop_front_if(|waiter| waiter.until <= offset)
    }

    /// Takes out all replies that wait for offsets above `offset`, in order.
    pub(super) fn take_above(&mut self, offset: i64) -> Vec<Waiter> {
        let mut taken = Vec::new();
        for queue in [&mut self.written, &mut self.durable, &mut self.committed] {
            let keep = queue.partition_point(|waiter| waiter.until <= offset);
            taken.extend(queue.drain(keep..));
        }
        taken
    }
}
