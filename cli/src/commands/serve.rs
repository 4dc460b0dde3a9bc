//! Running a broker in this process until a signal.

use crate::error::CliError;
use crate::interrupt::Interrupt;
use headwater_broker::{BrokerConfig, COMPILE_SUBCOMMAND, CompilerCommand, RunningBroker, start};

/// Starts a broker that compiles modules by starting this binary again.
pub(crate) async fn start_broker(config: BrokerConfig) -> Result<RunningBroker, CliError> {
    Ok(start(config, CompilerCommand::this_program([COMPILE_SUBCOMMAND])).await?)
}

/// Waits for a signal, then stops the broker in order.
pub(crate) async fn serve(broker: RunningBroker, mut interrupt: Interrupt) -> Result<(), CliError> {
    interrupt.wait().await;
    if broker.shutdown().await { Ok(()) } else { Err(CliError::DisorderlyStop) }
}
