//! Checking what lies in logs.

use super::{Api, PARTITIONS_PER_REQUEST_MAX, check_count};
use crate::metadata::blocking;
use headwater_log::quarantine::BadRange;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::TopicPartition;
use headwater_protocol::messages::log::{DamagedRange, VerifiedPiece, VerifyLogRequest, VerifyLogResponse};
use std::path::Path;
use std::sync::Arc;

/// The most bytes of a partition that one request has checked: the next one is not far away.
const VERIFY_BYTES_MAX: u32 = 64 << 20;

impl Api {
    /// Reads and checks a piece of each partition.
    pub(crate) async fn verify_log(self: Arc<Self>, request: VerifyLogRequest) -> Result<VerifyLogResponse, ApiError> {
        check_count("partitions", request.partitions.len(), PARTITIONS_PER_REQUEST_MAX)?;
        let bytes_max = u64::from(request.bytes_max.clamp(1, VERIFY_BYTES_MAX));
        blocking(move || {
            let image = self.metadata.image();
            let verify = |(topic, partition, from): &(_, u32, i64)| {
                let id = TopicPartition { topic: *topic, partition: *partition };
                let handle = self.partitions.led(&image, id)?;
                let reader = handle.view().reader();
                let verified = reader
                    .verify(*from, bytes_max)
                    .map_err(|error| ApiError::new(ErrorCode::KafkaStorageError, error.to_string()))?;
                let directory = reader.path();
                Ok(VerifiedPiece {
                    next_offset: verified.next_offset,
                    end_offset: reader.end_offset(),
                    batches: verified.batches,
                    bytes: verified.bytes,
                    damaged: verified.bad.iter().map(|range| damaged(directory, range)).collect(),
                })
            };
            Ok(VerifyLogResponse { partitions: request.partitions.iter().map(verify).collect() })
        })
        .await
    }
}

pub(super) fn damaged(directory: &Path, range: &BadRange) -> DamagedRange {
    DamagedRange {
        file: range.file(directory).display().to_string(),
        position: range.position,
        end_position: range.end_position,
        from: range.from,
        to: range.to,
        reason: range.reason.clone(),
    }
}
