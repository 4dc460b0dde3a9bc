//! What a processor acts on.

use crate::error::{EmitError, Failure, StateError};
use crate::host::Host;
use crate::output::{OutRecord, Outputs};
use crate::store::{Store, Stores};
use crate::timer::Timers;
use std::rc::Rc;

/// Outputs, stores and timers of the task.
///
/// The parts are fields, so that a value lent by a store can be emitted without a copy:
///
/// ```
/// # use headwater_guest_sdk::{Context, Failure, OutRecord};
/// # fn forward(context: &mut Context) -> Result<(), Failure> {
/// if let Some(value) = context.stores.at(0)?.get(b"key")? {
///     context.outputs.emit(0, OutRecord::at(0).key("key").value(value))?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Context {
    /// Where records go.
    pub outputs: Outputs,
    /// What the task remembers.
    pub stores: Stores,
    /// When it wants to be called.
    pub timers: Timers,
}

impl Context {
    pub(crate) fn new(host: &Rc<dyn Host>, outputs: usize, stores: usize) -> Self {
        Self {
            outputs: Outputs::new(Rc::clone(host), outputs),
            stores: Stores::new(host, stores),
            timers: Timers::new(Rc::clone(host)),
        }
    }

    /// Short for `outputs.emit`.
    pub fn emit(&mut self, output: usize, record: OutRecord<'_>) -> Result<(), EmitError> {
        self.outputs.emit(output, record)
    }

    /// Short for `stores.at`.
    pub fn store(&mut self, store: usize) -> Result<&mut Store, StateError> {
        self.stores.at(store)
    }

    /// Ends a call that succeeded: everything gathered goes to the host, and the caches are emptied.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.stores.flush()?;
        self.timers.flush()?;
        self.outputs.flush()?;
        self.stores.forget();
        Ok(())
    }
}
