//! Everything a consumer decides: positions, what to fetch next, what an answer means. Pure; time is an argument.
//!
//! ```text
//!   assign, seek ──▶ partition: position ≤ fetch offset
//!                       │                │
//!        pop ◀── ready batches ◀── on_fetched ◀── lane: one fetch at a time, within its share of the prefetch budget
//! ```
//! A seek gives the partition a new generation: batches and answers of an older one are dropped wherever they are.

use super::record::damaged;
use crate::backoff::Backoff;
use crate::error::ClientError;
use crate::lanes::{LaneKey, lane_number};
use crate::limits::{FETCH_REQUEST_PARTITIONS_MAX, LANE_PREFETCH_BYTES_MIN, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};
use crate::metadata::TopicInfo;
use headwater_protocol::batch::{BatchError, RecordBatch};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{LeaderEpoch, TopicId};
use headwater_protocol::messages::records::{FetchPartition, FetchRequest, FetchedPartition, OffsetSpec};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Topic and partition of an assignment.
pub(crate) type Place = (Arc<str>, u32);

/// What to do when a partition no longer has the position, or doesn't have it yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OutOfRangePolicy {
    /// Go on at the first offset that is there.
    Earliest,
    /// Go on at the high watermark.
    Latest,
    /// Fail; the partition is read no further until a seek.
    #[default]
    Error,
}

/// The consumer's settings as far as decisions need them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreConfig {
    pub(crate) fetch_bytes_max: usize,
    pub(crate) partition_bytes_max: usize,
    pub(crate) prefetch_bytes_max: usize,
    pub(crate) wait: Duration,
    pub(crate) on_out_of_range: OutOfRangePolicy,
    pub(crate) unreachable_timeout: Option<Duration>,
}

/// What to do outside.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Lanes that should look for work; `true`: what they have asked for is not what is wanted any more.
    pub(crate) wake: BTreeMap<LaneKey, bool>,
    /// Lanes that begin to exist.
    pub(crate) new_lanes: Vec<LaneKey>,
    /// Whether something may be popped now.
    pub(crate) ready: bool,
    /// Whether [`Core::stale_topics`] or [`Core::unresolved`] should be asked.
    pub(crate) attend: bool,
}

/// What a lane should do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this; the answer goes to [`Core::on_fetched`] with what was asked.
    Fetch(FetchRequest, Vec<Asked>),
    /// Wait for a wake-up, or until the moment given.
    Wait(Option<Instant>),
}

/// One partition of a fetch request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) place: Place,
    generation: u64,
    offset: i64,
}

/// One partition of a fetch response: its batches as far as they are sound, and what is wrong with the next one.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) outcome: Result<FetchedPartition, ApiError>,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) damage: Option<BatchError>,
}

/// Something for the user.
#[derive(Debug)]
pub(crate) enum Ready {
    /// A batch, to be read from an offset on, and the high watermark then.
    Batch { place: Place, batch: RecordBatch, from_offset: i64, high_watermark: i64 },
    /// A partition can't be read any further.
    Failed(ClientError),
}

struct Partition {
    topic_id: TopicId,
    generation: u64,
    /// Next offset for the user.
    position: i64,
    /// Next offset to ask for.
    fetch_offset: i64,
    high_watermark: Option<i64>,
    lane: Option<LaneKey>,
    leader_epoch: Option<LeaderEpoch>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Reading,
    /// The position is to be looked up.
    Unresolved(OffsetSpec),
    Failed,
}

#[derive(Default)]
struct Lane {
    places: Vec<Place>,
    buffered_bytes: usize,
    /// Since when nothing could be fetched, and why.
    trouble: Option<(Instant, ClientError)>,
}

struct Queued {
    place: Place,
    generation: u64,
    lane: LaneKey,
    bytes: usize,
    content: Result<(RecordBatch, i64), ClientError>,
}

/// A consumer's state.
pub(crate) struct Core {
    config: CoreConfig,
    partitions: BTreeMap<Place, Partition>,
    lanes: BTreeMap<LaneKey, Lane>,
    queue: VecDeque<Queued>,
    stale: bool,
    next_generation: u64,
    effects: Effects,
}

impl Core {
    pub(crate) fn new(config: CoreConfig) -> Self {
        Self {
            config,
            partitions: BTreeMap::new(),
            lanes: BTreeMap::new(),
            queue: VecDeque::new(),
            stale: false,
            next_generation: 0,
            effects: Effects::default(),
        }
    }

    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    fn generation(&mut self) -> u64 {
        self.next_generation += 1;
        self.next_generation
    }

