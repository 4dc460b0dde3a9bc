//! Decisions about topics.

use super::names::{Named, check_name, collision_key, did_you_mean};
use super::record::{ReplicaAssignment, TopicCreated};
use super::settings::quoted;
use super::{BrokerImage, BrokerState, ClusterImage, Decision, MetadataRecord, TopicImage, TopicSettings};
use crate::limits;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{DirectoryId, TopicId};
use headwater_protocol::messages::cluster::SettingMetadata;
use headwater_protocol::messages::topic::{AlterTopicRequest, CreatedTopic, NewTopic};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a new topic gets that doesn't say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicDefaults {
    /// Partitions.
    pub partitions: u32,
    /// Replicas; as many as there are brokers if they are fewer.
    pub replication_factor: u16,
}

impl Default for TopicDefaults {
    /// One partition, three replicas (DESIGN §5).
    fn default() -> Self {
        Self { partitions: 1, replication_factor: 3 }
    }
}

/// A topic to create.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateTopic<'a> {
    /// The id it gets, drawn by the caller.
    pub id: TopicId,
    /// What the client asks for.
    pub topic: &'a NewTopic,
    /// For what the client leaves open.
    pub defaults: TopicDefaults,
}

/// Creates a topic.
///
/// # Errors
/// `InvalidTopic`, `TopicAlreadyExists`, `InvalidPartitions`, `InvalidReplicationFactor`, `InvalidConfig`,
/// `UnknownModule`, each with what is wrong and what would be right.
pub fn create_topic(image: &ClusterImage, request: CreateTopic<'_>) -> Result<Decision<CreatedTopic>, ApiError> {
    let CreateTopic { id, topic, defaults } = request;
    check_new_name(image, &topic.name)?;
    let partitions = topic.partitions.unwrap_or(defaults.partitions);
    check_partitions(image, &topic.name, partitions)?;
    let brokers: Vec<&BrokerImage> =
        image.brokers().map(Arc::as_ref).filter(|broker| broker.state == BrokerState::Registered).collect();
    let replication_factor = check_replication_factor(topic.replication_factor, defaults, brokers.len())?;
    let settings = TopicSettings::parse(&topic.settings, false, replication_factor)?;
    check_extractor(image, &settings)?;
    let created = TopicCreated {
        topic: id,
        name: topic.name.clone(),
        internal: false,
        partitions: assign(image, &brokers, partitions, replication_factor),
        settings: settings.overrides(),
    };
    let answer = CreatedTopic { id, partitions };
    Ok(Decision { records: vec![MetadataRecord::TopicCreated(created)], answer })
}

/// Whether a topic may get this name.
pub(super) fn check_new_name(image: &ClusterImage, name: &str) -> Result<(), ApiError> {
    check_name(Named::Topic, name)?;
    if image.topic_by_name(name).is_some() {
        return Err(ApiError::new(ErrorCode::TopicAlreadyExists, format!("topic {name:?} exists already")));
    }
    let collides = |other: &&Arc<str>| other.len() == name.len() && collision_key(other).eq(collision_key(name));
    if name.contains(['.', '_'])
        && let Some(other) = image.topic_names.keys().find(collides)
    {
        let message = format!(
            "topic {name:?} collides with {other:?}: \".\" and \"_\" look the same in metric names; choose another name"
        );
        return Err(ApiError::new(ErrorCode::InvalidTopic, message));
    }
    Ok(())
}

/// Whether the cluster has room for that many partitions more.
pub(super) fn check_partitions(image: &ClusterImage, name: &str, partitions: u32) -> Result<(), ApiError> {
    let error = |message| Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    if partitions == 0 || partitions > limits::PARTITIONS_PER_TOPIC_MAX {
        let max = limits::PARTITIONS_PER_TOPIC_MAX;
        return error(format!("topic {name:?} can't have {partitions} partitions; 1 to {max} are allowed"));
    }
    let after = image.partition_count().saturating_add(partitions as usize);
    if after > limits::PARTITIONS_PER_CLUSTER_MAX {
        let max = limits::PARTITIONS_PER_CLUSTER_MAX;
        return error(format!("the cluster would have {after} partitions; at most {max} are allowed"));
    }
    Ok(())
}

fn check_replication_factor(asked: Option<u16>, defaults: TopicDefaults, brokers: usize) -> Result<u16, ApiError> {
    let brokers = u16::try_from(brokers).unwrap_or(u16::MAX);
    let highest = brokers.min(limits::REPLICATION_FACTOR_MAX);
    let error = |message| Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
    match asked {
        _ if brokers == 0 => error("no broker is there to hold the topic".to_owned()),
        None => Ok(defaults.replication_factor.clamp(1, highest)),
        Some(asked) if (1..=highest).contains(&asked) => Ok(asked),
        Some(asked) => error(format!(
            "a replication factor of {asked} is not possible: it is 1 to {highest} with {brokers} broker(s) there"
        )),
    }
}

