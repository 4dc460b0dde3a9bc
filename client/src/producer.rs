//! The producer: records in, batches out, an outcome for each record.
//!
//! ```text
//!   send ──▶ core (decides) ◀──────────────┐
//!              │ wakes                     │ responses, losses, time
//!              ▼                           │
//!            lane tasks: one stream each ──┤      clock task: delivery time-outs
//!                                          └───── metadata task: leaders
//! ```

mod accumulator;
mod core;
mod delivery;
pub mod driven;
mod record;
mod session;
mod window;

pub use delivery::{Delivery, RecordMetadata};
pub use record::ProducerRecord;

use self::core::{AppendError, Core, CoreConfig, Effects, LaneIndex};
use crate::client::{Shared, unknown_topic};
use crate::error::ClientError;
use crate::limits::BATCH_BYTES_MIN;
use headwater_protocol::compression::Compression;
use headwater_protocol::limits::BATCH_BYTES_MAX;
use headwater_protocol::messages::records::Acks;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Settings of a [`Producer`].
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// When a batch counts as delivered. Default: when it is committed ([`Acks::All`]).
    pub acks: Acks,
    /// Whether retries are recognised, so that each record is in the log once and in order (IDP-1 to IDP-3). Default
    /// on; with [`Acks::None`], which has no retries, it has no effect. Without it a retry may duplicate and reorder.
    pub idempotence: bool,
    /// How batches are compressed: not at all (default), lz4 or zstd.
    pub compression: Compression,
    /// How long a batch that isn't full waits for more records. Default 5 ms.
    pub linger: Duration,
    /// Bytes of a batch before compression. A larger record goes alone; topics refuse batches above their own limit.
    /// Default 256 KiB.
    pub batch_bytes_max: usize,
    /// Bytes of records that are not delivered yet; [`Producer::send`] waits beyond. Default 32 MiB.
    pub buffer_bytes_max: usize,
    /// How long a record may take from `send` to its acknowledgement, retries included. Default 120 s.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes_max: 256 << 10,
            buffer_bytes_max: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl ProducerConfig {
    fn check(&self) -> Result<(), ClientError> {
        let refuse = |reason: String| Err(ClientError::Config(reason));
        if matches!(self.compression, Compression::Gzip | Compression::Snappy) {
            return refuse(format!("compression {} is not supported: use lz4, zstd or none", self.compression));
        }
        if !(BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&self.batch_bytes_max) {
            let bytes = self.batch_bytes_max;
            return refuse(format!("batch_bytes_max is {bytes}: choose {BATCH_BYTES_MIN} to {BATCH_BYTES_MAX}"));
        }
        if self.buffer_bytes_max < self.batch_bytes_max {
            return refuse("buffer_bytes_max must be at least batch_bytes_max".to_owned());
        }
        if self.delivery_timeout <= self.linger {
            return refuse("delivery_timeout must be longer than linger".to_owned());
        }
        Ok(())
    }
}

/// What a producer has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerMetrics {
    /// Records that `send` took.
    pub records_sent: u64,
    /// Bytes of batches as they were first sent, compressed where they are.
    pub bytes_sent: u64,
    /// Batches sent, retries included.
    pub batches_sent: u64,
    /// Batches that were sent again.
    pub retries: u64,
    /// Records that are delivered.
    pub records_acknowledged: u64,
    /// Records whose delivery failed.
    pub records_failed: u64,
    /// Bytes of records that are not delivered yet.
    pub buffered_bytes: usize,
}

/// Sends records to topics. Clones are the same producer.
///
/// Records of one partition are appended in the order of their `send` calls, each once, also when brokers fail, for as
/// long as no delivery fails. Dropping the last clone gives up what is not delivered; [`Producer::close`] waits for it.
#[derive(Clone, Debug)]
pub struct Producer {
    handle: Arc<ProducerHandle>,
}

/// Ends the producer's tasks when the last clone is dropped.
#[derive(Debug)]
struct ProducerHandle {
    inner: Arc<Inner>,
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        self.inner.shut_down();
    }
}

