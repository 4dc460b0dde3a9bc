//! What comes back: responses, lost streams, and time that has run out.

use super::{BatchId, Core, Departing, LaneIndex, PartitionIndex};
use crate::error::{ClientError, Written};
use crate::producer::accumulator::PendingBatch;
use crate::producer::delivery::Outcome;
use crate::producer::window::Refusal;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::messages::records::{Acks, ProducedBatch};
use std::sync::Arc;
use std::time::Instant;

impl Core {
    /// When the oldest request of the lane that is still unanswered was sent.
    pub(crate) fn oldest_sent(&self, lane: LaneIndex) -> Option<Instant> {
        self.lanes.get(lane.0)?.in_flight.front().map(|request| request.sent_at)
    }

    /// The oldest request of the lane was answered. Responses come in the order of the requests.
    ///
    /// # Errors
    /// How the broker breaks the protocol, in words; the stream is of no use then.
    pub(crate) fn on_response(
        &mut self,
        lane: LaneIndex,
        correlation: u32,
        reply: Result<Vec<Result<ProducedBatch, ApiError>>, ApiError>,
        now: Instant,
    ) -> Result<(), String> {
        let state = self.lanes.get_mut(lane.0).ok_or("a response on no lane")?;
        let request = state.in_flight.front().ok_or("a produce response without a request")?;
        if request.correlation != correlation {
            return Err(format!("a response to request {correlation} where {} was due", request.correlation));
        }
        let outcomes = match reply {
            Ok(outcomes) if outcomes.len() == request.batches.len() => outcomes,
            Ok(outcomes) => {
                return Err(format!("{} outcomes for {} batches", outcomes.len(), request.batches.len()));
            }
            Err(error) => vec![Err(error); request.batches.len()],
        };
        if outcomes.iter().flatten().any(|produced| produced.base_offset < 0) {
            return Err("a negative offset".to_owned());
        }
        let Some(request) = state.in_flight.pop_front() else { return Ok(()) };
        for ((index, id), outcome) in request.batches.into_iter().zip(outcomes) {
            match outcome {
                Ok(produced) => self.on_produced(index, id, Some(produced.base_offset), now),
                Err(error) => self.on_refused(index, id, error, now),
            }
            self.move_if_drained(index);
        }
        self.effects.wake.push(lane);
        Ok(())
    }

    /// A request that asked for no acknowledgement was handed to the stream.
    pub(crate) fn on_written(&mut self, lane: LaneIndex, correlation: u32, now: Instant) {
        let Some(state) = self.lanes.get_mut(lane.0) else { return };
        if state.in_flight.front().is_none_or(|request| request.correlation != correlation) {
            return;
        }
        let Some(request) = state.in_flight.pop_front() else { return };
        for (index, id) in request.batches {
            self.on_produced(index, id, None, now);
            self.move_if_drained(index);
        }
    }

    fn on_produced(&mut self, index: PartitionIndex, id: BatchId, base_offset: Option<i64>, now: Instant) {
        let Some(partition) = self.partitions.get_mut(index.0) else { return };
        let Some(batch) = partition.window.acknowledge(id, now) else { return };
        partition.backoff.succeed();
        partition.last_trouble = None;
        self.settle(batch, Ok(base_offset));
    }

    fn on_refused(&mut self, index: PartitionIndex, id: BatchId, error: ApiError, now: Instant) {
        let Some(partition) = self.partitions.get_mut(index.0) else { return };
        match partition.window.refuse(id, error.code) {
            Refusal::Unknown => {}
            Refusal::Retry if error.code == ErrorCode::OutOfOrderSequenceNumber => {}
            Refusal::Retry => {
                tracing::debug!(topic = %partition.topic, partition = partition.number, %error, "sent again");
                partition.retry_at = Some(now + partition.backoff.fail());
                partition.last_trouble = Some(error.to_string());
                if is_about_leaders(error.code) {
                    if let Some(topic) = self.topics.get_mut(&partition.topic) {
                        topic.stale = true;
                    }
                    self.effects.refresh = true;
                }
            }
            Refusal::GivenUp(batch) => {
                let gone = matches!(error.code, ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition);
                let topic = Arc::clone(&partition.topic);
                tracing::warn!(%topic, partition = partition.number, %error, "a batch was refused");
                let error = ClientError::Api(error);
                self.settle(batch, Err(error.clone()));
                if gone && self.topics.get(&topic).is_some_and(|known| known.partitions.contains(&index)) {
                    self.end_topic(&topic, &error);
                }
            }
        }
    }

