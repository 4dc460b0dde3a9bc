//! Topics, their partitions, and the lanes that lead to the partitions' leaders.

use super::{Core, Lane, LaneIndex, Partition, PartitionIndex, Topic};
use crate::backoff::Backoff;
use crate::error::ClientError;
use crate::lanes::{LaneKey, lane_number};
use crate::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};
use crate::metadata::TopicInfo;
use crate::producer::accumulator::Accumulator;
use crate::producer::window::Window;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::partitioner::KeylessSpread;
use std::collections::VecDeque;
use std::sync::Arc;

impl Core {
    /// Learns, or learns anew, a topic's partitions and who leads them.
    pub(crate) fn apply_topic(&mut self, info: &TopicInfo) {
        if self.closed {
            return;
        }
        if self.topics.get(&info.name).is_some_and(|topic| topic.id != info.id) {
            let message = format!("topic {} was deleted and created again: send the records again", info.name);
            self.end_topic(&info.name, &ApiError::new(ErrorCode::UnknownTopicId, message).into());
        }
        let mut topic = self.topics.remove(&info.name).unwrap_or_else(|| Topic {
            id: info.id,
            partitions: Vec::new(),
            spread: KeylessSpread::new(self.spread_seed),
            spread_began: false,
            stale: false,
        });
        topic.stale = false;
        for (number, partition) in (0..).zip(&info.partitions) {
            let wanted =
                partition.leader.map(|broker| self.lane(LaneKey { broker, number: lane_number(info.id, number) }));
            let index = match topic.partitions.get(number as usize) {
                Some(index) => *index,
                None => {
                    let index = self.add_partition(info, number);
                    topic.partitions.push(index);
                    index
                }
            };
            if let Some(partition) = self.partitions.get_mut(index.0) {
                partition.wanted = wanted;
            }
            self.move_if_drained(index);
        }
        self.topics.insert(Arc::clone(&info.name), topic);
    }

    fn add_partition(&mut self, info: &TopicInfo, number: u32) -> PartitionIndex {
        let index = self.free.pop().unwrap_or(PartitionIndex(self.partitions.len()));
        // Drawn like everything else here: the same seed, the same pauses.
        let jitter = self.spread_seed.wrapping_add(index.0 as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let partition = Partition {
            topic: Arc::clone(&info.name),
            topic_id: info.id,
            number,
            accumulator: Accumulator::default(),
            window: Window::new(self.config.idempotent),
            lane: None,
            wanted: None,
            backoff: Backoff::seeded(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX, jitter),
            retry_at: None,
            last_trouble: None,
            live: true,
        };
        match self.partitions.get_mut(index.0) {
            Some(place) => *place = partition,
            None => self.partitions.push(partition),
        }
        index
    }

    fn lane(&mut self, key: LaneKey) -> LaneIndex {
        let next = LaneIndex(self.lanes.len());
        let index = *self.lane_places.entry(key).or_insert(next);
        if index == next {
            self.lanes.push(Lane { partitions: Vec::new(), turn: 0, in_flight: VecDeque::new(), next_correlation: 0 });
            self.effects.new_lanes.push((index, key));
        }
        index
    }

    /// Puts a partition on the lane where it should be, once nothing of it is in flight.
    pub(super) fn move_if_drained(&mut self, index: PartitionIndex) {
        let Some(partition) = self.partitions.get_mut(index.0) else { return };
        let (from, to) = (partition.lane, partition.wanted);
        if from == to || partition.window.any_in_flight() {
            return;
        }
        partition.lane = to;
        partition.retry_at = None;
        if let Some(lane) = from.and_then(|lane| self.lanes.get_mut(lane.0)) {
            lane.partitions.retain(|other| *other != index);
        }
        if let Some(lane) = to.and_then(|lane| self.lanes.get_mut(lane.0)) {
            lane.partitions.push(index);
        }
        self.effects.wake.extend(to);
    }

    /// Names of topics whose metadata should be asked for: an answer said so, or nobody leads a partition that has
    /// work.
    pub(crate) fn stale_topics(&self) -> Vec<Arc<str>> {
        let leaderless = |partition: &&Partition| {
            let work = !partition.accumulator.is_empty() || !partition.window.is_empty();
            partition.live && work && partition.wanted.is_none()
        };
        let stale = self.topics.iter().filter(|(_, topic)| topic.stale).map(|(name, _)| Arc::clone(name));
        let mut names: Vec<_> = stale
            .chain(self.partitions.iter().filter(leaderless).map(|partition| Arc::clone(&partition.topic)))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Every topic that is sent to.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        self.topics.keys().cloned().collect()
    }

    /// The topic is gone: everything for it fails with `error`, and the next record for it asks for it anew.
    pub(crate) fn end_topic(&mut self, name: &str, error: &ClientError) {
        let Some((name, topic)) = self.topics.remove_entry(name) else { return };
        self.effects.forget.push(name);
        for index in topic.partitions {
            self.give_up_partition(index, error);
            let Some(partition) = self.partitions.get_mut(index.0) else { continue };
            partition.live = false;
            if let Some(lane) = partition.lane.take().and_then(|lane| self.lanes.get_mut(lane.0)) {
                lane.partitions.retain(|other| *other != index);
            }
            self.free.push(index);
        }
    }

    pub(super) fn give_up_partition(&mut self, index: PartitionIndex, error: &ClientError) {
        let Some(partition) = self.partitions.get_mut(index.0) else { return };
        let sent = partition.window.take_all();
        let mut unsent = Vec::new();
        while let Some(batch) = partition.accumulator.take() {
            unsent.push(batch);
        }
        for batch in sent {
            self.settle(batch, Err(error.clone()));
        }
        for batch in unsent {
            self.settle_unsent(batch, error.clone());
        }
    }
}
