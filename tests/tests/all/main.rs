//! Every test that starts the product, in one binary: each further one would link wasmtime again.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod broker_process;
mod command_line;
mod compaction;
mod components;
mod crash;
mod damage;
mod disk_faults;
mod documents;
mod dump_log;
mod error_policy;
mod facts;
mod formats;
mod hostile;
mod limits;
mod module_tools;
mod one_build;
mod processors;
mod readers;
mod shipped_modules;
mod start_up;
mod tidy;