    /// The lane's stream is gone, with everything in flight on it.
    pub(crate) fn on_lost(&mut self, lane: LaneIndex, cause: &ClientError, now: Instant) {
        let Some(state) = self.lanes.get_mut(lane.0) else { return };
        let requests = std::mem::take(&mut state.in_flight);
        for (index, id) in requests.into_iter().flat_map(|request| request.batches) {
            let Some(partition) = self.partitions.get_mut(index.0) else { continue };
            if self.config.acks == Acks::None {
                if let Some(batch) = partition.window.acknowledge(id, now) {
                    let error = self.undelivered(index, Written::Unknown);
                    self.settle(batch, Err(error));
                }
            } else {
                partition.window.lost();
            }
            self.move_if_drained(index);
        }
        self.note_trouble(lane, cause);
        self.effects.wake.push(lane);
    }

    /// Remembers what keeps the lane from sending, for the message of a delivery time-out.
    fn note_trouble(&mut self, lane: LaneIndex, cause: &ClientError) {
        let Some(state) = self.lanes.get(lane.0) else { return };
        for index in &state.partitions {
            let Some(partition) = self.partitions.get_mut(index.0) else { continue };
            if partition.accumulator.is_empty() && partition.window.is_empty() {
                continue;
            }
            partition.last_trouble = Some(cause.to_string());
            // Perhaps somebody else leads now.
            if let Some(topic) = self.topics.get_mut(&partition.topic) {
                topic.stale = true;
                self.effects.refresh = true;
            }
        }
    }

    /// Gives up what is past its delivery time-out.
    pub(crate) fn expire(&mut self, now: Instant) {
        let limit = now.checked_sub(self.config.delivery_timeout);
        for place in 0..self.partitions.len() {
            let index = PartitionIndex(place);
            let Some(partition) = self.partitions.get_mut(place) else { continue };
            let sent = partition.window.expire(now);
            let mut unsent = Vec::new();
            // Order: while an older batch is on its way, it expires first.
            while let Some(batch) = limit.and_then(|limit| partition.accumulator.take_expired(limit)) {
                unsent.push(batch);
            }
            if !sent.is_empty() {
                self.effects.wake.extend(partition.lane);
            }
            for batch in sent {
                let error = self.undelivered(index, Written::Unknown);
                self.settle(batch, Err(error));
            }
            for batch in unsent {
                let error = self.undelivered(index, Written::No);
                self.settle_unsent(batch, error);
            }
            self.move_if_drained(index);
        }
    }

    pub(super) fn name_of(&self, index: PartitionIndex) -> (Arc<str>, u32) {
        let partition = self.partitions.get(index.0);
        partition.map_or_else(|| ("".into(), 0), |partition| (Arc::clone(&partition.topic), partition.number))
    }

    pub(super) fn undelivered(&self, index: PartitionIndex, written: Written) -> ClientError {
        let (topic, partition) = self.name_of(index);
        let trouble = self.partitions.get(index.0).and_then(|partition| partition.last_trouble.clone());
        let cause = trouble.unwrap_or_else(|| "the broker has not answered".to_owned());
        ClientError::Delivery { topic, partition, written, cause }
    }

    pub(super) fn settle_unsent(&mut self, batch: PendingBatch, error: ClientError) {
        let batch = Departing {
            id: BatchId(u64::MAX),
            records: batch.builder.record_count(),
            deadline: batch.created,
            completion: batch.completion,
            buffered_bytes: batch.buffered_bytes,
        };
        self.settle(batch, Err(error));
    }

    pub(super) fn settle(&mut self, batch: Departing, outcome: Outcome) {
        self.buffered_bytes = self.buffered_bytes.saturating_sub(batch.buffered_bytes);
        match &outcome {
            Ok(_) => self.counters.records_delivered += u64::from(batch.records),
            Err(error) => {
                self.counters.records_failed += u64::from(batch.records);
                self.failure.get_or_insert_with(|| error.clone());
            }
        }
        self.effects.done.push((batch.completion, outcome));
    }
}

/// Whether the error says that somebody else leads the partition, or that we are behind.
fn is_about_leaders(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::ShuttingDown
    )
}
