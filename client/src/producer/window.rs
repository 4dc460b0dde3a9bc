//! The batches of one partition that were sent and whose outcome is open: sequence numbers, retries, time-outs. Pure.
//!
//! ```text
//!              oldest                            newest
//!   unresolved ┌──────────┬──────────┬──────────┐
//!   (≤ 5)      │ seq 0    │ seq 12   │ seq 31   │   next sequence 40
//!              │ waiting  │ in flight│ in flight│
//!              └──────────┴──────────┴──────────┘
//!    refused for a passing    │ once nothing that follows is in flight any more, all that wait
//!    reason, or lost          │ are sent again: the same bytes, in the same order (IDP-2, IDP-6)
//! ```
//!
//! When a batch is given up (refused for good, or past its delivery time-out), its sequence numbers are missing, or
//! may be: a **hole**. The batches behind it are still sent with the bytes they have. Those that the broker then
//! refuses because of the hole are certainly not in the log; once no outcome is open, the producer epoch of this
//! partition rises by one, numbering starts over at 0, and they and all later ones go under the new epoch. A copy of
//! the given-up batch that still travels can't be appended after that: its epoch is old (IDP-1, IDP-3; the idea of
//! KIP-360).
//!
//! All of this trusts the broker to notice a missing number. It can't for a producer id that it doesn't know (IDP-5):
//! so until a batch was acknowledged, and again after a long rest, one batch at a time is in flight.

use super::delivery::Completion;
use crate::limits::{PARTITION_BATCHES_IN_FLIGHT_MAX, PRODUCER_ID_TRUST_MAX};
use bytes::Bytes;
use headwater_protocol::batch::{BatchBuilder, BatchError, ProducerStamp, RecordBatch};
use headwater_protocol::error::ErrorCode;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A number for each batch of a producer, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BatchId(pub(crate) u64);

/// A producer id and epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// A batch that leaves the accumulator.
#[derive(Debug)]
pub(crate) struct Departing {
    pub(crate) id: BatchId,
    pub(crate) records: u32,
    /// When its delivery time-out ends.
    pub(crate) deadline: Instant,
    pub(crate) completion: Arc<Completion>,
    /// What it counts for in the producer's buffer.
    pub(crate) buffered_bytes: usize,
}

/// A batch on its way.
#[derive(Debug)]
struct Unresolved {
    batch: Departing,
    /// What is sent, and sent again.
    bytes: Bytes,
    in_flight: bool,
    /// Copies that may still reach the broker: sent, and never answered for certain.
    stray_copies: u32,
    /// The last copy was refused because a sequence number before it is missing: it is not in the log.
    refused_for_hole: bool,
}

/// What an error answer means.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The batch was given up before, or is not this window's.
    Unknown,
    /// It will be sent again.
    Retry,
    /// It is given up.
    GivenUp(Departing),
}

/// A partition's unresolved batches.
#[derive(Debug)]
pub(crate) struct Window {
    idempotent: bool,
    identity: Option<Identity>,
    /// A producer id that must not be used any more.
    spent_producer_id: Option<i64>,
    next_sequence: i32,
    /// Whether a batch was stamped with this identity.
    identity_used: bool,
    /// When the broker last showed that it knows this producer id.
    confirmed_at: Option<Instant>,
    hole: bool,
    unresolved: VecDeque<Unresolved>,
}

impl Window {
    pub(crate) fn new(idempotent: bool) -> Self {
        Self {
            idempotent,
            identity: None,
            spent_producer_id: None,
            next_sequence: 0,
            identity_used: false,
            confirmed_at: None,
            hole: false,
            unresolved: VecDeque::with_capacity(PARTITION_BATCHES_IN_FLIGHT_MAX),
        }
    }

    /// Whether nothing can be sent before [`Self::set_identity`] was called with a usable producer id.
    pub(crate) fn needs_identity(&self) -> bool {
        self.idempotent && self.identity.is_none()
    }

    /// Takes up a producer id, unless it is the one that is spent.
    pub(crate) fn set_identity(&mut self, identity: Identity) {
        if self.needs_identity() && self.spent_producer_id != Some(identity.producer_id) {
            self.identity = Some(identity);
            self.restart_numbering();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unresolved.is_empty()
    }

    pub(crate) fn any_in_flight(&self) -> bool {
        self.unresolved.iter().any(|entry| entry.in_flight)
    }

    /// Completions of every batch here.
    pub(crate) fn completions(&self) -> impl Iterator<Item = &Arc<Completion>> {
        self.unresolved.iter().map(|entry| &entry.batch.completion)
    }

    /// The earliest delivery deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.unresolved.front().map(|entry| entry.batch.deadline)
    }

