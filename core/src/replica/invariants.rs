//! What holds of a leader between any two events.

use super::leader::{Leader, Mode};
use super::waiting::Condition;
use crate::invariant::{Violation, holds};
use crate::limits;

impl Leader {
    /// Checks the whole state.
    ///
    /// # Errors
    /// The first sentence that does not hold.
    pub fn invariants(&self) -> Result<(), Violation> {
        holds(0 <= self.log_start, "offsets begin at 0")?;
        holds(self.log_start <= self.high_watermark, "log start ≤ high watermark")?;
        holds(self.high_watermark <= self.log_end, "high watermark ≤ log end (REP-5)")?;
        holds(self.durable_end <= self.log_end, "durable end ≤ log end")?;
        holds(self.log_end <= self.assigned_end, "log end ≤ assigned end")?;
        let can_come = self.trimming.is_none_or(|trimming| trimming.until <= self.assigned_end);
        holds(can_come, "a new log start waits for what is on its way")?;
        let is_kept = self.producers.settled().tasks().all(|(.., next_offset)| next_offset > self.log_start);
        holds(is_kept, "each task has a batch in the log (STEP-11)")?;
        self.commit_invariants()?;
        self.order_invariants()?;
        self.reply_invariants()?;
        let on_their_way = self.on_their_way.iter().map(|batch| (batch.header, batch.base_offset));
        self.producers.invariants(self.log_end, on_their_way)
    }

    fn commit_invariants(&self) -> Result<(), Violation> {
        let own = self.held();
        holds(self.held_by_os <= self.log_end, "only what was written was accepted")?;
        holds(self.high_watermark <= own, "what is committed, this replica holds as durably as asked (LOG-1)")?;
        holds(self.progress.acknowledged(self.local) == Some(own), "the leader counts its own copy")?;
        let committed = self.progress.committed().unwrap_or(i64::MIN);
        holds(committed <= self.high_watermark, "the high watermark has reached what all in-sync replicas hold")?;
        holds(!self.is_dirty() || self.flush_wanted, "a dirty log is waiting for its flush")
    }

    fn order_invariants(&self) -> Result<(), Violation> {
        let mut end = self.log_end;
        let mut bytes = 0;
        for batch in &self.on_their_way {
            holds(batch.base_offset == end, "batches on their way follow each other without a hole")?;
            holds(batch.next_offset > end, "each batch takes an offset")?;
            end = batch.next_offset;
            bytes += u64::from(batch.bytes);
        }
        holds(end == self.assigned_end, "the assigned end is that of the last batch on its way")?;
        holds(bytes == self.on_their_way_bytes, "bytes on their way are counted")?;
        holds(self.on_their_way.len() <= limits::APPENDS_MAX, "appends stay within their limit")?;
        let bounded = bytes <= limits::APPEND_BYTES_MAX || self.on_their_way.len() == 1;
        holds(bounded, "bytes on their way stay within their limit")
    }

    fn reply_invariants(&self) -> Result<(), Violation> {
        holds(self.waiting.len() <= limits::WAITING_REPLIES_MAX, "waiting replies stay within their limit")?;
        let failed = self.mode == Mode::Failed;
        holds(!failed || self.is_idle(), "nothing waits for storage that failed")?;
        for condition in [Condition::Written, Condition::Durable, Condition::Committed] {
            let queue = self.waiting.queue(condition);
            let reached = self.reached(condition);
            holds(queue.iter().is_sorted_by_key(|waiter| waiter.until), "replies wait in offset order")?;
            let none_forgotten = queue.front().is_none_or(|waiter| waiter.until > reached);
            holds(none_forgotten, "no reply waits for what is true already")?;
            let all_can_come = queue.back().is_none_or(|waiter| waiter.until <= self.assigned_end);
            holds(all_can_come, "no reply waits for what is not on its way")?;
        }
        Ok(())
    }
}
