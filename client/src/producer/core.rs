//! Everything a producer decides: which partition, which batch, which request, what an answer means. Pure: time is an
//! argument, and what is to be done outside comes out of [`Core::take_effects`].
//!
//! ```text
//!  append ──▶ topic ──▶ partition: accumulator ──▶ window ──▶ lane: requests in flight ──▶ plan to send
//!                                     ▲               ▲                   │
//!                              too late│      refused, lost               │ response, lost stream
//!                                  expire            └────────────────────┘
//! ```

mod answers;
mod topics;

use super::accumulator::{Accumulator, Builders, PendingBatch, Readiness, record_bytes_max};
use super::delivery::{Completion, Outcome};
use super::record::ProducerRecord;
use super::window::{BatchId, Departing, Identity, Window};
use crate::backoff::Backoff;
use crate::error::{ClientError, Written};
use crate::lanes::LaneKey;
use crate::limits::{PRODUCE_REQUEST_BYTES_MAX, PRODUCE_REQUEST_PARTITIONS_MAX, REQUESTS_IN_FLIGHT_MAX};
use bytes::Bytes;
use headwater_protocol::batch::{BatchBuilder, BatchError, ProducerStamp};
use headwater_protocol::compression::Compression;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::TopicId;
use headwater_protocol::messages::records::Acks;
use headwater_protocol::partitioner::{KeylessSpread, partition_for_key};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Place of a partition in [`Core`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PartitionIndex(usize);

/// Place of a lane in [`Core`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LaneIndex(pub(crate) usize);

/// The producer's settings as far as decisions need them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreConfig {
    pub(crate) acks: Acks,
    pub(crate) idempotent: bool,
    pub(crate) compression: Compression,
    pub(crate) linger: Duration,
    pub(crate) batch_bytes_max: usize,
    pub(crate) buffer_bytes_max: usize,
    pub(crate) delivery_timeout: Duration,
}

/// Why a record can't be taken now.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Learn the topic ([`Core::apply_topic`]), then try again.
    UnknownTopic,
    /// Wait until batches are settled, then try again.
    BufferFull,
    /// For good.
    Refused(ClientError),
}

/// What to do outside.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Outcomes to tell; room in the buffer comes with them.
    pub(crate) done: Vec<(Arc<Completion>, Outcome)>,
    /// Lanes that should look for work.
    pub(crate) wake: Vec<LaneIndex>,
    /// Lanes that begin to exist.
    pub(crate) new_lanes: Vec<(LaneIndex, LaneKey)>,
    /// Topics of which everything known is wrong.
    pub(crate) forget: Vec<Arc<str>>,
    /// Whether [`Core::stale_topics`] should be asked for again.
    pub(crate) refresh: bool,
}

/// What a lane should do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Build what is to be built, send it.
    Send(Plan),
    /// Wait for a wake-up, or until the moment given.
    Wait(Option<Instant>),
    /// Get a producer id ([`Core::set_identity`]), unless somebody did since this many, then ask again.
    NeedIdentity(u64),
}

/// A produce request.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) correlation: u32,
    pub(crate) items: Vec<PlanItem>,
}

/// One batch of a produce request.
#[derive(Debug)]
pub(crate) struct PlanItem {
    pub(crate) index: PartitionIndex,
    pub(crate) id: BatchId,
    pub(crate) topic: TopicId,
    pub(crate) partition: u32,
    pub(crate) source: Source,
}

/// Where a batch's bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// They were sent before.
    Bytes(Bytes),
    /// They are built now, outside; then [`Core::built`].
    Build(BatchBuilder, ProducerStamp),
}

/// What a producer has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records_taken: u64,
    pub(crate) records_delivered: u64,
    pub(crate) records_failed: u64,
    pub(crate) batches_sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) batches_resent: u64,
}

struct Topic {
    id: TopicId,
    partitions: Vec<PartitionIndex>,
    spread: KeylessSpread,
    /// Whether the current partition of `spread` has had a batch begun by it.
    spread_began: bool,
    stale: bool,
}

struct Partition {
    topic: Arc<str>,
    topic_id: TopicId,
    number: u32,
    accumulator: Accumulator,
    window: Window,
    /// Where it is sent. Changes only while nothing is in flight, so that order holds across a change of leader.
    lane: Option<LaneIndex>,
    /// Where metadata says it should be sent.
    wanted: Option<LaneIndex>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    last_trouble: Option<String>,
    live: bool,
}

