//! Accepts connections and the streams of each.

use super::stream::serve_stream;
use crate::api::Api;
use crate::metrics as names;
use headwater_transport::{ByteBudget, CloseCode, Connection, Principal, ServerEndpoint};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::watch;

/// Requests of one stream that are answered at once.
pub(crate) const REQUESTS_IN_FLIGHT_PER_STREAM_MAX: usize = 5;

/// What every stream of a connection shares.
pub(crate) struct Peer {
    /// Who it is.
    pub(crate) principal: Principal,
    /// Whether hello has been answered; nothing else is before.
    pub(crate) greeted: AtomicBool,
}

/// The listening side of a broker.
pub(crate) struct Server {
    endpoint: ServerEndpoint,
    api: Arc<Api>,
    budget: Arc<ByteBudget>,
    stopping: watch::Receiver<bool>,
}

impl Server {
    /// Serves `api` at `endpoint` until `stopping` says so.
    pub(crate) fn new(
        endpoint: ServerEndpoint,
        api: Arc<Api>,
        budget: Arc<ByteBudget>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { endpoint, api, budget, stopping }
    }

    /// Accepts until the broker stops; then no new connection is taken and the open ones are told to go.
    pub(crate) async fn run(self) {
        let mut stopping = self.stopping.clone();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            };
            let Some(incoming) = incoming else { break };
            let (api, budget) = (Arc::clone(&self.api), Arc::clone(&self.budget));
            let stopping = self.stopping.clone();
            tokio::spawn(async move {
                let peer = incoming.remote_address();
                match incoming.handshake().await {
                    Ok(connection) => {
                        metrics::gauge!(names::CONNECTIONS).increment(1);
                        serve_connection(connection, api, budget, stopping).await;
                        metrics::gauge!(names::CONNECTIONS).decrement(1);
                    }
                    Err(error) => tracing::info!(%peer, %error, "a connection was refused"),
                }
            });
        }
        self.endpoint.close(CloseCode::ShuttingDown, "the broker is stopping");
        self.endpoint.wait_closed().await;
    }
}

async fn serve_connection(
    connection: Connection,
    api: Arc<Api>,
    budget: Arc<ByteBudget>,
    mut stopping: watch::Receiver<bool>,
) {
    let peer = Arc::new(Peer { principal: connection.principal().clone(), greeted: AtomicBool::new(false) });
    tracing::debug!(address = %connection.remote_address(), principal = ?peer.principal, "connected");
    loop {
        let stream = tokio::select! {
            stream = connection.accept() => stream,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        match stream {
            Ok(Some((send, receive))) => {
                let (api, budget, peer) = (Arc::clone(&api), Arc::clone(&budget), Arc::clone(&peer));
                let address = connection.remote_address();
                tokio::spawn(async move {
                    if let Err(reason) = serve_stream(&api, &peer, &budget, send, receive).await {
                        tracing::debug!(%address, %reason, "a stream ended");
                    }
                });
            }
            Ok(None) => break,
            Err(lost) => {
                tracing::debug!(address = %connection.remote_address(), %lost, "disconnected");
                break;
            }
        }
    }
}
