//! A producer's decisions for somebody who owns time and streams: the simulator drives the same code as the tasks do.
//!
//! ```text
//!   append ──► core ──► next ──► a request on a lane ──► (network)
//!                ▲                                          │
//!                └──── on_response, on_lost, expire ◄───────┘──► take_outcomes
//! ```

use super::ProducerConfig;
use super::core::{AppendError, Core, CoreConfig, LaneIndex, Next, Source};
use super::delivery::{Completion, Outcome};
use super::record::ProducerRecord;
use super::window::Identity;
use crate::error::ClientError;
use crate::metadata::{PartitionInfo, TopicInfo};
use bytes::Bytes;
use headwater_protocol::error::ApiError;
use headwater_protocol::ids::{BrokerId, TopicId};
use headwater_protocol::messages::cluster::TopicMetadata;
use headwater_protocol::messages::records::ProducedBatch;
use std::sync::Arc;
use std::time::Instant;

/// A producer without tasks.
pub struct DrivenProducer {
    core: Core,
    /// The broker that each lane leads to.
    lanes: Vec<BrokerId>,
    /// Batches whose outcome is open, with the caller's numbers of their records, in order.
    open: Vec<(Arc<Completion>, Vec<u64>)>,
    outcomes: Vec<RecordOutcome>,
}

/// What became of a record.
#[derive(Clone, Debug)]
pub struct RecordOutcome {
    /// The caller's number of it.
    pub number: u64,
    /// Its partition.
    pub partition: u32,
    /// Its offset (`None` where no acknowledgement was asked for), or why it failed. A failed one may be in the log.
    pub offset: Result<Option<i64>, ClientError>,
}

/// Why a record was not taken.
#[derive(Clone, Debug)]
pub enum NotTaken {
    /// Learn the topic first.
    UnknownTopic,
    /// Wait for outcomes.
    BufferFull,
    /// For good.
    Refused(ClientError),
}

/// A produce request.
#[derive(Clone, Debug)]
pub struct DrivenRequest {
    /// Comes back with the response.
    pub correlation: u32,
    /// Topic, partition and bytes of each batch.
    pub batches: Vec<(TopicId, u32, Bytes)>,
}

/// What a lane should do.
#[derive(Clone, Debug)]
pub enum DrivenNext {
    /// Send this, then ask again.
    Send(DrivenRequest),
    /// Nothing before this moment, or before something happens.
    Wait(Option<Instant>),
    /// Get a producer id, then ask again.
    NeedIdentity,
}

impl DrivenProducer {
    /// A producer whose choices are drawn from `seed`.
    #[must_use]
    pub fn new(config: &ProducerConfig, seed: u64) -> Self {
        let config = CoreConfig {
            acks: config.acks,
            idempotent: config.idempotence,
            compression: config.compression,
            linger: config.linger,
            batch_bytes_max: config.batch_bytes_max,
            buffer_bytes_max: config.buffer_bytes_max,
            delivery_timeout: config.delivery_timeout,
        };
        Self { core: Core::new(config, seed), lanes: Vec::new(), open: Vec::new(), outcomes: Vec::new() }
    }

    /// Learns a topic's partitions and who leads them.
    pub fn learn(&mut self, topic: &TopicMetadata) {
        let partition = |partition: &headwater_protocol::messages::cluster::PartitionMetadata| PartitionInfo {
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        self.core.apply_topic(&TopicInfo { name: topic.name.as_str().into(), id: topic.id, partitions });
        self.take_effects();
    }

    /// The topic does not exist: everything for it fails.
    pub fn end_topic(&mut self, name: &str, error: &ClientError) {
        self.core.end_topic(name, error);
        self.take_effects();
    }

    /// Takes a record in; its outcome comes with `number`.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn append(
        &mut self,
        record: &ProducerRecord<'_>,
        timestamp: i64,
        now: Instant,
        number: u64,
    ) -> Result<(), NotTaken> {
        let (completion, _) = self.core.append(record, timestamp, now).map_err(|error| match error {
            AppendError::UnknownTopic => NotTaken::UnknownTopic,
            AppendError::BufferFull => NotTaken::BufferFull,
            AppendError::Refused(error) => NotTaken::Refused(error),
        })?;
        match self.open.iter_mut().rev().find(|(open, _)| Arc::ptr_eq(open, completion)) {
            Some((_, numbers)) => numbers.push(number),
            None => self.open.push((Arc::clone(completion), vec![number])),
        }
        self.take_effects();
        Ok(())
    }

