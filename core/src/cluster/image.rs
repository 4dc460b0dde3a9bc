//! What the metadata records add up to.

use super::errors::ErrorHandling;
use super::record::{ModuleAdded, ModuleReference, ReplicaAssignment, ShadowDeployed};
use super::{MetadataIndex, TopicSettings};
use headwater_protocol::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, ModuleDigest, PartitionEpoch,
    ProcessorNumber, TopicId, TopicPartition,
};
use headwater_protocol::messages::cluster::{BrokerMetadata, PartitionMetadata, TopicMetadata};
use headwater_protocol::messages::module::ModuleDescription;
use headwater_protocol::messages::processor::ProcessorLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The cluster's metadata after some number of batches. Cloning copies a few pointers; a clone never changes when the
/// original goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterImage {
    pub(super) index: MetadataIndex,
    pub(super) cluster: Option<ClusterId>,
    pub(super) brokers: Arc<BTreeMap<BrokerId, Arc<BrokerImage>>>,
    pub(super) topics: Arc<BTreeMap<TopicId, Arc<TopicImage>>>,
    pub(super) topic_names: Arc<BTreeMap<Arc<str>, TopicId>>,
    /// By name; the versions in the order in which they were uploaded.
    pub(super) modules: Arc<BTreeMap<Arc<str>, Vec<Arc<ModuleImage>>>>,
    pub(super) processors: Arc<BTreeMap<ProcessorNumber, Arc<ProcessorImage>>>,
    pub(super) processor_names: Arc<BTreeMap<Arc<str>, ProcessorNumber>>,
    pub(super) partitions: usize,
    pub(super) next_broker_epoch: BrokerEpoch,
    pub(super) next_processor: ProcessorNumber,
    pub(super) next_producer_id: i64,
}

/// Whether a broker runs, as far as metadata knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokerState {
    /// Registered; it may have died since.
    Registered,
    /// Ended in order.
    Stopped,
}

/// A broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerImage {
    /// Its id.
    pub id: BrokerId,
    /// Its newest registration.
    pub epoch: BrokerEpoch,
    /// The run that registered.
    pub incarnation: IncarnationId,
    /// Its data directories.
    pub directories: Vec<DirectoryId>,
    /// Where clients and peers reach it: host and port.
    pub address: String,
    /// Whether it runs.
    pub state: BrokerState,
}

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicImage {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is the broker's own (a changelog).
    pub internal: bool,
    /// Its settings.
    pub settings: TopicSettings,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionImage>,
}

impl TopicImage {
    /// Replicas of the partition that has the fewest.
    pub fn replication_factor(&self) -> u16 {
        let replicas = self.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or(0);
        u16::try_from(replicas).unwrap_or(u16::MAX)
    }
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionImage {
    /// Its leader, if it has one.
    pub leader: Option<BrokerId>,
    /// The leader's reign.
    pub leader_epoch: LeaderEpoch,
    /// Version of leader, in-sync set and replicas.
    pub partition_epoch: PartitionEpoch,
    /// Where its replicas lie, the preferred leader first.
    pub replicas: Vec<ReplicaAssignment>,
    /// Brokers whose replica is in sync.
    pub isr: Vec<BrokerId>,
}

/// A module under a name and a version.
pub type ModuleImage = ModuleAdded;

/// A processor, as last deployed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessorImage {
    /// Its number.
    pub number: ProcessorNumber,
    /// Its name.
    pub name: Arc<str>,
    /// Counts deployments, from 1.
    pub revision: u32,
    /// Counts resets, from 0.
    pub generation: u32,
    /// What runs.
    pub module: ModuleReference,
    /// Topics it reads; the first is the anchor.
    pub inputs: Vec<TopicId>,
    /// Topics it writes.
    pub outputs: Vec<TopicId>,
    /// Its state stores' names.
    pub stores: Vec<String>,
    /// (name, value) pairs for the guest.
    pub settings: Vec<(String, String)>,
    /// Limits of each task.
    pub limits: ProcessorLimits,
    /// For each input, for each partition: the offset at which a task without a commit begins.
    pub from: Vec<Vec<i64>>,
    /// The changelog topic, one partition a task.
    pub changelog: TopicId,
    /// What becomes of a record that can't be processed.
    pub errors: ErrorHandling,
    /// What ran before, for a rollback.
    pub previous: Option<Arc<DeploymentImage>>,
    /// What runs beside it, for comparison.
    pub shadow: Option<Arc<ShadowDeployed>>,
    /// Whether an operator paused it.
    pub paused: bool,
}

/// What of a deployment can change from one to the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeploymentImage {
    /// What ran.
    pub module: ModuleReference,
    /// Topics it wrote.
    pub outputs: Vec<TopicId>,
    /// (name, value) pairs for the guest.
    pub settings: Vec<(String, String)>,
    /// Limits of each task.
    pub limits: ProcessorLimits,
    /// What became of a record that could not be processed.
    pub errors: ErrorHandling,
}

