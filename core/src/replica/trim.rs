//! Moving the log's start: retention and deleted records, without forgetting a task (STEP-11).
//!
//! ```text
//!   Trim{to} ─► a checkpoint for each task whose last batch lies before `to` ─► written, durable, committed
//!                                                                                           │
//!   ordinary producers are forgotten with their batches (IDP-5) ◄── Trimmed ◄── (driver) ◄── Trim(to)
//! ```
//!
//! What was asked for waits until everything that was in the log, or on its way, at that moment is durable: by then
//! each task has a durable batch behind the new start, its own or its checkpoint.

use super::leader::{Leader, Mode, OnItsWay};
use super::{Command, Refusal};
use crate::limits;
use crate::producer::TaskCheckpoint;
use headwater_mutants::{Mutant, lacks};

/// A log start that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Trimming {
    pub(super) to: i64,
    /// Everything below it must be durable and committed first.
    pub(super) until: i64,
}

impl Leader {
    pub(super) fn begin_trim(&mut self, to: i64, timestamp: i64) {
        let refusal = match self.mode {
            Mode::Closing => Some(Refusal::Closing),
            Mode::Failed => Some(Refusal::StorageFailed),
            Mode::Open if self.trimming.is_some() => Some(Refusal::Busy),
            Mode::Open => None,
        };
        if let Some(refusal) = refusal {
            self.commands.push_back(Command::TrimRefused(refusal));
            return;
        }
        let to = to.clamp(self.log_start, self.high_watermark);
        let room = limits::APPENDS_MAX.saturating_sub(self.on_their_way.len());
        let forgets = lacks(Mutant::RetentionForgetsTasks);
        let tasks = self.producers.tasks_before(to).take(if forgets { 0 } else { room.saturating_add(1) });
        let checkpoints: Vec<_> = tasks.collect();
        if checkpoints.len() > room || !checkpoints.iter().all(|checkpoint| self.append(checkpoint, timestamp)) {
            self.commands.push_back(Command::TrimRefused(Refusal::Busy));
            return;
        }
        let until = if lacks(Mutant::RetentionTrustsAppended) { to } else { self.assigned_end };
        self.trimming = Some(Trimming { to, until });
        self.want_flush();
        self.go_on_trimming();
    }

    /// Whether the checkpoint is on its way.
    fn append(&mut self, checkpoint: &TaskCheckpoint, timestamp: i64) -> bool {
        let base_offset = self.assigned_end;
        let (Ok((header, batch)), Some(next_offset)) = (checkpoint.batch(timestamp), base_offset.checked_add(1)) else {
            return false;
        };
        let bytes = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.begin(OnItsWay { header, base_offset, next_offset, bytes });
        let (checkpoint, leader_epoch) = (*checkpoint, self.leader_epoch);
        self.commands.push_back(Command::AppendCheckpoint { checkpoint, timestamp, base_offset, leader_epoch });
        true
    }

    /// To be called when the high watermark or the durable end moved.
    pub(super) fn go_on_trimming(&mut self) {
        let reached = self.high_watermark.min(self.durable_end);
        if let Some(trimming) = self.trimming.take_if(|trimming| trimming.until <= reached) {
            debug_assert!(
                lacks(Mutant::RetentionForgetsTasks)
                    || lacks(Mutant::RetentionTrustsAppended)
                    || self.producers.tasks_before(trimming.to).next().is_none(),
                "each task has a later batch"
            );
            self.commands.push_back(Command::Trim(trimming.to));
        }
    }

    pub(super) fn trimmed(&mut self, log_start: i64) {
        assert!(log_start <= self.durable_end.min(self.high_watermark), "what is not durable is not given up");
        self.log_start = self.log_start.max(log_start);
        self.producers.forget_before(self.log_start);
    }

    pub(super) fn refuse_trim(&mut self, refusal: Refusal) {
        if self.trimming.take().is_some() {
            self.commands.push_back(Command::TrimRefused(refusal));
        }
    }
}
