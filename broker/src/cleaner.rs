//! Compaction on this broker: which partition is cleaned next, by what, and how fast.
//!
//! ```text
//!   every log.cleaner_check_seconds: look at all compacted partitions, the dirtiest first
//!        │
//!        ├─► Event::Clean ─► core::replica: what is committed, durable, and needed of producers
//!        ├─► a changelog: below its durable floor only (STEP-13)
//!        └─► LogCleaner::clean, judged by record key, by the changelog's rules, or by a key extractor
//! ```
//!
//! What a guest can't judge stays as it is: the cleaning of that partition stops and says why, until its extractor
//! changes.

mod changelog;
mod clean;
mod extractors;
mod pace;
mod thread;

pub use changelog::{ByCommitKey, first_uncleanable};
pub use clean::{CleaningSetup, clean, policy_of};
pub(crate) use extractors::Extractors;
pub(crate) use thread::{Classifiers, CleanerThread};
