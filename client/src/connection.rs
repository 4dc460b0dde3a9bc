//! One connection to one broker: greeting, single requests, streams for lanes.

use crate::config::ClientConfig;
use crate::error::{ClientError, Seconds};
use crate::limits::CONNECTION_REQUEST_BYTES_MAX;
use crate::retry::CallFailure;
use crate::versions::Versions;
use bytes::Bytes;
use headwater_protocol::frame::{FrameLimits, decode_header, encode_header};
use headwater_protocol::messages::cluster::{HelloRequest, HelloResponse};
use headwater_protocol::messages::{ApiKey, Reply, Request};
use headwater_transport::{
    BudgetPermit, ByteBudget, ClientEndpoint, CloseCode, ConnectError, Connection, ConnectionLost, Frame, FrameTag,
    FramedRecv, FramedSend, HandshakeError, RecvError, SendError,
};
use std::fmt;
use tokio::time::{Instant, timeout_at};

/// Frames of brokers that have no body.
const BODILESS: FrameLimits = FrameLimits { body_bytes_max: 0, ..FrameLimits::AUTHENTICATED };

/// A greeted connection.
#[derive(Debug)]
pub(crate) struct BrokerConnection {
    connection: Connection,
    address: String,
    hello: HelloResponse,
    versions: Versions,
    /// Request bytes whose response is open. The broker may hold back reading one stream for another's sake; as long
    /// as all of them fit the connection's window, each can arrive.
    request_budget: ByteBudget,
}

impl BrokerConnection {
    /// Connects to `address` and greets.
    pub(crate) async fn establish(
        endpoint: &ClientEndpoint,
        address: &str,
        config: &ClientConfig,
    ) -> Result<Self, ClientError> {
        let connection = endpoint.connect(address).await.map_err(|error| connect_failed(address, &error))?;
        let request = HelloRequest { client: config.client_name.clone(), versions: Versions::offered() };
        let deadline = Instant::now() + config.connect_timeout.max(config.request_timeout);
        let header = encode_header(&request).map_err(|error| protocol(address, &error))?;
        let tag = tag(ApiKey::Hello, HelloRequest::VERSION);
        let answer = exchange(&connection, address, tag, &header, &[], &FrameLimits::UNAUTHENTICATED);
        let frame = match timeout_at(deadline, answer).await {
            Ok(frame) => frame.map_err(|failure| failure.error)?,
            Err(_) => {
                let reason = format!("it answers, but not to hello, within {}", Seconds(config.request_timeout));
                return Err(ClientError::NoBroker { address: address.to_owned(), reason });
            }
        };
        let hello = read_reply::<HelloRequest>(address, &frame)?;
        let versions = Versions::agree(ApiKey::SUPPORTED, &hello.versions).map_err(|api| {
            connection.close(CloseCode::Done, "no common versions");
            ClientError::Incompatible { address: address.to_owned(), broker: printable(&hello.broker), api }
        })?;
        tracing::info!(address, broker = %hello.id, program = %printable(&hello.broker), "connected");
        let request_budget = ByteBudget::new(CONNECTION_REQUEST_BYTES_MAX);
        Ok(Self { connection, address: address.to_owned(), hello, versions, request_budget })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn hello(&self) -> &HelloResponse {
        &self.hello
    }

    /// Whether the connection stands as far as this side knows.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    pub(crate) fn close(&self) {
        self.connection.close(CloseCode::Done, "");
    }

    /// Sends one request on a stream of its own and waits for its response until `deadline`.
    pub(crate) async fn call<R: Request>(&self, request: &R, deadline: Instant) -> Result<R::Response, CallFailure> {
        self.call_with_body(request, &[], deadline).await
    }

    /// As [`Self::call`], with a body in pieces.
    pub(crate) async fn call_with_body<R: Request>(
        &self,
        request: &R,
        body: &[Bytes],
        deadline: Instant,
    ) -> Result<R::Response, CallFailure> {
        let unsent = |error| CallFailure { error, sent: false };
        self.check_speaks(R::API, R::VERSION).map_err(unsent)?;
        let header = encode_header(request).map_err(|error| unsent(protocol(&self.address, &error)))?;
        let work = async {
            let _held = self.reserve(body.iter().map(Bytes::len).sum()).await;
            exchange(&self.connection, &self.address, tag(R::API, R::VERSION), &header, body, &BODILESS).await
        };
        let started = Instant::now();
        let frame = timeout_at(deadline, work).await.map_err(|_| CallFailure {
            error: ClientError::Timeout {
                what: format!("{:?} at {}", R::API, self.address),
                after: deadline.saturating_duration_since(started),
            },
            sent: true,
        })??;
        read_reply::<R>(&self.address, &frame).map_err(|error| CallFailure { error, sent: true })
    }

    /// Opens a stream for many requests.
    pub(crate) async fn open_lane(&self) -> Result<(FramedSend, FramedRecv), ClientError> {
        self.connection.open().await.map_err(|error| lost(&self.address, &error))
    }