    /// How many batches may be in flight.
    fn in_flight_max(&self) -> usize {
        if self.idempotent && self.confirmed_at.is_none() { 1 } else { PARTITION_BATCHES_IN_FLIGHT_MAX }
    }

    /// After a long rest the broker may have forgotten the producer id.
    pub(crate) fn note_rest(&mut self, now: Instant) {
        let rested = |at: &Instant| now.saturating_duration_since(*at) >= PRODUCER_ID_TRUST_MAX;
        if self.unresolved.is_empty() && self.confirmed_at.as_ref().is_some_and(rested) {
            self.confirmed_at = None;
        }
    }

    /// Whether a batch that was never sent may go now.
    pub(crate) fn can_admit(&self) -> bool {
        !self.needs_identity()
            && !self.hole
            && self.unresolved.len() < self.in_flight_max()
            && self.unresolved.iter().all(|entry| entry.in_flight)
    }

    /// Takes a batch in as sent and gives the stamp to build it with; then call [`Self::built`].
    pub(crate) fn admit(&mut self, batch: Departing) -> ProducerStamp {
        debug_assert!(self.can_admit(), "admitted out of turn");
        let stamp = self.take_sequence(batch.records);
        self.unresolved.push_back(Unresolved {
            batch,
            bytes: Bytes::new(),
            in_flight: true,
            stray_copies: 0,
            refused_for_hole: false,
        });
        stamp
    }

    /// Keeps the bytes of a batch that was admitted: they are what is sent again.
    pub(crate) fn built(&mut self, id: BatchId, bytes: Bytes) {
        if let Some(entry) = self.unresolved.iter_mut().find(|entry| entry.batch.id == id) {
            entry.bytes = bytes;
        }
    }

    /// Gives up a batch whose bytes could not be built, so that none of it was sent.
    pub(crate) fn abandon(&mut self, id: BatchId) -> Option<Departing> {
        let place = self.place(id)?;
        self.hole = self.idempotent;
        self.unresolved.remove(place).map(|entry| entry.batch)
    }

    /// Bytes of what [`Self::resend`] would give.
    pub(crate) fn resend_bytes(&self) -> Option<usize> {
        self.unresolved.get(self.resend_place()?).map(|entry| entry.bytes.len())
    }

    fn resend_place(&self) -> Option<usize> {
        let held_back = |entry: &Unresolved| self.hole && entry.refused_for_hole;
        let waits = |entry: &Unresolved| !entry.in_flight && !held_back(entry);
        let place = self.unresolved.iter().position(waits)?;
        let followed = self.unresolved.iter().skip(place).any(|entry| entry.in_flight);
        let room = self.unresolved.iter().filter(|entry| entry.in_flight).count() < self.in_flight_max();
        (room && !followed).then_some(place)
    }

    /// The next batch to send again, if one may go now; it is in flight from then on.
    pub(crate) fn resend(&mut self) -> Option<(BatchId, Bytes)> {
        let place = self.resend_place()?;
        let entry = self.unresolved.get_mut(place)?;
        entry.in_flight = true;
        entry.refused_for_hole = false;
        Some((entry.batch.id, entry.bytes.clone()))
    }

    /// The broker has the batch.
    pub(crate) fn acknowledge(&mut self, id: BatchId, now: Instant) -> Option<Departing> {
        let place = self.place(id)?;
        self.confirmed_at = Some(now);
        self.unresolved.remove(place).map(|entry| entry.batch)
    }

    /// The broker answered with an error.
    pub(crate) fn refuse(&mut self, id: BatchId, code: ErrorCode) -> Refusal {
        let (Some(place), hole) = (self.place(id), self.hole) else { return Refusal::Unknown };
        let Some(entry) = self.unresolved.get_mut(place) else { return Refusal::Unknown };
        entry.in_flight = false;
        let behind_something = place > 0 || hole;
        if code == ErrorCode::OutOfOrderSequenceNumber && behind_something && self.idempotent {
            entry.refused_for_hole = true;
            return Refusal::Retry;
        }
        if code.is_retriable() {
            // After these the batch may yet be appended, or already is.
            if matches!(code, ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend) {
                entry.stray_copies = entry.stray_copies.saturating_add(1);
            }
            return Refusal::Retry;
        }
        if code == ErrorCode::InvalidProducerEpoch {
            self.spend_identity();
        }
        match self.abandon(id) {
            Some(batch) => Refusal::GivenUp(batch),
            None => Refusal::Unknown,
        }
    }

