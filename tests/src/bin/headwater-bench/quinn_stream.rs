//! The network alone: one plain quinn stream between two processes, with the windows, the datagrams and the cipher that
//! Headwater's transport has, and nothing else.
//!
//! Bytes go from memory to memory, as records do: `write_all` of 1 MiB at a time, `read` into a buffer of 1 MiB. Beside
//! it the same without a copy on either side, which only who never looks at the bytes can do: `write_all_chunks` of
//! buffers that quinn may keep, `read_chunk` of quinn's own.

use crate::broker::ChildProcess;
use crate::{Failure, Result};
use bytes::Bytes;
use headwater_transport::{IdentityFiles, TransportLimits, create_dev_identities};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream, ServerConfig,
    TransportConfig,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The word that makes this program the far end.
pub(crate) const SINK_SUBCOMMAND: &str = "quinn-sink";
const ALPN: &[u8] = b"plain";
/// Bytes of one write, and of the buffer that is read into.
const WRITE_BYTES: usize = 1 << 20;
/// First byte of a stream: how the far end shall read it.
const INTO_A_BUFFER: u8 = 0;
const AS_CHUNKS: u8 = 1;

/// A connection to a far end in a process of its own.
pub(crate) struct PlainStreams {
    connection: Connection,
    _endpoint: Endpoint,
    sink: ChildProcess,
}

impl PlainStreams {
    /// Starts the far end with certificates in `directory`, and connects to it. Inside a tokio runtime.
    pub(crate) async fn start(directory: &Path) -> Result<Self> {
        let identities = create_dev_identities(directory)?;
        let (sink, address) = ChildProcess::start(&[SINK_SUBCOMMAND], directory)?;
        let mut endpoint = endpoint(None)?;
        endpoint.set_default_client_config(client_config(&identities.broker)?);
        let connection = endpoint.connect(address.parse()?, "localhost")?.await?;
        Ok(Self { connection, _endpoint: endpoint, sink })
    }

    /// The far end's process.
    pub(crate) fn sink_id(&self) -> u32 {
        self.sink.id()
    }

    /// Sends so many bytes of `source`, over and over, on a new stream; how long it took until the far end said that
    /// it has read them all.
    pub(crate) async fn send(self: Arc<Self>, source: Bytes, bytes: usize) -> Result<Duration> {
        let start = Instant::now();
        let (mut send, receive) = self.connection.open_bi().await?;
        send.write_all(&[INTO_A_BUFFER]).await?;
        let mut left = bytes;
        while left > 0 {
            let write = source.get(..left.min(WRITE_BYTES)).unwrap_or(&source);
            send.write_all(write).await?;
            left -= write.len();
        }
        finish(send, receive, bytes).await?;
        Ok(start.elapsed())
    }

    /// The same for buffers that need no copy.
    pub(crate) async fn send_without_copy(self: Arc<Self>, mut chunks: Vec<Bytes>) -> Result<Duration> {
        let bytes = chunks.iter().map(Bytes::len).sum();
        let start = Instant::now();
        let (mut send, receive) = self.connection.open_bi().await?;
        send.write_all(&[AS_CHUNKS]).await?;
        send.write_all_chunks(&mut chunks).await?;
        finish(send, receive, bytes).await?;
        Ok(start.elapsed())
    }
}

/// Ends the stream and waits for the far end's answer.
async fn finish(mut send: SendStream, mut receive: RecvStream, bytes: usize) -> Result<()> {
    send.finish()?;
    let mut answer = [0; 8];
    receive.read_exact(&mut answer).await?;
    if u64::from_be_bytes(answer) == bytes as u64 { Ok(()) } else { Err("the far end lost bytes".into()) }
}

/// What the far end's process does: prints its address, reads every stream and answers how long it was.
pub(crate) fn sink_main() -> ExitCode {
    let directory = std::env::args_os().nth(2).unwrap_or_default();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        // On a worker, where the connection is driven too: the main thread would have to be woken for each read.
        .and_then(|runtime| runtime.block_on(runtime.spawn(sink(directory.into())))?);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn sink(directory: PathBuf) -> Result<()> {
    let endpoint = endpoint(Some(server_config(&create_dev_identities(&directory)?.broker)?))?;
    println!("{}", endpoint.local_addr()?);
    let connection = endpoint.accept().await.ok_or("closed before anybody came")?.await?;
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let mut how = [0];
        receive.read_exact(&mut how).await?;
        let bytes = if how == [INTO_A_BUFFER] { read(&mut receive).await? } else { read_chunks(&mut receive).await? };
        send.write_all(&bytes.to_be_bytes()).await?;
        send.finish()?;
    }
    Ok(())
}

async fn read(receive: &mut RecvStream) -> Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; WRITE_BYTES], 0);
    while let Some(read) = receive.read(&mut buffer).await? {
        bytes += read as u64;
    }
    Ok(bytes)
}

async fn read_chunks(receive: &mut RecvStream) -> Result<u64> {
    let mut bytes = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        bytes += chunk.bytes.len() as u64;
    }
    Ok(bytes)
}

/// A socket on loopback with the transport's buffers.
fn endpoint(server: Option<ServerConfig>) -> Result<Endpoint> {
    let limits = TransportLimits::default();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(limits.socket_buffer_bytes)?;
    socket.set_send_buffer_size(limits.socket_buffer_bytes)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(limits.datagram_bytes_max)?;
    Ok(Endpoint::new(config, server, UdpSocket::from(socket), Arc::new(quinn::TokioRuntime))?)
}

fn transport() -> Arc<TransportConfig> {
    let limits = TransportLimits::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(limits.datagram_bytes_max);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(limits.stream_window_bytes.into())
        .receive_window(limits.connection_window_bytes.into())
        .send_window(limits.send_window_bytes.into())
        .mtu_discovery_config(Some(mtu))
        .keep_alive_interval(Some(Duration::from_millis(limits.keep_alive_ms)));
    Arc::new(config)
}

/// Headwater's choice: AES-128 by aws-lc.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

fn server_config(identity: &IdentityFiles) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&identity.certificate)?.collect::<std::result::Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&identity.key)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}

fn client_config(identity: &IdentityFiles) -> Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&identity.ca)? {
        roots.add(certificate?)?;
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}
