//! From records to image.

use super::errors::ErrorHandling;
use super::image::{BrokerImage, BrokerState, ModuleImage, PartitionImage, ProcessorImage, TopicImage};
use super::record::{MetadataRecord, ProcessorDeployed, ReplicaAssignment, ShadowDeployed, TopicCreated};
use super::{ClusterImage, MetadataIndex, TopicSettings};
use headwater_protocol::ids::{
    BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, PartitionEpoch, ProcessorNumber, TopicId,
};
use std::sync::Arc;

/// A record does not fit the image: the metadata log is damaged, or whoever proposed it did not decide on this image.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApplyError {
    /// Not the first record, or the first one is missing.
    #[error("metadata: cluster {0} is created in a log that has a cluster, or something came before it")]
    Cluster(ClusterId),
    /// A registration that is not newer than all before, or of a broker that can't be.
    #[error("metadata: broker {broker} registers with epoch {epoch}, the next one is {next}")]
    BrokerEpoch {
        /// The broker.
        broker: BrokerId,
        /// The epoch in the record.
        epoch: BrokerEpoch,
        /// The lowest that would do.
        next: BrokerEpoch,
    },
    /// A broker that is not registered (or not in this epoch).
    #[error("metadata: broker {0} is not registered so")]
    UnknownBroker(BrokerId),
    /// A broker that still holds partitions.
    #[error("metadata: broker {0} goes while it holds partitions")]
    BrokerInUse(BrokerId),
    /// A topic that is there already, by id or by name.
    #[error("metadata: topic {name:?} ({id}) is there already")]
    TopicExists {
        /// Its id.
        id: TopicId,
        /// Its name.
        name: String,
    },
    /// A topic whose settings or replicas make no sense.
    #[error("metadata: topic {name:?} can't be: {why}")]
    InvalidTopic {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A topic that is not there.
    #[error("metadata: topic {0} is not there")]
    UnknownTopic(TopicId),
    /// Producer ids would be given out twice (IDP-7).
    #[error("metadata: producer ids go back to {next}, {free} was free")]
    ProducerIds {
        /// First free id in the record.
        next: i64,
        /// First free id before it.
        free: i64,
    },
    /// A module's name and version that are there already.
    #[error("metadata: module {0} is there already")]
    ModuleExists(String),
    /// A module's name and version that are not there.
    #[error("metadata: module {0} is not there")]
    UnknownModule(String),
    /// A processor that is not there.
    #[error("metadata: processor number {0} is not there")]
    UnknownProcessor(ProcessorNumber),
    /// A deployment that does not follow the one before it.
    #[error("metadata: processor {name:?} can't be deployed so: {why}")]
    InvalidProcessor {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An epoch has no next one.
    #[error("metadata: the epochs of a partition of topic {0} have run out")]
    EpochsExhausted(TopicId),
}

impl ClusterImage {
    /// Applies one committed metadata batch, all of it or, on an error, nothing. The same batches in the same order
    /// give the same image everywhere.
    ///
    /// # Errors
    /// [`ApplyError`] when the batch does not fit this image.
    pub fn apply(&mut self, batch: &[MetadataRecord]) -> Result<(), ApplyError> {
        let mut after = self.clone();
        batch.iter().try_for_each(|record| after.apply_record(record))?;
        after.index = MetadataIndex(self.index.0 + 1);
        *self = after;
        Ok(())
    }

    fn apply_record(&mut self, record: &MetadataRecord) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::ClusterCreated { cluster } => self.cluster_created(*cluster),
            MetadataRecord::BrokerRegistered { broker, epoch, incarnation, directories, address } => self
                .broker_registered(BrokerImage {
                    id: *broker,
                    epoch: *epoch,
                    incarnation: *incarnation,
                    directories: directories.clone(),
                    address: address.clone(),
                    state: BrokerState::Registered,
                }),
            MetadataRecord::BrokerStopped { broker, epoch } => self.broker_stopped(*broker, *epoch),
            MetadataRecord::BrokerUnregistered { broker } => self.broker_unregistered(*broker),
            MetadataRecord::TopicCreated(topic) => self.topic_created(topic),
            MetadataRecord::TopicDeleted { topic } => self.topic_deleted(*topic),
            MetadataRecord::ProducerIdsAllotted { next } => self.producer_ids_allotted(*next),
            MetadataRecord::ModuleAdded(module) => self.module_added(module),
            MetadataRecord::ModuleDeleted { name, version } => self.module_deleted(name, version),
            MetadataRecord::ProcessorDeployed(deployed) => self.processor_deployed(deployed),
            MetadataRecord::ProcessorPaused { processor, paused } => self.processor_paused(*processor, *paused),
            MetadataRecord::ProcessorDeleted { processor } => self.processor_deleted(*processor),
            MetadataRecord::TopicAltered { topic, settings } => self.topic_altered(*topic, settings),
            MetadataRecord::ProcessorErrorsSet { processor, retries, then } => {
                self.processor_errors_set(*processor, ErrorHandling { retries: *retries, then: *then })
            }
            MetadataRecord::ProcessorShadowed { processor, shadow } => {
                self.processor_shadowed(*processor, shadow.clone().map(Arc::new))
            }
        }
    }

    fn cluster_created(&mut self, cluster: ClusterId) -> Result<(), ApplyError> {
        if self.cluster.is_some() || self.index != MetadataIndex(0) || cluster == ClusterId::NONE {
            return Err(ApplyError::Cluster(cluster));
        }
        self.cluster = Some(cluster);
        Ok(())
    }

    fn broker_registered(&mut self, broker: BrokerImage) -> Result<(), ApplyError> {
        let (id, epoch, next) = (broker.id, broker.epoch, self.next_broker_epoch);
        let after = epoch.0.checked_add(1).filter(|_| epoch >= next);
        let Some(after) = after else {
            return Err(ApplyError::BrokerEpoch { broker: id, epoch, next });
        };
        self.end_reigns(id)?;
        self.next_broker_epoch = BrokerEpoch(after);
        Arc::make_mut(&mut self.brokers).insert(id, Arc::new(broker));
        Ok(())
    }

    /// What this broker led, it leads anew: whatever of its former run is still under way is of an older epoch. With
    /// more than one broker, fencing takes leadership from it first (REP-10, REP-12), and nothing is left to do here.
    fn end_reigns(&mut self, broker: BrokerId) -> Result<(), ApplyError> {
        let leads = |partition: &PartitionImage| partition.leader == Some(broker);
        let led: Vec<TopicId> =
            self.topics.values().filter(|topic| topic.partitions.iter().any(leads)).map(|topic| topic.id).collect();
        if led.is_empty() {
            return Ok(());
        }
        let topics = Arc::make_mut(&mut self.topics);
        for id in led {
            let Some(topic) = topics.get_mut(&id).map(Arc::make_mut) else { continue };
            for partition in topic.partitions.iter_mut().filter(|partition| leads(partition)) {
                let exhausted = ApplyError::EpochsExhausted(topic.id);
                let (leader_epoch, partition_epoch) = (partition.leader_epoch.0, partition.partition_epoch.0);
                partition.leader_epoch = LeaderEpoch(leader_epoch.checked_add(1).ok_or(exhausted.clone())?);
                partition.partition_epoch = PartitionEpoch(partition_epoch.checked_add(1).ok_or(exhausted)?);
            }
        }
        Ok(())
    }

    fn broker_stopped(&mut self, id: BrokerId, epoch: BrokerEpoch) -> Result<(), ApplyError> {
        match Arc::make_mut(&mut self.brokers).get_mut(&id).filter(|broker| broker.epoch == epoch) {
            Some(broker) => {
                Arc::make_mut(broker).state = BrokerState::Stopped;
                Ok(())
            }
            None => Err(ApplyError::UnknownBroker(id)),
        }
    }

    fn broker_unregistered(&mut self, id: BrokerId) -> Result<(), ApplyError> {
        if self.holds_partitions(id) {
            return Err(ApplyError::BrokerInUse(id));
        }
        Arc::make_mut(&mut self.brokers).remove(&id).map(drop).ok_or(ApplyError::UnknownBroker(id))
    }

    /// Whether a replica of any partition lies on this broker.
    pub(super) fn holds_partitions(&self, broker: BrokerId) -> bool {
        let mut partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions.any(|partition| partition.replicas.iter().any(|replica| replica.broker == broker))
    }

    fn topic_created(&mut self, created: &TopicCreated) -> Result<(), ApplyError> {
        let TopicCreated { topic: id, name, internal, partitions, settings } = created;
        if self.topics.contains_key(id) || self.topic_names.contains_key(name.as_str()) {
            return Err(ApplyError::TopicExists { id: *id, name: name.clone() });
        }
        let invalid = |why: String| ApplyError::InvalidTopic { name: name.clone(), why };
        let replicas = partitions.iter().map(Vec::len).min().unwrap_or(0);
        let replication_factor = u16::try_from(replicas).unwrap_or(u16::MAX);
        let settings = TopicSettings::parse(settings, *internal, replication_factor).map_err(|e| invalid(e.message))?;
        let partitions = partitions.iter().map(|replicas| new_partition(replicas)).collect::<Option<Vec<_>>>();
        let Some(partitions) = partitions.filter(|partitions| !partitions.is_empty() && *id != TopicId::NONE) else {
            return Err(invalid("it has no id, no partitions, or a partition without replicas".to_owned()));
        };
        let name: Arc<str> = Arc::from(name.as_str());
        self.partitions += partitions.len();
        Arc::make_mut(&mut self.topic_names).insert(Arc::clone(&name), *id);
        let topic = TopicImage { id: *id, name, internal: *internal, settings, partitions };
        Arc::make_mut(&mut self.topics).insert(*id, Arc::new(topic));
        Ok(())
    }

    fn topic_altered(&mut self, id: TopicId, settings: &[(String, String)]) -> Result<(), ApplyError> {
        let topic = Arc::make_mut(&mut self.topics).get_mut(&id).ok_or(ApplyError::UnknownTopic(id))?;
        let settings = TopicSettings::parse(settings, topic.internal, topic.replication_factor())
            .map_err(|error| ApplyError::InvalidTopic { name: topic.name.to_string(), why: error.message })?;
        Arc::make_mut(topic).settings = settings;
        Ok(())
    }

    fn topic_deleted(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = Arc::make_mut(&mut self.topics).remove(&id).ok_or(ApplyError::UnknownTopic(id))?;
        Arc::make_mut(&mut self.topic_names).remove(&topic.name);
        self.partitions -= topic.partitions.len();
        Ok(())
    }

    fn producer_ids_allotted(&mut self, next: i64) -> Result<(), ApplyError> {
        let free = self.next_producer_id;
        if next < free {
            return Err(ApplyError::ProducerIds { next, free });
        }
        self.next_producer_id = next;
        Ok(())
    }

    fn module_added(&mut self, module: &ModuleImage) -> Result<(), ApplyError> {
        let versions = Arc::make_mut(&mut self.modules).entry(Arc::from(module.name.as_str())).or_default();
        if versions.iter().any(|other| other.version == module.version) {
            return Err(ApplyError::ModuleExists(module.reference().label()));
        }
        versions.push(Arc::new(module.clone()));
        Ok(())
    }

    fn module_deleted(&mut self, name: &str, version: &str) -> Result<(), ApplyError> {
        let unknown = || ApplyError::UnknownModule(format!("{name}@{version}"));
        let modules = Arc::make_mut(&mut self.modules);
        let versions = modules.get_mut(name).ok_or_else(unknown)?;
        let place = versions.iter().position(|module| module.version == version).ok_or_else(unknown)?;
        versions.remove(place);
        if versions.is_empty() {
            modules.remove(name);
        }
        Ok(())
    }

    fn processor_deployed(&mut self, deployed: &ProcessorDeployed) -> Result<(), ApplyError> {
        let invalid = |why| ApplyError::InvalidProcessor { name: deployed.name.clone(), why };
        let former = self.processors.get(&deployed.processor);
        match former {
            Some(former) if former.name.as_ref() != deployed.name => {
                return Err(invalid("its number has another name"));
            }
            Some(former) if deployed.revision <= former.revision => return Err(invalid("its revision is not newer")),
            Some(former) if deployed.generation < former.generation => return Err(invalid("its generation is older")),
            Some(_) => {}
            None if deployed.processor < self.next_processor => return Err(invalid("its number was used before")),
            None if self.processor_names.contains_key(deployed.name.as_str()) => {
                return Err(invalid("its name is taken"));
            }
            None => {}
        }
        let paused = former.is_some_and(|former| former.paused);
        let after = deployed.processor.0.checked_add(1).ok_or_else(|| invalid("its number is the last one"))?;
        self.next_processor = self.next_processor.max(ProcessorNumber(after));
        let name: Arc<str> = Arc::from(deployed.name.as_str());
        Arc::make_mut(&mut self.processor_names).insert(Arc::clone(&name), deployed.processor);
        let previous = former.map(|former| Arc::new(former.deployment()));
        let image = Arc::new(ProcessorImage { previous, ..processor_image(deployed, name, paused) });
        Arc::make_mut(&mut self.processors).insert(deployed.processor, image);
        Ok(())
    }

    fn processor_errors_set(&mut self, number: ProcessorNumber, errors: ErrorHandling) -> Result<(), ApplyError> {
        let processor = Arc::make_mut(&mut self.processors).get_mut(&number);
        let processor = processor.ok_or(ApplyError::UnknownProcessor(number))?;
        Arc::make_mut(processor).errors = errors;
        Ok(())
    }

    fn processor_shadowed(
        &mut self,
        number: ProcessorNumber,
        shadow: Option<Arc<ShadowDeployed>>,
    ) -> Result<(), ApplyError> {
        let processor = Arc::make_mut(&mut self.processors).get_mut(&number);
        let processor = processor.ok_or(ApplyError::UnknownProcessor(number))?;
        Arc::make_mut(processor).shadow = shadow;
        Ok(())
    }

    fn processor_paused(&mut self, number: ProcessorNumber, paused: bool) -> Result<(), ApplyError> {
        let processor = Arc::make_mut(&mut self.processors).get_mut(&number);
        let processor = processor.ok_or(ApplyError::UnknownProcessor(number))?;
        Arc::make_mut(processor).paused = paused;
        Ok(())
    }

    fn processor_deleted(&mut self, number: ProcessorNumber) -> Result<(), ApplyError> {
        let processor = Arc::make_mut(&mut self.processors).remove(&number);
        let processor = processor.ok_or(ApplyError::UnknownProcessor(number))?;
        Arc::make_mut(&mut self.processor_names).remove(&processor.name);
        Ok(())
    }
}

/// A partition as it begins: led by its preferred leader, everybody in sync with nothing.
fn new_partition(replicas: &[ReplicaAssignment]) -> Option<PartitionImage> {
    let leader = replicas.first()?.broker;
    Some(PartitionImage {
        leader: Some(leader),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        replicas: replicas.to_vec(),
        isr: replicas.iter().map(|replica| replica.broker).collect(),
    })
}

fn processor_image(deployed: &ProcessorDeployed, name: Arc<str>, paused: bool) -> ProcessorImage {
    ProcessorImage {
        number: deployed.processor,
        name,
        revision: deployed.revision,
        generation: deployed.generation,
        module: deployed.module.clone(),
        inputs: deployed.inputs.clone(),
        outputs: deployed.outputs.clone(),
        stores: deployed.stores.clone(),
        settings: deployed.settings.clone(),
        limits: deployed.limits,
        from: deployed.from.clone(),
        changelog: deployed.changelog,
        errors: ErrorHandling::default(),
        previous: None,
        shadow: None,
        paused,
    }
}
