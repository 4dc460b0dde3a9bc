//! No record of an idempotent producer is in its topic twice (IDP-2, IDP-6).

use super::{LoggedRecord, Violation};
use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;

/// Checks one partition's whole log.
///
/// # Errors
/// A number is there twice.
pub fn check(id: TopicPartition, log: &[LoggedRecord]) -> Result<(), Violation> {
    let mut seen: BTreeMap<u64, i64> = BTreeMap::new();
    for record in log {
        let Some(number) = record.number else { continue };
        if let Some(before) = seen.insert(number, record.offset) {
            let found = format!("{id}: #{number} is at offset {before} and at {}", record.offset);
            return Err(Violation::new("twice", found));
        }
    }
    Ok(())
}