struct Lane {
    partitions: Vec<PartitionIndex>,
    /// Where the next look for work begins, so that no partition is always first.
    turn: usize,
    in_flight: VecDeque<InFlight>,
    next_correlation: u32,
}

struct InFlight {
    correlation: u32,
    sent_at: Instant,
    batches: Vec<(PartitionIndex, BatchId)>,
}

/// A producer's state.
pub(crate) struct Core {
    config: CoreConfig,
    builders: Builders,
    topics: HashMap<Arc<str>, Topic, BuildHasherDefault<NameHasher>>,
    partitions: Vec<Partition>,
    free: Vec<PartitionIndex>,
    lanes: Vec<Lane>,
    lane_places: BTreeMap<LaneKey, LaneIndex>,
    identity: Option<Identity>,
    /// Producer ids received so far.
    identities: u64,
    next_batch: u64,
    buffered_bytes: usize,
    spread_seed: u64,
    failure: Option<ClientError>,
    closed: bool,
    effects: Effects,
    counters: Counters,
}

impl Core {
    pub(crate) fn new(config: CoreConfig, spread_seed: u64) -> Self {
        Self {
            config,
            builders: Builders::new(config.compression),
            topics: HashMap::default(),
            partitions: Vec::new(),
            free: Vec::new(),
            lanes: Vec::new(),
            lane_places: BTreeMap::new(),
            identity: None,
            identities: 0,
            next_batch: 0,
            buffered_bytes: 0,
            spread_seed,
            failure: None,
            closed: false,
            effects: Effects::default(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn has_effects(&self) -> bool {
        let Effects { done, wake, new_lanes, forget, refresh } = &self.effects;
        !(done.is_empty() && wake.is_empty() && new_lanes.is_empty() && forget.is_empty()) || *refresh
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Whether the next record has to wait. The record that fills the buffer may go beyond its size.
    pub(crate) fn is_full(&self) -> bool {
        self.buffered_bytes >= self.config.buffer_bytes_max && !self.closed
    }

    /// The first failure since the last call.
    pub(crate) fn take_failure(&mut self) -> Option<ClientError> {
        self.failure.take()
    }

    /// Takes a record in; gives its batch and its place there.
    pub(crate) fn append(
        &mut self,
        record: &ProducerRecord<'_>,
        timestamp: i64,
        now: Instant,
    ) -> Result<(&Arc<Completion>, u32), AppendError> {
        self.append_with(record, timestamp, || now)
    }

    /// As [`Self::append`]; looks at the clock only where a batch begins.
    pub(crate) fn append_with(
        &mut self,
        record: &ProducerRecord<'_>,
        timestamp: i64,
        now: impl FnOnce() -> Instant,
    ) -> Result<(&Arc<Completion>, u32), AppendError> {
        if self.closed {
            return Err(AppendError::Refused(ClientError::Closed));
        }
        if self.is_full() {
            return Err(AppendError::BufferFull);
        }
        let bytes = record_bytes_max(record);
        let index = self.choose_partition(record, bytes)?;
        let Some(partition) = self.partitions.get_mut(index.0) else { return Err(AppendError::UnknownTopic) };
        let place = partition.accumulator.append(
            partition.number,
            record,
            timestamp,
            now,
            self.config.batch_bytes_max,
            &mut self.builders,
        );
        let place =
            place.map_err(|error| AppendError::Refused(batch_error(&partition.topic, partition.number, &error)))?;
        self.buffered_bytes += place.bytes;
        self.counters.records_taken += 1;
        if place.notable {
            self.effects.wake.extend(partition.lane);
            self.effects.refresh |= partition.lane.is_none();
        }
        Ok((place.completion, place.index))
    }

    fn choose_partition(&mut self, record: &ProducerRecord<'_>, bytes: usize) -> Result<PartitionIndex, AppendError> {
        let topic = self.topics.get_mut(record.topic).ok_or(AppendError::UnknownTopic)?;
        // No topic has more partitions than a u32 counts.
        let count = topic.partitions.len() as u32;
        let number = match (record.partition, record.key) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => {
                let partitions = &self.partitions;
                let state = |number: u32| {
                    let index = topic.partitions.get(number as usize)?;
                    partitions.get(index.0)
                };
                let mut number = topic.spread.partition(count);
                let fits = |partition: &Partition| partition.accumulator.fits(bytes, self.config.batch_bytes_max);
                if topic.spread_began && !state(number).is_some_and(fits) {
                    topic.spread.batch_full();
                    number = topic.spread.partition(count);
                }
                // A partition without a leader gets nothing while another one has one.
                for _ in 0..count {
                    if state(number).is_some_and(|partition| partition.wanted.is_some()) {
                        break;
                    }
                    topic.spread.batch_full();
                    number = topic.spread.partition(count);
                }
                topic.spread_began = true;
                number
            }
        };
        topic.partitions.get(number as usize).copied().ok_or_else(|| {
            let message =
                format!("topic {} has partitions 0 to {}, not {number}", record.topic, count.saturating_sub(1));
            AppendError::Refused(ApiError::new(ErrorCode::UnknownTopicOrPartition, message).into())
        })
    }

    /// Nothing more is taken or sent; everything unsettled fails.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for index in 0..self.partitions.len() {
            self.give_up_partition(PartitionIndex(index), &ClientError::Closed);
        }
        self.effects.wake.extend((0..self.lanes.len()).map(LaneIndex));
    }

    /// Makes everything taken so far ready to be sent; gives what to wait for.
    pub(crate) fn flush(&mut self) -> Vec<Arc<Completion>> {
        let mut waiting = Vec::new();
        for partition in &mut self.partitions {
            partition.accumulator.close();
            let before = waiting.len();
            waiting.extend(partition.window.completions().chain(partition.accumulator.completions()).cloned());
            if waiting.len() > before {
                self.effects.wake.extend(partition.lane);
            }
        }
        waiting
    }

    /// Producer ids received so far.
    pub(crate) fn identities(&self) -> u64 {
        self.identities
    }

    /// The buffer is full: where nothing is on its way that would make room, open batches are sent without lingering.
    pub(crate) fn hurry(&mut self) {
        let moving = |partition: &Partition| !partition.window.is_empty() || partition.accumulator.has_closed();
        if !self.partitions.iter().any(moving) {
            self.flush();
        }
    }

    /// The producer id for partitions that have none, or a spent one.
    pub(crate) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.identities += 1;
        self.effects.wake.extend((0..self.lanes.len()).map(LaneIndex));
    }

