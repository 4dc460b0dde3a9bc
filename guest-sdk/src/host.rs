//! What the SDK asks of whoever runs the guest: the imports of the world `processor`, one method each. In a broker
//! that is the host behind the component's imports, in a unit test [`crate::testing`].

use crate::error::{EmitError, StateError, TimerError};
use crate::log::Level;

/// A page of a scan.
pub(crate) struct Page {
    /// Packed key, value ….
    pub(crate) entries: Vec<u8>,
    /// Whether the range goes on.
    pub(crate) more: bool,
}

/// Bytes are packed as the WIT says.
pub(crate) trait Host {
    fn emit(&self, output: u32, index: &[u8], data: &[u8]) -> Result<(), EmitError>;
    fn get_many(&self, store: u32, keys: &[u8]) -> Result<Vec<u8>, StateError>;
    fn put_many(&self, store: u32, entries: &[u8]) -> Result<(), StateError>;
    fn scan(&self, store: u32, start: &[u8], end: &[u8], limit: u32, descending: bool) -> Result<Page, StateError>;
    fn set_timers(&self, timers: &[u8]) -> Result<(), TimerError>;
    fn cancel_timers(&self, ids: &[u8]) -> Result<(), TimerError>;
    fn log(&self, level: Level, message: &str);
}
