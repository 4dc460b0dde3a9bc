//! `headwater broker`.

use crate::commands::serve::{serve, start_broker};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use clap::Args;
use headwater_broker::{BrokerConfig, config::SAMPLE};
use std::io::Write;
use std::path::PathBuf;

/// Words of `headwater broker`.
#[derive(Debug, Args)]
#[command(after_help = "\
Stops in order on SIGTERM and SIGINT; a second signal ends it at once,
and the next start recovers.

Examples:
  headwater broker --print-sample-config > broker.toml
  headwater broker --config broker.toml")]
pub(crate) struct BrokerArguments {
    /// Configuration file; an unknown key is an error.
    #[arg(long, value_name = "FILE", required_unless_present = "print_sample_config")]
    config: Option<PathBuf>,
    /// Print a commented configuration with every key and its default, and end.
    #[arg(long, conflicts_with = "config")]
    print_sample_config: bool,
}

pub(crate) async fn run(arguments: &BrokerArguments) -> Result<(), CliError> {
    let Some(path) = &arguments.config else {
        return std::io::stdout().lock().write_all(SAMPLE.as_bytes()).map_err(CliError::output);
    };
    let config = BrokerConfig::load(path)?;
    let interrupt = Interrupt::listen()?;
    let broker = start_broker(config).await?;
    // For whoever started it on port 0; a closed output is no reason to stop.
    writeln!(std::io::stdout(), "broker: {}", broker.address()).unwrap_or_default();
    serve(broker, interrupt).await
}
