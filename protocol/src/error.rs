//! Error codes on the wire. Kafka's numbers where Kafka has the error; ours start at 1000.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal),+ $(,)?) => {
        /// What went wrong, as a stable number.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(from = "i16", into = "i16")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
            /// A code of a newer peer.
            Other(i16),
        }

        impl From<i16> for ErrorCode {
            fn from(number: i16) -> Self {
                match number { $($number => Self::$name,)+ other => Self::Other(other) }
            }
        }

        impl From<ErrorCode> for i16 {
            fn from(code: ErrorCode) -> i16 {
                match code { $(ErrorCode::$name => $number,)+ ErrorCode::Other(other) => other }
            }
        }

        impl ErrorCode {
            /// Every code this version knows, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }

        impl fmt::Display for ErrorCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str(stringify!($name)),)+
                    Self::Other(number) => write!(f, "Error{number}"),
                }
            }
        }
    };
}

error_codes! {
    /// Us: a broker's own failure; its log has the details.
    UnknownServerError = -1,
    /// Client: the offset is not (or no longer) in the partition.
    OffsetOutOfRange = 1,
    /// Client or disk: a batch fails its checksum or its structure.
    CorruptMessage = 2,
    /// Client: no such topic or partition here.
    UnknownTopicOrPartition = 3,
    /// Peer: this broker does not lead the partition; ask for metadata again.
    NotLeaderOrFollower = 6,
    /// The time-out passed before the answer was known; what was asked may still happen.
    RequestTimedOut = 7,
    /// Client: a record or batch is over the topic's limit.
    MessageTooLarge = 10,
    /// Client: the topic's name is not allowed.
    InvalidTopic = 17,
    /// Too few replicas are in sync to accept the write.
    NotEnoughReplicas = 19,
    /// Too few replicas were in sync after the write; it may still commit.
    NotEnoughReplicasAfterAppend = 20,
    /// Client: not allowed.
    TopicAuthorizationFailed = 29,
    /// Client: not allowed.
    ClusterAuthorizationFailed = 31,
    /// Client: the broker doesn't speak this version of the request.
    UnsupportedVersion = 35,
    /// Client: the topic is there already.
    TopicAlreadyExists = 36,
    /// Client: partition count out of range.
    InvalidPartitions = 37,
    /// Client: replication factor out of range.
    InvalidReplicationFactor = 38,
    /// Client: a setting is unknown or out of range.
    InvalidConfig = 40,
    /// Client: the request makes no sense as sent.
    InvalidRequest = 42,
    /// Client: a sequence number leaves a hole (IDP-3).
    OutOfOrderSequenceNumber = 45,
    /// Client: a newer instance of this producer exists (IDP-3).
    InvalidProducerEpoch = 47,
    /// Disk: the data directory failed (LOG-7).
    KafkaStorageError = 56,
    /// Peer: the request carries an older leader epoch than ours (TRN-4).
    FencedLeaderEpoch = 74,
    /// Peer: the request carries a newer leader epoch than ours (TRN-4).
    UnknownLeaderEpoch = 75,
    /// Client: compression that this broker doesn't read.
    UnsupportedCompressionType = 76,
    /// Client: a record breaks a rule of the topic.
    InvalidRecord = 87,
    /// Client: the topic id is not (or no longer) known.
    UnknownTopicId = 100,

    /// A task's records leave a hole or start inside what is there; the reply names the number expected (STEP-9).
    Expect = 1000,
    /// A newer generation or epoch of this task wrote here (STEP-9).
    Fenced = 1001,
    /// Client: the module is not one this broker can run; the message says why.
    InvalidModule = 1010,
    /// Client: no such module.
    UnknownModule = 1011,
    /// Client: the module is in use and can't be deleted.
    ModuleInUse = 1012,
    /// Client: no such processor.
    UnknownProcessor = 1020,
    /// Client: the deployment makes no sense; the message says why.
    InvalidProcessor = 1021,
    /// Client: the topic is internal and not writable by clients.
    InternalTopic = 1022,
    /// Client: the topic is in use by a processor.
    TopicInUse = 1023,
    /// Us: a limit of this broker is reached; try again later.
    Busy = 1030,
    /// Us: the broker is stopping; try another.
    ShuttingDown = 1031,
    /// Client: the request is larger than this broker takes.
    RequestTooLarge = 1032,
    /// Disk: no space is left; nothing was written.
    DiskFull = 1033,
}

impl ErrorCode {
    /// Whether the same request may succeed when sent again, after new metadata or a pause.
    pub fn is_retriable(self) -> bool {
        matches!(
            self,
            Self::NotLeaderOrFollower
                | Self::RequestTimedOut
                | Self::NotEnoughReplicas
                | Self::NotEnoughReplicasAfterAppend
                | Self::UnknownLeaderEpoch
                | Self::FencedLeaderEpoch
                | Self::Busy
                | Self::ShuttingDown
                | Self::DiskFull
        )
    }
}

/// An error as it travels: a stable code and a sentence for a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: names the culprit and what to do.
    pub message: String,
}

impl ApiError {
    /// An error of `code` that says `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_distinct_and_survive_the_way_through_i16() {
        let numbers: BTreeSet<i16> = ErrorCode::ALL.iter().map(|code| i16::from(*code)).collect();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from(i16::from(*code)), *code);
        }
        assert_eq!(ErrorCode::from(12_345), ErrorCode::Other(12_345));
    }
}
