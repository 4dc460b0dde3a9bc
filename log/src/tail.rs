//! The newest batches of every log of a data directory, in memory: who reads at the end of a log needs no file.
//!
//! ```text
//!   append ──► file                                one budget for all logs of the directory, in bytes
//!        └───► ring of the log    │ b7 │ b8 │ b9 │ ◄── the very bytes that were written, not a copy
//!                                   ▲         ▲
//!            too much in all rings, │         └── a reader from here on takes them
//!            or too old: goes first │
//!   a reader from before the ring ──┴──► file; what it reads does not come in here
//! ```
//!
//! A ring holds what follows without a gap up to the log's end. It only ever loses its front: to the budget, to age, to
//! a new log start, and to the cleaner, which takes everything below the end of what it has cleaned. A batch comes in
//! once it is written, never before, and a log that is opened begins with an empty ring; so a torn end, or an append
//! that failed, is in no ring. What is in quarantine on the disk is served from here while it is here: these bytes were
//! checked at the door and never left memory.

use crate::error::LogError;
use crate::limits;
use crate::reader::LogReader;
use bytes::{Bytes, BytesMut};
use headwater_protocol::batch::BatchHeader;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The rings of all logs of a data directory, and what they may hold together.
#[derive(Default, Debug)]
pub struct Tails {
    /// 0: nothing is kept.
    bytes_max: AtomicU64,
    order: Mutex<Order>,
}

/// Every batch that is in a ring, the oldest in front. Batches that their log has dropped count until they would have
/// gone anyway: that bounds this queue, too.
#[derive(Default, Debug)]
struct Order {
    bytes: u64,
    /// Sequence of the first one.
    first: u64,
    kept: VecDeque<Kept>,
    /// What came before it goes at the next [`Tails::expire`].
    expires_below: u64,
}

#[derive(Debug)]
struct Kept {
    tail: Weak<Tail>,
    bytes: u64,
}

/// A batch that has to go: its log's ring, its sequence.
type Evicted = (Weak<Tail>, u64);

impl Tails {
    /// How many bytes all rings hold together, what is spent on keeping them included; 0 (the default) for none. Counts
    /// from the next append on.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Release);
    }

    /// Bytes that are held at this moment, as the budget counts them.
    pub fn bytes(&self) -> u64 {
        self.order.lock().bytes
    }

    /// Forgets every batch that was here at the call before: called every so often, a log that nobody appends to holds
    /// no memory soon.
    pub fn expire(&self) {
        let evicted = {
            let mut order = self.order.lock();
            let (below, next) = (order.expires_below, order.next());
            order.expires_below = next;
            let mut evicted = Vec::new();
            while order.first < below
                && let Some(oldest) = order.pop()
            {
                evicted.push(oldest);
            }
            give_back(&mut order.kept);
            evicted
        };
        evict(evicted);
    }

    /// Counts a new batch in. Its sequence, and what has to go for it.
    fn admit(&self, tail: &Arc<Tail>, bytes: usize, evicted: &mut Vec<Evicted>) -> u64 {
        let bytes = (bytes + limits::TAIL_BATCH_OVERHEAD_BYTES) as u64;
        let bytes_max = self.bytes_max.load(Ordering::Acquire);
        let mut order = self.order.lock();
        let sequence = order.next();
        order.bytes += bytes;
        order.kept.push_back(Kept { tail: Arc::downgrade(tail), bytes });
        while order.bytes > bytes_max
            && let Some(oldest) = order.pop()
        {
            evicted.push(oldest);
        }
        sequence
    }
}

impl Order {
    /// The sequence that the next batch gets.
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn pop(&mut self) -> Option<Evicted> {
        let Kept { tail, bytes } = self.kept.pop_front()?;
        let sequence = self.first;
        self.first += 1;
        self.bytes -= bytes;
        Some((tail, sequence))
    }
}

/// No lock is held: a ring's lock comes before that of the order.
fn evict(evicted: Vec<Evicted>) {
    for (tail, sequence) in evicted {
        if let Some(tail) = tail.upgrade() {
            tail.drop_while(|batch| batch.sequence <= sequence);
        }
    }
}

/// The ring of one log.
#[derive(Default, Debug)]
pub(crate) struct Tail {
    ring: Mutex<VecDeque<TailBatch>>,
}

#[derive(Debug)]
struct TailBatch {
    sequence: u64,
    base_offset: i64,
    next_offset: i64,
    bytes: Bytes,
}

