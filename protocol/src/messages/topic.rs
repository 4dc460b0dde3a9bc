//! Topics and the disk they take.

use super::cluster::SettingMetadata;
use super::request;
use crate::error::ApiError;
use crate::ids::{BrokerId, DirectoryId, TopicId};
use serde::{Deserialize, Serialize};

/// Creates topics; each on its own, no all-or-nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateTopicsRequest {
    /// The topics.
    pub topics: Vec<NewTopic>,
    /// Check everything, create nothing.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewTopic {
    /// 1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`.
    pub name: String,
    /// How many partitions; `None` for the broker's default.
    pub partitions: Option<u32>,
    /// How many replicas; `None` for the broker's default.
    pub replication_factor: Option<u16>,
    /// (name, value) of settings that differ from the defaults.
    pub settings: Vec<(String, String)>,
}

/// Answers in the request's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateTopicsResponse {
    /// The id of each topic, or why it was not created.
    pub topics: Vec<Result<CreatedTopic, ApiError>>,
}
request!(CreateTopicsRequest, CreateTopics, 0, CreateTopicsResponse);

/// A topic that exists now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
}

/// Deletes topics by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteTopicsRequest {
    /// The names.
    pub names: Vec<String>,
}

/// Answers in the request's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteTopicsResponse {
    /// The id that is gone, or why the topic was not deleted.
    pub topics: Vec<Result<TopicId, ApiError>>,
}
request!(DeleteTopicsRequest, DeleteTopics, 0, DeleteTopicsResponse);

/// Changes settings of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlterTopicRequest {
    /// The topic.
    pub name: String,
    /// (name, value) of settings to set.
    pub set: Vec<(String, String)>,
    /// Names of settings that get their default back.
    pub delete: Vec<String>,
    /// Check everything, change nothing.
    pub validate_only: bool,
}

/// The topic's settings after the change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlterTopicResponse {
    /// All of them, by name.
    pub settings: Vec<SettingMetadata>,
}
request!(AlterTopicRequest, AlterTopic, 0, AlterTopicResponse);

/// Deletes the oldest records of partitions, each on its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteRecordsRequest {
    /// (topic, partition, offset): records below the offset go; -1 is the high watermark.
    pub partitions: Vec<(TopicId, u32, i64)>,
}

/// Answers in the request's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteRecordsResponse {
    /// Where each partition begins now, durably; or why nothing was deleted.
    pub partitions: Vec<Result<i64, ApiError>>,
}
request!(DeleteRecordsRequest, DeleteRecords, 0, DeleteRecordsResponse);

/// Asks for the size of partitions on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DescribeLogDirsRequest {
    /// Names of topics, or `None` for all (internal ones too).
    pub topics: Option<Vec<String>>,
}

/// The broker's data directories.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DescribeLogDirsResponse {
    /// The broker that answers.
    pub broker: BrokerId,
    /// Its directories.
    pub directories: Vec<LogDirectory>,
}
request!(DescribeLogDirsRequest, DescribeLogDirs, 0, DescribeLogDirsResponse);

/// A data directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogDirectory {
    /// Its path on the broker's machine.
    pub path: String,
    /// Its id.
    pub id: DirectoryId,
    /// Why it takes no more writes, if so (LOG-7).
    pub error: Option<String>,
    /// Partitions in it.
    pub partitions: Vec<LogDirectoryPartition>,
}

/// A partition's share of a data directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogDirectoryPartition {
    /// Name of the topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Bytes of its segments and indexes.
    pub size_bytes: u64,
    /// First offset it has.
    pub log_start_offset: i64,
    /// One past the last offset it has.
    pub log_end_offset: i64,
    /// Number of segments.
    pub segments: u32,
}