    /// The stream is gone: what was in flight may or may not have arrived. Tells whether anything was.
    pub(crate) fn lost(&mut self) -> bool {
        let mut any = false;
        for entry in self.unresolved.iter_mut().filter(|entry| entry.in_flight) {
            entry.in_flight = false;
            entry.stray_copies = entry.stray_copies.saturating_add(1);
            any = true;
        }
        any
    }

    /// Takes out all batches, as when the producer closes or the topic is gone.
    pub(crate) fn take_all(&mut self) -> Vec<Departing> {
        self.hole = self.idempotent && !self.unresolved.is_empty();
        self.unresolved.drain(..).map(|entry| entry.batch).collect()
    }

    /// Takes out the batches whose delivery time-out has passed. Each was sent: it may or may not be in the log.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Departing> {
        let mut expired = Vec::new();
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            expired.extend(self.unresolved.pop_front().map(|entry| entry.batch));
            self.hole = self.idempotent;
        }
        expired
    }

    /// Closes a hole as soon as no outcome is open: a new epoch, numbering from 0, what is left stamped anew. Gives
    /// batches that can't be sent again because a copy may still travel: they may or may not be written.
    ///
    /// # Errors
    /// The batch's, if its bytes don't read back; then it is in the list too.
    pub(crate) fn close_hole(&mut self) -> Vec<(Departing, Option<BatchError>)> {
        let settled = self.unresolved.iter().all(|entry| !entry.in_flight && entry.refused_for_hole);
        if !self.hole || !settled {
            return Vec::new();
        }
        if self.identity_used {
            match self.identity {
                Some(Identity { producer_id, epoch }) if epoch < i16::MAX => {
                    self.identity = Some(Identity { producer_id, epoch: epoch + 1 });
                }
                Some(_) => self.spend_identity(),
                None => {}
            }
        }
        if self.needs_identity() {
            return Vec::new();
        }
        self.hole = false;
        self.restart_numbering();
        let mut failed = Vec::new();
        for mut entry in std::mem::take(&mut self.unresolved) {
            if entry.stray_copies > 0 {
                failed.push((entry.batch, None));
                continue;
            }
            match restamped(&entry.bytes, self.next_stamp()) {
                Ok(bytes) => {
                    self.take_sequence(entry.batch.records);
                    entry.bytes = bytes;
                    entry.refused_for_hole = false;
                    self.unresolved.push_back(entry);
                }
                Err(error) => failed.push((entry.batch, Some(error))),
            }
        }
        failed
    }

    fn place(&self, id: BatchId) -> Option<usize> {
        self.unresolved.iter().position(|entry| entry.batch.id == id)
    }

    fn restart_numbering(&mut self) {
        self.next_sequence = 0;
        self.identity_used = false;
    }

    fn spend_identity(&mut self) {
        self.spent_producer_id = self.identity.map(|identity| identity.producer_id);
        self.identity = None;
        self.confirmed_at = None;
    }

    fn next_stamp(&self) -> ProducerStamp {
        self.identity.map_or(ProducerStamp::NONE, |identity| ProducerStamp {
            producer_id: identity.producer_id,
            producer_epoch: identity.epoch,
            base_sequence: self.next_sequence,
        })
    }

    fn take_sequence(&mut self, records: u32) -> ProducerStamp {
        let stamp = self.next_stamp();
        self.identity_used = true;
        self.next_sequence = sequence_after(self.next_sequence, records);
        stamp
    }
}

/// The sequence number `records` after `sequence`; 2^31 − 1 is followed by 0 (IDP-1).
fn sequence_after(sequence: i32, records: u32) -> i32 {
    let wrapped = (i64::from(sequence) + i64::from(records)) % (i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).unwrap_or(0)
}

/// The same records under another stamp.
fn restamped(bytes: &Bytes, stamp: ProducerStamp) -> Result<Bytes, BatchError> {
    let batch = RecordBatch::decode(bytes.clone())?;
    let mut builder = BatchBuilder::new(batch.header().compression()?);
    for record in &batch.records(&Default::default())? {
        let record = record?;
        builder.append_raw_headers(record.timestamp, record.key, record.value, record.headers)?;
    }
    Ok(builder.build(stamp)?.freeze())
}

#[cfg(test)]
mod tests;