impl Producer {
    pub(crate) fn start(shared: Arc<Shared>, config: ProducerConfig) -> Result<Self, ClientError> {
        config.check()?;
        let runtime = Handle::try_current()
            .map_err(|_| ClientError::Config("a producer must be made inside a tokio runtime".to_owned()))?;
        let core_config = CoreConfig {
            acks: config.acks,
            idempotent: config.idempotence && config.acks != Acks::None,
            compression: config.compression,
            linger: config.linger,
            batch_bytes_max: config.batch_bytes_max,
            buffer_bytes_max: config.buffer_bytes_max,
            delivery_timeout: config.delivery_timeout,
        };
        let seed = RandomState::new().build_hasher().finish();
        let inner = Arc::new(Inner {
            shared,
            acks: config.acks,
            delivery_timeout: config.delivery_timeout,
            core: Mutex::new(Core::new(core_config, seed)),
            runtime,
            lanes: Mutex::default(),
            room: Notify::new(),
            metadata_wanted: Notify::new(),
            identity: tokio::sync::Mutex::new(()),
            is_closed: AtomicBool::new(false),
            closing: Notify::new(),
        });
        inner.runtime.spawn(session::run_clock(Arc::clone(&inner)));
        inner.runtime.spawn(session::run_metadata(Arc::clone(&inner)));
        Ok(Self { handle: Arc::new(ProducerHandle { inner }) })
    }

    /// Takes a record. Waits only for room in the buffer, and for the topic's metadata the first time. The outcome is
    /// in the [`Delivery`].
    ///
    /// # Errors
    /// [`ClientError::Api`] when there is no such topic or partition, [`ClientError::Batch`] when the record can't be
    /// written (too large), [`ClientError::Closed`]; and what asking for metadata says. The record was not taken then.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, ClientError> {
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        loop {
            let taken = self.inner().with_core(|core| {
                core.append_with(&record, timestamp, Instant::now)
                    .map(|(completion, index)| completion.delivery(index, timestamp))
            });
            match taken {
                Ok(delivery) => return Ok(delivery),
                // Boxed, or every record would move the state of what it seldom waits for.
                Err(trouble) => Box::pin(self.overcome(trouble, record.topic)).await?,
            }
        }
    }

    /// As [`Producer::send`] for a key and a value, without a handle for the record: when its delivery fails,
    /// [`Producer::flush`] says so.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_ref(&self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), ClientError> {
        let record = ProducerRecord::new(topic, key, value);
        let timestamp = now_ms();
        loop {
            let taken = self.inner().with_core(|core| core.append_with(&record, timestamp, Instant::now).map(drop));
            match taken {
                Ok(()) => return Ok(()),
                // As in `send`.
                Err(trouble) => Box::pin(self.overcome(trouble, topic)).await?,
            }
        }
    }

    /// Removes what kept a record from being taken.
    async fn overcome(&self, trouble: AppendError, topic: &str) -> Result<(), ClientError> {
        let inner = self.inner();
        match trouble {
            AppendError::Refused(error) => Err(error),
            AppendError::UnknownTopic => {
                let info = inner.shared.topic(topic).await?;
                inner.with_core(|core| core.apply_topic(&info));
                Ok(())
            }
            AppendError::BufferFull => {
                let room = inner.room.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                // Room that came before `enable` woke nobody.
                if inner.with_core(|core| core.is_full()) {
                    inner.with_core(Core::hurry);
                    room.await;
                }
                Ok(())
            }
        }
    }

    /// Sends everything taken so far without lingering, and waits until each of it is settled.
    ///
    /// # Errors
    /// The first delivery that failed since the last flush, whoever waited for it. Everything else is delivered.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let inner = self.inner();
        for completion in inner.with_core(Core::flush) {
            // Failures are kept by the core, the first one first.
            drop(completion.delivery(0, 0).await);
        }
        inner.with_core(Core::take_failure).map_or(Ok(()), Err)
    }

    /// Flushes and ends the producer, for all its clones.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<(), ClientError> {
        let flushed = self.flush().await;
        self.inner().shut_down();
        // What was sent without acknowledgement is still in this side's buffers: streams end when the peer has it.
        let lanes = std::mem::take(&mut *self.inner().lanes.lock());
        for lane in lanes.into_values() {
            lane.woken.notify_one();
            drop(lane.task.await);
        }
        flushed
    }

    /// What was done so far.
    pub fn metrics(&self) -> ProducerMetrics {
        let (counters, buffered_bytes) = self.inner().with_core(|core| (core.counters(), core.buffered_bytes()));
        ProducerMetrics {
            records_sent: counters.records_taken,
            bytes_sent: counters.bytes_sent,
            batches_sent: counters.batches_sent,
            retries: counters.batches_resent,
            records_acknowledged: counters.records_delivered,
            records_failed: counters.records_failed,
            buffered_bytes,
        }
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }
}

