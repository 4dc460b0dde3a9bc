//! Sockets that serve or connect.

use crate::connection::{CloseCode, Connection};
use crate::error::{BindError, ConnectError, ConnectionLost, HandshakeError};
use crate::limits::{CONNECT_ADDRESSES_MAX, CONNECT_STAGGER_MS, TransportLimits};
use crate::tls::{ClientTls, Principal, ServerTls};
use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls_pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A socket that peers connect to.
#[derive(Clone, Debug)]
pub struct ServerEndpoint {
    inner: quinn::Endpoint,
    limits: TransportLimits,
    /// One unit a handshake in progress; none left means that new peers have to prove their address first.
    handshakes: Arc<tokio::sync::Semaphore>,
}

impl ServerEndpoint {
    /// Listens on `address` (port 0: the system chooses). Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError::OpenBeyondLoopback`] when `tls` asks for no client certificate and `address` is not a loopback one.
    pub fn bind(address: SocketAddr, tls: &ServerTls, limits: TransportLimits) -> Result<Self, BindError> {
        if !tls.requires_client_certificate && !address.ip().is_loopback() {
            return Err(BindError::OpenBeyondLoopback(address));
        }
        let mut transport = transport_config(&limits)?;
        // Raised when the handshake is done and the peer is known.
        transport.receive_window(limits.unauthenticated_window_bytes.into()).max_concurrent_bidi_streams(0_u32.into());
        let mut config = ServerConfig::with_crypto(Arc::clone(&tls.config) as Arc<_>);
        config.transport_config(Arc::new(transport)).migration(false).max_incoming(limits.connections_max);
        let socket = bind_socket(address, limits.socket_buffer_bytes, Role::Server)?;
        let inner = endpoint(address, socket, Some(config), &limits)?;
        let handshakes = Arc::new(tokio::sync::Semaphore::new(limits.unvalidated_handshakes_max));
        Ok(Self { inner, limits, handshakes })
    }

    /// The next peer that wants to connect, or `None` when the endpoint is closed. Run [`Incoming::handshake`] in a
    /// task of its own, so that a slow peer delays nobody. Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let incoming = self.inner.accept().await?;
            if self.inner.open_connections() >= self.limits.connections_max {
                tracing::warn!(peer = %incoming.remote_address(), limit = self.limits.connections_max,
                    "connection refused: connections_max is reached");
                incoming.refuse();
                continue;
            }
            let unit = Arc::clone(&self.handshakes).try_acquire_owned().ok();
            if unit.is_none() && !incoming.remote_address_validated() {
                if let Err(refused) = incoming.retry() {
                    refused.into_incoming().ignore();
                }
                continue;
            }
            return Some(Incoming { inner: incoming, limits: self.limits, _unit: unit });
        }
    }

    /// Address that the endpoint listens on.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Connections, handshakes included.
    pub fn open_connections(&self) -> usize {
        self.inner.open_connections()
    }

    /// Takes no more connections; those that are there go on.
    pub fn refuse_new(&self) {
        self.inner.set_server_config(None);
    }

    /// Closes all connections and the endpoint.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.inner.close(code.number(), reason.as_bytes());
    }

    /// Waits, after [`Self::close`], until the peers have heard of it or some round trips have passed.
    pub async fn wait_closed(&self) {
        self.inner.wait_idle().await;
    }
}