    /// Adds partitions of a topic, or moves the position of those that are there.
    pub(crate) fn assign(&mut self, info: &TopicInfo, positions: &[(u32, i64)]) {
        for (number, offset) in positions {
            let generation = self.generation();
            let place = (Arc::clone(&info.name), *number);
            let partition = Partition {
                topic_id: info.id,
                generation,
                position: *offset,
                fetch_offset: *offset,
                high_watermark: None,
                lane: None,
                leader_epoch: None,
                backoff: Backoff::new(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX),
                retry_at: None,
                state: State::Reading,
            };
            let known = self.partitions.insert(place.clone(), partition);
            self.leave_lane(&place, known.and_then(|known| known.lane));
        }
        self.apply_topic(info);
    }

    /// Drops partitions of a topic.
    pub(crate) fn unassign(&mut self, topic: &str) {
        let places: Vec<Place> = self.partitions.keys().filter(|(name, _)| **name == *topic).cloned().collect();
        for place in places {
            let known = self.partitions.remove(&place);
            self.leave_lane(&place, known.and_then(|known| known.lane));
        }
    }

    fn wake(&mut self, key: LaneKey, start_over: bool) {
        *self.effects.wake.entry(key).or_default() |= start_over;
    }

    fn leave_lane(&mut self, place: &Place, lane: Option<LaneKey>) {
        let Some(key) = lane else { return };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.places.retain(|other| other != place);
        }
        self.wake(key, true);
    }

    /// Next offset that the user gets.
    pub(crate) fn position(&self, place: &Place) -> Option<i64> {
        self.partitions.get(place).map(|partition| partition.position)
    }

    pub(crate) fn high_watermark(&self, place: &Place) -> Option<i64> {
        self.partitions.get(place)?.high_watermark
    }

    /// Learns who leads a topic's partitions. The topic's id decides whether it is still the same one.
    pub(crate) fn apply_topic(&mut self, info: &TopicInfo) {
        let places: Vec<Place> = self.partitions.keys().filter(|(name, _)| **name == *info.name).cloned().collect();
        for place in places {
            let Some(partition) = self.partitions.get_mut(&place) else { continue };
            let Some(known) = info.partitions.get(place.1 as usize).filter(|_| partition.topic_id == info.id) else {
                self.fail(&place, gone(&place));
                continue;
            };
            partition.leader_epoch = Some(known.leader_epoch);
            let (from, to) =
                (partition.lane, known.leader.map(|broker| LaneKey { broker, number: lane_number(info.id, place.1) }));
            if from == to {
                continue;
            }
            partition.lane = to;
            self.leave_lane(&place, from);
            if let Some(key) = to {
                self.join_lane(&place, key);
            }
        }
    }

    fn join_lane(&mut self, place: &Place, key: LaneKey) {
        if !self.lanes.contains_key(&key) {
            self.effects.new_lanes.push(key);
        }
        self.lanes.entry(key).or_default().places.push(place.clone());
        self.wake(key, true);
    }

    /// The topic does not exist any more.
    pub(crate) fn end_topic(&mut self, name: &str) {
        let places: Vec<Place> = self.partitions.keys().filter(|(topic, _)| **topic == *name).cloned().collect();
        for place in places {
            self.fail(&place, gone(&place));
        }
    }

    /// Topics whose leaders should be asked for again.
    pub(crate) fn stale_topics(&mut self) -> Vec<Arc<str>> {
        let stale = std::mem::take(&mut self.stale);
        let wanted = |partition: &Partition| partition.state != State::Failed && (stale || partition.lane.is_none());
        let mut names: Vec<Arc<str>> = self
            .partitions
            .iter()
            .filter(|(_, partition)| wanted(partition))
            .map(|((name, _), _)| Arc::clone(name))
            .collect();
        names.dedup();
        names
    }

    /// What [`Self::stale_topics`] said is still to be done.
    pub(crate) fn keep_stale(&mut self) {
        self.stale = true;
    }

    /// Every topic that is read.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self.partitions.keys().map(|(name, _)| Arc::clone(name)).collect();
        names.dedup();
        names
    }

    /// Partitions whose position has to be looked up: (partition, generation, what to look up).
    pub(crate) fn unresolved(&self) -> Vec<(Place, u64, OffsetSpec)> {
        let wanted = |(place, partition): (&Place, &Partition)| match partition.state {
            State::Unresolved(spec) => Some((place.clone(), partition.generation, spec)),
            State::Reading | State::Failed => None,
        };
        self.partitions.iter().filter_map(wanted).collect()
    }

    /// The position that [`Self::unresolved`] asked for.
    pub(crate) fn resolve(&mut self, place: &Place, generation: u64, offset: i64) {
        let Some(partition) = self.partitions.get_mut(place) else { return };
        if partition.generation == generation && matches!(partition.state, State::Unresolved(_)) {
            tracing::warn!(topic = %place.0, partition = place.1, from = partition.position, to = offset,
                "the position is out of range: moved");
            partition.state = State::Reading;
            (partition.position, partition.fetch_offset) = (offset, offset);
            if let Some(lane) = partition.lane {
                self.wake(lane, true);
            }
        }
    }

    /// Bytes of the prefetch budget that one lane may hold.
    fn lane_share(&self) -> usize {
        let lanes = self.lanes.values().filter(|lane| !lane.places.is_empty()).count().max(1);
        (self.config.prefetch_bytes_max / lanes).max(LANE_PREFETCH_BYTES_MIN)
    }

    /// What the lane should do now.
    pub(crate) fn next(&mut self, key: LaneKey, now: Instant) -> Next {
        let share = self.lane_share();
        let Some(lane) = self.lanes.get_mut(&key) else { return Next::Wait(None) };
        // Half of the share is read by the user while the other half is fetched.
        if lane.places.is_empty() || lane.buffered_bytes > share / 2 {
            return Next::Wait(None);
        }
        let max_bytes = (share / 2).min(self.config.fetch_bytes_max);
        // Brokers fill a response in the order of the request: each partition is first in its turn.
        lane.places.rotate_left(1);
        let (mut partitions, mut asked, mut wait) = (Vec::new(), Vec::new(), None);
        for place in lane.places.iter().take(FETCH_REQUEST_PARTITIONS_MAX) {
            let Some(partition) = self.partitions.get_mut(place) else { continue };
            if partition.state != State::Reading {
                continue;
            }
            if let Some(at) = partition.retry_at.filter(|at| *at > now) {
                wait = Some(wait.map_or(at, |wait: Instant| wait.min(at)));
                continue;
            }
            partitions.push(FetchPartition {
                topic: partition.topic_id,
                partition: place.1,
                offset: partition.fetch_offset,
                max_bytes: as_u32(self.config.partition_bytes_max.min(max_bytes)),
                leader_epoch: partition.leader_epoch,
            });
            let (generation, offset) = (partition.generation, partition.fetch_offset);
            asked.push(Asked { place: place.clone(), generation, offset });
        }
        if partitions.is_empty() {
            return Next::Wait(wait);
        }
        // A partition that is to be asked again soon must not wait for the others' data.
        let patience = wait.map_or(self.config.wait, |at| self.config.wait.min(at.saturating_duration_since(now)));
        let wait_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let request = FetchRequest { wait_ms, min_bytes: 1, max_bytes: as_u32(max_bytes), partitions };
        Next::Fetch(request, asked)
    }

    /// An answer came: takes in what is still wanted of it.
    ///
    /// # Errors
    /// How the broker breaks the protocol, in words; the stream is of no use then.
    pub(crate) fn on_fetched(
        &mut self,
        key: LaneKey,
        asked: Vec<Asked>,
        fetched: Vec<Fetched>,
        now: Instant,
    ) -> Result<(), String> {
        if asked.len() != fetched.len() {
            return Err(format!("{} outcomes for {} partitions", fetched.len(), asked.len()));
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.trouble = None;
        }
        for (asked, fetched) in asked.into_iter().zip(fetched) {
            let Some(partition) = self.partitions.get_mut(&asked.place) else { continue };
            // Asked before a seek, or of a former leader whose successor has answered by now.
            if partition.generation != asked.generation || partition.fetch_offset != asked.offset {
                continue;
            }
            match fetched.outcome {
                Ok(outcome) => {
                    partition.backoff.succeed();
                    partition.retry_at = None;
                    self.take_batches(key, &asked, &outcome, fetched.batches, fetched.damage)?;
                }
                Err(error) => self.on_refused(&asked.place, error, now),
            }
        }
        Ok(())
    }

    fn take_batches(
        &mut self,
        key: LaneKey,
        asked: &Asked,
        outcome: &FetchedPartition,
        batches: Vec<RecordBatch>,
        damage: Option<BatchError>,
    ) -> Result<(), String> {
        let Some(partition) = self.partitions.get_mut(&asked.place) else { return Ok(()) };
        partition.high_watermark = Some(outcome.high_watermark);
        let mut previous_end = i64::MIN;
        for batch in batches {
            let (base, next) = (batch.header().base_offset, batch.header().next_offset());
            if base < previous_end {
                return Err(format!("the batch at offset {base} came after the one that ends at {previous_end}"));
            }
            previous_end = next;
            if next <= asked.offset {
                continue;
            }
            partition.fetch_offset = next;
            let bytes = batch.bytes().len();
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.buffered_bytes += bytes;
            }
            self.queue.push_back(Queued {
                place: asked.place.clone(),
                generation: asked.generation,
                lane: key,
                bytes,
                content: Ok((batch, outcome.high_watermark)),
            });
            self.effects.ready = true;
        }
        if let Some(error) = damage {
            let offset = previous_end.max(asked.offset);
            let error = damaged(&asked.place.0, asked.place.1, offset, &error);
            self.fail(&asked.place, error);
        }
        Ok(())
    }

    fn on_refused(&mut self, place: &Place, error: ApiError, now: Instant) {
        let Some(partition) = self.partitions.get_mut(place) else { return };
        if error.code == ErrorCode::OffsetOutOfRange {
            let spec = match self.config.on_out_of_range {
                OutOfRangePolicy::Earliest => OffsetSpec::Earliest,
                OutOfRangePolicy::Latest => OffsetSpec::Latest,
                OutOfRangePolicy::Error => return self.fail(place, error.into()),
            };
            partition.state = State::Unresolved(spec);
            self.effects.attend = true;
        } else if error.code.is_retriable() {
            tracing::debug!(topic = %place.0, partition = place.1, %error, "fetched again");
            partition.retry_at = Some(now + partition.backoff.fail());
            self.stale = true;
            self.effects.attend = true;
        } else {
            self.fail(place, error.into());
        }
    }

    /// Ends the reading of a partition until a seek; the user learns after what was fetched before.
    fn fail(&mut self, place: &Place, error: ClientError) {
        let Some(partition) = self.partitions.get_mut(place) else { return };
        if partition.state == State::Failed {
            return;
        }
        partition.state = State::Failed;
        let lane = partition.lane.unwrap_or(LaneKey::NONE);
        let generation = partition.generation;
        self.queue.push_back(Queued { place: place.clone(), generation, lane, bytes: 0, content: Err(error) });
        self.effects.ready = true;
    }

    /// Nothing can be fetched on a lane.
    pub(crate) fn on_lost(&mut self, key: LaneKey, error: &ClientError, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            let since = lane.trouble.take().map_or(now, |(since, _)| since);
            lane.trouble = Some((since, error.clone()));
        }
        self.stale = true;
        self.effects.attend = true;
        // Who waits for records may want to give up.
        self.effects.ready = true;
    }

    /// Whether the lane has something to fetch; while not, it needs no stream.
    pub(crate) fn has_work(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| !lane.places.is_empty())
    }

    /// The next thing for the user. Only markers and gaps: the position moves all the same (RDC-4).
    pub(crate) fn pop(&mut self) -> Option<Ready> {
        loop {
            let queued = self.queue.pop_front()?;
            self.give_back(queued.lane, queued.bytes);
            let Some(partition) = self.partitions.get_mut(&queued.place) else { continue };
            if partition.generation != queued.generation {
                continue;
            }
            let (batch, high_watermark) = match queued.content {
                Ok(content) => content,
                Err(error) => return Some(Ready::Failed(error)),
            };
            let from_offset = partition.position;
            partition.position = partition.position.max(batch.header().next_offset());
            if !batch.header().is_control() && batch.header().record_count > 0 {
                return Some(Ready::Batch { place: queued.place, batch, from_offset, high_watermark });
            }
        }
    }

    fn give_back(&mut self, key: LaneKey, bytes: usize) {
        let low = self.lane_share() / 2;
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let before = lane.buffered_bytes;
        lane.buffered_bytes = before.saturating_sub(bytes);
        if before > low && lane.buffered_bytes <= low {
            self.wake(key, false);
        }
    }

    /// A batch that was popped can't be read: its partition fails, its position is before the batch again.
    pub(crate) fn unreadable(&mut self, place: &Place, from_offset: i64) {
        if let Some(partition) = self.partitions.get_mut(place) {
            partition.state = State::Failed;
            partition.position = from_offset;
        }
    }

    /// When to give up waiting for records, and with what.
    pub(crate) fn gives_up(&self) -> Option<(Instant, ClientError)> {
        let patience = self.config.unreachable_timeout?;
        let troubles =
            self.lanes.values().filter(|lane| !lane.places.is_empty()).filter_map(|lane| lane.trouble.as_ref());
        troubles.min_by_key(|(since, _)| *since).map(|(since, error)| (*since + patience, error.clone()))
    }
}

fn as_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn gone(place: &Place) -> ClientError {
    let message = format!("partition {} of topic {} is gone: the topic was deleted", place.1, place.0);
    ApiError::new(ErrorCode::UnknownTopicOrPartition, message).into()
}

#[cfg(test)]
mod tests;
