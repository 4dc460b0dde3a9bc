//! What was acknowledged survives as its topic's durability promises (LOG-1, reliability §1.5): `fsync` any crash, `os`
//! the death of the process.

use super::{LoggedRecord, Violation};
use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;

const RULE: &str = "acknowledged";

/// What was acknowledged, by partition and offset: (meaning, number).
#[derive(Debug, Default)]
pub struct Acknowledged {
    partitions: BTreeMap<TopicPartition, BTreeMap<i64, (u64, u64)>>,
}

impl Acknowledged {
    /// A record of meaning `meaning` was acknowledged at `offset`.
    ///
    /// # Errors
    /// Another one was acknowledged there.
    pub fn note(&mut self, id: TopicPartition, offset: i64, meaning: u64, number: u64) -> Result<(), Violation> {
        match self.partitions.entry(id).or_default().insert(offset, (meaning, number)) {
            Some((_, other)) if other != number => {
                let found = format!("records #{other} and #{number} were both acknowledged at {id} offset {offset}");
                Err(Violation::new(RULE, found))
            }
            _ => Ok(()),
        }
    }

    /// Power was cut: what lies at or above `end` of a partition of durability `os` was not promised.
    pub fn may_lose(&mut self, id: TopicPartition, end: i64) {
        if let Some(known) = self.partitions.get_mut(&id) {
            drop(known.split_off(&end));
        }
    }

    /// The partition is deleted.
    pub fn forget(&mut self, id: TopicPartition) {
        self.partitions.remove(&id);
    }

    /// Partitions of which something was acknowledged.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions.iter().filter(|(_, known)| !known.is_empty()).map(|(id, _)| *id)
    }

    /// The partition is not there at all.
    #[must_use]
    pub fn gone(id: TopicPartition) -> Violation {
        Violation::new(RULE, format!("{id} is gone, with all that was acknowledged"))
    }

    /// Compares with the partition's whole log.
    ///
    /// # Errors
    /// Something is missing, or is something else.
    pub fn check(&self, id: TopicPartition, log: &[LoggedRecord]) -> Result<(), Violation> {
        let Some(known) = self.partitions.get(&id) else { return Ok(()) };
        let mut log = log.iter().peekable();
        for (offset, (meaning, number)) in known {
            while log.next_if(|record| record.offset < *offset).is_some() {}
            match log.peek().filter(|record| record.offset == *offset) {
                Some(record) if record.meaning == *meaning => {}
                Some(record) => {
                    let there = record.number;
                    let found = format!("#{number} was acknowledged at {id} offset {offset}, {there:?} is there");
                    return Err(Violation::new(RULE, found));
                }
                None => {
                    let found = format!("#{number} was acknowledged at {id} offset {offset} and is gone");
                    return Err(Violation::new(RULE, found));
                }
            }
        }
        Ok(())
    }
}
