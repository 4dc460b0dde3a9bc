//! A cluster of one broker to decide on, and one file a kind of decision.

mod brokers;
mod modules;
mod processors;
mod random;
mod records;
mod settings;
mod topics;

use super::*;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, ModuleDigest, TopicId};
use headwater_protocol::messages::processor::{
    DeployProcessorRequest, ErrorPolicy, OnError, ProcessorLimits, StartFrom,
};
use headwater_protocol::messages::topic::NewTopic;
use std::collections::BTreeMap;

const BROKER: BrokerId = BrokerId(1);
const DIRECTORY: DirectoryId = DirectoryId([1; 16]);

/// A topic id that a test can tell apart.
fn topic_id(number: u8) -> TopicId {
    TopicId([number; 16])
}

/// An image, every batch that made it, and a check after each.
#[derive(Default)]
struct Cluster {
    image: ClusterImage,
    batches: Vec<Vec<MetadataRecord>>,
    next_id: u8,
}

impl Cluster {
    /// A cluster with a broker.
    fn new() -> Self {
        let mut cluster = Self::default();
        cluster.commit(create_cluster(&cluster.image, ClusterId([7; 16])).unwrap());
        cluster.register(1);
        cluster
    }

    /// What a metadata log does: commits a decision's records and applies them.
    fn commit<T>(&mut self, decision: Decision<T>) -> T {
        if !decision.records.is_empty() {
            self.image.apply(&decision.records).expect("what was decided on an image fits it");
            self.batches.push(decision.records);
        }
        assert_eq!(self.image.invariants(), Ok(()));
        assert_eq!(self.image.index(), MetadataIndex(self.batches.len() as u64));
        decision.answer
    }

    fn register(&mut self, incarnation: u8) -> BrokerEpoch {
        self.commit(register_broker(&self.image, &registration(incarnation)).unwrap())
    }

    fn fresh_id(&mut self) -> TopicId {
        self.next_id += 1;
        topic_id(self.next_id)
    }

    fn create_topic(&mut self, name: &str, partitions: u32) -> Result<TopicId, ApiError> {
        let id = self.fresh_id();
        let topic = new_topic(name, partitions, &[]);
        let request = CreateTopic { id, topic: &topic, defaults: TopicDefaults::default() };
        let decision = create_topic(&self.image, request)?;
        Ok(self.commit(decision).id)
    }

    fn add_module(&mut self, name: &str, version: Option<&str>, digest: u8) -> Result<String, ApiError> {
        let decision = add_module(&self.image, module(name, version, digest))?;
        Ok(self.commit(decision).version)
    }

    fn delete_module(&mut self, reference: &str) -> Result<usize, ApiError> {
        let decision = delete_module(&self.image, reference)?;
        Ok(self.commit(decision).len())
    }

    fn delete_topic(&mut self, name: &str) -> Result<TopicId, ApiError> {
        let decision = delete_topic(&self.image, name)?;
        Ok(self.commit(decision))
    }

    /// Deploys with every input begun at offset 10 + its partition.
    fn deploy(&mut self, request: &DeployProcessorRequest) -> Result<Deployed, ApiError> {
        let changelog = self.fresh_id();
        let partitions = self.image.start_partitions(request);
        let starts: BTreeMap<_, _> = partitions.into_iter().map(|at| (at, 10 + i64::from(at.partition))).collect();
        let decision = deploy_processor(&self.image, DeployProcessor { request, starts: &starts, changelog })?;
        Ok(self.commit(decision))
    }

    /// The image that the batches give when they are applied again, from their bytes.
    fn replayed(&self) -> ClusterImage {
        let mut image = ClusterImage::default();
        for batch in &self.batches {
            let decoded = batch.iter().map(|record| MetadataRecord::decode(&record.encode()).unwrap());
            image.apply(&decoded.collect::<Vec<_>>()).unwrap();
        }
        image
    }
}

fn registration(incarnation: u8) -> RegisterBroker {
    RegisterBroker {
        broker: BROKER,
        incarnation: IncarnationId([incarnation; 16]),
        directories: vec![DIRECTORY],
        address: "localhost:9094".to_owned(),
    }
}

fn new_topic(name: &str, partitions: u32, settings: &[(&str, &str)]) -> NewTopic {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    NewTopic { name: name.to_owned(), partitions: Some(partitions), replication_factor: None, settings }
}

fn module(name: &str, version: Option<&str>, digest: u8) -> AddModule {
    AddModule {
        name: name.to_owned(),
        version: version.map(str::to_owned),
        digest: ModuleDigest([digest; 32]),
        size_bytes: 1234,
        world: "headwater:module/processor@0.1.0".to_owned(),
        imports: vec!["headwater:module/state@0.1.0".to_owned()],
        uploaded_at: 99,
    }
}

fn deployment(name: &str, module: &str, inputs: &[&str], outputs: &[&str]) -> DeployProcessorRequest {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    DeployProcessorRequest {
        name: name.to_owned(),
        module: module.to_owned(),
        inputs: owned(inputs),
        outputs: owned(outputs),
        stores: vec!["counts".to_owned()],
        settings: vec![("separator".to_owned(), " ".to_owned())],
        from: StartFrom::Earliest,
        limits: ProcessorLimits::default(),
        errors: ErrorPolicy::default(),
        shadow: false,
    }
}

/// The error's code; its message must say all of `says`.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, code: ErrorCode, says: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    for text in says {
        assert!(error.message.contains(text), "{:?} does not say {text:?}", error.message);
    }
}