/// A peer that wants to connect.
#[derive(Debug)]
pub struct Incoming {
    inner: quinn::Incoming,
    limits: TransportLimits,
    _unit: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Incoming {
    /// Address of the peer.
    pub fn remote_address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Does the handshake. Afterwards the peer is known and has the full windows.
    ///
    /// # Errors
    /// [`HandshakeError`]: too slow, no certificate of our CA, a certificate that names nobody, another protocol.
    pub async fn handshake(self) -> Result<Connection, HandshakeError> {
        let connecting = self.inner.accept().map_err(ConnectionLost::from)?;
        let connection = timeout(self.limits.handshake_time_max(), connecting)
            .await
            .map_err(|_| HandshakeError::TooSlow(self.limits.handshake_ms_max))?
            .map_err(ConnectionLost::from)?;
        let principal = principal(&connection)?;
        connection.set_receive_window(self.limits.connection_window_bytes.into());
        connection.set_max_concurrent_bi_streams(self.limits.streams_max.into());
        Ok(Connection::new(connection, principal, self.limits))
    }
}

/// A socket to connect from: one for IPv4 and one for IPv6, each made when it is first needed.
#[derive(Debug)]
pub struct ClientEndpoint {
    config: ClientConfig,
    limits: TransportLimits,
    ipv4: Mutex<Option<quinn::Endpoint>>,
    ipv6: Mutex<Option<quinn::Endpoint>>,
}

impl ClientEndpoint {
    /// An endpoint that shows the identity of `tls`. Opens no socket yet.
    ///
    /// # Errors
    /// [`BindError::Limits`] when QUIC can't express `limits`.
    pub fn new(tls: &ClientTls, limits: TransportLimits) -> Result<Self, BindError> {
        let mut transport = transport_config(&limits)?;
        transport
            .receive_window(limits.connection_window_bytes.into())
            .max_concurrent_bidi_streams(0_u32.into())
            .keep_alive_interval(Some(Duration::from_millis(limits.keep_alive_ms)));
        let mut config = ClientConfig::new(Arc::clone(&tls.config) as Arc<_>);
        config.transport_config(Arc::new(transport));
        Ok(Self { config, limits, ipv4: Mutex::new(None), ipv6: Mutex::new(None) })
    }

    /// Connects to `address`, a `host:port` whose host is a name or an IP address (IPv6 in brackets) that the server's
    /// certificate names. Several addresses of a name are tried one after another with a short stagger; the first that
    /// answers wins. Must be called inside a tokio runtime.
    ///
    /// A server checks our certificate after we have checked its: when it doesn't like ours, `connect` succeeds and the
    /// first use of a stream says [`ConnectionLost::Tls`].
    ///
    /// # Errors
    /// [`ConnectError`]; [`ConnectError::is_nobody_there`] when nothing listens.
    pub async fn connect(&self, address: &str) -> Result<Connection, ConnectError> {
        let (host, targets) = resolve(address).await?;
        let mut attempts = JoinSet::new();
        for (place, target) in targets.into_iter().enumerate() {
            let endpoint = self.endpoint_for(target)?;
            let (config, host, limits) = (self.config.clone(), host.clone(), self.limits);
            let stagger = Duration::from_millis(CONNECT_STAGGER_MS).saturating_mul(place as u32);
            attempts.spawn(async move {
                sleep(stagger).await;
                connect_to(&endpoint, config, target, &host, limits).await
            });
        }
        let mut failure = None;
        while let Some(outcome) = attempts.join_next().await {
            match outcome {
                Ok(Ok(connection)) => return Ok(connection),
                // A peer that answered and said no tells more than one that isn't there.
                Ok(Err(error)) if failure.as_ref().is_none_or(ConnectError::is_nobody_there) => failure = Some(error),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| bad_address(address, "the host has no address")))
    }

    /// Closes all connections of this endpoint and waits until the peers have heard of it.
    pub async fn close(&self) {
        for slot in [&self.ipv4, &self.ipv6] {
            let endpoint = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(endpoint) = endpoint {
                endpoint.close(CloseCode::Done.number(), b"");
                endpoint.wait_idle().await;
            }
        }
    }

