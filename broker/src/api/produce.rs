//! Produce: check every batch to its last record, propose it, answer when it is as safe as asked.

use super::{Api, PARTITIONS_PER_REQUEST_MAX, check_count};
use crate::partition::ProposedBatch;
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use headwater_core::producer::Admission;
use headwater_core::replica::Outcome;
use headwater_protocol::batch::{BatchLimits, ProduceRules, check_produced_batch};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::TopicPartition;
use headwater_protocol::messages::records::{Acks, ProducePartition, ProduceRequest, ProduceResponse, ProducedBatch};
use headwater_transport::BudgetPermit;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest time that a broker waits for `acks`.
const TIMEOUT_MS_MAX: u32 = 300_000;

type Appending = Result<oneshot::Receiver<Outcome>, ApiError>;

impl Api {
    /// Proposes every batch before it returns, so that requests of one stream keep their order; the future waits for
    /// the answers.
    pub(crate) fn produce(
        self: &Arc<Self>,
        request: ProduceRequest,
        body: Bytes,
        permit: BudgetPermit,
    ) -> impl Future<Output = Result<ProduceResponse, ApiError>> + Send + 'static {
        let timeout = Duration::from_millis(u64::from(request.timeout_ms.clamp(1, TIMEOUT_MS_MAX)));
        let appending = self.propose_all(&request, body, permit);
        async move {
            let waiting = appending?.into_iter().map(|appending| answer(appending, timeout));
            Ok(ProduceResponse { partitions: join_all(waiting).await })
        }
    }

    fn propose_all(
        &self,
        request: &ProduceRequest,
        body: Bytes,
        mut permit: BudgetPermit,
    ) -> Result<Vec<Appending>, ApiError> {
        check_count("partitions", request.partitions.len(), PARTITIONS_PER_REQUEST_MAX)?;
        let named: u64 = request.partitions.iter().map(|partition| u64::from(partition.batch_bytes)).sum();
        if named != body.len() as u64 {
            let message = format!("the request names {named} bytes of batches and has {}", body.len());
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        // A frame's body is in a buffer of its own; a caller that shares it pays for a copy.
        let mut body = body.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let body_bytes = body.len();
        let appending = request.partitions.iter().map(|partition| {
            let mut batch = body.split_to(partition.batch_bytes as usize);
            // A batch may stay in memory for readers, and with it the whole buffer that it is a part of: a small one
            // gets a buffer of its own, so that it holds at most twice its bytes.
            if batch.len() < body_bytes / 2 {
                batch = BytesMut::from(&batch[..]);
            }
            self.propose(partition, batch, request.acks, permit.split(partition.batch_bytes))
        });
        Ok(appending.collect())
    }

    fn propose(&self, partition: &ProducePartition, bytes: BytesMut, acks: Acks, permit: BudgetPermit) -> Appending {
        let id = TopicPartition { topic: partition.topic, partition: partition.partition };
        let handle = self.partitions.led(&self.metadata.image(), id)?;
        if handle.is_internal() {
            let message = format!("{} is internal: only its processor writes to it", handle.view().topic_name);
            return Err(ApiError::new(ErrorCode::InternalTopic, message));
        }
        let limits = BatchLimits { batch_bytes_max: handle.batch_bytes_max(), ..BatchLimits::CLIENT };
        let rules = ProduceRules { keys_required: handle.needs_keys(), ..ProduceRules::default() };
        let header = check_produced_batch(&bytes, &limits, &rules)
            .map_err(|error| ApiError::new(error.code(), format!("client: {error}")))?;
        let (told, outcome) = oneshot::channel();
        let reply = Box::new(move |outcome| {
            if told.send(outcome).is_err() {
                tracing::debug!("a produce request was answered after its time-out");
            }
        });
        let admission = Admission::Client;
        handle.propose(ProposedBatch { header, bytes, acks, admission, permit: Some(permit), reply })?;
        Ok(outcome)
    }
}

async fn answer(appending: Appending, timeout: Duration) -> Result<ProducedBatch, ApiError> {
    match tokio::time::timeout(timeout, appending?).await {
        Ok(Ok(Outcome::Appended { base_offset, .. })) => Ok(ProducedBatch { base_offset, duplicate: false }),
        Ok(Ok(Outcome::Duplicate { base_offset })) => Ok(ProducedBatch { base_offset, duplicate: true }),
        Ok(Ok(Outcome::Refused(refusal))) => Err(refusal.into()),
        Ok(Err(_)) => Err(ApiError::new(ErrorCode::ShuttingDown, "the broker is stopping; the batch may be written")),
        Err(_) => {
            let message = format!("not acknowledged within {} ms; it may still be written", timeout.as_millis());
            Err(ApiError::new(ErrorCode::RequestTimedOut, message))
        }
    }
}