/// What the producer's tasks share.
struct Inner {
    shared: Arc<Shared>,
    acks: Acks,
    delivery_timeout: Duration,
    core: Mutex<Core>,
    runtime: Handle,
    lanes: Mutex<BTreeMap<LaneIndex, LaneTask>>,
    /// Tells senders that batches were settled.
    room: Notify,
    metadata_wanted: Notify,
    /// Held while a producer id is asked for.
    identity: tokio::sync::Mutex<()>,
    is_closed: AtomicBool,
    closing: Notify,
}

/// A lane's task and how it is woken.
struct LaneTask {
    woken: Arc<Notify>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("acks", &self.acks).finish_non_exhaustive()
    }
}

impl Inner {
    /// Lets the core decide something, then does what it says is to be done, outside of its lock.
    fn with_core<T>(self: &Arc<Self>, decide: impl FnOnce(&mut Core) -> T) -> T {
        let (outcome, effects) = {
            let mut core = self.core.lock();
            let outcome = decide(&mut core);
            (outcome, core.has_effects().then(|| core.take_effects()))
        };
        if let Some(effects) = effects {
            self.apply(effects);
        }
        outcome
    }

    fn apply(self: &Arc<Self>, effects: Effects) {
        let Effects { done, mut wake, new_lanes, forget, refresh } = effects;
        for (lane, key) in new_lanes {
            let woken = Arc::new(Notify::new());
            let task = self.runtime.spawn(session::run_lane(Arc::clone(self), lane, key, Arc::clone(&woken)));
            self.lanes.lock().insert(lane, LaneTask { woken, task });
        }
        for name in forget {
            self.shared.forget_topic(&name);
        }
        if !done.is_empty() {
            done.into_iter().for_each(|(completion, outcome)| completion.complete(outcome));
            self.room.notify_waiters();
        }
        if !wake.is_empty() {
            wake.sort_unstable();
            wake.dedup();
            let lanes = self.lanes.lock();
            wake.iter().filter_map(|lane| lanes.get(lane)).for_each(|lane| lane.woken.notify_one());
        }
        if refresh {
            self.metadata_wanted.notify_one();
        }
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Waits until the producer is closed.
    async fn closed(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    /// Gives up everything that is not delivered, and ends all tasks.
    fn shut_down(self: &Arc<Self>) {
        self.is_closed.store(true, Ordering::Release);
        self.with_core(Core::close);
        self.closing.notify_waiters();
        self.room.notify_waiters();
    }

    /// Asks for topics again and tells the core; topics that are gone end.
    async fn refresh_topics(self: &Arc<Self>, names: &[Arc<str>]) {
        if names.is_empty() {
            return;
        }
        match self.shared.refresh(names).await {
            Ok(found) => self.with_core(|core| {
                for info in &found {
                    core.apply_topic(info);
                }
                for name in names.iter().filter(|name| !found.iter().any(|info| info.name == **name)) {
                    core.end_topic(name, &unknown_topic(name));
                }
            }),
            Err(error) => tracing::debug!(%error, "metadata"),
        }
    }
}

/// Ms since the Unix epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
