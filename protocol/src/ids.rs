//! Identifiers. Each is a newtype so that a broker id can't be passed where an epoch is meant.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id that no object has; stands for "not known".
            pub const NONE: Self = Self([0; 16]);
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                uuid::Uuid::parse_str(text)
                    .map(|id| Self(id.into_bytes()))
                    .map_err(|_| InvalidId(text.chars().take(64).collect()))
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $number:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// The text is not an id of the expected form (a hyphenated UUID).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: expected a UUID such as 018f3c1e-…")]
pub struct InvalidId(String);

uuid_id!(
    /// A topic for its whole life: a topic that is deleted and created again under its name has another id (KIP-516).
    TopicId
);
uuid_id!(
    /// A cluster, drawn when its metadata log is made.
    ClusterId
);
uuid_id!(
    /// A data directory, drawn when it is formatted. A disk that comes back empty has another one (LOG-10).
    DirectoryId
);
uuid_id!(
    /// One run of a broker process.
    IncarnationId
);
number_id!(
    /// A broker, for ever the same across its restarts.
    BrokerId, u32
);
number_id!(
    /// One registration of a broker with the cluster; each start gets a higher one.
    BrokerEpoch, u64
);
number_id!(
    /// A reign of a partition's leader. Higher means newer; stamped into every batch (KIP-101).
    LeaderEpoch, i32
);
number_id!(
    /// Counts changes of a partition's leader, ISR or replicas; the compare-and-set token of such changes.
    PartitionEpoch, u32
);
number_id!(
    /// A deployed processor, for ever the same across redeployments of its name until it is deleted.
    ProcessorNumber, u32
);

/// A partition of a topic, by the topic's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number in the topic, from 0.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// SHA-256 of a module's bytes: the module's identity. Names and versions point at it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModuleDigest(pub [u8; 32]);

impl fmt::Display for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ModuleDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.chars().take(80).collect());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let mut digest = [0; 32];
        for (place, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *place = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(digest))
    }
}

/// The text is not a module digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a module digest: expected 64 hexadecimal digits")]
pub struct InvalidDigest(String);

/// An ordinary idempotent producer's id, or a task's: which rules apply follows from the number alone (STEP-9).
///
/// Task ids have bit 62 set:
///
/// ```text
/// 63      62   61..38               37..18           17..0
/// 0       1    processor number     task index       generation
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ProducerId(pub i64);

/// A task's producer identity as its [`ProducerId`] carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TaskProducer {
    /// The processor, below 2^24.
    pub processor: ProcessorNumber,
    /// The task: the changelog partition it lives with, below 2^20.
    pub task: u32,
    /// Counts resets of the processor (STEP-16), below 2^18.
    pub generation: u32,
}

impl ProducerId {
    /// "No producer id": the batch is not idempotent.
    pub const NONE: Self = Self(-1);
    const TASK_BIT: i64 = 1 << 62;

    /// Whether the id lies in the range reserved for tasks.
    pub fn is_task(self) -> bool {
        self.0 >= Self::TASK_BIT
    }

    /// The task that the id names, if it lies in the reserved range.
    pub fn task(self) -> Option<TaskProducer> {
        self.is_task().then_some(TaskProducer {
            processor: ProcessorNumber(((self.0 >> 38) & 0xff_ffff) as u32),
            task: ((self.0 >> 18) & 0xf_ffff) as u32,
            generation: (self.0 & 0x3_ffff) as u32,
        })
    }
}

impl TaskProducer {
    /// Processors, tasks and generations that an id has room for.
    pub const PROCESSORS_MAX: u32 = 1 << 24;
    /// See [`Self::PROCESSORS_MAX`].
    pub const TASKS_MAX: u32 = 1 << 20;
    /// See [`Self::PROCESSORS_MAX`].
    pub const GENERATIONS_MAX: u32 = 1 << 18;

    /// The producer id of this task, or `None` when one of the numbers has outgrown its bits.
    pub fn producer_id(self) -> Option<ProducerId> {
        let fits = self.processor.0 < Self::PROCESSORS_MAX
            && self.task < Self::TASKS_MAX
            && self.generation < Self::GENERATIONS_MAX;
        fits.then(|| {
            let bits = i64::from(self.processor.0) << 38 | i64::from(self.task) << 18 | i64::from(self.generation);
            ProducerId(ProducerId::TASK_BIT | bits)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_producer_survives_the_way_through_its_id() {
        let task = TaskProducer { processor: ProcessorNumber(0xab_cdef), task: 0xf_0001, generation: 0x2_0003 };
        let id = task.producer_id().unwrap();
        assert!(id.is_task() && id.0 > 0);
        assert_eq!(id.task(), Some(task));
        assert!(!ProducerId(ProducerId::TASK_BIT - 1).is_task());
        assert!(!ProducerId::NONE.is_task());
    }

    #[test]
    fn numbers_that_outgrow_their_bits_have_no_id() {
        let task = TaskProducer { processor: ProcessorNumber(1), task: TaskProducer::TASKS_MAX, generation: 0 };
        assert_eq!(task.producer_id(), None);
    }

    #[test]
    fn digests_and_ids_parse_what_they_print() {
        let digest = ModuleDigest([0xa5; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("xyz".parse::<ModuleDigest>().is_err());
        assert!("é".repeat(32).parse::<ModuleDigest>().is_err());
        let topic = TopicId([7; 16]);
        assert_eq!(topic.to_string().parse(), Ok(topic));
    }
}
