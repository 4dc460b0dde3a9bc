//! The tasks of a consumer: one per lane, which fetches, and one that keeps metadata fresh and looks up positions.

use super::Inner;
use super::core::{Asked, Fetched, Next, Place};
use super::offsets::{StartOffset, resolve};
use crate::backoff::Backoff;
use crate::client::Target;
use crate::connection::{BrokerConnection, protocol, receive_failed, send_failed};
use crate::error::{ClientError, Seconds};
use crate::lanes::LaneKey;
use crate::limits::{FETCH_EXCESS_BYTES_MAX, METADATA_REFRESH_PAUSE_MIN, RESPONSE_GRACE};
use bytes::Bytes;
use headwater_protocol::batch::RecordBatch;
use headwater_protocol::frame::{FrameLimits, decode_header, encode_header};
use headwater_protocol::messages::records::{FetchRequest, FetchResponse, OffsetSpec};
use headwater_protocol::messages::{ApiKey, Reply, Request};
use headwater_transport::{ByteBudget, Frame, FrameTag, FramedRecv, FramedSend};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until, timeout};

/// How a lane's task is woken.
#[derive(Debug, Default)]
pub(super) struct LaneSignal {
    woken: Notify,
    /// Whether what was asked for is not what is wanted any more.
    start_over: AtomicBool,
}

impl LaneSignal {
    pub(super) fn wake(&self, start_over: bool) {
        if start_over {
            self.start_over.store(true, Ordering::Release);
        }
        self.woken.notify_one();
    }

    /// Waits until the lane should drop what it has asked for.
    async fn starts_over(&self) {
        while !self.start_over.load(Ordering::Acquire) {
            self.woken.notified().await;
        }
    }

    fn begin(&self) {
        self.start_over.store(false, Ordering::Release);
    }
}

/// Why a stream was given up.
enum Ended {
    /// To ask for something else.
    StartOver,
    Failed(ClientError),
}

/// Runs a lane until the consumer is dropped.
pub(super) async fn run_lane(inner: Arc<Inner>, key: LaneKey, signal: Arc<LaneSignal>) {
    let config = &inner.shared.config;
    let mut backoff = Backoff::new(config.reconnect_backoff, config.reconnect_backoff_max);
    loop {
        if !inner.with_core(|core| core.has_work(key)) {
            tokio::select! {
                () = signal.woken.notified() => continue,
                () = inner.closed() => return,
            }
        }
        let mut fetched = false;
        let ended = match inner.shared.connection(Target::Broker(key.broker)).await {
            Ok(connection) => tokio::select! {
                ended = run_stream(&inner, key, &signal, &connection, &mut fetched) => ended,
                () = inner.closed() => return,
            },
            Err(error) => Ended::Failed(error),
        };
        if fetched {
            backoff.succeed();
        }
        let Ended::Failed(error) = ended else { continue };
        tracing::debug!(broker = %key.broker, lane = key.number, %error, "a fetch stream ended");
        inner.with_core(|core| core.on_lost(key, &error, Instant::now()));
        tokio::select! {
            () = sleep(backoff.fail()) => {}
            () = inner.closed() => return,
        }
    }
}

