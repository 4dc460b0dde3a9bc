//! What a task still has to get into one output partition, in number order.
//!
//! ```text
//!      acknowledged │ in flight      │ durable, to be sent │ waits for the changelog's high watermark
//!   ────────────────┼────────────────┼─────────────────────┼──────────────────────────────────────────
//!        … gone     │ batches[..sent]│ batches[sent..]      …                       (STEP-4)      next
//! ```
//!
//! Batches are never cut anew, so whatever the partition expects is the first number of one of them.

use super::limits::RETRY_DELAY_MS;
use bytes::Bytes;
use std::collections::VecDeque;

/// One batch, not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Queued {
    pub(super) step: u64,
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) bytes: Bytes,
}

impl Queued {
    fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }
}

/// What a reply says about the partition's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outlook {
    /// It fits, or is too late to mean anything.
    Sound,
    /// It can't be true of a partition that keeps its promises, and was asked after the last such answer: stop.
    Contradiction,
}

/// One output partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OutputQueue {
    /// Every number below it is acknowledged.
    acknowledged: u64,
    /// The next number to give out.
    next: u64,
    batches: VecDeque<Queued>,
    /// How many of `batches` are in flight.
    sent: usize,
    /// Answers to sends before this token say nothing about what has been sent since.
    rewound_at: u64,
    /// An answer contradicted what we know; one to a send with this token or a later one counts.
    doubted_at: Option<u64>,
    /// What the last answer expected, if nothing was acknowledged since.
    expected: Option<u64>,
    retry_delay_ms: u64,
    retry_at_ms: Option<u64>,
}

impl OutputQueue {
    /// A partition where everything below `next` is acknowledged.
    pub(super) fn new(next: u64) -> Self {
        Self {
            acknowledged: next,
            next,
            batches: VecDeque::new(),
            sent: 0,
            rewound_at: 0,
            doubted_at: None,
            expected: None,
            retry_delay_ms: RETRY_DELAY_MS.0,
            retry_at_ms: None,
        }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn batches(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn retry_at_ms(&self) -> Option<u64> {
        self.retry_at_ms.filter(|_| self.sent < self.batches.len())
    }

    pub(super) fn push(&mut self, batch: Queued) {
        debug_assert_eq!(batch.first, self.next, "numbers leave no hole (STEP-8)");
        self.next = batch.end();
        self.batches.push_back(batch);
    }

    /// The next batch to send, if one of a step below `durable_steps_end` may go now.
    pub(super) fn poll(&mut self, now_ms: u64, durable_steps_end: u64, inflight_max: usize) -> Option<&Queued> {
        if self.retry_at_ms.is_some_and(|at| now_ms < at) || self.sent >= inflight_max {
            return None;
        }
        // STEP-4: outputs leave only below the changelog's high watermark.
        let batch = self.batches.get(self.sent).filter(|batch| batch.step < durable_steps_end)?;
        self.retry_at_ms = None;
        self.sent += 1;
        Some(batch)
    }

    /// Everything up to `upto` is below the partition's high watermark. `gone` is told of each batch that this
    /// acknowledges. `next_token`: that of the next send.
    pub(super) fn acknowledge(
        &mut self,
        token: u64,
        upto: u64,
        next_token: u64,
        mut gone: impl FnMut(&Queued),
    ) -> Outlook {
        if upto >= self.next {
            return self.doubt(token, next_token);
        }
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.end() - 1 <= upto) {
            gone(&batch);
            self.acknowledged = batch.end();
            self.sent = self.sent.saturating_sub(1);
            self.expected = None;
            self.retry_delay_ms = RETRY_DELAY_MS.0;
        }
        if token >= self.rewound_at {
            self.doubted_at = None;
        }
        Outlook::Sound
    }

    /// The partition's next number is `number`: send again from there.
    pub(super) fn expect(&mut self, token: u64, number: u64, next_token: u64, now_ms: u64) -> Outlook {
        if token < self.rewound_at {
            return Outlook::Sound;
        }
        let place = self.batches.iter().position(|batch| batch.first == number);
        let place = place.or((number == self.next).then_some(self.batches.len()));
        let Some(place) = place.filter(|_| number >= self.acknowledged) else {
            return self.doubt(token, next_token);
        };
        self.doubted_at = None;
        // Asked for the same again without progress: it is told, but not in a hot loop.
        if self.expected == Some(number) {
            self.pause(now_ms);
        }
        self.expected = Some(number);
        // What lies below `number` is in the partition but perhaps not below its high watermark (STEP-10): it is
        // acknowledged with what is sent again from here on; where that is nothing, it is asked about itself.
        self.rewind(if place < self.sent { place } else { 0 }, next_token);
        Outlook::Sound
    }

    /// The batch could not be written for now; it may be there all the same.
    pub(super) fn retry(&mut self, token: u64, next_token: u64, now_ms: u64) {
        if token >= self.rewound_at {
            self.pause(now_ms);
            self.rewind(0, next_token);
        }
    }

    fn pause(&mut self, now_ms: u64) {
        self.retry_at_ms = Some(now_ms.saturating_add(self.retry_delay_ms));
        self.retry_delay_ms = (self.retry_delay_ms * 2).min(RETRY_DELAY_MS.1);
    }

    fn rewind(&mut self, sent: usize, next_token: u64) {
        self.sent = sent;
        self.rewound_at = next_token;
    }

    /// An answer that can't be: it may be late, so ask again, and believe it the second time (step-protocol §1).
    fn doubt(&mut self, token: u64, next_token: u64) -> Outlook {
        if token < self.rewound_at || self.batches.is_empty() {
            return Outlook::Sound;
        }
        if self.doubted_at.is_some_and(|doubted_at| token >= doubted_at) {
            return Outlook::Contradiction;
        }
        self.doubted_at = Some(next_token);
        self.rewind(0, next_token);
        Outlook::Sound
    }

    /// What must hold between any two events.
    pub(super) fn is_sound(&self) -> bool {
        let firsts = self.batches.iter().map(|batch| batch.first);
        let ends = self.batches.iter().map(Queued::end);
        let starts = std::iter::once(self.acknowledged).chain(ends);
        let tiled = firsts.chain(std::iter::once(self.next)).eq(starts);
        tiled && self.sent <= self.batches.len() && self.batches.iter().all(|batch| batch.count > 0)
    }
}
