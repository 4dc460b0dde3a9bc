//! A connection to an authenticated peer.

use crate::error::ConnectionLost;
use crate::limits::TransportLimits;
use crate::stream::{FramedRecv, FramedSend};
use crate::tls::Principal;
use quinn::VarInt;
use std::net::SocketAddr;
use std::time::Duration;

/// Why a connection or a stream is closed, as a number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// All is said.
    Done = 0,
    /// This process stops; another broker, or the same one later, goes on.
    ShuttingDown = 1,
    /// The peer broke the protocol; the reason says how.
    ProtocolViolation = 2,
    /// The peer may not do this.
    Unauthorised = 3,
    /// The peer was too slow, or asked for too much.
    LimitReached = 4,
    /// A fault of this process; its log has the details.
    InternalError = 5,
}

impl CloseCode {
    pub(crate) fn number(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}

/// A connection whose peer is known. Clones are the same connection; it closes when the last clone and the last stream
/// are dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: quinn::Connection,
    principal: Principal,
    limits: TransportLimits,
}

impl Connection {
    pub(crate) fn new(inner: quinn::Connection, principal: Principal, limits: TransportLimits) -> Self {
        Self { inner, principal, limits }
    }

    /// Opens a stream; waits while the peer's number of streams is used up. The peer sees the stream with its first
    /// frame.
    ///
    /// # Errors
    /// [`ConnectionLost`] when the connection is gone.
    pub async fn open(&self) -> Result<(FramedSend, FramedRecv), ConnectionLost> {
        let (send, recv) = self.inner.open_bi().await?;
        Ok((FramedSend::new(send), FramedRecv::new(recv, self.limits)))
    }

    /// A stream without frames, to misbehave on.
    #[cfg(test)]
    pub(crate) async fn open_raw(&self) -> (quinn::SendStream, quinn::RecvStream) {
        self.inner.open_bi().await.unwrap()
    }

    /// The next stream that the peer opens, or `None` when either side has closed the connection in good order
    /// ([`CloseCode::Done`] or [`CloseCode::ShuttingDown`]). Cancel-safe.
    ///
    /// # Errors
    /// [`ConnectionLost`] when the connection ended in any other way.
    pub async fn accept(&self) -> Result<Option<(FramedSend, FramedRecv)>, ConnectionLost> {
        match self.inner.accept_bi().await.map_err(ConnectionLost::from) {
            Ok((send, recv)) => Ok(Some((FramedSend::new(send), FramedRecv::new(recv, self.limits)))),
            Err(ConnectionLost::ClosedHere) => Ok(None),
            Err(ConnectionLost::ClosedByPeer { code, .. }) if code <= CloseCode::ShuttingDown as u64 => Ok(None),
            Err(lost) => Err(lost),
        }
    }

    /// Closes the connection at once, on all streams; frames that the peer has not acknowledged may be lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.inner.close(code.number(), reason.as_bytes());
    }

    /// Waits until the connection is gone and says why. Cancel-safe.
    pub async fn closed(&self) -> ConnectionLost {
        self.inner.closed().await.into()
    }

    /// Why the connection is gone, if it is.
    pub fn close_reason(&self) -> Option<ConnectionLost> {
        self.inner.close_reason().map(ConnectionLost::from)
    }

    /// Address of the peer.
    pub fn remote_address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Who the peer is.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Round-trip time as last estimated.
    pub fn round_trip(&self) -> Duration {
        self.inner.rtt()
    }

    /// Size of the largest datagram that gets through as far as known, in bytes; grows in the first moments.
    pub fn datagram_bytes(&self) -> u16 {
        self.inner.stats().path.current_mtu
    }

    /// The numbers that the QUIC stack counts, for metrics.
    pub fn stats(&self) -> quinn::ConnectionStats {
        self.inner.stats()
    }
}
