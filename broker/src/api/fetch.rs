//! Fetch: committed batches, as soon as there are enough of them.

use super::{Api, PARTITIONS_PER_REQUEST_MAX, check_count};
use crate::metadata::blocking;
use crate::metrics as names;
use crate::partition::{PartitionHandle, PartitionView};
use bytes::Bytes;
use futures_util::future::select_all;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::TopicPartition;
use headwater_protocol::messages::records::{FetchPartition, FetchRequest, FetchResponse, FetchedPartition};
use headwater_transport::BudgetPermit;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest time that a fetch waits.
const WAIT_MS_MAX: u32 = 60_000;
/// Bytes of batches in one answer, whatever the client asks for.
const FETCH_BYTES_MAX: usize = 15 << 20;

type Found = Result<Arc<PartitionHandle>, ApiError>;

impl Api {
    /// Reads; waits for `min_bytes` as long as the request allows and nothing went wrong.
    pub(crate) async fn fetch(
        self: Arc<Self>,
        request: FetchRequest,
    ) -> Result<(FetchResponse, Vec<Bytes>, BudgetPermit), ApiError> {
        check_count("partitions", request.partitions.len(), PARTITIONS_PER_REQUEST_MAX)?;
        let deadline = Instant::now() + Duration::from_millis(u64::from(request.wait_ms.min(WAIT_MS_MAX)));
        let request = Arc::new(request);
        loop {
            let found: Vec<Found> = request.partitions.iter().map(|partition| self.find(partition)).collect();
            // Subscribed before the read: what is committed while we read wakes us.
            let mut news: Vec<_> =
                found.iter().flatten().map(|partition| partition.view().watch_high_watermark()).collect();
            news.iter_mut().for_each(|news| drop(news.borrow_and_update()));
            // Taken for the largest answer before anything is read, given back down to what there was.
            let mut permit = self.response_permit(&request).await?;
            let (response, batches) = read(Arc::clone(&request), found).await?;
            let bytes: usize = batches.iter().map(Bytes::len).sum();
            let failed = response.partitions.iter().any(Result::is_err);
            let enough = bytes >= request.min_bytes as usize || failed || news.is_empty();
            if enough || Instant::now() >= deadline {
                metrics::counter!(names::FETCHED_BYTES).increment(bytes as u64);
                let taken = permit.split(u32::try_from(bytes).unwrap_or(u32::MAX).min(permit.bytes()));
                return Ok((response, batches, taken));
            }
            drop(permit);
            let changed = select_all(news.iter_mut().map(|news| Box::pin(news.changed())));
            // Time over or partition closed: read once more and answer what there is.
            drop(timeout_at(deadline, changed).await);
        }
    }

    async fn response_permit(&self, request: &FetchRequest) -> Result<BudgetPermit, ApiError> {
        let bytes = request.max_bytes.min(FETCH_BYTES_MAX as u32);
        self.response_budget.take(bytes).await.map_err(|error| ApiError::new(ErrorCode::Busy, error.to_string()))
    }

    fn find(&self, asked: &FetchPartition) -> Found {
        let id = TopicPartition { topic: asked.topic, partition: asked.partition };
        let partition = self.partitions.led(&self.metadata.image(), id)?;
        let ours = partition.view().leader_epoch;
        match asked.leader_epoch {
            // TRN-4
            Some(theirs) if theirs < ours => {
                Err(ApiError::new(ErrorCode::FencedLeaderEpoch, format!("leader epoch {theirs} is over; it is {ours}")))
            }
            Some(theirs) if theirs > ours => {
                let message = format!("leader epoch {theirs} is not known here yet; it is {ours}");
                Err(ApiError::new(ErrorCode::UnknownLeaderEpoch, message))
            }
            _ => Ok(partition),
        }
    }
}

/// Reads all partitions of a request on a thread that may block.
async fn read(request: Arc<FetchRequest>, found: Vec<Found>) -> Result<(FetchResponse, Vec<Bytes>), ApiError> {
    blocking(move || {
        let mut left = FETCH_BYTES_MAX.min(request.max_bytes as usize);
        let (mut batches, mut partitions) = (Vec::new(), Vec::new());
        for (asked, found) in request.partitions.iter().zip(found) {
            let outcome = found.and_then(|partition| read_partition(partition.view(), asked, left, batches.is_empty()));
            partitions.push(outcome.map(|(fetched, bytes)| {
                left = left.saturating_sub(bytes.len());
                if !bytes.is_empty() {
                    batches.push(bytes);
                }
                fetched
            }));
        }
        Ok((FetchResponse { partitions }, batches))
    })
    .await
}

fn read_partition(
    view: &PartitionView,
    asked: &FetchPartition,
    left: usize,
    first: bool,
) -> Result<(FetchedPartition, Bytes), ApiError> {
    let (log_start_offset, high_watermark) = (view.log_start_offset(), view.high_watermark());
    if asked.offset < log_start_offset || asked.offset > view.reader().end_offset() {
        let message = format!(
            "{}-{} has offsets {log_start_offset} to {high_watermark}; {} was asked for",
            view.topic_name, asked.partition, asked.offset
        );
        return Err(ApiError::new(ErrorCode::OffsetOutOfRange, message));
    }
    let bytes_max = left.min(asked.max_bytes as usize);
    // The first batch of an answer is sent whatever its size (KIP-74); later ones only if they fit.
    let readable = asked.offset < high_watermark && (first || bytes_max > 0);
    let mut bytes = Bytes::new();
    if readable {
        bytes = view.read_committed(asked.offset, bytes_max.max(1)).map_err(|error| {
            tracing::error!(partition = %view.id, %error, "a read failed");
            ApiError::new(ErrorCode::KafkaStorageError, error.to_string())
        })?;
        if !first && bytes.len() > bytes_max {
            bytes = Bytes::new();
        }
    }
    let batches_bytes = bytes.len() as u32;
    Ok((FetchedPartition { log_start_offset, high_watermark, batches_bytes }, bytes))
}