    /// Waits until a request of `bytes` may be sent; to be held until its response is there.
    pub(crate) async fn reserve(&self, bytes: usize) -> BudgetPermit {
        let bytes = u32::try_from(bytes.min(self.request_budget.capacity_bytes())).unwrap_or(u32::MAX);
        // Never over the whole budget, so this can't fail; were it to, sending is still right.
        self.request_budget.take(bytes).await.unwrap_or_else(|_| BudgetPermit::empty())
    }

    /// Bytes that were put into datagrams of this connection so far.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.connection.stats().udp_tx.bytes
    }

    /// Fails where the broker doesn't speak exactly this version.
    pub(crate) fn check_speaks(&self, api: ApiKey, version: u16) -> Result<(), ClientError> {
        if self.versions.speaks(api, version) {
            return Ok(());
        }
        Err(ClientError::Incompatible {
            address: self.address.clone(),
            broker: printable(&self.hello.broker),
            api: format!("version {version} of {api:?}"),
        })
    }
}

/// The tag of a request that is alone on its stream.
fn tag(api: ApiKey, version: u16) -> FrameTag {
    FrameTag { api: api as u16, version, correlation: 0 }
}

/// One request, one response, on a stream of their own.
async fn exchange(
    connection: &Connection,
    address: &str,
    tag: FrameTag,
    header: &[u8],
    body: &[Bytes],
    limits: &FrameLimits,
) -> Result<Frame, CallFailure> {
    let (mut send, mut recv) =
        connection.open().await.map_err(|error| CallFailure { error: lost(address, &error), sent: false })?;
    let sent = |error| CallFailure { error, sent: true };
    let sending = async {
        send.send(tag, header, body).await?;
        send.finish();
        Ok::<_, SendError>(())
    };
    // Responses to a refused request can come while its body is still on the way, or instead of reading it.
    let budget = ByteBudget::new(limits.body_bytes_max as usize);
    let receiving = recv.next(limits, &budget);
    tokio::pin!(sending, receiving);
    let mut is_sending = true;
    let received = loop {
        tokio::select! {
            received = &mut receiving => break received,
            outcome = &mut sending, if is_sending => match outcome {
                Err(SendError::Lost(error)) => return Err(sent(lost(address, &error))),
                // The peer stopped reading: its answer says why.
                Ok(()) | Err(SendError::Stopped { .. }) => is_sending = false,
                Err(error) => return Err(sent(protocol(address, &error))),
            },
        }
    };
    let frame = received.map_err(|error| sent(receive_failed(address, &error)))?;
    let frame = frame.ok_or_else(|| sent(protocol(address, &"it ended the stream without an answer")))?;
    if FrameTag::from(&frame.prefix) != tag {
        return Err(sent(protocol(address, &"its answer is to another request")));
    }
    Ok(frame)
}

/// The response in a frame, or the error that the broker answered with.
fn read_reply<R: Request>(address: &str, frame: &Frame) -> Result<R::Response, ClientError> {
    let reply: Reply<R::Response> = decode_header(&frame.header).map_err(|error| protocol(address, &error))?;
    reply.map_err(ClientError::Api)
}

/// Text of a peer, cut and without control characters: it ends up in logs and terminals.
fn printable(text: &str) -> String {
    text.chars().take(128).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(crate) fn protocol(address: &str, reason: &dyn fmt::Display) -> ClientError {
    ClientError::Protocol { address: address.to_owned(), reason: reason.to_string() }
}

pub(crate) fn lost(address: &str, error: &ConnectionLost) -> ClientError {
    let (address, reason) = (address.to_owned(), error.to_string());
    match error {
        ConnectionLost::Tls(_) => ClientError::Tls { address, reason },
        ConnectionLost::ClosedHere => ClientError::Closed,
        _ => ClientError::ConnectionLost { address, reason },
    }
}

pub(crate) fn receive_failed(address: &str, error: &RecvError) -> ClientError {
    match error {
        RecvError::Lost(error) => lost(address, error),
        // A broker that stops resets its streams; the connection's end follows.
        RecvError::Reset { .. } | RecvError::Truncated { .. } | RecvError::TooSlow { .. } => {
            ClientError::ConnectionLost { address: address.to_owned(), reason: error.to_string() }
        }
        RecvError::Frame(_) | RecvError::OverBudget(_) => protocol(address, error),
    }
}

pub(crate) fn send_failed(address: &str, error: &SendError) -> ClientError {
    match error {
        SendError::Lost(error) => lost(address, error),
        SendError::Stopped { .. } | SendError::Closed => {
            ClientError::ConnectionLost { address: address.to_owned(), reason: error.to_string() }
        }
        SendError::TooLarge { .. } => protocol(address, error),
    }
}

fn connect_failed(address: &str, error: &ConnectError) -> ClientError {
    let (address, reason) = (address.to_owned(), error.to_string());
    match error {
        ConnectError::Address { .. } | ConnectError::Bind(_) => ClientError::Config(reason),
        ConnectError::Handshake { source: HandshakeError::Lost(ConnectionLost::Tls(_)), .. }
        | ConnectError::Handshake { source: HandshakeError::Principal(_), .. } => ClientError::Tls { address, reason },
        ConnectError::Handshake { .. } | ConnectError::NobodyThere { .. } | ConnectError::NoAnswer { .. } => {
            ClientError::NoBroker { address, reason }
        }
    }
}
