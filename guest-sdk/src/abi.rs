//! The component's side of the contract: bindings generated from `wit/headwater.wit`, and the few lines between them
//! and [`Instance`]. Only built for wasm32. The only place with `unsafe` code, all of it generated.

#![expect(missing_docs, reason = "generated; the WIT is the documentation")]

use crate::deployment;
use crate::error;
pub use crate::host::{Host, Page};
use crate::instance::Instance;
use crate::log;
use crate::processor::Processor;
use crate::record::BatchMeta;
use std::cell::RefCell;
use std::rc::Rc;

wit_bindgen::generate!({
    path: "wit",
    world: "processor",
    ownership: Borrowing { duplicate_if_necessary: true },
    pub_export_macro: true,
    default_bindings_module: "headwater_guest_sdk::abi",
});

use headwater::module::log::write;
use headwater::module::output::{self as output, EmitError};
use headwater::module::state::{self as state, StateError};
use headwater::module::timers::{self as timers, TimerError};
use headwater::module::types::{Level, OutputBatch};

/// The one instance of the component.
pub type Slot<P> = RefCell<Option<Running<P>>>;

/// An instance behind the exports.
pub struct Running<P>(Instance<P>);

/// `init` of the world.
pub fn init<P: Processor>(slot: &Slot<P>, deployment: Deployment) -> Result<(), String> {
    log::install_panic_hook();
    let instance = Instance::start(&deployment.into(), Rc::new(Imports))?;
    slot.replace(Some(Running(instance)));
    Ok(())
}

/// `process` of the world.
pub fn process<P: Processor>(slot: &Slot<P>, batch: &InputBatch) -> Result<(), Failure> {
    let &InputBatch { input, partition, base_offset, stream_time, ref index, ref data } = batch;
    let meta = BatchMeta { input, partition, base_offset, stream_time };
    with(slot, |instance| instance.process(meta, index, data))
}

/// `on-timers` of the world.
pub fn on_timers<P: Processor>(slot: &Slot<P>, stream_time: i64, packed: &[u8]) -> Result<(), Failure> {
    with(slot, |instance| instance.on_timers(stream_time, packed))
}

fn with<P>(slot: &Slot<P>, run: impl FnOnce(&mut Instance<P>) -> Result<(), error::Failure>) -> Result<(), Failure> {
    let before_init = || Failure { index: None, message: "the host called before init had succeeded".to_owned() };
    let mut slot = slot.borrow_mut();
    let Running(instance) = slot.as_mut().ok_or_else(before_init)?;
    run(instance).map_err(|error::Failure { index, message }| Failure { index, message })
}

/// The imports of the world.
struct Imports;

impl Host for Imports {
    fn emit(&self, output: u32, index: &[u8], data: &[u8]) -> Result<(), error::EmitError> {
        output::emit(output, OutputBatch { index, data }).map_err(error::EmitError::from)
    }

    fn get_many(&self, store: u32, keys: &[u8]) -> Result<Vec<u8>, error::StateError> {
        state::get_many(store, keys).map_err(error::StateError::from)
    }

    fn put_many(&self, store: u32, entries: &[u8]) -> Result<(), error::StateError> {
        state::put_many(store, entries).map_err(error::StateError::from)
    }

    fn scan(
        &self,
        store: u32,
        start: &[u8],
        end: &[u8],
        limit: u32,
        descending: bool,
    ) -> Result<Page, error::StateError> {
        let page = state::scan(store, start, end, limit, descending)?;
        Ok(Page { entries: page.entries, more: page.more })
    }

    fn set_timers(&self, timers: &[u8]) -> Result<(), error::TimerError> {
        timers::set_many(timers).map_err(error::TimerError::from)
    }

    fn cancel_timers(&self, ids: &[u8]) -> Result<(), error::TimerError> {
        timers::cancel_many(ids).map_err(error::TimerError::from)
    }

    fn log(&self, level: log::Level, message: &str) {
        write(level.into(), message);
    }
}

impl From<EmitError> for error::EmitError {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::UnknownOutput => Self::UnknownOutput,
            EmitError::UnknownPartition => Self::UnknownPartition,
            EmitError::Malformed => Self::Malformed,
            EmitError::TooLarge => Self::TooLarge,
            EmitError::OutsideStep => Self::OutsideStep,
        }
    }
}

impl From<StateError> for error::StateError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::UnknownStore => Self::UnknownStore,
            StateError::Malformed => Self::Malformed,
            StateError::TooLarge => Self::TooLarge,
            StateError::QuotaExceeded => Self::QuotaExceeded,
            StateError::OutsideStep => Self::OutsideStep,
        }
    }
}

impl From<TimerError> for error::TimerError {
    fn from(error: TimerError) -> Self {
        match error {
            TimerError::Malformed => Self::Malformed,
            TimerError::TooLarge => Self::TooLarge,
            TimerError::QuotaExceeded => Self::QuotaExceeded,
            TimerError::OutsideStep => Self::OutsideStep,
        }
    }
}

impl From<log::Level> for Level {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Trace => Self::Trace,
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
        }
    }
}

impl From<Level> for log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

impl From<Deployment> for deployment::Deployment {
    fn from(given: Deployment) -> Self {
        let Deployment { processor, task, inputs, outputs, stores, settings, log_level } = given;
        let settings = settings.into_iter().map(|setting| (setting.name, setting.value)).collect();
        Self { processor, task, inputs, outputs, stores, settings, log_level: log_level.into() }
    }
}

/// What [`export_processor!`](crate::export_processor) expands to for wasm32. A module, because the generated macro
/// looks for the component in the module above its own.
#[macro_export]
macro_rules! export_component {
    ($processor:ty) => {
        type HeadwaterProcessor = $processor;
        mod headwater_component {
            ::std::thread_local! {
                static SLOT: $crate::abi::Slot<super::HeadwaterProcessor> =
                    const { ::std::cell::RefCell::new(None) };
            }
            struct Component;
            impl $crate::abi::Guest for Component {
                fn init(deployment: $crate::abi::Deployment) -> ::std::result::Result<(), ::std::string::String> {
                    SLOT.with(|slot| $crate::abi::init(slot, deployment))
                }
                fn process(batch: $crate::abi::InputBatch) -> ::std::result::Result<(), $crate::abi::Failure> {
                    SLOT.with(|slot| $crate::abi::process(slot, &batch))
                }
                fn on_timers(at: i64, timers: ::std::vec::Vec<u8>) -> ::std::result::Result<(), $crate::abi::Failure> {
                    SLOT.with(|slot| $crate::abi::on_timers(slot, at, &timers))
                }
            }
            $crate::abi::export!(Component with_types_in $crate::abi);
        }
    };
}
