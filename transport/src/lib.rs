//! QUIC for Headwater: endpoints with mutual TLS, streams of whole frames, and the budget that makes a fast peer wait.
//!
//! ```text
//!   identity ──files──▶ tls ──configs──▶ endpoint                       who may talk
//!                                           │ connect / accept + handshake (ALPN headwater/0, 10 s)
//!                                           ▼
//!                                       connection ── principal          who talks
//!                                           │ open / accept
//!                                  ┌────────┴────────┐
//!                                  ▼                 ▼
//!      frames out ───────▶ stream::FramedSend   stream::FramedRecv ───────▶ frames in
//!      (chunks, not copied)                          │
//!                                                    └── budget: taken before a body is read,
//!                                                        given back when the frame's permit is dropped
//! ```
//!
//! A frame is a 16-byte prefix, a header and a body (`headwater_protocol::frame`); this crate moves frames and never
//! looks into them. It doesn't know what a topic is. Every limit is in [`limits`]; every error says whether the peer
//! misbehaved or the connection is gone ([`error`]).

pub mod budget;
pub mod connection;
pub mod endpoint;
pub mod error;
pub mod identity;
pub mod limits;
pub mod stream;
pub mod tls;

pub use budget::{BudgetPermit, ByteBudget};
pub use connection::{CloseCode, Connection};
pub use endpoint::{ClientEndpoint, Incoming, ServerEndpoint};
pub use error::{BindError, ConnectError, ConnectionLost, HandshakeError, RecvError, SendError};
pub use identity::{DevIdentities, IdentityError, create_dev_identities};
pub use limits::TransportLimits;
pub use stream::{Frame, FrameTag, FramedRecv, FramedSend};
pub use tls::{ClientTls, IdentityFiles, Principal, ServerTls, TlsError};

#[cfg(test)]
mod tests;
