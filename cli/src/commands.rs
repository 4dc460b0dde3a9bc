//! One file a command.

pub(crate) mod broker;
pub(crate) mod consume;
pub(crate) mod dev;
pub(crate) mod dump_log;
pub(crate) mod log;
pub(crate) mod log_dirs;
pub(crate) mod module;
mod module_build;
mod module_new;
mod module_test;
pub(crate) mod offsets;
pub(crate) mod processor;
mod processor_description;
pub(crate) mod produce;
mod record_format;
mod serve;
pub(crate) mod topic;

use crate::arguments::{Arguments, Command};
use crate::error::CliError;
use tracing_subscriber::EnvFilter;

/// Does what the arguments say.
pub(crate) async fn run(arguments: Arguments) -> Result<(), CliError> {
    let global = &arguments.global;
    log_to_standard_error(match arguments.command {
        Command::Dev(_) | Command::Broker(_) => "info",
        _ => "off",
    });
    match arguments.command {
        Command::Dev(arguments) => dev::run(&arguments, global.format).await,
        Command::Broker(arguments) => broker::run(&arguments).await,
        Command::Topic(command) => topic::run(command, global).await,
        Command::Produce(arguments) => produce::run(arguments, global).await,
        Command::Consume(arguments) => consume::run(arguments, global).await,
        Command::Offsets(arguments) => offsets::run(arguments, global).await,
        Command::LogDirs(arguments) => log_dirs::run(arguments, global).await,
        Command::Log(command) => log::run(command, global).await,
        Command::DumpLog(arguments) => dump_log::run(&arguments, global),
        Command::Module(command) => module::run(command, global).await,
        Command::Processor(command) => processor::run(command, global).await,
    }
}

/// Log lines go to standard error, at the level of HEADWATER_LOG or else `default`.
fn log_to_standard_error(default: &str) {
    let filter = EnvFilter::try_from_env("HEADWATER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
