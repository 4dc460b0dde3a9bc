//! Hello and metadata.

use super::request;
use crate::ids::{BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, PartitionEpoch, TopicId};
use serde::{Deserialize, Serialize};

/// First request on every connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HelloRequest {
    /// Who calls, for logs: program name and version, at most `client_name_bytes_max` bytes.
    pub client: String,
    /// (api, lowest version, highest version) that the caller speaks.
    pub versions: Vec<(u16, u16, u16)>,
}

/// The broker's side of [`HelloRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HelloResponse {
    /// Program name and version.
    pub broker: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// This broker.
    pub id: BrokerId,
    /// This broker's registration.
    pub epoch: BrokerEpoch,
    /// (api, lowest version, highest version) that the broker speaks.
    pub versions: Vec<(u16, u16, u16)>,
}
request!(HelloRequest, Hello, 0, HelloResponse);

/// Asks for topics.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MetadataRequest {
    /// Names to look up, or `None` for all topics.
    pub topics: Option<Vec<String>>,
    /// Whether "all topics" includes internal ones (changelogs).
    pub include_internal: bool,
}

/// The cluster as this broker knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MetadataResponse {
    /// The cluster.
    pub cluster: ClusterId,
    /// Brokers that are registered.
    pub brokers: Vec<BrokerMetadata>,
    /// The topics found; a name that was asked for and is not here does not exist.
    pub topics: Vec<TopicMetadata>,
}
request!(MetadataRequest, Metadata, 0, MetadataResponse);

/// A registered broker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BrokerMetadata {
    /// Its id.
    pub id: BrokerId,
    /// Where clients reach it: host and port.
    pub address: String,
}

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Whether it is the broker's own (a changelog).
    pub internal: bool,
    /// Its partitions, by number from 0.
    pub partitions: Vec<PartitionMetadata>,
    /// Every setting that applies, in name order.
    pub settings: Vec<SettingMetadata>,
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionMetadata {
    /// Its leader, if it has one.
    pub leader: Option<BrokerId>,
    /// The leader's reign.
    pub leader_epoch: LeaderEpoch,
    /// Version of leader, ISR and replicas.
    pub partition_epoch: PartitionEpoch,
    /// Brokers that hold it, preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of `replicas` that are in sync.
    pub isr: Vec<BrokerId>,
}

/// A topic setting and where its value comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SettingMetadata {
    /// Name, as in `headwater topic create --config name=value`.
    pub name: String,
    /// Value as text.
    pub value: String,
    /// Whether the topic sets it itself; otherwise it is the default.
    pub set_on_topic: bool,
}
