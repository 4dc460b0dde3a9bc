//! An offset never means another record, once it was shown to anybody.

use super::{LoggedRecord, Violation};
use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;

/// What was shown, by partition and offset.
#[derive(Debug, Default)]
pub struct Offsets {
    partitions: BTreeMap<TopicPartition, BTreeMap<i64, u64>>,
}

impl Offsets {
    /// A record was shown (acknowledged, or given to a consumer).
    ///
    /// # Errors
    /// Another one was shown there before.
    pub fn note(&mut self, id: TopicPartition, offset: i64, meaning: u64) -> Result<(), Violation> {
        let known = self.partitions.entry(id).or_default();
        match known.insert(offset, meaning) {
            Some(before) if before != meaning => {
                Err(Violation::new("offsets", format!("{id} offset {offset} was another record before")))
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

    /// Compares with the partition's whole log; what was shown must be there still.
    ///
    /// # Errors
    /// Something is missing, or is something else.
    pub fn check(&self, id: TopicPartition, log: &[LoggedRecord]) -> Result<(), Violation> {
        let Some(known) = self.partitions.get(&id) else { return Ok(()) };
        let mut log = log.iter().peekable();
        for (offset, meaning) in known {
            while log.next_if(|record| record.offset < *offset).is_some() {}
            let there = log.peek().filter(|record| record.offset == *offset);
            if there.is_none_or(|record| record.meaning != *meaning) {
                let what = if there.is_some() { "is another record now" } else { "is gone" };
                return Err(Violation::new("offsets", format!("{id} offset {offset} was shown and {what}")));
            }
        }
        Ok(())
    }
}
