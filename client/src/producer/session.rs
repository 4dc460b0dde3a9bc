//! The tasks of a producer: one per lane, which owns the lane's stream, and one that keeps the clock and the metadata.

use super::Inner;
use super::core::{LaneIndex, Next, Plan, Source};
use super::window::Identity;
use crate::backoff::Backoff;
use crate::client::Target;
use crate::connection::{BrokerConnection, protocol, receive_failed, send_failed};
use crate::error::{ClientError, Seconds};
use crate::lanes::LaneKey;
use crate::limits::{EXPIRY_CHECK_PAUSE_MAX, EXPIRY_CHECK_PAUSE_MIN, METADATA_REFRESH_PAUSE_MIN, RESPONSE_GRACE};
use bytes::Bytes;
use headwater_protocol::frame::{FrameLimits, decode_header, encode_header};
use headwater_protocol::messages::records::{
    Acks, InitProducerIdRequest, ProducePartition, ProduceRequest, ProduceResponse,
};
use headwater_protocol::messages::{ApiKey, Reply, Request};
use headwater_transport::{BudgetPermit, ByteBudget, FrameTag, FramedRecv, FramedSend};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until, timeout};

/// Frames that answer produce requests.
const RESPONSES: FrameLimits = FrameLimits { body_bytes_max: 0, ..FrameLimits::AUTHENTICATED };

/// Runs a lane until the producer is closed: a stream while there is work, a new one when it is lost.
pub(super) async fn run_lane(inner: Arc<Inner>, lane: LaneIndex, key: LaneKey, woken: Arc<Notify>) {
    let config = &inner.shared.config;
    let mut backoff = Backoff::new(config.reconnect_backoff, config.reconnect_backoff_max);
    loop {
        if inner.is_closed() {
            return;
        }
        if !inner.with_core(|core| core.has_work(lane)) {
            woken.notified().await;
            continue;
        }
        let ended = match inner.shared.connection(Target::Broker(key.broker)).await {
            Ok(connection) => {
                let mut session = Session { inner: &inner, lane, woken: &woken, connection, answered: false };
                let ended = session.run().await;
                if session.answered {
                    backoff.succeed();
                }
                ended
            }
            Err(error) => error,
        };
        if matches!(ended, ClientError::Closed) {
            // The client was closed, if not the producer.
            inner.shut_down();
            return;
        }
        tracing::debug!(broker = %key.broker, lane = key.number, error = %ended, "a produce stream ended");
        inner.with_core(|core| core.on_lost(lane, &ended, Instant::now()));
        sleep(backoff.fail()).await;
    }
}

/// A lane's stream.
struct Session<'a> {
    inner: &'a Arc<Inner>,
    lane: LaneIndex,
    woken: &'a Notify,
    connection: Arc<BrokerConnection>,
    /// Whether the broker has answered anything.
    answered: bool,
}

/// Shares of the connection's request budget that unanswered requests hold, oldest first.
type Held = Mutex<VecDeque<BudgetPermit>>;

impl Session<'_> {
    /// Sends and receives until the stream is of no use any more; tells why.
    async fn run(&mut self) -> ClientError {
        let version = ProduceRequest::VERSION;
        if let Err(error) = self.connection.check_speaks(ApiKey::Produce, version) {
            return error;
        }
        let (mut send, mut recv) = match self.connection.open_lane().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        let held = Held::default();
        let (inner, lane, connection) = (self.inner, self.lane, Arc::clone(&self.connection));
        let answered = &mut self.answered;
        // None of the three is ever polled again once one has ended: what was in flight is then lost.
        let ended = tokio::select! {
            ended = write(inner, lane, self.woken, &connection, &mut send, &held) => ended,
            ended = read(inner, lane, &connection, &mut recv, &held, answered) => ended,
            ended = watch(inner, lane, &connection) => ended,
        };
        if matches!(ended, ClientError::Closed) {
            send.finish();
            // Either the broker has everything soon, or it never will.
            drop(timeout(RESPONSE_GRACE, send.delivered()).await);
        }
        ended
    }
}

async fn write(
    inner: &Arc<Inner>,
    lane: LaneIndex,
    woken: &Notify,
    connection: &BrokerConnection,
    send: &mut FramedSend,
    held: &Held,
) -> ClientError {
    loop {
        if inner.is_closed() {
            return ClientError::Closed;
        }
        match inner.with_core(|core| core.next(lane, Instant::now())) {
            Next::Send(plan) => {
                if let Err(error) = send_plan(inner, lane, connection, send, held, plan).await {
                    return error;
                }
            }
            Next::NeedIdentity(seen) => {
                if let Err(error) = get_identity(inner, seen).await {
                    return error;
                }
            }
            Next::Wait(None) => woken.notified().await,
            Next::Wait(Some(until)) => {
                tokio::select! {
                    () = woken.notified() => {}
                    () = sleep_until(until.into()) => {}
                }
            }
        }
    }
}

