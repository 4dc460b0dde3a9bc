//! The cluster's metadata: a log of records, and the image that they add up to.
//!
//! ```text
//!   admin's request ─► decision (topics, modules, processors, brokers) ◄── ClusterImage
//!                          │                                                    ▲
//!                          │ Vec<MetadataRecord>, or an ApiError that says why  │ apply
//!                          ▼                                                    │
//!                     MetadataLog: propose ──── committed, all or none ─────────┘
//! ```
//!
//! A decision is a pure function of a request and an image. What it returns is one *metadata batch*: committed and
//! applied as a whole or not at all, and only onto the very image it was decided on (compare-and-set on
//! [`MetadataIndex`]). Changes are committed before anybody acts on them (RAFT-5). Applying is deterministic, so every
//! broker that has applied the same batches has the same image (RAFT-6).
//!
//! Randomness stays outside: whoever asks for a decision brings the new topic's id and the time.

mod apply;
mod brokers;
mod errors;
mod image;
mod invariants;
mod log;
mod modules;
mod names;
mod processors;
mod record;
mod rollback;
mod settings;
mod shadow;
#[cfg(test)]
mod tests;
mod topics;

pub use apply::ApplyError;
pub use brokers::{RegisterBroker, register_broker, stop_broker, unregister_broker};
pub use errors::ErrorHandling;
pub use image::{
    BrokerImage, BrokerState, ClusterImage, DeploymentImage, ModuleImage, PartitionImage, ProcessorImage, TopicImage,
};
pub use log::{Decision, MetadataIndex, MetadataLog, ProposeError, allot_producer_ids, create_cluster};
pub use modules::{AddModule, add_module, delete_module};
pub use processors::{
    DeletedProcessor, DeployProcessor, Deployed, delete_processor, deploy_processor, set_processor_paused,
};
pub use record::{
    ErrorEnd, MetadataRecord, ModuleAdded, ModuleReference, ProcessorDeployed, RecordError, ReplicaAssignment,
    TopicCreated,
};
pub use rollback::{RolledBack, rollback_processor};
pub use settings::{CleanupPolicy, CompactionSettings, DirtyRatio, Durability, KeyExtractor, TopicSettings};
pub use shadow::{end_shadow, shadow_processor};
pub use topics::{CreateTopic, TopicDefaults, alter_topic, create_topic, delete_topic};
