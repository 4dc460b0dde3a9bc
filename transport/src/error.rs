//! Errors. Each says who erred: the peer, the network, this machine, or the operator's files.

use crate::budget::OverBudget;
use crate::limits::PEER_TEXT_CHARS_MAX;
use crate::tls::PrincipalError;
use headwater_protocol::frame::FrameError;
use quinn::ConnectionError;
use std::net::SocketAddr;

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionLost {
    /// Us: this side closed it.
    #[error("this side closed the connection")]
    ClosedHere,
    /// Peer: it closed the connection with a [`crate::CloseCode`] and a reason.
    #[error("the peer closed the connection: {reason} (code {code})")]
    ClosedByPeer {
        /// Number of a [`crate::CloseCode`].
        code: u64,
        /// Escaped and cut.
        reason: String,
    },
    /// Peer or network: no sign of life for the idle time.
    #[error("the peer has fallen silent: it was killed, or the network between us is broken")]
    Silent,
    /// Peer: it has restarted and doesn't know the connection.
    #[error("the peer doesn't know this connection any more: it has restarted")]
    Restarted,
    /// Peer: it takes no more connections.
    #[error("the peer refused the connection: it has as many as it takes; try again later")]
    Refused,
    /// TLS said no; the text names the side and the remedy.
    #[error("{0}")]
    Tls(String),
    /// Peer or us: the QUIC protocol was broken or the peer's QUIC stack gave up.
    #[error("the QUIC connection broke: {0}")]
    Broken(String),
}

impl From<ConnectionError> for ConnectionLost {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::ApplicationClosed(close) => Self::ClosedByPeer {
                code: close.error_code.into_inner(),
                reason: peer_text(&String::from_utf8_lossy(&close.reason)),
            },
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::ConnectionClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason);
                match u64::from(close.error_code) {
                    CONNECTION_REFUSED => Self::Refused,
                    code @ TLS_ALERT_FIRST..=TLS_ALERT_LAST => {
                        Self::Tls(alert_from_peer(code - TLS_ALERT_FIRST, &peer_text(&reason)))
                    }
                    code => Self::Broken(format!("the peer reported error {code}: {}", peer_text(&reason))),
                }
            }
            ConnectionError::TransportError(error) => match u64::from(error.code) {
                TLS_ALERT_FIRST..=TLS_ALERT_LAST => {
                    Self::Tls(format!("the peer failed our TLS check: {}", peer_text(&error.reason)))
                }
                _ => Self::Broken(peer_text(&error.to_string())),
            },
            ConnectionError::VersionMismatch => Self::Broken("the peer speaks no QUIC version that we speak".into()),
            ConnectionError::CidsExhausted => Self::Broken("too many connections from this endpoint".into()),
        }
    }
}

/// QUIC transport error numbers (RFC 9000 §20.1).
const CONNECTION_REFUSED: u64 = 0x2;
const TLS_ALERT_FIRST: u64 = 0x100;
const TLS_ALERT_LAST: u64 = 0x1ff;

/// What a TLS alert of the peer (RFC 8446 §6) means for whoever reads the message.
fn alert_from_peer(alert: u64, reason: &str) -> String {
    let meaning = match alert {
        116 => "the peer requires a client certificate: use one of the cluster's CA",
        42 | 43 | 46 | 48 | 51 => {
            "the peer doesn't accept our certificate: it must be signed by the CA that the peer trusts"
        }
        44 => "our certificate has been revoked: get a new one from the cluster's CA",
        45 => "our certificate is not valid now: check its dates and both clocks",
        120 => "the peer doesn't speak headwater/0: another program, or another version, listens there",
        70 => "the peer speaks no TLS version that we speak",
        _ => return format!("the peer ended the TLS handshake with alert {alert}: {reason}"),
    };
    format!("{meaning} (TLS alert {alert})")
}

/// Text from a peer, cut, and with control characters escaped: it ends up in logs and terminals.
pub(crate) fn peer_text(text: &str) -> String {
    text.chars()
        .take(PEER_TEXT_CHARS_MAX)
        .flat_map(|c| {
            let keep = !c.is_control();
            let escaped = (!keep).then(|| c.escape_default()).into_iter().flatten();
            keep.then_some(c).into_iter().chain(escaped)
        })
        .collect()
}

