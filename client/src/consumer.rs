//! The consumer: partitions in, records out.
//!
//! ```text
//!   assign, seek ──▶ core (decides) ──▶ lane tasks: one fetch stream each
//!                      │      ▲              │ batches, checksums checked
//!   next ◀── records ◀─┘      └──────────────┘      attendant task: leaders, positions out of range
//! ```

mod core;
mod fetcher;
mod offsets;
mod record;

pub use self::core::OutOfRangePolicy;
pub use offsets::StartOffset;
pub use record::{ConsumedBatch, ConsumerRecord, Headers};

use self::core::{Core, CoreConfig, Effects, Place, Ready};
use self::fetcher::LaneSignal;
use crate::client::Shared;
use crate::error::ClientError;
use crate::lanes::LaneKey;
use crate::limits::{LANE_PREFETCH_BYTES_MIN, LANES_MAX};
use crate::metadata::TopicInfo;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep_until;

/// Settings of a [`Consumer`].
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Bytes of batches that one request asks for. Default 4 MiB. A first batch that is larger comes whole.
    pub fetch_bytes_max: usize,
    /// Bytes of batches that one request asks for of one partition. Default 1 MiB.
    pub partition_bytes_max: usize,
    /// Bytes of batches that wait to be read, over all partitions. Default 32 MiB.
    pub prefetch_bytes_max: usize,
    /// How long a broker waits for records before it answers that there are none. Default 500 ms.
    pub wait: Duration,
    /// What to do when a partition no longer has the position, or doesn't have it yet. Default: fail.
    pub on_out_of_range: OutOfRangePolicy,
    /// How long records are waited for while their broker can't be reached; then reading fails. Default: for ever.
    pub unreachable_timeout: Option<Duration>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            fetch_bytes_max: 4 << 20,
            partition_bytes_max: 1 << 20,
            prefetch_bytes_max: 32 << 20,
            wait: Duration::from_millis(500),
            on_out_of_range: OutOfRangePolicy::Error,
            unreachable_timeout: None,
        }
    }
}

impl ConsumerConfig {
    fn check(&self) -> Result<(), ClientError> {
        let refuse = |reason: String| Err(ClientError::Config(reason));
        let least = LANE_PREFETCH_BYTES_MIN;
        if self.fetch_bytes_max == 0 || self.partition_bytes_max == 0 || self.prefetch_bytes_max < least {
            return refuse(format!(
                "fetch_bytes_max and partition_bytes_max must be above 0, prefetch_bytes_max at least {least}"
            ));
        }
        Ok(())
    }
}

/// Reads partitions. It belongs to no group and commits nothing: where to begin is up to the caller.
///
/// Records of one partition come in the order of their offsets, each once per assignment; partitions take turns.
#[derive(Debug)]
pub struct Consumer {
    inner: Arc<Inner>,
    /// The batch that [`Consumer::next`] is in the middle of.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    place: Place,
    batch: ConsumedBatch,
    records: VecDeque<ConsumerRecord>,
    /// What is wrong with the batch behind `records`.
    failure: Option<ClientError>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.inner.is_closed.store(true, Ordering::Release);
        self.inner.closing.notify_waiters();
    }
}

impl Consumer {
    pub(crate) fn start(shared: Arc<Shared>, config: ConsumerConfig) -> Result<Self, ClientError> {
        config.check()?;
        let runtime = Handle::try_current()
            .map_err(|_| ClientError::Config("a consumer must be made inside a tokio runtime".to_owned()))?;
        let core_config = CoreConfig {
            fetch_bytes_max: config.fetch_bytes_max,
            partition_bytes_max: config.partition_bytes_max,
            prefetch_bytes_max: config.prefetch_bytes_max,
            wait: config.wait,
            on_out_of_range: config.on_out_of_range,
            unreachable_timeout: config.unreachable_timeout,
        };
        let inner = Arc::new(Inner {
            shared,
            core: Mutex::new(Core::new(core_config)),
            runtime,
            lanes: Mutex::default(),
            ready: Notify::new(),
            attention: Notify::new(),
            is_closed: AtomicBool::new(false),
            closing: Notify::new(),
        });
        inner.runtime.spawn(fetcher::run_attendant(Arc::clone(&inner)));
        Ok(Self { inner, current: None })
    }

