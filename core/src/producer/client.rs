//! An ordinary idempotent producer: IDP-1 to IDP-3.

use super::sequence::advance;
use super::{ProducerRefusal, Verdict};
use crate::invariant::{Violation, holds};
use crate::limits::BATCHES_PER_PRODUCER;
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::BatchHeader;

/// One remembered batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct SeenBatch {
    pub(super) base_offset: i64,
    pub(super) base_sequence: i32,
    pub(super) last_offset_delta: i32,
}

impl SeenBatch {
    fn new(header: &BatchHeader, base_offset: i64) -> Self {
        Self { base_offset, base_sequence: header.base_sequence, last_offset_delta: header.last_offset_delta }
    }

    fn next_offset(self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    fn next_sequence(self) -> i32 {
        advance(advance(self.base_sequence, self.last_offset_delta), 1)
    }

    fn is_retried_by(self, header: &BatchHeader) -> bool {
        self.base_sequence == header.base_sequence && self.last_offset_delta == header.last_offset_delta
    }
}

/// What is remembered of one ordinary producer: its epoch and the last batches of that epoch, oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ClientEntry {
    pub(super) epoch: i16,
    /// From 1 to [`BATCHES_PER_PRODUCER`].
    pub(super) count: u8,
    pub(super) batches: [SeenBatch; BATCHES_PER_PRODUCER],
}

impl ClientEntry {
    /// The state after the producer's first batch (or the first of a new epoch).
    pub(super) fn first(header: &BatchHeader, base_offset: i64) -> Self {
        let mut batches = [SeenBatch::default(); BATCHES_PER_PRODUCER];
        batches[0] = SeenBatch::new(header, base_offset);
        Self { epoch: header.producer_epoch, count: 1, batches }
    }

    /// Takes in a batch of the log. One of an older epoch, which no leader appends, does not bring that epoch back.
    pub(super) fn observe(&mut self, header: &BatchHeader, base_offset: i64) {
        if header.producer_epoch > self.epoch {
            *self = Self::first(header, base_offset);
        } else if header.producer_epoch == self.epoch {
            if usize::from(self.count) == BATCHES_PER_PRODUCER {
                self.batches.rotate_left(1);
            } else {
                self.count += 1;
            }
            self.batches[usize::from(self.count) - 1] = SeenBatch::new(header, base_offset);
        }
    }

    /// Forgets batches that end at or below `log_start`; whether one is left.
    pub(super) fn forget_before(&mut self, log_start: i64) -> bool {
        let gone = self.seen().iter().take_while(|batch| batch.next_offset() <= log_start).count();
        if gone >= self.seen().len() {
            return false;
        }
        self.batches.rotate_left(gone);
        self.count -= u8::try_from(gone).unwrap_or(0);
        let left = usize::from(self.count);
        self.batches[left..].fill(SeenBatch::default());
        true
    }

    pub(super) fn check(&self, header: &BatchHeader) -> Verdict {
        let got = header.base_sequence;
        let producer = header.producer_id;
        if header.producer_epoch < self.epoch {
            if lacks(Mutant::OlderEpochAccepted) {
                return Verdict::Append;
            }
            let (current, got) = (self.epoch, header.producer_epoch);
            return Verdict::Refuse(ProducerRefusal::InvalidEpoch { producer, current, got });
        }
        let expected = if header.producer_epoch > self.epoch { 0 } else { self.last().next_sequence() };
        if got == expected || (got > expected && lacks(Mutant::SequenceGapAccepted)) {
            return Verdict::Append;
        }
        let forgotten = if lacks(Mutant::OneBatchRemembered) { self.seen().len() - 1 } else { 0 };
        let original = self.seen().iter().skip(forgotten).find(|batch| batch.is_retried_by(header));
        match original {
            Some(_) if lacks(Mutant::RetryAppended) => Verdict::Append,
            Some(batch) if header.producer_epoch == self.epoch => {
                Verdict::Duplicate { base_offset: batch.base_offset, next_offset: batch.next_offset() }
            }
            _ => Verdict::Refuse(ProducerRefusal::OutOfOrder { producer, expected, got }),
        }
    }

    /// Where the remembered batches begin.
    pub(super) fn base_offsets(&self) -> impl Iterator<Item = i64> + '_ {
        self.seen().iter().map(|batch| batch.base_offset)
    }

    /// One past the last offset of the newest batch.
    pub(super) fn next_offset(&self) -> i64 {
        self.last().next_offset()
    }

    /// Whether the newest batch is the same.
    pub(super) fn ends_like(&self, other: &Self) -> bool {
        (self.epoch, self.last()) == (other.epoch, other.last())
    }

    pub(super) fn seen(&self) -> &[SeenBatch] {
        &self.batches[..usize::from(self.count).min(BATCHES_PER_PRODUCER)]
    }

    fn last(&self) -> SeenBatch {
        self.seen().last().copied().unwrap_or_default()
    }

    pub(super) fn invariants(&self) -> Result<(), Violation> {
        holds(!self.seen().is_empty(), "a producer that is known has a batch")?;
        let ascending = self.seen().windows(2).all(|pair| pair[0].next_offset() <= pair[1].base_offset);
        holds(ascending, "remembered batches are in log order")
    }
}