    /// What the lane should do now. What it is told to send is in flight from then on.
    pub(crate) fn next(&mut self, lane: LaneIndex, now: Instant) -> Next {
        let Some(state) = self.lanes.get(lane.0) else { return Next::Wait(None) };
        if state.in_flight.len() >= REQUESTS_IN_FLIGHT_MAX || self.closed {
            return Next::Wait(None);
        }
        let (turn, indexes) = (state.turn, state.partitions.clone());
        let (mut items, mut total_bytes, mut wait, mut need_identity) = (Vec::new(), 0_usize, None, false);
        for place in 0..indexes.len() {
            let Some(index) = indexes.get((turn + place) % indexes.len()).copied() else { break };
            match self.look_at(index, lane, now) {
                Work::None => {}
                Work::At(at) => wait = Some(wait.map_or(at, |wait: Instant| wait.min(at))),
                Work::NeedIdentity => need_identity = true,
                Work::Ready(bytes) => {
                    let full = total_bytes.saturating_add(bytes) > PRODUCE_REQUEST_BYTES_MAX
                        || items.len() >= PRODUCE_REQUEST_PARTITIONS_MAX;
                    if full && !items.is_empty() {
                        if let Some(state) = self.lanes.get_mut(lane.0) {
                            state.turn = turn + place;
                        }
                        break;
                    }
                    total_bytes += bytes;
                    items.extend(self.depart(index));
                }
            }
        }
        if !items.is_empty() {
            return Next::Send(self.dispatch(lane, items, now));
        }
        if need_identity { Next::NeedIdentity(self.identities) } else { Next::Wait(wait) }
    }

    /// Whether the lane has, or will have, something to send; while not, it needs no stream.
    pub(crate) fn has_work(&self, lane: LaneIndex) -> bool {
        let Some(state) = self.lanes.get(lane.0) else { return false };
        state
            .partitions
            .iter()
            .filter_map(|index| self.partitions.get(index.0))
            .any(|partition| !partition.accumulator.is_empty() || !partition.window.is_empty())
    }