/// Spreads replicas: leaders over brokers in turn, followers on the brokers after it, each on its broker's emptiest
/// directory.
fn assign(
    image: &ClusterImage,
    brokers: &[&BrokerImage],
    partitions: u32,
    replication_factor: u16,
) -> Vec<Vec<ReplicaAssignment>> {
    let mut loads = directory_loads(image, brokers);
    let first = image.partition_count();
    let place = |partition: usize, replica: usize| brokers.get((first + partition + replica) % brokers.len().max(1));
    let mut replica_of = |partition: usize, replica: usize| {
        let broker = place(partition, replica)?;
        let load = |directory: &&DirectoryId| loads.get(directory).copied().unwrap_or(0);
        let directory = *broker.directories.iter().min_by_key(load)?;
        *loads.entry(directory).or_default() += 1;
        Some(ReplicaAssignment { broker: broker.id, directory })
    };
    let replicas = usize::from(replication_factor);
    (0..partitions as usize)
        .map(|partition| (0..replicas).filter_map(|replica| replica_of(partition, replica)).collect())
        .collect()
}

/// Replicas in each directory, if any broker has a choice.
fn directory_loads(image: &ClusterImage, brokers: &[&BrokerImage]) -> BTreeMap<DirectoryId, usize> {
    let mut loads = BTreeMap::new();
    if brokers.iter().any(|broker| broker.directories.len() > 1) {
        let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
        for replica in partitions.flat_map(|partition| &partition.replicas) {
            *loads.entry(replica.directory).or_default() += 1;
        }
    }
    loads
}

/// Deletes a topic, with everything in it.
///
/// # Errors
/// `UnknownTopicOrPartition`, `InternalTopic`, `TopicInUse` (naming the processors that use it).
pub fn delete_topic(image: &ClusterImage, name: &str) -> Result<Decision<TopicId>, ApiError> {
    let topic = image.find_topic(name)?;
    if let Some(owner) = image.processor_of_changelog(topic.id) {
        let owner = &owner.name;
        let message = format!("topic {name:?} holds the state of processor {owner:?}; it goes with that processor");
        return Err(ApiError::new(ErrorCode::InternalTopic, message));
    }
    if topic.internal {
        let message = format!("topic {name:?} is internal; clients can't delete it");
        return Err(ApiError::new(ErrorCode::InternalTopic, message));
    }
    let users = image.processors().filter(|processor| processor.uses(topic.id));
    let users: Vec<String> = users.map(|processor| format!("{:?}", processor.name)).collect();
    if !users.is_empty() {
        let users = users.join(", ");
        let message = format!("topic {name:?} is used by processor {users}; delete that first");
        return Err(ApiError::new(ErrorCode::TopicInUse, message));
    }
    Ok(Decision { records: vec![MetadataRecord::TopicDeleted { topic: topic.id }], answer: topic.id })
}

/// Whether there is such a key extractor, if one is asked for.
fn check_extractor(image: &ClusterImage, settings: &TopicSettings) -> Result<(), ApiError> {
    let Some(extractor) = &settings.compaction.key_extractor else { return Ok(()) };
    let module = image.resolve_module(&extractor.module)?;
    if module.is_key_extractor() {
        return Ok(());
    }
    let message = format!(
        "compaction.key.extractor={}: the module is of world {}; upload one of headwater:module/key-extractor",
        extractor.module, module.world
    );
    Err(ApiError::new(ErrorCode::InvalidConfig, message))
}

/// Changes settings of a topic: sets some, gives others their default back. Answers with the settings it then has.
///
/// # Errors
/// `UnknownTopicOrPartition`; `InternalTopic`; `UnknownModule`; `InvalidConfig` with what is wrong and what would be
/// right. Then nothing changes.
pub fn alter_topic(
    image: &ClusterImage,
    request: &AlterTopicRequest,
) -> Result<Decision<Vec<SettingMetadata>>, ApiError> {
    let topic = image.find_topic(&request.name)?;
    if topic.internal {
        let message = format!("topic {:?} is internal; its settings are the broker's", topic.name);
        return Err(ApiError::new(ErrorCode::InternalTopic, message));
    }
    let AlterTopicRequest { set, delete, .. } = request;
    let settings = topic.settings.altered(set, delete, topic.internal, topic.replication_factor())?;
    check_extractor(image, &settings)?;
    let answer = settings.describe();
    if settings == topic.settings || request.validate_only {
        return Ok(Decision { records: Vec::new(), answer });
    }
    let record = MetadataRecord::TopicAltered { topic: topic.id, settings: settings.overrides() };
    Ok(Decision { records: vec![record], answer })
}

impl ClusterImage {
    /// The topic of a name.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, with the name that was probably meant.
    pub fn find_topic(&self, name: &str) -> Result<&Arc<TopicImage>, ApiError> {
        self.topic_by_name(name).ok_or_else(|| {
            let visible = self.topics().filter(|topic| !topic.internal);
            let meant = did_you_mean(name, visible.map(|topic| topic.name.as_ref()));
            let message = format!("there is no topic {:?}{meant}", quoted(name));
            ApiError::new(ErrorCode::UnknownTopicOrPartition, message)
        })
    }
}
