//! Metadata records as they lie in the metadata log.
//!
//! ```text
//!   ┌─────────┬──────────────────────────────┐
//!   │ version │ postcard of MetadataRecord   │     one record's value
//!   │ 1 B     │ variant number, then fields  │
//!   └─────────┴──────────────────────────────┘
//! ```
//!
//! postcard is positional: a shipped variant never changes and none is removed or moved. A change is a new variant at
//! the end; a change of the encoding itself is a new version. Golden bytes in the tests hold them still.

use headwater_protocol::ids::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, ModuleDigest, ProcessorNumber, TopicId,
};
use headwater_protocol::messages::processor::ProcessorLimits;
use serde::{Deserialize, Serialize};

/// One change of the cluster's metadata.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MetadataRecord {
    /// First record of every metadata log.
    ClusterCreated {
        /// The cluster's id.
        cluster: ClusterId,
    },
    /// A broker began a new run. Its former reigns end: each partition it leads gets a new leader epoch.
    BrokerRegistered {
        /// The broker.
        broker: BrokerId,
        /// Its registration, higher than any before in the cluster.
        epoch: BrokerEpoch,
        /// The run.
        incarnation: IncarnationId,
        /// Its data directories.
        directories: Vec<DirectoryId>,
        /// Where clients and peers reach it: host and port.
        address: String,
    },
    /// A broker ended its run in order: all it held is on its disks.
    BrokerStopped {
        /// The broker.
        broker: BrokerId,
        /// The registration that ended.
        epoch: BrokerEpoch,
    },
    /// A broker that holds nothing left for good.
    BrokerUnregistered {
        /// The broker.
        broker: BrokerId,
    },
    /// A topic came to be.
    TopicCreated(TopicCreated),
    /// A topic is gone, with all its partitions.
    TopicDeleted {
        /// The topic.
        topic: TopicId,
    },
    /// Producer ids below `next` are given out (IDP-7).
    ProducerIdsAllotted {
        /// The first id that is still free.
        next: i64,
    },
    /// A module has a name and a version.
    ModuleAdded(ModuleAdded),
    /// A module's name and version are gone.
    ModuleDeleted {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// A processor was deployed, for the first time or again.
    ProcessorDeployed(ProcessorDeployed),
    /// An operator paused or resumed a processor.
    ProcessorPaused {
        /// The processor.
        processor: ProcessorNumber,
        /// Whether it is paused now.
        paused: bool,
    },
    /// A processor is gone.
    ProcessorDeleted {
        /// The processor.
        processor: ProcessorNumber,
    },
    /// A topic's settings changed.
    TopicAltered {
        /// The topic.
        topic: TopicId,
        /// (name, value) of all settings that the topic sets itself from now on.
        settings: Vec<(String, String)>,
    },
    /// What becomes of records that a processor can't process; follows its deployment in the same batch. Without it
    /// the default stands.
    ProcessorErrorsSet {
        /// The processor.
        processor: ProcessorNumber,
        /// How often such a record is tried again.
        retries: u32,
        /// What happens then.
        then: ErrorEnd,
    },
    /// Other code runs beside a processor's, or no longer. The next deployment ends it.
    ProcessorShadowed {
        /// The processor.
        processor: ProcessorNumber,
        /// What runs beside it.
        shadow: Option<ShadowDeployed>,
    },
}

/// Code that runs beside what is deployed, for comparison.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShadowDeployed {
    /// What runs.
    pub module: ModuleReference,
    /// (name, value) pairs for the guest.
    pub settings: Vec<(String, String)>,
    /// Limits of each task.
    pub limits: ProcessorLimits,
}

/// What happens to a record that failed once too often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ErrorEnd {
    /// The task stops in front of it.
    Fail,
    /// It is left out.
    Skip,
    /// It is left out and written to this topic.
    DeadLetter(TopicId),
}

/// A new topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicCreated {
    /// Its id, never used before.
    pub topic: TopicId,
    /// Its name.
    pub name: String,
    /// Whether it is the broker's own (a changelog).
    pub internal: bool,
    /// For each partition its replicas, the preferred leader first. All begin in sync.
    pub partitions: Vec<Vec<ReplicaAssignment>>,
    /// (name, value) of the settings that the topic sets itself.
    pub settings: Vec<(String, String)>,
}

/// Where a replica lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ReplicaAssignment {
    /// The broker.
    pub broker: BrokerId,
    /// Its data directory.
    pub directory: DirectoryId,
}

/// A module under a name and a version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModuleAdded {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its bytes, which lie in the content-addressed store.
    pub digest: ModuleDigest,
    /// Bytes of the component.
    pub size_bytes: u64,
    /// The world it targets, such as `headwater:module/processor@0.1.0`.
    pub world: String,
    /// The interfaces it imports.
    pub imports: Vec<String>,
    /// When it was uploaded, ms since the Unix epoch.
    pub uploaded_at: i64,
}

/// Which module a deployment runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModuleReference {
    /// The module's identity.
    pub digest: ModuleDigest,
    /// Name under which it was found.
    pub name: String,
    /// Version under which it was found.
    pub version: String,
}

/// A deployment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessorDeployed {
    /// The processor; the same for each deployment of its name.
    pub processor: ProcessorNumber,
    /// Its name.
    pub name: String,
    /// Counts deployments, from 1.
    pub revision: u32,
    /// Counts resets, from 0 (STEP-16).
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
}

/// A metadata record could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Disk: nothing is there.
    #[error("damaged metadata log: a record is empty")]
    Empty,
    /// A later broker wrote it.
    #[error("the metadata log has a record of version {0}, this broker reads {VERSION}: it was written by a later one")]
    Version(
        /// The version in front.
        u8,
    ),
    /// Disk, or a later broker: the bytes are no record that this broker knows.
    #[error("the metadata log has a record that this broker can't read: damage, or a later broker wrote it")]
    Unreadable,
}

/// The encoding that [`MetadataRecord::encode`] writes.
const VERSION: u8 = 0;

impl MetadataRecord {
    /// Version byte, then postcard.
    #[expect(clippy::expect_used, reason = "derived types into a growing vector: nothing there can fail")]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION])
            .expect("a metadata record has no map and no sequence of unknown length")
    }

    /// The record in `bytes`, all of them.
    ///
    /// # Errors
    /// [`RecordError`] for anything that [`Self::encode`] did not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (version, record) = bytes.split_first().ok_or(RecordError::Empty)?;
        if *version != VERSION {
            return Err(RecordError::Version(*version));
        }
        match postcard::take_from_bytes(record) {
            Ok((record, [])) => Ok(record),
            Ok(_) | Err(_) => Err(RecordError::Unreadable),
        }
    }
}