    /// Adds partitions of a topic to those that are read; one that is read already moves. Where
    /// [`StartOffset::End`] is, is settled when this returns: what is committed later will be read.
    ///
    /// # Errors
    /// [`ClientError::Api`] when there is no such topic or partition; what the look-ups say. Nothing was added then.
    pub async fn assign(&mut self, topic: &str, partitions: &[(u32, StartOffset)]) -> Result<(), ClientError> {
        let info = self.inner.shared.topic(topic).await?;
        self.assign_known(&info, partitions).await
    }

    /// As [`Consumer::assign`] for every partition that the topic has now.
    ///
    /// # Errors
    /// As [`Consumer::assign`].
    pub async fn assign_all(&mut self, topic: &str, start: StartOffset) -> Result<(), ClientError> {
        // A topic may have been created anew since it was last asked for.
        let names = [Arc::from(topic)];
        self.inner.shared.refresh(&names).await?;
        let info = self.inner.shared.topic(topic).await?;
        let partitions: Vec<_> = (0..).zip(&info.partitions).map(|(number, _)| (number, start)).collect();
        self.assign_known(&info, &partitions).await
    }

    async fn assign_known(
        &mut self,
        info: &Arc<TopicInfo>,
        partitions: &[(u32, StartOffset)],
    ) -> Result<(), ClientError> {
        let positions = offsets::resolve(&self.inner.shared, info, partitions).await?;
        // Looking up may have learned of a new leader.
        let info = self.inner.shared.topic(&info.name).await?;
        let moved = |place: &Place| *place.0 == *info.name && positions.iter().any(|(number, _)| *number == place.1);
        self.current = self.current.take().filter(|current| !moved(&current.place));
        self.inner.with_core(|core| core.assign(&info, &positions));
        Ok(())
    }

    /// Reads a topic's partitions no more.
    pub fn unassign(&mut self, topic: &str) {
        self.current = self.current.take().filter(|current| *current.place.0 != *topic);
        self.inner.with_core(|core| core.unassign(topic));
    }

    /// Moves the position of a partition that is read; also lifts a failure of it.
    ///
    /// # Errors
    /// [`ClientError::Config`] when the partition isn't read; as [`Consumer::assign`].
    pub async fn seek(&mut self, topic: &str, partition: u32, to: StartOffset) -> Result<(), ClientError> {
        if self.inner.with_core(|core| core.position(&(Arc::from(topic), partition))).is_none() {
            return Err(ClientError::Config(format!("{topic}-{partition} is not assigned: assign it instead")));
        }
        self.assign(topic, &[(partition, to)]).await
    }

    /// The offset from which on records of the partition will be handed out; `None` when it isn't read.
    pub fn position(&self, topic: &str, partition: u32) -> Option<i64> {
        let place = (Arc::from(topic), partition);
        let current = self.current.as_ref().filter(|current| current.place == place);
        match current.and_then(|current| current.records.front()) {
            Some(record) => Some(record.offset),
            None => self.inner.with_core(|core| core.position(&place)),
        }
    }

    /// The partition's high watermark as last heard: records below it can be read.
    pub fn high_watermark(&self, topic: &str, partition: u32) -> Option<i64> {
        self.inner.with_core(|core| core.high_watermark(&(Arc::from(topic), partition)))
    }

