//! What a module author writes.

use crate::context::Context;
use crate::deployment::Deployment;
use crate::error::Failure;
use crate::record::{Batch, Record};
use crate::timer::DueTimers;

/// A stream processor, batch by batch. See [`RecordProcessor`] for one that takes record by record.
///
/// It has no clock, no randomness and no I/O: what it does depends on its deployment, its state and its input alone.
/// What must outlast a call goes into a store; the instance may be replaced between any two calls.
pub trait Processor: Sized {
    /// Makes the processor; first on every instance. Must have no effects. An error says why it can't run as
    /// deployed.
    fn init(deployment: &Deployment) -> Result<Self, String>;

    /// Handles a batch. On an error nothing of it remains: no output, no state, no timers, and the instance is
    /// replaced.
    fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure>;

    /// Handles timers that stream time has reached; may do all that [`Processor::process`] may. Does nothing unless
    /// written.
    fn on_timers(&mut self, timers: &DueTimers<'_>, context: &mut Context) -> Result<(), Failure> {
        let _ = (timers, context);
        Ok(())
    }
}

/// A stream processor, record by record: the simplest form, and as fast where nothing is gained by looking at several
/// records at once. Every such type is a [`Processor`]; a failure names the record by itself.
pub trait RecordProcessor: Sized {
    /// As [`Processor::init`].
    fn init(deployment: &Deployment) -> Result<Self, String>;

    /// Handles a record.
    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure>;
}

impl<P: RecordProcessor> Processor for P {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        RecordProcessor::init(deployment)
    }

    fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure> {
        for record in batch {
            RecordProcessor::process(self, &record, context).map_err(|failure| failure.or_at(record.index))?;
        }
        Ok(())
    }
}

/// Makes a type the processor of this module: `export_processor!(MyProcessor);`, once, in a `cdylib` crate.
///
/// For any target but wasm32 it only checks that the type is a [`Processor`], so that the same crate is tested
/// natively.
#[macro_export]
macro_rules! export_processor {
    ($processor:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Deployment) -> ::std::result::Result<$processor, ::std::string::String> =
            <$processor as $crate::Processor>::init;
        #[cfg(target_arch = "wasm32")]
        $crate::export_component!($processor);
    };
}
