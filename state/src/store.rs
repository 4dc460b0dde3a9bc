//! The trait that every store implements, and the words it speaks.

use crate::StateChanges;
use crate::limits::{ENTRY_OVERHEAD_BYTES, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::fmt;
use std::ops::ControlFlow;

/// Number of a store within its task, in the deployment's order of stores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct StoreNumber(pub u32);

impl fmt::Display for StoreNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How much of the changelog a store contains: everything below `next_offset`, whose last commit is step `step`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChangelogPosition {
    /// Offset in the changelog partition at which to go on reading.
    pub next_offset: i64,
    /// The newest step whose changes are in the store.
    pub step: u64,
}

/// Takes the answer to one key: its value, or `None` when it has none.
pub type Found<'f> = dyn FnMut(Option<&[u8]>) + 'f;

/// Takes one entry of a scan, key and value, and says whether to go on.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Which entries a scan visits, in which order.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The store.
    pub store: StoreNumber,
    /// The first key that is meant; empty is the store's first.
    pub start: &'a [u8],
    /// The first key beyond those that are meant, or `None` for all to the store's end.
    pub end: Option<&'a [u8]>,
    /// Visit at most this many entries.
    pub limit: usize,
    /// From the end down to `start` instead of upwards.
    pub descending: bool,
}

impl<'a> Scan<'a> {
    /// All entries of `store`, ascending, without a limit.
    pub fn all(store: StoreNumber) -> Self {
        Self { store, start: &[], end: None, limit: usize::MAX, descending: false }
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.limit == 0 || self.end.is_some_and(|end| self.start >= end)
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start && self.end.is_none_or(|end| key < end)
    }
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Us: changes would be applied twice, or behind newer ones (STEP-1).
    #[error("state at {current:?} can't take changes of {asked:?}: they are in it already; this broker has a bug")]
    PositionBehind {
        /// Where the store is.
        current: ChangelogPosition,
        /// Where the changes belong.
        asked: ChangelogPosition,
    },
    /// Disk: the store's files failed.
    #[error("the state store's disk failed: {0}; the task stops here, repair or replace the disk")]
    Disk(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Disk: the store's content makes no sense.
    #[error("the state store is damaged: {0}; delete it, it is rebuilt from the changelog")]
    Damaged(String),
}

/// The durable state of one task.
///
/// Reads hand out borrowed bytes through a callback: a caller that packs answers for a guest copies each value once.
/// Whatever implements this passes the suite in `contract` (feature `contract`).
pub trait StateStore: Send {
    /// Calls `found` once with the value of `key`, or with `None` when there is none.
    ///
    /// # Errors
    /// [`StateError::Disk`] and [`StateError::Damaged`]; then `found` was not called.
    fn get(&self, store: StoreNumber, key: &[u8], found: &mut Found<'_>) -> Result<(), StateError>;

    /// Calls `found` once for each key, in the order of `keys`.
    ///
    /// # Errors
    /// As [`Self::get`]; `found` was called for the keys before the one that failed.
    fn get_many(
        &self,
        store: StoreNumber,
        keys: &mut dyn Iterator<Item = &[u8]>,
        found: &mut Found<'_>,
    ) -> Result<(), StateError> {
        for key in keys {
            self.get(store, key, found)?;
        }
        Ok(())
    }

    /// Visits entries in key order (descending: from the end) until the range, the limit or the visitor ends it.
    ///
    /// # Errors
    /// [`StateError::Disk`] and [`StateError::Damaged`]; entries visited until then are right.
    fn scan(&self, scan: &Scan<'_>, visit: &mut Visit<'_>) -> Result<(), StateError>;

    /// Takes the changes of one commit and `position` in one atomic write: after a crash both are there or neither.
    ///
    /// # Errors
    /// [`StateError::PositionBehind`] unless `position` is beyond the present one in step and offset; then and after
    /// any other error nothing has changed.
    fn apply(&mut self, changes: &StateChanges, position: ChangelogPosition) -> Result<(), StateError>;

    /// Where in the changelog the content stands; `None` for a store that is new or cleared.
    fn position(&self) -> Option<ChangelogPosition>;

    /// Removes all entries and the position, atomically.
    ///
    /// # Errors
    /// [`StateError::Disk`]; then nothing has changed.
    fn clear(&mut self) -> Result<(), StateError>;

    /// Size of all entries as [`entry_bytes`] counts them.
    fn state_bytes(&self) -> u64;

    /// Refuses a position that is not beyond `self.position()`: what every `apply` does first.
    ///
    /// # Errors
    /// [`StateError::PositionBehind`].
    fn check_position(&self, asked: ChangelogPosition) -> Result<(), StateError> {
        match self.position() {
            Some(current) if asked.step <= current.step || asked.next_offset <= current.next_offset => {
                Err(StateError::PositionBehind { current, asked })
            }
            _ => Ok(()),
        }
    }
}

/// What an entry counts as towards quotas and in `describe`: key, value and [`ENTRY_OVERHEAD_BYTES`].
pub fn entry_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
    debug_assert!(key_bytes <= KEY_BYTES_MAX && value_bytes <= VALUE_BYTES_MAX, "checked when the entry came in");
    key_bytes as u64 + value_bytes as u64 + ENTRY_OVERHEAD_BYTES
}