    /// Makes everything taken so far ready to be sent.
    pub fn flush(&mut self) {
        drop(self.core.flush());
        self.take_effects();
    }

    /// The lanes there are, by the broker that each leads to.
    #[must_use]
    pub fn lanes(&self) -> &[BrokerId] {
        &self.lanes
    }

    /// Whether the lane has, or will have, something to send.
    #[must_use]
    pub fn has_work(&self, lane: usize) -> bool {
        self.core.has_work(LaneIndex(lane))
    }

    /// What the lane should do now. What it is told to send is in flight from then on.
    pub fn next(&mut self, lane: usize, now: Instant) -> DrivenNext {
        let plan = match self.core.next(LaneIndex(lane), now) {
            Next::Send(plan) => plan,
            Next::Wait(until) => return DrivenNext::Wait(until),
            Next::NeedIdentity(_) => return DrivenNext::NeedIdentity,
        };
        let mut batches = Vec::with_capacity(plan.items.len());
        for item in plan.items {
            let bytes = match item.source {
                Source::Bytes(bytes) => bytes,
                Source::Build(mut builder, stamp) => match builder.build(stamp) {
                    Ok(bytes) => {
                        let bytes = bytes.freeze();
                        self.core.built(item.index, item.id, &bytes, builder);
                        bytes
                    }
                    Err(error) => {
                        self.core.not_built(LaneIndex(lane), (item.index, item.id), &error);
                        continue;
                    }
                },
            };
            batches.push((item.topic, item.partition, bytes));
        }
        self.take_effects();
        DrivenNext::Send(DrivenRequest { correlation: plan.correlation, batches })
    }

    /// The producer id for partitions that have none, or a spent one.
    pub fn set_identity(&mut self, producer_id: i64, epoch: i16) {
        self.core.set_identity(Identity { producer_id, epoch });
        self.take_effects();
    }

    /// The oldest request of the lane was answered.
    ///
    /// # Errors
    /// How the answer breaks the protocol.
    pub fn on_response(
        &mut self,
        lane: usize,
        correlation: u32,
        reply: Result<Vec<Result<ProducedBatch, ApiError>>, ApiError>,
        now: Instant,
    ) -> Result<(), String> {
        let answered = self.core.on_response(LaneIndex(lane), correlation, reply, now);
        self.take_effects();
        answered
    }

    /// The lane's stream is gone, with everything in flight on it.
    pub fn on_lost(&mut self, lane: usize, cause: &ClientError, now: Instant) {
        self.core.on_lost(LaneIndex(lane), cause, now);
        self.take_effects();
    }

    /// Gives up what is past its delivery time-out.
    pub fn expire(&mut self, now: Instant) {
        self.core.expire(now);
        self.take_effects();
    }

    /// Topics whose metadata should be asked for.
    #[must_use]
    pub fn stale_topics(&self) -> Vec<Arc<str>> {
        self.core.stale_topics()
    }

    /// Records whose outcome is open.
    #[must_use]
    pub fn open_records(&self) -> usize {
        self.open.iter().map(|(_, numbers)| numbers.len()).sum()
    }

    /// What became of records since the last call.
    pub fn take_outcomes(&mut self) -> Vec<RecordOutcome> {
        std::mem::take(&mut self.outcomes)
    }

    fn take_effects(&mut self) {
        let effects = self.core.take_effects();
        for (lane, key) in effects.new_lanes {
            debug_assert_eq!(lane.0, self.lanes.len(), "lanes begin in order");
            self.lanes.push(key.broker);
        }
        for (completion, outcome) in effects.done {
            self.settle(&completion, outcome);
        }
    }

    fn settle(&mut self, completion: &Arc<Completion>, outcome: Outcome) {
        let Some(place) = self.open.iter().position(|(open, _)| Arc::ptr_eq(open, completion)) else { return };
        let (_, numbers) = self.open.remove(place);
        for (index, number) in (0_i64..).zip(numbers) {
            let offset = outcome.clone().map(|base| base.map(|base| base + index));
            self.outcomes.push(RecordOutcome { number, partition: completion.partition(), offset });
        }
    }
}
