//! One stream: requests are begun in the order they come, at most five at a time, and answered in that order.

use super::dispatch::{Answer, dispatch};
use super::server::{Peer, REQUESTS_IN_FLIGHT_PER_STREAM_MAX};
use crate::api::Api;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use headwater_protocol::frame::FrameLimits;
use headwater_transport::{ByteBudget, CloseCode, FramedRecv, FramedSend, RecvError, SendError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    /// Peer, or the network.
    #[error(transparent)]
    Receive(#[from] RecvError),
    /// Peer, or the network.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Peer: it asks and does not listen.
    #[error("the peer did not take an answer within {0:?}")]
    NotTaken(Duration),
}

/// Serves a stream until the peer ends it.
///
/// # Errors
/// The peer breaks the framing, or is gone.
pub(crate) async fn serve_stream(
    api: &Arc<Api>,
    peer: &Arc<Peer>,
    budget: &ByteBudget,
    mut send: FramedSend,
    mut receive: FramedRecv,
) -> Result<(), StreamEnd> {
    let mut in_flight = FuturesOrdered::new();
    let mut reading = true;
    while reading || !in_flight.is_empty() {
        let has_room = in_flight.len() < REQUESTS_IN_FLIGHT_PER_STREAM_MAX;
        let limits = if peer.greeted.load(Ordering::Acquire) {
            FrameLimits::AUTHENTICATED
        } else {
            FrameLimits::UNAUTHENTICATED
        };
        tokio::select! {
            biased;
            Some(answer) = in_flight.next() => {
                if let Some(Answer { tag, header, body, permit }) = answer {
                    match timeout(api.response_time_max(), send.send(tag, &header, &body)).await {
                        Ok(sent) => sent?,
                        Err(_) => return Err(StreamEnd::NotTaken(api.response_time_max())),
                    }
                    drop(permit);
                }
            }
            frame = receive.next(&limits, budget), if reading && has_room => {
                match frame {
                    Ok(Some(frame)) => in_flight.push_back(dispatch(api, peer, frame)),
                    Ok(None) => reading = false,
                    Err(error) => {
                        send.reset(CloseCode::ProtocolViolation);
                        return Err(error.into());
                    }
                }
            }
        }
    }
    send.finish();
    Ok(())
}
