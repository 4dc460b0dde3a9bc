//! Compaction: of the records of a key only the newest stays, where it is (CMP-1 to CMP-8).
//!
//! ```text
//!   log start          first dirty offset                    end          high watermark      log end
//!      │ cleaned before       │ dirty: appended since          │ too young, growing  │           │
//!      ├──────────────────────┼────────────────────────────────┼─────────────────────┴───────────┤
//!                             └── survey: keys and their newest offsets, a mark for each record
//!      └── rewrite, segments by segments: what the survey knows a newer record of goes ──┘
//!                             then the first dirty offset is `end`
//! ```
//!
//! A [`RecordClassifier`] says which key a record has; nothing here knows what a topic means. `plan` decides what
//! is due, `fate` what becomes of a batch, both pure; [`LogCleaner::clean`] acts, on a thread of its own. What is
//! left of segments is written beside them and put in their place so that a crash leaves the old ones or the new one
//! (LOG-5, CMP-7: `swap`). Readers that are in an old file finish there.

mod checkpoint;
mod classifier;
mod fate;
mod key_map;
mod marks;
mod output;
mod plan;
mod rewrite;
mod run;
mod survey;
pub(crate) mod swap;
#[cfg(test)]
mod tests;

pub(crate) use checkpoint::Cleaned;
pub use classifier::{ByRecordKey, ClassifierError, ClassifierIdentity, Judgements, RecordClassifier};
pub use plan::{CleaningPolicy, Standing};
pub use run::{CleanError, CleaningOrder, CleaningReport, Interrupted, LogCleaner};