/// Fetches on one stream until it is of no use any more.
async fn run_stream(
    inner: &Arc<Inner>,
    key: LaneKey,
    signal: &LaneSignal,
    connection: &BrokerConnection,
    fetched: &mut bool,
) -> Ended {
    if let Err(error) = connection.check_speaks(ApiKey::Fetch, FetchRequest::VERSION) {
        return Ended::Failed(error);
    }
    let (mut send, mut recv) = match connection.open_lane().await {
        Ok(stream) => stream,
        Err(error) => return Ended::Failed(error),
    };
    let budget = ByteBudget::new(FETCH_EXCESS_BYTES_MAX);
    let mut correlation = 0_u32;
    loop {
        signal.begin();
        match inner.with_core(|core| core.next(key, Instant::now())) {
            Next::Wait(until) => {
                if !inner.with_core(|core| core.has_work(key)) {
                    return Ended::StartOver;
                }
                match until {
                    None => signal.woken.notified().await,
                    Some(until) => tokio::select! {
                        () = signal.woken.notified() => {}
                        () = sleep_until(until.into()) => {}
                    },
                }
            }
            Next::Fetch(request, asked) => {
                correlation = correlation.wrapping_add(1);
                let answer = exchange(inner, connection, &mut send, &mut recv, &budget, &request, correlation);
                let answer = tokio::select! {
                    answer = answer => answer,
                    () = signal.starts_over() => return Ended::StartOver,
                };
                let taken = answer.and_then(|frame| take(inner, key, connection.address(), frame, asked));
                match taken {
                    Ok(()) => *fetched = true,
                    Err(error) => return Ended::Failed(error),
                }
            }
        }
    }
}

/// One fetch request and its response.
async fn exchange(
    inner: &Inner,
    connection: &BrokerConnection,
    send: &mut FramedSend,
    recv: &mut FramedRecv,
    budget: &ByteBudget,
    request: &FetchRequest,
    correlation: u32,
) -> Result<Frame, ClientError> {
    let address = connection.address();
    let header = encode_header(request).map_err(|error| protocol(address, &error))?;
    let tag = FrameTag { api: ApiKey::Fetch as u16, version: FetchRequest::VERSION, correlation };
    send.send(tag, &header, &[]).await.map_err(|error| send_failed(address, &error))?;
    let wait = Duration::from_millis(u64::from(request.wait_ms));
    let patience = wait + inner.shared.config.request_timeout + RESPONSE_GRACE;
    let lost = |reason: String| ClientError::ConnectionLost { address: address.to_owned(), reason };
    let frame = timeout(patience, recv.next(&FrameLimits::AUTHENTICATED, budget))
        .await
        .map_err(|_| lost(format!("no answer to a fetch request within {}", Seconds(patience))))?
        .map_err(|error| receive_failed(address, &error))?
        .ok_or_else(|| lost("the broker ended the stream".to_owned()))?;
    if FrameTag::from(&frame.prefix) != tag {
        return Err(protocol(address, &"its answer is to another request"));
    }
    Ok(frame)
}

/// Checks a response and hands it to the core.
fn take(inner: &Arc<Inner>, key: LaneKey, address: &str, frame: Frame, asked: Vec<Asked>) -> Result<(), ClientError> {
    let reply: Reply<FetchResponse> = decode_header(&frame.header).map_err(|error| protocol(address, &error))?;
    let fetched = split_body(reply?, frame.body).map_err(|reason| protocol(address, &reason))?;
    inner
        .with_core(|core| core.on_fetched(key, asked, fetched, Instant::now()))
        .map_err(|reason| protocol(address, &reason))
}

/// Gives each partition its batches, header and checksum checked, up to the first that is damaged.
fn split_body(response: FetchResponse, mut body: Bytes) -> Result<Vec<Fetched>, String> {
    let mut fetched = Vec::with_capacity(response.partitions.len());
    for outcome in response.partitions {
        let bytes = outcome.as_ref().map_or(0, |partition| partition.batches_bytes as usize);
        if bytes > body.len() {
            return Err(format!("{bytes} bytes of batches are declared and {} are there", body.len()));
        }
        let mut share = body.split_to(bytes);
        let (mut batches, mut damage) = (Vec::new(), None);
        while !share.is_empty() {
            match RecordBatch::split_first(&mut share) {
                Ok(Some(batch)) => batches.push(batch),
                Ok(None) => return Err(format!("{} bytes of batches are no whole batch", share.len())),
                Err(error) => {
                    damage = Some(error);
                    break;
                }
            }
        }
        fetched.push(Fetched { outcome, batches, damage });
    }
    if !body.is_empty() {
        return Err(format!("{} bytes of batches belong to no partition", body.len()));
    }
    Ok(fetched)
}

