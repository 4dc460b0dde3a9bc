//! What lies in a partition's log: checked batch by batch.

use super::request;
use crate::error::ApiError;
use crate::ids::TopicId;
use serde::{Deserialize, Serialize};

/// Has batches of partitions read and checked, a piece at a time: whoever asks goes on where an answer ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifyLogRequest {
    /// (topic, partition, offset): from the batch that holds the offset on.
    pub partitions: Vec<(TopicId, u32, i64)>,
    /// About how many bytes of each to check.
    pub bytes_max: u32,
}

/// Answers in the request's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifyLogResponse {
    /// What was found, or why nothing was looked at.
    pub partitions: Vec<Result<VerifiedPiece, ApiError>>,
}
request!(VerifyLogRequest, VerifyLog, 0, VerifyLogResponse);

/// What was found in a piece of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifiedPiece {
    /// Where to go on; the log's end when that was all.
    pub next_offset: i64,
    /// The log's end.
    pub end_offset: i64,
    /// Batches that are as they were written.
    pub batches: u64,
    /// Bytes that were looked at.
    pub bytes: u64,
    /// What is not as it was written. It is in quarantine and not served (LOG-3).
    pub damaged: Vec<DamagedRange>,
}

/// Offsets whose bytes are not what was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DamagedRange {
    /// The segment's file on the broker's machine.
    pub file: String,
    /// The first bad byte.
    pub position: u64,
    /// The first byte behind.
    pub end_position: u64,
    /// The first offset that can't be had.
    pub from: i64,
    /// The next one that can.
    pub to: i64,
    /// What is wrong.
    pub reason: String,
}
