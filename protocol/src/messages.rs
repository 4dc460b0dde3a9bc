//! Requests and responses: one frozen struct per (api, version), encoded with postcard in a frame's header.
//!
//! postcard is positional: a field can't be added to a struct that has shipped. A change is a new version beside the
//! old one; golden bytes in the tests hold each shipped struct still. Record batches and module bytes never lie in
//! these structs: they travel raw in the frame's body, and the struct says how many bytes belong to whom.

pub mod cluster;
pub mod log;
pub mod module;
pub mod processor;
pub mod records;
pub mod topic;

#[cfg(test)]
mod golden;

use crate::error::ApiError;
use serde::{Serialize, de::DeserializeOwned};

/// What is asked; the first field of a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum ApiKey {
    /// First on every connection: version ranges and identities.
    Hello = 0,
    /// Appends record batches.
    Produce = 1,
    /// Reads record batches.
    Fetch = 2,
    /// Offsets by timestamp, earliest, latest.
    ListOffsets = 3,
    /// Topics, partitions, leaders.
    Metadata = 4,
    /// A producer id for an idempotent producer.
    InitProducerId = 5,
    /// Creates topics.
    CreateTopics = 10,
    /// Deletes topics.
    DeleteTopics = 11,
    /// Sizes of partitions in data directories.
    DescribeLogDirs = 12,
    /// Changes settings of a topic.
    AlterTopic = 13,
    /// Moves the start of partitions.
    DeleteRecords = 14,
    /// Reads and checks what lies in partitions' logs.
    VerifyLog = 15,
    /// What partitions' logs are made of, and how they are cleaned.
    DescribeLog = 16,
    /// Stores a module.
    UploadModule = 20,
    /// Names, versions and digests.
    ListModules = 21,
    /// One module.
    DescribeModule = 22,
    /// Forgets a module.
    DeleteModule = 23,
    /// Starts a processor, or swaps its module.
    DeployProcessor = 30,
    /// Processors and their state.
    ListProcessors = 31,
    /// One processor, task by task.
    DescribeProcessor = 32,
    /// Pauses or resumes a processor.
    SetProcessorPaused = 33,
    /// Ends a processor and deletes its state.
    DeleteProcessor = 34,
    /// Lines that a processor's guests logged.
    ProcessorLogs = 35,
    /// Brings back a processor's former deployment.
    RollbackProcessor = 38,
    /// Ends the shadow of a processor.
    EndShadow = 39,
}

impl ApiKey {
    /// Every api with the versions this code speaks, lowest and highest.
    pub const SUPPORTED: &[(Self, u16, u16)] = &[
        (Self::Hello, 0, 0),
        (Self::Produce, 0, 0),
        (Self::Fetch, 0, 0),
        (Self::ListOffsets, 0, 0),
        (Self::Metadata, 0, 0),
        (Self::InitProducerId, 0, 0),
        (Self::CreateTopics, 0, 0),
        (Self::DeleteTopics, 0, 0),
        (Self::DescribeLogDirs, 0, 0),
        (Self::AlterTopic, 0, 0),
        (Self::DeleteRecords, 0, 0),
        (Self::VerifyLog, 0, 0),
        (Self::DescribeLog, 0, 0),
        (Self::UploadModule, 0, 0),
        (Self::ListModules, 0, 0),
        (Self::DescribeModule, 0, 0),
        (Self::DeleteModule, 0, 0),
        (Self::DeployProcessor, 1, 1),
        (Self::ListProcessors, 0, 0),
        (Self::DescribeProcessor, 1, 1),
        (Self::SetProcessorPaused, 0, 0),
        (Self::DeleteProcessor, 0, 0),
        (Self::ProcessorLogs, 0, 0),
        (Self::RollbackProcessor, 0, 0),
        (Self::EndShadow, 0, 0),
    ];

    /// The api of a number, if this code knows it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::SUPPORTED.iter().map(|(key, ..)| *key).find(|key| *key as u16 == number)
    }
}

/// A request struct: which api and version it is, and what answers it.
pub trait Request: Serialize + DeserializeOwned {
    /// The api.
    const API: ApiKey;
    /// The version that this very struct is.
    const VERSION: u16;
    /// What a broker answers when it could do what was asked. On the wire it is a [`Reply`] of this.
    type Response: Serialize + DeserializeOwned;
}

/// The header of every response frame.
pub type Reply<T> = Result<T, ApiError>;

/// Implements [`Request`].
macro_rules! request {
    ($request:ty, $api:ident, $version:literal, $response:ty) => {
        impl $crate::messages::Request for $request {
            const API: $crate::messages::ApiKey = $crate::messages::ApiKey::$api;
            const VERSION: u16 = $version;
            type Response = $response;
        }
    };
}
pub(crate) use request;