impl ProcessorImage {
    /// How many tasks it has: partitions of its changelog, and of each input.
    pub fn tasks(&self) -> u32 {
        self.from.first().map_or(0, |partitions| u32::try_from(partitions.len()).unwrap_or(u32::MAX))
    }

    /// Whether it reads, writes or keeps its state in `topic`.
    pub fn uses(&self, topic: TopicId) -> bool {
        self.changelog == topic
            || self.inputs.contains(&topic)
            || self.outputs.contains(&topic)
            || self.errors.dead_letters() == Some(topic)
    }

    /// Whether it, or its shadow, runs a module.
    pub fn runs(&self, module: &ModuleReference) -> bool {
        self.module == *module || self.shadow.as_ref().is_some_and(|shadow| shadow.module == *module)
    }

    /// The processor as its shadow runs it, if there is one.
    pub fn shadowing(&self) -> Option<Self> {
        let shadow = self.shadow.as_ref()?;
        Some(Self {
            module: shadow.module.clone(),
            settings: shadow.settings.clone(),
            limits: shadow.limits,
            shadow: None,
            ..self.clone()
        })
    }

    /// What runs, as a rollback needs it.
    pub fn deployment(&self) -> DeploymentImage {
        DeploymentImage {
            module: self.module.clone(),
            outputs: self.outputs.clone(),
            settings: self.settings.clone(),
            limits: self.limits,
            errors: self.errors,
        }
    }
}

impl ModuleReference {
    /// `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

impl ModuleAdded {
    /// As clients see it.
    pub fn describe(&self) -> ModuleDescription {
        ModuleDescription {
            name: self.name.clone(),
            version: self.version.clone(),
            digest: self.digest,
            size_bytes: self.size_bytes,
            world: self.world.clone(),
            imports: self.imports.clone(),
            uploaded_at: self.uploaded_at,
        }
    }

    /// What a deployment records of it.
    pub fn reference(&self) -> ModuleReference {
        ModuleReference { digest: self.digest, name: self.name.clone(), version: self.version.clone() }
    }
}

impl BrokerImage {
    /// As clients see it.
    pub fn describe(&self) -> BrokerMetadata {
        BrokerMetadata { id: self.id, address: self.address.clone() }
    }
}

impl TopicImage {
    /// How many partitions it has.
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    /// A partition.
    pub fn partition(&self, number: u32) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(number).ok()?)
    }

    /// As clients see it.
    pub fn describe(&self) -> TopicMetadata {
        TopicMetadata {
            name: self.name.as_ref().to_owned(),
            id: self.id,
            internal: self.internal,
            partitions: self.partitions.iter().map(PartitionImage::describe).collect(),
            settings: self.settings.describe(),
        }
    }
}

impl PartitionImage {
    /// As clients see it.
    pub fn describe(&self) -> PartitionMetadata {
        PartitionMetadata {
            leader: self.leader,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            replicas: self.replicas.iter().map(|replica| replica.broker).collect(),
            isr: self.isr.clone(),
        }
    }
}

impl ClusterImage {
    /// How many batches were applied.
    pub fn index(&self) -> MetadataIndex {
        self.index
    }

    /// The cluster, or [`ClusterId::NONE`] before the first batch.
    pub fn cluster(&self) -> ClusterId {
        self.cluster.unwrap_or(ClusterId::NONE)
    }

    /// The first producer id that nobody has (IDP-7).
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// A broker.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// Every broker, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// A topic by id.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// A topic by name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_names.get(name)?)
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topic_names.values().filter_map(|id| self.topics.get(id))
    }

    /// A partition.
    pub fn partition(&self, partition: TopicPartition) -> Option<&PartitionImage> {
        self.topic(partition.topic)?.partition(partition.partition)
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// Every module by name, then in upload order.
    pub fn modules(&self) -> impl Iterator<Item = &Arc<ModuleImage>> {
        self.modules.values().flatten()
    }

    /// Digests that a module name or a deployment points at: whatever else lies in the module store is garbage.
    pub fn digests(&self) -> BTreeSet<ModuleDigest> {
        let named = self.modules().map(|module| module.digest);
        named.chain(self.processors().map(|processor| processor.module.digest)).collect()
    }

    /// A processor by number.
    pub fn processor(&self, number: ProcessorNumber) -> Option<&Arc<ProcessorImage>> {
        self.processors.get(&number)
    }

    /// A processor by name.
    pub fn processor_by_name(&self, name: &str) -> Option<&Arc<ProcessorImage>> {
        self.processors.get(self.processor_names.get(name)?)
    }

    /// Every processor, by name.
    pub fn processors(&self) -> impl Iterator<Item = &Arc<ProcessorImage>> {
        self.processor_names.values().filter_map(|number| self.processors.get(number))
    }

    /// The processor whose changelog `topic` is: such a topic's partitions are
    /// [`PartitionKind::Changelog`](crate::producer::PartitionKind::Changelog).
    pub fn processor_of_changelog(&self, topic: TopicId) -> Option<&Arc<ProcessorImage>> {
        self.processors().find(|processor| processor.changelog == topic)
    }
}
