//! Log lines for the operator: `headwater processor logs` shows them. Rate-limited by the host.
//!
//! ```
//! # use headwater_guest_sdk as sdk;
//! # let (seen, limit) = (3, 2);
//! if seen > limit {
//!     sdk::warn!("{seen} retries, more than {limit}");
//! }
//! ```

use crate::host::Host;
use std::cell::{Cell, RefCell};
use std::fmt::Arguments;
use std::rc::Rc;

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For a developer's eyes.
    Trace,
    /// For debugging.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is off.
    Warn,
    /// Something went wrong.
    Error,
}

thread_local! {
    static HOST: RefCell<Option<Rc<dyn Host>>> = const { RefCell::new(None) };
    static LEVEL_MIN: Cell<Level> = const { Cell::new(Level::Trace) };
}

/// Whether lines of this level are kept. The macros ask before they format.
pub fn enabled(level: Level) -> bool {
    level >= LEVEL_MIN.get()
}

/// Writes a line; outside of a broker and of [`crate::testing`] to standard error.
pub fn write(level: Level, message: Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let host = HOST.try_with(|host| host.try_borrow().ok().and_then(|host| host.clone())).ok().flatten();
    match (host, message.as_str()) {
        (Some(host), Some(line)) => host.log(level, line),
        (Some(host), None) => host.log(level, &message.to_string()),
        (None, _) => eprintln!("{level:?}: {message}"),
    }
}

/// Sends this thread's lines to `host` until the guard is dropped.
pub(crate) fn enter(host: &Rc<dyn Host>, level_min: Level) -> Entered {
    Entered { host: HOST.replace(Some(Rc::clone(host))), level_min: LEVEL_MIN.replace(level_min) }
}

/// Puts back what was there before.
pub(crate) struct Entered {
    host: Option<Rc<dyn Host>>,
    level_min: Level,
}

impl Drop for Entered {
    fn drop(&mut self) {
        HOST.set(self.host.take());
        LEVEL_MIN.set(self.level_min);
    }
}

/// Lets a panic speak before the trap, which carries no message: as an error line, on one line.
#[cfg_attr(not(target_arch = "wasm32"), cfg(test))]
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("a panic whose payload is no text");
        match info.location() {
            Some(place) => write(Level::Error, format_args!("panicked at {place}: {message}")),
            None => write(Level::Error, format_args!("panicked: {message}")),
        }
    }));
}

/// Logs at [`Level::Trace`](crate::Level::Trace), with the arguments of [`format!`].
#[macro_export]
macro_rules! trace { ($($argument:tt)+) => { $crate::log_at!($crate::Level::Trace, $($argument)+) }; }
/// Logs at [`Level::Debug`](crate::Level::Debug), with the arguments of [`format!`].
#[macro_export]
macro_rules! debug { ($($argument:tt)+) => { $crate::log_at!($crate::Level::Debug, $($argument)+) }; }
/// Logs at [`Level::Info`](crate::Level::Info), with the arguments of [`format!`].
#[macro_export]
macro_rules! info { ($($argument:tt)+) => { $crate::log_at!($crate::Level::Info, $($argument)+) }; }
/// Logs at [`Level::Warn`](crate::Level::Warn), with the arguments of [`format!`].
#[macro_export]
macro_rules! warn { ($($argument:tt)+) => { $crate::log_at!($crate::Level::Warn, $($argument)+) }; }
/// Logs at [`Level::Error`](crate::Level::Error), with the arguments of [`format!`].
#[macro_export]
macro_rules! error { ($($argument:tt)+) => { $crate::log_at!($crate::Level::Error, $($argument)+) }; }

/// Logs at a level that is only known at run time; formats only if the line is kept.
#[macro_export]
macro_rules! log_at {
    ($level:expr, $($argument:tt)+) => {{
        let level = $level;
        if $crate::log::enabled(level) {
            $crate::log::write(level, ::std::format_args!($($argument)+));
        }
    }};
}
