//! What of the log may be cleaned, without forgetting a producer (CMP-2, CMP-5, STEP-11).
//!
//! ```text
//!   Clean ─► the batches by which producers are known ─► all that was in the log then: durable, committed ─► Cleanable
//! ```
//!
//! What was in the log when it was asked for is what may be cleaned, once it is durable and committed: by then each of
//! those batches is, and a cut log can't fall back to one that was cleaned away.

use super::leader::{Leader, Mode};
use super::{Command, Refusal};
use std::collections::BTreeSet;

/// What may be cleaned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cleanable {
    /// Only what lies below this offset.
    pub upto: i64,
    /// Base offsets of the batches whose headers must stay, whatever becomes of their records.
    pub headers_kept: BTreeSet<i64>,
}

impl Leader {
    pub(super) fn begin_clean(&mut self) {
        let refusal = match self.mode {
            Mode::Closing => Some(Refusal::Closing),
            Mode::Failed => Some(Refusal::StorageFailed),
            Mode::Open if self.cleaning.is_some() => Some(Refusal::Busy),
            Mode::Open => None,
        };
        if let Some(refusal) = refusal {
            self.commands.push_back(Command::CleanRefused(refusal));
            return;
        }
        let headers_kept = self.producers.settled().remembered_batches().collect();
        self.cleaning = Some(Cleanable { upto: self.log_end, headers_kept });
        self.want_flush();
        self.go_on_cleaning();
    }

    /// To be called when the high watermark or the durable end moved.
    pub(super) fn go_on_cleaning(&mut self) {
        let reached = self.high_watermark.min(self.durable_end);
        if self.cleaning.as_ref().is_some_and(|cleaning| cleaning.upto <= reached) && !self.cleaning_told {
            self.cleaning_told = true;
            self.commands.push_back(Command::Cleanable);
        }
    }

    /// What [`Command::Cleanable`] speaks of; given out once.
    pub fn take_cleanable(&mut self) -> Option<Cleanable> {
        if std::mem::take(&mut self.cleaning_told) { self.cleaning.take() } else { None }
    }

    pub(super) fn refuse_clean(&mut self, refusal: Refusal) {
        if self.cleaning.take().is_some() && !std::mem::take(&mut self.cleaning_told) {
            self.commands.push_back(Command::CleanRefused(refusal));
        }
    }
}
