//! A guest's stack, as its author wants to read it.

use crate::limits;
use std::fmt::{self, Write};
use wasmtime::WasmBacktrace;

/// What functions of Rust's own begin with: between a panic and the trap lie half a dozen of them.
const RUNTIME: [&str; 7] = ["__rustc", "std::", "core::", "alloc::", "<std::", "<core::", "<alloc::"];

/// The functions on the stack of the guest that trapped, innermost first, from its own code on.
pub(crate) fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let names = backtrace.frames().iter().map(|frame| match frame.func_name() {
        Some(name) => readable(name),
        None => format!("function {}", frame.func_index()),
    });
    from_its_own_code(names.collect())
}

fn from_its_own_code(names: Vec<String>) -> Vec<String> {
    let of_runtime = |name: &String| RUNTIME.iter().any(|prefix| name.starts_with(prefix));
    let first = names.iter().position(|name| !of_runtime(name)).unwrap_or(0);
    names.into_iter().skip(first).take(limits::TRAP_FRAMES_MAX).collect()
}

/// Rust's names without what the compiler added; others as they are. The guest chose the name: it may be long, and its
/// readable form much longer.
fn readable(name: &str) -> String {
    let mut readable = Bounded(String::new());
    let written = match rustc_demangle::try_demangle(name) {
        Ok(name) => write!(readable, "{name:#}"),
        Err(_) => readable.write_str(name),
    };
    // An error is no more than the end of the room.
    if written.is_err() {
        readable.0.push('…');
    }
    readable.0
}

/// Takes so much and no more.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = limits::FRAME_BYTES_MAX.saturating_sub(self.0.len());
        let taken = crate::failure::cut(text, room);
        self.0.push_str(taken);
        if taken.len() == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_bounded() {
        assert_eq!(readable("_ZN10word_count7process17h2640735defed4da7E"), "word_count::process");
        assert_eq!(readable("_RNvNtCsgXGp5Oqx2Ny_4core9panicking9panic_fmt"), "core::panicking::panic_fmt");
        assert_eq!(readable("process"), "process");
        let long = readable(&"é".repeat(1000));
        assert!(long.len() <= limits::FRAME_BYTES_MAX + "…".len() && long.ends_with('…'), "{long}");
    }

    #[test]
    fn the_panic_machinery_is_left_out() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let whole = names(&["__rustc::rust_begin_unwind", "core::panicking::panic_fmt", "trap::process", "std::x"]);
        assert_eq!(from_its_own_code(whole), names(&["trap::process", "std::x"]));
        let none = names(&["std::a", "core::b"]);
        assert_eq!(from_its_own_code(none.clone()), none);
        assert_eq!(from_its_own_code(names(&["f"; 30])).len(), limits::TRAP_FRAMES_MAX);
    }
}
