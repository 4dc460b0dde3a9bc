//! The storage engine: the log of one partition, and the data directory in which logs lie. Synchronous; the caller owns
//! the threads.
//!
//! ```text
//!                       one writer per log                 any number of readers
//!                ┌───────────────────────────┐         ┌───────────────────────────┐
//!   batches ────►│ Log: append → Position    │         │ LogReader: read, offsets  │────► batches
//!                │ begin_flush, complete_…   │         │ for timestamps            │
//!                └────┬──────────────┬───────┘         └─────────────┬─────────────┘
//!            write    │              │ FlushJob                      │ pread
//!                     │              ▼                               │
//!                     │     FlushPool: rounds of syncs ──► Durable   │
//!                     ▼              ▼                               ▼
//!   segment    ┌──────────────────────────────────────────────────────────────┐
//!   + indexes  │ Storage: FileStorage (the disk), MemoryStorage (power cuts)  │
//!              └──────────────────────────────────────────────────────────────┘
//!   DataDirectory: lock, health (LOG-7), recovery points, removals, lost+found
//!   cleaner: of the records of a key only the newest stays (compaction), on somebody else's thread
//!   PURE: format (what files look like), recovery (what to do after a crash), retention (what is too old)
//! ```
//!
//! What is acknowledged waits for a [`Durable`] that covers its [`Position`] (or, where a topic says so, for the
//! position alone). What every file looks like, and what happens to it after a crash, is drawn in
//! `docs/log-format.md`.

pub mod checkpoint_file;
pub mod clean_mark;
pub mod cleaner;
mod config;
pub mod conformance;
mod description;
mod directory;
mod dump;
mod error;
mod flush;
mod flush_pool;
pub mod format;
mod health;
pub mod limits;
mod log;
pub mod offline;
pub mod quarantine;
mod reader;
pub mod recovery;
pub mod retention;
mod segment;
mod shared;
pub mod snapshot;
pub mod storage;
mod tail;
#[cfg(test)]
mod testing;
mod walk;

pub use config::{BadConfig, LogConfig};
pub use description::{LogDescription, SegmentDescription};
pub use directory::DataDirectory;
pub use dump::{DumpError, DumpedBatch, SegmentSummary, dump_segment};
pub use error::{Damage, LogError};
pub use flush::{Durable, FlushJob, FlushResult, Position};
pub use flush_pool::{FLUSH_THREADS_DEFAULT, FlushPool};
pub use health::{DirectoryHealth, DiskFailure};
pub use log::{Log, LostTail, RecoveryReport, TrimJob};
pub use reader::{LogReader, TimestampedOffset, Verified};
pub use tail::{Served, Source, Tails};
