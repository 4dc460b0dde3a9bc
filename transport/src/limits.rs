//! Every limit of the transport, with its unit in its name. DESIGN §8 says why they are what they are.

use std::time::Duration;

/// The application protocol that both sides must name in the TLS handshake.
pub const ALPN: &[u8] = b"headwater/0";

/// Bytes of a PEM file that is read; a certificate chain takes a few KiB.
pub const IDENTITY_FILE_BYTES_MAX: u64 = 1 << 20;

/// Characters of a principal's name; a longer subject common name is refused.
pub const PRINCIPAL_CHARS_MAX: usize = 256;

/// Characters that are kept of a reason or message that a peer sent.
pub const PEER_TEXT_CHARS_MAX: usize = 256;

/// First allocation for a body. Further ones are at most [`BODY_GROWTH_FACTOR_MAX`] times what has arrived, so memory
/// follows the bytes that came, not the length that a peer declared.
pub const BODY_FIRST_ALLOCATION_BYTES_MAX: usize = 256 << 10;

/// See [`BODY_FIRST_ALLOCATION_BYTES_MAX`].
pub const BODY_GROWTH_FACTOR_MAX: usize = 4;

/// How long a client waits for one address of a broker before it also tries the next one, in milliseconds.
pub const CONNECT_STAGGER_MS: u64 = 250;

/// Addresses of one host name that a client tries.
pub const CONNECT_ADDRESSES_MAX: usize = 8;

/// What an endpoint grants to its peers.
///
/// A peer may leave at most `connection_window_bytes` unread at the receiver, over all streams of a connection. Streams
/// that wait for the byte budget hold part of that window, so a client keeps its unanswered request bytes on one
/// connection below the window: then a body that has its budget can always arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Bytes that a peer may send on one stream before they are read.
    pub stream_window_bytes: u32,
    /// Bytes that a peer may send on all streams of a connection before they are read.
    pub connection_window_bytes: u32,
    /// The same before the peer's certificate has been checked.
    pub unauthenticated_window_bytes: u32,
    /// Bytes written and not yet acknowledged by the peer, on all streams of a connection.
    pub send_window_bytes: u32,
    /// Streams that a client may have open at once on one connection.
    pub streams_max: u32,
    /// Connections of one server endpoint, handshakes included; more are refused.
    pub connections_max: usize,
    /// Handshakes in progress before a server makes new peers prove their address (QUIC retry).
    pub unvalidated_handshakes_max: usize,
    /// Time for a handshake, in milliseconds.
    pub handshake_ms_max: u64,
    /// Silence after which a connection is lost, in milliseconds.
    pub idle_ms_max: u32,
    /// Silence after which a client shows that it is alive, in milliseconds.
    pub keep_alive_ms: u64,
    /// Size of the socket's send and receive buffers, in bytes; the kernel may give less.
    pub socket_buffer_bytes: usize,
    /// Largest datagram that is probed for, in bytes of UDP payload. Ten of them must stay below 64 KiB: quinn hands
    /// ten to the kernel in one call.
    pub datagram_bytes_max: u16,
    /// Time from the first byte of a frame to the last one of its header, in milliseconds. A body has this much time
    /// too, and more by its length: see `body_bytes_per_second_min`.
    pub partial_frame_ms_max: u64,
    /// Speed below which a body is given up.
    pub body_bytes_per_second_min: u32,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            stream_window_bytes: 4 << 20,
            connection_window_bytes: 16 << 20,
            unauthenticated_window_bytes: 64 << 10,
            send_window_bytes: 16 << 20,
            streams_max: 256,
            connections_max: 4096,
            unvalidated_handshakes_max: 256,
            handshake_ms_max: 10_000,
            idle_ms_max: 30_000,
            keep_alive_ms: 10_000,
            socket_buffer_bytes: 8 << 20,
            datagram_bytes_max: 6000,
            partial_frame_ms_max: 10_000,
            body_bytes_per_second_min: 64 << 10,
        }
    }
}

impl TransportLimits {
    /// Time for a handshake.
    pub(crate) fn handshake_time_max(&self) -> Duration {
        Duration::from_millis(self.handshake_ms_max)
    }

    /// Time for the prefix and header of a frame that has begun.
    pub(crate) fn partial_frame_time_max(&self) -> Duration {
        Duration::from_millis(self.partial_frame_ms_max)
    }

    /// Time for a body of `body_bytes`.
    pub(crate) fn body_time_max(&self, body_bytes: u32) -> Duration {
        let by_speed_ms = u64::from(body_bytes) * 1000 / u64::from(self.body_bytes_per_second_min.max(1));
        Duration::from_millis(self.partial_frame_ms_max.saturating_add(by_speed_ms))
    }
}