/// Builds the plan's new batches and sends the request.
async fn send_plan(
    inner: &Arc<Inner>,
    lane: LaneIndex,
    connection: &BrokerConnection,
    send: &mut FramedSend,
    held: &Held,
    plan: Plan,
) -> Result<(), ClientError> {
    let acks = inner.acks;
    let correlation = plan.correlation;
    let timeout_ms = u32::try_from(inner.shared.config.request_timeout.as_millis()).unwrap_or(u32::MAX);
    let mut request = ProduceRequest { acks, timeout_ms, partitions: Vec::with_capacity(plan.items.len()) };
    let mut body: Vec<Bytes> = Vec::with_capacity(plan.items.len());
    for item in plan.items {
        let bytes = match item.source {
            Source::Bytes(bytes) => bytes,
            // Checksum and compression happen here, where no other lane and no caller of `send` has to wait for them.
            Source::Build(mut builder, stamp) => match builder.build(stamp) {
                Ok(bytes) => {
                    let bytes = bytes.freeze();
                    inner.with_core(|core| core.built(item.index, item.id, &bytes, builder));
                    bytes
                }
                Err(error) => {
                    inner.with_core(|core| core.not_built(lane, (item.index, item.id), &error));
                    continue;
                }
            },
        };
        // A batch is far below 4 GiB: the builder takes no more than 16 MiB.
        let batch_bytes = bytes.len() as u32;
        request.partitions.push(ProducePartition { topic: item.topic, partition: item.partition, batch_bytes });
        body.push(bytes);
    }
    let address = connection.address();
    let header = encode_header(&request).map_err(|error| protocol(address, &error))?;
    let permit = connection.reserve(body.iter().map(Bytes::len).sum()).await;
    if acks != Acks::None {
        held.lock().push_back(permit);
    }
    let tag = FrameTag { api: ApiKey::Produce as u16, version: ProduceRequest::VERSION, correlation };
    send.send(tag, &header, &body).await.map_err(|error| send_failed(address, &error))?;
    if acks == Acks::None {
        inner.with_core(|core| core.on_written(lane, correlation, Instant::now()));
    }
    Ok(())
}

async fn read(
    inner: &Arc<Inner>,
    lane: LaneIndex,
    connection: &BrokerConnection,
    recv: &mut FramedRecv,
    held: &Held,
    answered: &mut bool,
) -> ClientError {
    let address = connection.address();
    let no_body = ByteBudget::new(0);
    loop {
        let frame = match recv.next(&RESPONSES, &no_body).await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                let reason = "the broker ended the stream".to_owned();
                return ClientError::ConnectionLost { address: address.to_owned(), reason };
            }
            Err(error) => return receive_failed(address, &error),
        };
        let reply: Reply<ProduceResponse> = match decode_header(&frame.header) {
            Ok(reply) => reply,
            Err(error) => return protocol(address, &error),
        };
        *answered = true;
        held.lock().pop_front();
        let reply = reply.map(|response| response.partitions);
        let outcome = inner.with_core(|core| core.on_response(lane, frame.prefix.correlation, reply, Instant::now()));
        if let Err(reason) = outcome {
            return protocol(address, &reason);
        }
    }
}

/// Ends when a request has waited too long for its response, or the producer is closed.
async fn watch(inner: &Arc<Inner>, lane: LaneIndex, connection: &BrokerConnection) -> ClientError {
    let patience = inner.shared.config.request_timeout + RESPONSE_GRACE;
    loop {
        let now = Instant::now();
        let due = inner.with_core(|core| core.oldest_sent(lane)).map_or(now, |sent| sent) + patience;
        if due <= now {
            let reason = format!("no answer to a produce request within {}", Seconds(patience));
            return ClientError::ConnectionLost { address: connection.address().to_owned(), reason };
        }
        tokio::select! {
            () = sleep_until(due.into()) => {}
            () = inner.closed() => return ClientError::Closed,
        }
    }
}

/// Gets a producer id; one lane asks for all.
async fn get_identity(inner: &Arc<Inner>, seen: u64) -> Result<(), ClientError> {
    let _one_asks = inner.identity.lock().await;
    if inner.with_core(|core| core.identities()) != seen {
        return Ok(());
    }
    let response = inner.shared.call(Target::Any, &InitProducerIdRequest {}).await?;
    let (producer_id, epoch) = (response.producer_id.0, response.producer_epoch);
    if producer_id < 0 || epoch < 0 {
        return Err(protocol("the cluster", &format!("producer id {producer_id} with epoch {epoch}")));
    }
    tracing::debug!(producer_id, "producer id");
    inner.with_core(|core| core.set_identity(Identity { producer_id, epoch }));
    Ok(())
}

/// Gives up what is too late, and keeps metadata fresh, until the producer is closed.
pub(super) async fn run_clock(inner: Arc<Inner>) {
    let timeout = inner.delivery_timeout;
    let pause = (timeout / 16).clamp(EXPIRY_CHECK_PAUSE_MIN, EXPIRY_CHECK_PAUSE_MAX);
    while !inner.is_closed() {
        tokio::select! {
            () = sleep(pause) => inner.with_core(|core| core.expire(Instant::now())),
            () = inner.closed() => {}
        }
    }
}

/// Asks for metadata when a broker's answer says that ours is old, and from time to time.
pub(super) async fn run_metadata(inner: Arc<Inner>) {
    let config = &inner.shared.config;
    let mut backoff = Backoff::new(METADATA_REFRESH_PAUSE_MIN, config.reconnect_backoff_max);
    let mut asked_for_all = Instant::now();
    loop {
        let due = asked_for_all + config.metadata_age_max;
        tokio::select! {
            () = inner.metadata_wanted.notified() => {}
            () = sleep_until(due.into()) => {}
            () = inner.closed() => return,
        }
        if Instant::now() >= due {
            asked_for_all = Instant::now();
            let names = inner.with_core(|core| core.topics());
            inner.refresh_topics(&names).await;
        }
        loop {
            let names = inner.with_core(|core| core.stale_topics());
            if names.is_empty() {
                break;
            }
            inner.refresh_topics(&names).await;
            tokio::select! {
                () = sleep(backoff.fail()) => {}
                () = inner.closed() => return,
            }
        }
        backoff.succeed();
    }
}