    /// The next record; waits for one. Cancel-safe: a record is handed out or still there.
    ///
    /// # Errors
    /// [`ClientError::Api`] or [`ClientError::Batch`] when a partition can't be read any further (the others can: call
    /// again; a seek tries again), [`ClientError::Closed`] when the client was closed, and what keeps the broker from
    /// being reached, after `unreachable_timeout`.
    pub async fn next(&mut self) -> Result<ConsumerRecord, ClientError> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(record) = current.records.pop_front() {
                    return Ok(record);
                }
                if let Some(Current { failure: Some(error), .. }) = self.current.take() {
                    return Err(error);
                }
            }
            let (place, batch) = self.fetch_batch().await?;
            let mut records = VecDeque::with_capacity(batch.record_count());
            let mut failure = None;
            for record in batch.owned_records() {
                match record {
                    Ok(record) => records.push_back(record),
                    Err(error) => {
                        let from = records.back().map_or(batch.first_offset(), |last: &ConsumerRecord| last.offset + 1);
                        self.inner.with_core(|core| core.unreadable(&place, from));
                        failure = Some(error);
                    }
                }
            }
            self.current = Some(Current { place, batch, records, failure });
        }
    }

    /// The next batch, or what [`Consumer::next`] has left of one; waits for one. Cheaper than record by record.
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub async fn next_batch(&mut self) -> Result<ConsumedBatch, ClientError> {
        if let Some(current) = self.current.take() {
            if let Some(record) = current.records.front() {
                return Ok(current.batch.from(record.offset));
            }
            if let Some(error) = current.failure {
                return Err(error);
            }
        }
        Ok(self.fetch_batch().await?.1)
    }

    async fn fetch_batch(&mut self) -> Result<(Place, ConsumedBatch), ClientError> {
        loop {
            self.inner.shared.pool.check_open()?;
            match self.inner.with_core(Core::pop) {
                Some(Ready::Failed(error)) => return Err(error),
                Some(Ready::Batch { place, batch, from_offset, high_watermark }) => {
                    let topic = Arc::clone(&place.0);
                    match ConsumedBatch::open(topic, place.1, &batch, from_offset, high_watermark) {
                        Ok(batch) => return Ok((place, batch)),
                        Err(error) => {
                            self.inner.with_core(|core| core.unreadable(&place, from_offset));
                            return Err(error);
                        }
                    }
                }
                None => self.wait_for_batch().await?,
            }
        }
    }

    async fn wait_for_batch(&self) -> Result<(), ClientError> {
        match self.inner.with_core(|core| core.gives_up()) {
            None => self.inner.ready.notified().await,
            Some((at, error)) if at <= Instant::now() => return Err(error),
            Some((at, _)) => {
                tokio::select! {
                    () = self.inner.ready.notified() => {}
                    () = sleep_until(at.into()) => {}
                }
            }
        }
        Ok(())
    }
}

/// What the consumer's tasks share.
struct Inner {
    shared: Arc<Shared>,
    core: Mutex<Core>,
    runtime: Handle,
    lanes: Mutex<BTreeMap<LaneKey, Arc<LaneSignal>>>,
    /// Tells the reader that there is something to pop.
    ready: Notify,
    /// Tells the attendant that there is something to look after.
    attention: Notify,
    is_closed: AtomicBool,
    closing: Notify,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Inner {
    /// Lets the core decide something, then does what it says is to be done, outside of its lock.
    fn with_core<T>(self: &Arc<Self>, decide: impl FnOnce(&mut Core) -> T) -> T {
        let (outcome, effects) = {
            let mut core = self.core.lock();
            let outcome = decide(&mut core);
            (outcome, core.take_effects())
        };
        self.apply(effects);
        outcome
    }

    fn apply(self: &Arc<Self>, effects: Effects) {
        let Effects { wake, new_lanes, ready, attend } = effects;
        for key in new_lanes {
            debug_assert!(key.number < LANES_MAX, "only lanes of leaders are fetched on");
            let signal = Arc::new(LaneSignal::default());
            self.lanes.lock().insert(key, Arc::clone(&signal));
            self.runtime.spawn(fetcher::run_lane(Arc::clone(self), key, signal));
        }
        if !wake.is_empty() {
            let lanes = self.lanes.lock();
            for (key, start_over) in wake {
                if let Some(signal) = lanes.get(&key) {
                    signal.wake(start_over);
                }
            }
        }
        if ready {
            self.ready.notify_one();
        }
        if attend {
            self.attention.notify_one();
        }
    }

    /// Waits until the consumer is dropped.
    async fn closed(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        closing.as_mut().enable();
        if !self.is_closed.load(Ordering::Acquire) {
            closing.await;
        }
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
                    core.end_topic(name);
                }
            }),
            Err(error) => {
                tracing::debug!(%error, "metadata");
                self.with_core(|core| core.keep_stale());
            }
        }
    }
}
