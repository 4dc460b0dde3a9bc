//! The data path: produce, fetch, offsets, producer ids.

use super::request;
use crate::error::ApiError;
use crate::ids::{LeaderEpoch, ProducerId, TopicId};
use serde::{Deserialize, Serialize};

/// When a produce request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Acks {
    /// Never: the request has no response.
    None,
    /// When the leader holds the batch as the topic's `durability` asks (LOG-1).
    Leader,
    /// When the batch is below the high watermark.
    All,
}

/// Appends batches. The frame's body is the partitions' batches in the order of `partitions`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProduceRequest {
    /// When to answer.
    pub acks: Acks,
    /// How long the broker waits for `acks` before it answers "timed out", in milliseconds.
    pub timeout_ms: u32,
    /// What to append where.
    pub partitions: Vec<ProducePartition>,
}

/// One partition's share of a produce request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducePartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: u32,
    /// How many bytes of the body are this partition's: exactly one record batch (magic 2).
    pub batch_bytes: u32,
}

/// Answers partition by partition, in the request's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProduceResponse {
    /// One outcome a partition.
    pub partitions: Vec<Result<ProducedBatch, ApiError>>,
}
request!(ProduceRequest, Produce, 0, ProduceResponse);

/// A batch that is in the log as `acks` asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducedBatch {
    /// Offset of the batch's first record.
    pub base_offset: i64,
    /// Whether it was there already: a retry (IDP-2).
    pub duplicate: bool,
}

/// Reads from partitions. Answered when `min_bytes` are there, or after `wait_ms`, or at once on an error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchRequest {
    /// How long the broker may wait for `min_bytes`, in milliseconds.
    pub wait_ms: u32,
    /// Bytes worth answering for.
    pub min_bytes: u32,
    /// Bytes of batches in the answer; a first batch that is larger is sent all the same.
    pub max_bytes: u32,
    /// What to read.
    pub partitions: Vec<FetchPartition>,
}

/// One partition to read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: u32,
    /// First offset wanted. The first batch of the answer may begin below it.
    pub offset: i64,
    /// Bytes of batches for this partition.
    pub max_bytes: u32,
    /// The leader epoch that the reader believes in, if any (TRN-4).
    pub leader_epoch: Option<LeaderEpoch>,
}

/// Batches, in the frame's body in the order of `partitions`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchResponse {
    /// One outcome a partition, in the request's order.
    pub partitions: Vec<Result<FetchedPartition, ApiError>>,
}
request!(FetchRequest, Fetch, 0, FetchResponse);

/// What was read of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchedPartition {
    /// First offset that the partition still has.
    pub log_start_offset: i64,
    /// Offsets below it are committed; nothing at or above it is served.
    pub high_watermark: i64,
    /// How many bytes of the body are this partition's: whole batches.
    pub batches_bytes: u32,
}

/// Which offset is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// First record whose timestamp is at or after this one, ms since the Unix epoch.
    AtOrAfter(i64),
    /// The record with the highest timestamp (KIP-734).
    MaxTimestamp,
}

/// Looks up offsets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListOffsetsRequest {
    /// (topic, partition, which offset).
    pub partitions: Vec<(TopicId, u32, OffsetSpec)>,
}

/// Answers in the request's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListOffsetsResponse {
    /// One outcome a partition.
    pub partitions: Vec<Result<FoundOffset, ApiError>>,
}
request!(ListOffsetsRequest, ListOffsets, 0, ListOffsetsResponse);

/// An offset that was looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FoundOffset {
    /// The offset, or `None` when no record has such a timestamp.
    pub offset: Option<i64>,
    /// Timestamp of that record, ms since the Unix epoch, if a record was looked for.
    pub timestamp: Option<i64>,
}

/// Asks for a fresh producer id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InitProducerIdRequest {}

/// A producer id nobody else has (IDP-7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InitProducerIdResponse {
    /// The id.
    pub producer_id: ProducerId,
    /// Its epoch, 0.
    pub producer_epoch: i16,
}
request!(InitProducerIdRequest, InitProducerId, 0, InitProducerIdResponse);