    fn look_at(&mut self, index: PartitionIndex, lane: LaneIndex, now: Instant) -> Work {
        let Some(partition) = self.partitions.get_mut(index.0) else { return Work::None };
        if partition.lane != Some(lane) || partition.wanted != Some(lane) {
            return Work::None;
        }
        if let Some(identity) = self.identity {
            partition.window.set_identity(identity);
        }
        partition.window.note_rest(now);
        let stranded = partition.window.close_hole();
        let unsent = !partition.accumulator.is_empty();
        let work = match partition.retry_at {
            Some(at) if at > now => Work::At(at),
            _ => match partition.window.resend_bytes() {
                Some(bytes) => Work::Ready(bytes),
                None if partition.window.needs_identity() => {
                    if unsent || !partition.window.is_empty() {
                        Work::NeedIdentity
                    } else {
                        Work::None
                    }
                }
                None if !partition.window.can_admit() => Work::None,
                None => match partition.accumulator.readiness(now, self.config.linger) {
                    Readiness::Empty => Work::None,
                    Readiness::At(at) => Work::At(at),
                    Readiness::Ready => Work::Ready(partition.accumulator.first_bytes()),
                },
            },
        };
        for (batch, error) in stranded {
            let (topic, number) = self.name_of(index);
            let error = match error {
                Some(error) => batch_error(&topic, number, &error),
                None => self.undelivered(index, Written::Unknown),
            };
            self.settle(batch, Err(error));
        }
        work
    }

    /// Takes the batch that [`Self::look_at`] found ready.
    fn depart(&mut self, index: PartitionIndex) -> Option<PlanItem> {
        let partition = self.partitions.get_mut(index.0)?;
        partition.retry_at = None;
        let (id, source) = match partition.window.resend() {
            Some((id, bytes)) => {
                self.counters.batches_resent += 1;
                (id, Source::Bytes(bytes))
            }
            None => {
                let PendingBatch { builder, completion, created, buffered_bytes } = partition.accumulator.take()?;
                let id = BatchId(self.next_batch);
                self.next_batch += 1;
                let stamp = partition.window.admit(Departing {
                    id,
                    records: builder.record_count(),
                    deadline: created + self.config.delivery_timeout,
                    completion,
                    buffered_bytes,
                });
                (id, Source::Build(builder, stamp))
            }
        };
        Some(PlanItem { index, id, topic: partition.topic_id, partition: partition.number, source })
    }

    fn dispatch(&mut self, lane: LaneIndex, items: Vec<PlanItem>, now: Instant) -> Plan {
        let Some(state) = self.lanes.get_mut(lane.0) else { return Plan { correlation: 0, items } };
        let correlation = state.next_correlation;
        state.next_correlation = correlation.wrapping_add(1);
        let batches = items.iter().map(|item| (item.index, item.id)).collect();
        state.in_flight.push_back(InFlight { correlation, sent_at: now, batches });
        self.counters.batches_sent += items.len() as u64;
        Plan { correlation, items }
    }

    /// Keeps the bytes of a batch that was built, and its builder.
    pub(crate) fn built(&mut self, index: PartitionIndex, id: BatchId, bytes: &Bytes, builder: BatchBuilder) {
        self.counters.bytes_sent += bytes.len() as u64;
        self.builders.give_back(builder);
        if let Some(partition) = self.partitions.get_mut(index.0) {
            partition.window.built(id, bytes.clone());
        }
    }

    /// A batch can't be built; it is given up. Its request goes without it.
    pub(crate) fn not_built(&mut self, lane: LaneIndex, item: (PartitionIndex, BatchId), error: &BatchError) {
        let (index, id) = item;
        let (topic, number) = self.name_of(index);
        let abandoned = self.partitions.get_mut(index.0).and_then(|partition| partition.window.abandon(id));
        if let Some(batch) = abandoned {
            self.settle(batch, Err(batch_error(&topic, number, error)));
        }
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            for request in &mut lane.in_flight {
                request.batches.retain(|batch| *batch != item);
            }
        }
    }
}

/// FNV-1a. A topic's name is looked up for each record; names are the program's own, nobody attacks their table.
struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What a partition has for its lane.
enum Work {
    None,
    At(Instant),
    NeedIdentity,
    /// A batch of about so many bytes.
    Ready(usize),
}

fn batch_error(topic: &str, partition: u32, error: &BatchError) -> ClientError {
    ClientError::Batch { place: format!("a record for {topic}-{partition}"), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
