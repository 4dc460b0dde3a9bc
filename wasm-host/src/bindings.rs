//! The contract's types, as `guest-sdk/wit/headwater.wit` has them. Wasmtime compares them with each component's own
//! types, so a difference is an error when a module is loaded, and no test of this crate gets past it.
//!
//! Written by hand, not with `bindgen!`: arguments of imports are read in place here ([`WasmList`], [`WasmStr`]), where
//! generated code copies each of them first.

use headwater_protocol::messages::processor::LogLevel;
use wasmtime::component::{ComponentType, Lift, Lower, WasmList, WasmStr};

/// Interface of `emit`.
pub(crate) const OUTPUT: &str = "headwater:module/output@0.1.0";
/// Interface of the stores.
pub(crate) const STATE: &str = "headwater:module/state@0.1.0";
/// Interface of timers.
pub(crate) const TIMERS: &str = "headwater:module/timers@0.1.0";
/// Interface of the log.
pub(crate) const LOG: &str = "headwater:module/log@0.1.0";

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct InputBatchArgument<'a> {
    pub(crate) input: u32,
    pub(crate) partition: u32,
    #[component(name = "base-offset")]
    pub(crate) base_offset: i64,
    #[component(name = "stream-time")]
    pub(crate) stream_time: i64,
    pub(crate) index: &'a [u8],
    pub(crate) data: &'a [u8],
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct SettingArgument<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct DeploymentArgument<'a> {
    pub(crate) processor: &'a str,
    pub(crate) task: u32,
    pub(crate) inputs: &'a [String],
    pub(crate) outputs: &'a [String],
    pub(crate) stores: &'a [String],
    pub(crate) settings: &'a [SettingArgument<'a>],
    #[component(name = "log-level")]
    pub(crate) log_level: Level,
}

#[derive(ComponentType, Lift, Lower, Clone, Copy, PartialEq, Eq, Debug)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl From<Level> for LogLevel {
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

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::Trace,
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warn => Self::Warn,
            LogLevel::Error => Self::Error,
        }
    }
}

/// What `process` and `on-timers` fail with.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct FailureResult {
    pub(crate) index: Option<u32>,
    pub(crate) message: String,
}

/// What `extract` answers.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct VerdictsResult {
    pub(crate) index: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

/// `records` of `emit`: both lists stay in the guest's memory.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct OutputBatch {
    pub(crate) index: WasmList<u8>,
    pub(crate) data: WasmList<u8>,
}

#[derive(ComponentType, Lower, Clone, Copy, PartialEq, Eq, Debug)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum EmitCode {
    #[component(name = "unknown-output")]
    UnknownOutput,
    #[component(name = "unknown-partition")]
    UnknownPartition,
    #[component(name = "malformed")]
    Malformed,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "outside-step")]
    OutsideStep,
}

#[derive(ComponentType, Lower, Clone, Copy, PartialEq, Eq, Debug)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum StateCode {
    #[component(name = "unknown-store")]
    UnknownStore,
    #[component(name = "malformed")]
    Malformed,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
    #[component(name = "outside-step")]
    OutsideStep,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Page {
    pub(crate) entries: Vec<u8>,
    pub(crate) more: bool,
}

#[derive(ComponentType, Lower, Clone, Copy, PartialEq, Eq, Debug)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum TimerCode {
    #[component(name = "malformed")]
    Malformed,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
    #[component(name = "outside-step")]
    OutsideStep,
}

/// Parameters of `emit`.
pub(crate) type EmitParameters = (u32, OutputBatch);
/// Parameters of `get-many` and `put-many`.
pub(crate) type StoreParameters = (u32, WasmList<u8>);
/// Parameters of `scan`.
pub(crate) type ScanParameters = (u32, WasmList<u8>, WasmList<u8>, u32, bool);
/// Parameters of `write`.
pub(crate) type WriteParameters = (Level, WasmStr);
