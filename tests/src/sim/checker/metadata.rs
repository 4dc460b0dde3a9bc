//! What the brokers said of the cluster stays: a change that was answered survives any crash (RAFT-4), and no producer
//! id is given out twice (IDP-7).

use super::Violation;
use std::collections::BTreeSet;

/// What was answered.
#[derive(Debug, Default)]
pub struct Answered {
    index: u64,
    producer_ids: BTreeSet<i64>,
}

impl Answered {
    /// An answer left while the metadata was at `index`.
    pub fn note(&mut self, index: u64) {
        self.index = self.index.max(index);
    }

    /// A producer was given its id.
    ///
    /// # Errors
    /// Another one has it.
    pub fn note_producer(&mut self, producer_id: i64) -> Result<(), Violation> {
        if self.producer_ids.insert(producer_id) {
            return Ok(());
        }
        Err(Violation::new("metadata", format!("producer id {producer_id} was given out twice (IDP-7)")))
    }

    /// A broker has started, with metadata up to `index`.
    ///
    /// # Errors
    /// It lacks what was answered.
    pub fn check(&self, index: u64) -> Result<(), Violation> {
        if index >= self.index {
            return Ok(());
        }
        let found = format!("change {} was answered, after a start the last one is {index} (RAFT-4)", self.index);
        Err(Violation::new("metadata", found))
    }
}