impl Tail {
    /// Takes in batches that were just written behind all others, before anybody is told that they are there: who sees
    /// the new end finds it here.
    pub(crate) fn appended(self: &Arc<Self>, tails: &Tails, headers: &[BatchHeader], batches: &[Bytes]) {
        if tails.bytes_max.load(Ordering::Acquire) == 0 {
            // Should there be something from before it was switched off: behind a gap nothing may be served.
            return self.clear();
        }
        let mut evicted = Vec::new();
        let mut ring = self.ring.lock();
        for (header, bytes) in headers.iter().zip(batches) {
            debug_assert!(ring.back().is_none_or(|last| last.next_offset == header.base_offset), "no gaps");
            let sequence = tails.admit(self, bytes.len(), &mut evicted);
            let (base_offset, next_offset) = (header.base_offset, header.next_offset());
            ring.push_back(TailBatch { sequence, base_offset, next_offset, bytes: bytes.clone() });
        }
        drop(ring);
        evict(evicted);
    }

    /// What [`LogReader::serve`] promises, or `None` when the ring begins behind `from`.
    /// Nothing at or above `upto` is looked at, which must not be above the log's end.
    pub(crate) fn read(&self, from: i64, upto: i64, max_bytes: usize) -> Option<Bytes> {
        let mut found: Vec<Bytes> = Vec::new();
        let mut total_bytes = 0;
        {
            let ring = self.ring.lock();
            ring.front().filter(|first| first.base_offset <= from)?;
            let first = ring.partition_point(|batch| batch.next_offset <= from);
            for batch in ring.range(first..).take_while(|batch| batch.next_offset <= upto) {
                let fits = total_bytes + batch.bytes.len() <= max_bytes.min(limits::READ_BYTES_MAX);
                if !found.is_empty() && !fits {
                    break;
                }
                total_bytes += batch.bytes.len();
                found.push(batch.bytes.clone());
            }
        }
        match found.as_slice() {
            [one] => Some(one.clone()),
            several => {
                // Answers are in one piece, as those from the file are; there, too, this is the one copy.
                let mut joined = BytesMut::with_capacity(total_bytes);
                several.iter().for_each(|bytes| joined.extend_from_slice(bytes));
                Some(joined.freeze())
            }
        }
    }

    /// Forgets the batches that lie below `offset` as a whole.
    pub(crate) fn forget_below(&self, offset: i64) {
        self.drop_while(|batch| batch.next_offset <= offset);
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.ring.lock() = VecDeque::new();
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.ring.lock().capacity()
    }

    fn drop_while(&self, goes: impl Fn(&TailBatch) -> bool) {
        let mut ring = self.ring.lock();
        while ring.front().is_some_and(&goes) {
            ring.pop_front();
        }
        give_back(&mut ring);
    }
}

/// What [`LogReader::serve`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served {
    /// Whole batches.
    pub bytes: Bytes,
    /// Where they come from.
    pub source: Source,
}

/// Where batches were read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// There was nothing to read.
    Nothing,
    /// The newest batches, which are in memory ([`Tails`]): no call to the disk.
    Memory,
    /// The files.
    File,
}

impl LogReader {
    /// As [`LogReader::read`], but from memory if the newest batches that are kept there begin early enough; then they
    /// need not lie in one segment.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn serve(&self, from: i64, upto: i64, max_bytes: usize) -> Result<Served, LogError> {
        let shared = self.shared();
        shared.check_not_deleted()?;
        // In this order: the start only rises, and what is below an end that was seen is there.
        let (end, start) = (self.end_offset(), self.start_offset());
        if from < start || from > end {
            return Err(LogError::OffsetOutOfRange { asked: from, start, end });
        }
        let upto = upto.min(end);
        if from >= upto {
            return Ok(Served { bytes: Bytes::new(), source: Source::Nothing });
        }
        if let Some(bytes) = shared.tail.read(from, upto, max_bytes) {
            return Ok(Served { bytes, source: Source::Memory });
        }
        match self.read(from, upto, max_bytes) {
            Ok(bytes) => Ok(Served { bytes, source: Source::File }),
            // Its files may have gone meanwhile; that says it better.
            Err(error) => Err(shared.check_not_deleted().err().unwrap_or(error)),
        }
    }
}

/// Gives back what a queue needed when it was much longer.
fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 4 * queue.len() {
        queue.shrink_to(queue.len());
    }
}

#[cfg(test)]
mod tests;
