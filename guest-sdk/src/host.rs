//! What the SDK asks of whoever runs the guest: the imports of the world `processor`, one method each. In a broker
//! that is the host behind the component's imports, in a unit test [`crate::testing`].

use crate::error::{EmitError, StateError, TimerError};
use crate::log::Level;

/// A page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Packed key, value ….
    pub entries: Vec<u8>,
    /// Whether the range goes on.
    pub more: bool,
}

/// Bytes are packed as the WIT says.
pub trait Host {
    /// Takes all of the records that `index` describes in `data`, or none.
    ///
    /// # Errors
    /// [`EmitError`].
    fn emit(&self, output: u32, index: &[u8], data: &[u8]) -> Result<(), EmitError>;

    /// Packed values, one for each of the packed `keys`.
    ///
    /// # Errors
    /// [`StateError`].
    fn get_many(&self, store: u32, keys: &[u8]) -> Result<Vec<u8>, StateError>;

    /// Applies all of the packed `entries`, or none.
    ///
    /// # Errors
    /// [`StateError`].
    fn put_many(&self, store: u32, entries: &[u8]) -> Result<(), StateError>;

    /// Up to `limit` entries of a range; an empty `end` is no end.
    ///
    /// # Errors
    /// [`StateError`].
    fn scan(&self, store: u32, start: &[u8], end: &[u8], limit: u32, descending: bool) -> Result<Page, StateError>;

    /// Sets all of the packed `timers`, or none.
    ///
    /// # Errors
    /// [`TimerError`].
    fn set_timers(&self, timers: &[u8]) -> Result<(), TimerError>;

    /// Cancels the timers with the packed `ids`.
    ///
    /// # Errors
    /// [`TimerError`].
    fn cancel_timers(&self, ids: &[u8]) -> Result<(), TimerError>;

    /// Writes a line.
    fn log(&self, level: Level, message: &str);
}