    fn endpoint_for(&self, target: SocketAddr) -> Result<quinn::Endpoint, BindError> {
        let (slot, any) = match target {
            SocketAddr::V4(_) => (&self.ipv4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.ipv6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*slot {
            return Ok(endpoint.clone());
        }
        let socket = bind_socket(any, self.limits.socket_buffer_bytes, Role::Client)?;
        let made = endpoint(any, socket, None, &self.limits)?;
        Ok(slot.insert(made).clone())
    }
}

/// Host (without brackets) and addresses of a `host:port`.
async fn resolve(address: &str) -> Result<(String, Vec<SocketAddr>), ConnectError> {
    let host = match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) => host,
        _ => return Err(bad_address(address, "it has no port from 1 to 65535")),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let found = tokio::net::lookup_host(address).await.map_err(|error| bad_address(address, &error.to_string()))?;
    let mut targets: Vec<SocketAddr> = found.take(CONNECT_ADDRESSES_MAX).collect();
    // IPv4 first: a development broker listens on 127.0.0.1, and `localhost` usually names ::1 first.
    targets.sort_by_key(SocketAddr::is_ipv6);
    targets.dedup();
    Ok((host.to_owned(), targets))
}

fn bad_address(address: &str, reason: &str) -> ConnectError {
    ConnectError::Address { address: address.to_owned(), reason: reason.to_owned() }
}

async fn connect_to(
    endpoint: &quinn::Endpoint,
    config: ClientConfig,
    target: SocketAddr,
    host: &str,
    limits: TransportLimits,
) -> Result<Connection, ConnectError> {
    let failed = |source: HandshakeError| ConnectError::Handshake { address: target.to_string(), source };
    let connecting = endpoint
        .connect_with(config, target, host)
        .map_err(|error| bad_address(&target.to_string(), &error.to_string()))?;
    let connection = tokio::select! {
        outcome = timeout(limits.handshake_time_max(), connecting) => match outcome {
            Ok(Ok(connection)) => connection,
            Ok(Err(quinn::ConnectionError::TimedOut)) | Err(_) => {
                return Err(ConnectError::NoAnswer { address: target.to_string(), within_ms: limits.handshake_ms_max });
            }
            Ok(Err(lost)) => return Err(failed(ConnectionLost::from(lost).into())),
        },
        () = port_closed(target) => return Err(ConnectError::NobodyThere { address: target.to_string() }),
    };
    let principal = principal(&connection).map_err(|error| failed(error.into()))?;
    Ok(Connection::new(connection, principal, limits))
}

/// Ends when the target's machine says that nobody listens on the port; never ends otherwise.
///
/// An unconnected socket, such as QUIC's, doesn't hear of it and would wait for the whole handshake time. A server
/// drops the probe, which is no QUIC packet.
async fn port_closed(target: SocketAddr) {
    let probe = async {
        let any: SocketAddr =
            if target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = tokio::net::UdpSocket::bind(any).await?;
        socket.connect(target).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0]).await
    };
    match probe.await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => std::future::pending().await,
    }
}

/// The name in the peer's certificate, if it showed one.
fn principal(connection: &quinn::Connection) -> Result<Principal, crate::tls::PrincipalError> {
    let chain = connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'_>>>().ok());
    let outcome = match chain.as_deref().and_then(|chain| chain.first()) {
        Some(certificate) => Principal::of_certificate(certificate),
        None => Ok(Principal::Anonymous),
    };
    if let Err(error) = &outcome {
        connection.close(CloseCode::Unauthorised.number(), error.to_string().as_bytes());
    }
    outcome
}

fn transport_config(limits: &TransportLimits) -> Result<TransportConfig, BindError> {
    let idle = IdleTimeout::from(VarInt::from_u32(limits.idle_ms_max));
    if limits.datagram_bytes_max < 1200 || usize::from(limits.datagram_bytes_max) * GSO_SEGMENTS_MAX > 65_535 {
        return Err(BindError::Limits("datagram_bytes_max must lie between 1200 and 6553"));
    }
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(limits.datagram_bytes_max);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(limits.stream_window_bytes.into())
        .send_window(limits.send_window_bytes.into())
        .max_concurrent_uni_streams(0_u32.into())
        .max_idle_timeout(Some(idle))
        .mtu_discovery_config(Some(mtu))
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(true);
    Ok(config)
}

/// Datagrams that quinn hands to the kernel in one call.
const GSO_SEGMENTS_MAX: usize = 10;

fn endpoint(
    address: SocketAddr,
    socket: UdpSocket,
    server: Option<ServerConfig>,
    limits: &TransportLimits,
) -> Result<quinn::Endpoint, BindError> {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(limits.datagram_bytes_max)
        .map_err(|_| BindError::Limits("datagram_bytes_max must be at least 1200"))?;
    quinn::Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
        .map_err(|source| BindError::Socket { address, source })
}

enum Role {
    Server,
    Client,
}

fn bind_socket(address: SocketAddr, buffer_bytes: usize, role: Role) -> Result<UdpSocket, BindError> {
    let make = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(buffer_bytes)?;
        socket.set_send_buffer_size(buffer_bytes)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let socket = make().map_err(|source| BindError::Socket { address, source })?;
    let given_bytes = socket.recv_buffer_size().unwrap_or(0).min(socket.send_buffer_size().unwrap_or(0));
    if given_bytes < buffer_bytes {
        let remedy = "raise net.core.rmem_max and net.core.wmem_max, or packets are lost under load";
        match role {
            Role::Server => tracing::warn!(wanted_bytes = buffer_bytes, given_bytes, "small socket buffers: {remedy}"),
            Role::Client => tracing::debug!(wanted_bytes = buffer_bytes, given_bytes, "small socket buffers: {remedy}"),
        }
    }
    Ok(socket.into())
}
