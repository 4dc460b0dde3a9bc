//! What lies in a partition's log: checked batch by batch, or described segment by segment.

use super::request;
use crate::error::ApiError;
use crate::ids::{ModuleDigest, TopicId};
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

/// Asks what partitions' logs are made of, so many segments at a time: whoever asks goes on where an answer ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DescribeLogRequest {
    /// (topic, partition, offset): from the segment that holds the offset on.
    pub partitions: Vec<(TopicId, u32, i64)>,
    /// The most segments of all of them together that are wanted; a broker may give fewer, but one of each.
    pub segments_max: u32,
}

/// Answers in the request's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DescribeLogResponse {
    /// What there is, or why nothing is known.
    pub partitions: Vec<Result<LogDescription, ApiError>>,
}
request!(DescribeLogRequest, DescribeLog, 0, DescribeLogResponse);

/// What a partition's log is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogDescription {
    /// The partition's directory on the broker's machine.
    pub directory: String,
    /// The reign of its leader.
    pub leader_epoch: i32,
    /// The first offset that there is.
    pub log_start_offset: i64,
    /// The offset that the next record gets.
    pub log_end_offset: i64,
    /// Below it everything is committed and can be read.
    pub high_watermark: i64,
    /// Below it everything is known to be synced.
    pub recovery_point: i64,
    /// Bytes of all segments, without their indexes.
    pub size_bytes: u64,
    /// How many segments there are.
    pub segment_count: u32,
    /// Those that this answer is about, in order.
    pub segments: Vec<SegmentDescription>,
    /// Where to go on; `None` when these were the last segments.
    pub next_offset: Option<i64>,
    /// What of these segments is in quarantine and not served (LOG-3), in order: the first so many ranges.
    pub quarantined: Vec<DamagedRange>,
    /// How many such ranges there are.
    pub quarantined_count: u32,
    /// Offsets at which snapshots of producers' numbers are kept, rising.
    pub snapshots: Vec<i64>,
    /// How it is compacted, if it is.
    pub compaction: Option<CompactionDescription>,
}

/// One segment of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SegmentDescription {
    /// Its first offset, after which its file is named.
    pub base_offset: i64,
    /// The first offset behind it.
    pub next_offset: i64,
    /// Bytes of its batches.
    pub size_bytes: u64,
    /// How many of them are known to be synced.
    pub synced_bytes: u64,
    /// Bytes that its two indexes take: in their files, or in memory while it grows.
    pub index_bytes: u64,
    /// The timestamp of its first record, ms since the Unix epoch.
    pub first_timestamp: Option<i64>,
    /// The largest timestamp of its records, ms since the Unix epoch.
    pub max_timestamp: Option<i64>,
    /// Whether it grows no more.
    pub is_sealed: bool,
}

/// How a log is compacted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CompactionDescription {
    /// What says which key a record has.
    pub key: KeySource,
    /// Below it everything was cleaned by today's source of keys.
    pub cleaned_below: i64,
    /// What the cleaner's checkpoint says, by whatever source of keys; 0 without one.
    pub checkpoint: i64,
    /// Up to here it can be cleaned now.
    pub cleanable_below: i64,
    /// Bytes of segments that were cleaned.
    pub clean_bytes: u64,
    /// Bytes of segments that can be cleaned and were not.
    pub dirty_bytes: u64,
    /// Bytes of segments that can't be cleaned yet.
    pub uncleanable_bytes: u64,
    /// Whether it is dirty enough, or dirty for long enough, to be cleaned.
    pub is_due: bool,
    /// The last cleaning since the broker started.
    pub last: Option<CleaningDescription>,
    /// Why it is not cleaned any more, until the key extractor or its settings change.
    pub stopped: Option<String>,
    /// Why the last try to clean it failed; there will be another one.
    pub delayed: Option<String>,
}

/// What says which key a record has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KeySource {
    /// The record itself.
    Record,
    /// The commits of a task: its changelog.
    Changelog,
    /// A module.
    Extractor {
        /// As the topic names it.
        module: String,
        /// Which one that is now; `None` if there is none.
        digest: Option<ModuleDigest>,
        /// What it is given.
        settings: Vec<(String, String)>,
    },
}

/// What a cleaning did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CleaningDescription {
    /// When it ended, ms since the Unix epoch.
    pub ended_at: i64,
    /// How long it took, ms.
    pub took_ms: u64,
    /// How often keys had to be gathered, because they did not fit the memory at once.
    pub passes: u32,
    /// Bytes of the log before it.
    pub bytes_before: u64,
    /// Bytes of the log after it.
    pub bytes_after: u64,
}
