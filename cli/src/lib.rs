//! The command line of Headwater: a thin layer that turns words into calls and answers into text or JSON.
//!
//! ```text
//!   words ── arguments ──▶ commands/*  ──▶ headwater_client ══ QUIC ══▶ a broker
//!                             │  ▲                                    (found by its context file: context)
//!              output ◀───────┘  └── dev, broker ──▶ headwater_broker, in this very process
//!      text for people, or JSON         module build ──▶ cargo, headwater_wasm_host::componentize
//! ```
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod arguments;
mod commands;
mod context;
mod error;
mod interrupt;
mod limits;
mod output;
mod progress;
mod text;

use arguments::Arguments;
use clap::Parser;
use error::CliError;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Runs the process's arguments; what `main` of the binary returns.
pub fn main() -> ExitCode {
    // A broker starts this binary again to compile modules. That child gives up its rights before it reads a byte, so
    // nothing may come before it: no runtime, no thread, no log.
    if std::env::args_os().nth(1).is_some_and(|first| first == headwater_broker::COMPILE_SUBCOMMAND) {
        return headwater_wasm_host::compile_child_main();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version, too, are an "error". A reader that has gone away needs no help.
            error.print().unwrap_or_default();
            return ExitCode::from(if error.use_stderr() { error::EXIT_USAGE } else { 0 });
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { what: "start threads".to_owned(), source })?;
    let outcome = runtime.block_on(commands::run(arguments));
    // A thread may be stuck in a read that never ends; it holds nothing that matters.
    runtime.shutdown_background();
    match outcome {
        // Whoever read our output has enough, as `headwater consume … | head` has.
        Err(CliError::OutputClosed) => Ok(()),
        outcome => outcome,
    }
}

fn report(error: &CliError) {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let prefix = if colours { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    eprintln!("{prefix} {}", text::printable(&error.to_string()));
}