/// Why a frame could not be received. After any of them the stream is at its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecvError {
    /// Peer: the prefix breaks a rule or a limit. Nothing was allocated for it.
    #[error("the peer sent a bad frame: {0}")]
    Frame(#[from] FrameError),
    /// Peer: the stream ended inside a frame.
    #[error("the peer ended the stream inside a frame: {received_bytes} of {expected_bytes} bytes of its {part} came")]
    Truncated {
        /// Which part of the frame.
        part: FramePart,
        /// Bytes of that part that came.
        received_bytes: usize,
        /// Bytes that the part has.
        expected_bytes: usize,
    },
    /// Peer: it gave the stream up.
    #[error("the peer reset the stream (code {code})")]
    Reset {
        /// Number of a [`crate::CloseCode`].
        code: u64,
    },
    /// Peer: it began a frame and was too slow with the rest.
    #[error("the peer was too slow: {received_bytes} of {expected_bytes} bytes of the frame's {part} came in time")]
    TooSlow {
        /// Which part of the frame.
        part: FramePart,
        /// Bytes of that part that came.
        received_bytes: usize,
        /// Bytes that the part has.
        expected_bytes: usize,
    },
    /// Us: the body is within the frame limits but larger than the whole budget.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
}

impl RecvError {
    /// Whether the peer broke a rule on this stream, while the connection stands.
    pub fn is_peer_misbehaviour(&self) -> bool {
        match self {
            Self::Frame(_) | Self::Truncated { .. } | Self::Reset { .. } | Self::TooSlow { .. } => true,
            Self::OverBudget(_) | Self::Lost(_) => false,
        }
    }
}

/// A part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePart {
    /// The 16 bytes that say what follows.
    Prefix,
    /// The postcard struct.
    Header,
    /// Raw batches or module bytes.
    Body,
}

impl std::fmt::Display for FramePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prefix => "prefix",
            Self::Header => "header",
            Self::Body => "body",
        })
    }
}

/// Why a frame could not be sent. After any of them but [`SendError::TooLarge`] the stream is at its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// Us: a part has 4 GiB or more.
    #[error("a frame's {part} of {bytes} bytes doesn't fit the frame format")]
    TooLarge {
        /// Which part of the frame.
        part: FramePart,
        /// Its length.
        bytes: usize,
    },
    /// Peer: it doesn't want to read this stream any more.
    #[error("the peer stopped reading the stream (code {code})")]
    Stopped {
        /// Number of a [`crate::CloseCode`].
        code: u64,
    },
    /// Us: the stream was finished or reset before, or an earlier `send` was cancelled inside a frame.
    #[error("the stream is closed on this side")]
    Closed,
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
}

/// Why a server's handshake with a peer failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Peer or network: it took too long.
    #[error("the peer has not finished the handshake in {0} ms")]
    TooSlow(u64),
    /// Peer: its certificate names nobody.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// TLS or QUIC said no.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
}

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Client: the address is not `host:port`, or the host has no address.
    #[error("{address:?} is not an address that can be reached: {reason}; expected host:port")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody listens there: the machine said so.
    #[error("nobody listens at {address}")]
    NobodyThere {
        /// Host and port.
        address: String,
    },
    /// Peer or network: no answer in time.
    #[error("no answer from {address} within {within_ms} ms: nothing listens there, or a firewall drops UDP")]
    NoAnswer {
        /// Host and port.
        address: String,
        /// How long this side waited.
        within_ms: u64,
    },
    /// The handshake failed.
    #[error("{address} and we could not agree: {source}")]
    Handshake {
        /// Host and port.
        address: String,
        /// Why.
        source: HandshakeError,
    },
    /// Us: the local socket can't be made.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl ConnectError {
    /// Whether nothing answered at the address, so that "is the broker running?" is the right question.
    pub fn is_nobody_there(&self) -> bool {
        matches!(self, Self::NobodyThere { .. } | Self::NoAnswer { .. })
    }
}

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// This machine: the address is taken or not ours.
    #[error("can't listen on UDP {address}: {source}; is another broker running there?")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Operator: whoever may connect may upload code, so beyond loopback every peer must show a certificate.
    #[error("{0} is reachable from other machines: client certificates must be required there (set the CA)")]
    OpenBeyondLoopback(SocketAddr),
    /// Us: limits that QUIC can't express.
    #[error("transport limit out of range: {0}")]
    Limits(&'static str),
}