/// Keeps metadata fresh and looks up positions until the consumer is dropped.
pub(super) async fn run_attendant(inner: Arc<Inner>) {
    let config = &inner.shared.config;
    let mut backoff = Backoff::new(METADATA_REFRESH_PAUSE_MIN, config.reconnect_backoff_max);
    let mut asked_for_all = Instant::now();
    loop {
        let due = asked_for_all + config.metadata_age_max;
        tokio::select! {
            () = inner.attention.notified() => {}
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
            let unresolved = inner.with_core(|core| core.unresolved());
            if names.is_empty() && unresolved.is_empty() {
                break;
            }
            tokio::select! {
                () = attend(&inner, &names, unresolved) => {}
                () = inner.closed() => return,
            }
            tokio::select! {
                () = sleep(backoff.fail()) => {}
                () = inner.closed() => return,
            }
        }
        backoff.succeed();
    }
}

async fn attend(inner: &Arc<Inner>, names: &[Arc<str>], unresolved: Vec<(Place, u64, OffsetSpec)>) {
    inner.refresh_topics(names).await;
    for (place, generation, spec) in unresolved {
        let start = if spec == OffsetSpec::Latest { StartOffset::End } else { StartOffset::Beginning };
        let found = match inner.shared.topic(&place.0).await {
            Ok(info) => resolve(&inner.shared, &info, &[(place.1, start)]).await,
            Err(error) => Err(error),
        };
        match found.as_deref() {
            Ok([(_, offset)]) => inner.with_core(|core| core.resolve(&place, generation, *offset)),
            Ok(_) => {}
            Err(error) => tracing::debug!(topic = %place.0, partition = place.1, %error, "offsets"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::batch::{BatchBuilder, ProducerStamp};
    use headwater_protocol::compression::Compression;
    use headwater_protocol::error::{ApiError, ErrorCode};
    use headwater_protocol::messages::records::FetchedPartition;

    fn batch(records: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..records {
            builder.append(0, None, Some(b"value"), &[]).unwrap();
        }
        builder.build(ProducerStamp::NONE).unwrap().to_vec()
    }

    fn share(bytes: usize) -> Result<FetchedPartition, ApiError> {
        Ok(FetchedPartition { log_start_offset: 0, high_watermark: 9, batches_bytes: bytes as u32 })
    }

    fn split(partitions: Vec<Result<FetchedPartition, ApiError>>, body: &[u8]) -> Result<Vec<Fetched>, String> {
        split_body(FetchResponse { partitions }, Bytes::copy_from_slice(body))
    }

    #[test]
    fn each_partition_gets_its_batches_and_damage_ends_only_its_own() {
        let (one, two) = (batch(1), batch(2));
        let mut broken = two.clone();
        broken[70] ^= 1;
        let body = [&one[..], &two, &one, &broken, &one, &two].concat();
        let first = one.len() + two.len();
        let second = one.len() + broken.len() + one.len();
        let refused = Err(ApiError::new(ErrorCode::OffsetOutOfRange, ""));
        let fetched = split(vec![share(first), refused, share(second), share(two.len())], &body).unwrap();
        let counts: Vec<_> = fetched.iter().map(|part| (part.batches.len(), part.damage.is_some())).collect();
        assert_eq!(counts, [(2, false), (0, false), (1, true), (1, false)]);
    }

    #[test]
    fn bodies_that_do_not_add_up_are_a_breach_of_protocol() {
        let one = batch(1);
        assert!(split(vec![share(one.len() + 1)], &one).is_err());
        assert!(split(vec![share(one.len() - 1)], &one).is_err());
        assert!(split(vec![share(20)], &one[..20]).unwrap_err().contains("no whole batch"));
        assert!(split(vec![], &one).is_err());
    }
}
