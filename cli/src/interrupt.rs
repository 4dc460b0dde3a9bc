//! Ctrl-C and SIGTERM: the first asks a command to end in order, the second ends the process at once.

use crate::error::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Exit code of a shell's child that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Hears of the first signal; clones hear of the same one.
#[derive(Clone)]
pub(crate) struct Interrupt {
    raised: watch::Receiver<bool>,
}

impl Interrupt {
    /// Begins to listen, in place of the system's default of ending the process.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let failed = || CliError::io("listen for signals");
        let interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
        let terminate = signal(SignalKind::terminate()).map_err(failed())?;
        let (raise, raised) = watch::channel(false);
        tokio::spawn(hear(interrupt, terminate, raise));
        Ok(Self { raised })
    }

    /// Waits for the first signal; at once when it has come. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        if self.raised.wait_for(|raised| *raised).await.is_err() {
            // The listener is gone with the runtime: no signal will ever come.
            std::future::pending::<()>().await;
        }
    }
}

async fn hear(mut interrupt: Signal, mut terminate: Signal, raise: watch::Sender<bool>) {
    let mut either = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    either().await;
    raise.send_replace(true);
    either().await;
    std::process::exit(EXIT_INTERRUPTED);
}
