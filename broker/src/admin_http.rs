//! The admin HTTP server: `/metrics` in Prometheus' text format and `/health`. Loopback by default; it shows numbers
//! and changes nothing.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::future::Future;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Takes `address`; nobody is served yet.
///
/// # Errors
/// The address can't be bound.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves until `stopped` completes.
pub(crate) fn serve(listener: TcpListener, stopped: impl Future<Output = ()> + Send + 'static) {
    let routes = Router::new().route("/health", get(async || "ok\n")).route("/metrics", get(metrics_text));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the admin HTTP server ended");
        }
    });
}

async fn metrics_text() -> (StatusCode, String) {
    match crate::metrics::recorder() {
        Some(handle) => {
            handle.run_upkeep();
            (StatusCode::OK, handle.render())
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "another metrics recorder is installed in this process\n".to_owned()),
    }
}
