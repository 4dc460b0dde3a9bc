//! What guests may call: one file per interface of the contract, and the trait behind which the broker's task answers.

mod log;
mod output;
mod state;
mod timers;

use crate::instance::StoreData;
use crate::packed::{PackedEntries, PackedKeys, PackedTimers, PackedWriter};
use crate::records::EmittedRecords;
use headwater_protocol::messages::processor::LogLevel;
use parking_lot::{Mutex, MutexGuard};
use wasmtime::component::Linker;

/// The broker's side of a task: where a guest's calls end up. Everything is checked before it comes here; nothing but
/// [`Self::log`] is called from `init`.
///
/// An instance shares it with the task's driver, as `Arc<parking_lot::Mutex<dyn ProcessorHost>>`, so that it outlives
/// the instance. The driver locks it between calls, never across one.
pub trait ProcessorHost: Send {
    /// Takes all of `records` for output number `output`, or none. After [`EmitError::TooLarge`] the call fails with
    /// [`GuestFailure::OutputTooLarge`](crate::GuestFailure::OutputTooLarge), whatever the guest makes of it.
    ///
    /// # Errors
    /// [`EmitError`], which the guest is told.
    fn emit(&mut self, output: u32, records: EmittedRecords<'_>) -> Result<(), EmitError>;

    /// Pushes one value for each of `keys`, in their order.
    ///
    /// # Errors
    /// [`StateError`], which the guest is told; [`StateError::TooLarge`] when `values` is full.
    fn get_many(&mut self, store: u32, keys: PackedKeys<'_>, values: &mut PackedWriter) -> Result<(), StateError>;

    /// Applies all of `entries` in order, or none. An absent value deletes.
    ///
    /// # Errors
    /// [`StateError`], which the guest is told.
    fn put_many(&mut self, store: u32, entries: PackedEntries<'_>) -> Result<(), StateError>;

    /// Pushes entries of a range in order until it ends, `range.limit` is reached or `entries` is full. Answers whether
    /// the range goes on behind the last one. A first entry that does not fit is [`StateError::TooLarge`].
    ///
    /// # Errors
    /// [`StateError`], which the guest is told.
    fn scan(&mut self, store: u32, range: ScanRange<'_>, entries: &mut PackedWriter) -> Result<bool, StateError>;

    /// Sets all of `timers` in order, or none.
    ///
    /// # Errors
    /// [`TimerError`], which the guest is told.
    fn set_timers(&mut self, timers: PackedTimers<'_>) -> Result<(), TimerError>;

    /// Cancels timers; an id that is not set is no error.
    ///
    /// # Errors
    /// [`TimerError`], which the guest is told.
    fn cancel_timers(&mut self, ids: PackedKeys<'_>) -> Result<(), TimerError>;

    /// A line from the guest, or from this crate about the guest. Cut to the limit of bytes; the rate is yours to
    /// limit.
    fn log(&mut self, level: LogLevel, message: &str);
}

/// Which entries a guest wants to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanRange<'a> {
    /// First key.
    pub start: &'a [u8],
    /// Key behind the last one, `None` for no bound.
    pub end: Option<&'a [u8]>,
    /// At most this many entries.
    pub limit: u32,
    /// From the end of the range downwards.
    pub descending: bool,
}

/// Our own failure inside a host call (a disk, a bug): ends the call with
/// [`CallError::Host`](crate::CallError::Host), and the guest is not told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostFault(pub String);

/// Why records were not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EmitError {
    /// Not a position in the deployment's outputs.
    #[error("there is no such output")]
    UnknownOutput,
    /// A partition that the output topic does not have.
    #[error("the output topic has no such partition")]
    UnknownPartition,
    /// A record that no topic takes; the text goes to the processor's log.
    #[error("{0}")]
    Malformed(String),
    /// A record, or the step's outputs together, above the limit.
    #[error("the outputs of one step, or one record of them, are above the limit")]
    TooLarge,
    /// We failed.
    #[error(transparent)]
    Host(#[from] HostFault),
}

/// Why a store did not answer or change.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    /// Not a position in the deployment's stores.
    #[error("there is no such store")]
    UnknownStore,
    /// Not to be understood; the text goes to the processor's log.
    #[error("{0}")]
    Malformed(String),
    /// A key, a value, or the answer, above its limit.
    #[error("a key, a value or the answer is above its limit")]
    TooLarge,
    /// The stores together would be above their limit.
    #[error("the task's stores are full")]
    QuotaExceeded,
    /// We failed.
    #[error(transparent)]
    Host(#[from] HostFault),
}

/// Why timers did not change.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TimerError {
    /// Not to be understood; the text goes to the processor's log.
    #[error("{0}")]
    Malformed(String),
    /// An id above its limit.
    #[error("the id of a timer is above its limit")]
    TooLarge,
    /// More timers than the task may have.
    #[error("the task has too many timers")]
    QuotaExceeded,
    /// We failed.
    #[error(transparent)]
    Host(#[from] HostFault),
}

/// The host's lock is held by somebody during a call: waiting would be for ever.
#[derive(Debug, thiserror::Error)]
#[error("the task's host is locked during a call")]
pub(crate) struct HostLocked;

/// Exclusive use of the task's side, during one host call.
pub(crate) fn lock(host: &Mutex<dyn ProcessorHost>) -> Result<MutexGuard<'_, dyn ProcessorHost + 'static>, HostLocked> {
    host.try_lock().ok_or(HostLocked)
}

/// All interfaces of the contract. A component is given those that it asks for.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    output::add_to_linker(&mut linker)?;
    state::add_to_linker(&mut linker)?;
    timers::add_to_linker(&mut linker)?;
    log::add_to_linker(&mut linker)?;
    Ok(linker)
}
