//! Offsets by timestamp, earliest, latest.

use super::{Api, PARTITIONS_PER_REQUEST_MAX, check_count};
use crate::metadata::blocking;
use crate::partition::PartitionView;
use headwater_log::{LogError, TimestampedOffset};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::TopicPartition;
use headwater_protocol::messages::records::{FoundOffset, ListOffsetsRequest, ListOffsetsResponse, OffsetSpec};
use std::sync::Arc;

impl Api {
    /// Looks up offsets below the high watermark.
    pub(crate) async fn list_offsets(
        self: Arc<Self>,
        request: ListOffsetsRequest,
    ) -> Result<ListOffsetsResponse, ApiError> {
        check_count("partitions", request.partitions.len(), PARTITIONS_PER_REQUEST_MAX)?;
        blocking(move || {
            let image = self.metadata.image();
            let found = request.partitions.iter().map(|(topic, partition, spec)| {
                let id = TopicPartition { topic: *topic, partition: *partition };
                let partition = self.partitions.led(&image, id)?;
                find(partition.view(), *spec)
                    .map_err(|error| ApiError::new(ErrorCode::KafkaStorageError, error.to_string()))
            });
            Ok(ListOffsetsResponse { partitions: found.collect() })
        })
        .await
    }
}

fn find(view: &PartitionView, spec: OffsetSpec) -> Result<FoundOffset, LogError> {
    let of_record = |found: Option<TimestampedOffset>| FoundOffset {
        offset: found.map(|found| found.offset),
        timestamp: found.map(|found| found.timestamp),
    };
    Ok(match spec {
        OffsetSpec::Earliest => FoundOffset { offset: Some(view.log_start_offset()), timestamp: None },
        OffsetSpec::Latest => FoundOffset { offset: Some(view.high_watermark()), timestamp: None },
        OffsetSpec::AtOrAfter(timestamp) => {
            of_record(view.reader().offset_for_timestamp(timestamp, view.high_watermark())?)
        }
        OffsetSpec::MaxTimestamp => of_record(view.reader().max_timestamp(view.high_watermark())?),
    })
}
