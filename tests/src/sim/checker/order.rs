//! Within a partition a producer's records are in the order in which it sent them (IDP-1, IDP-6). Clients number their
//! records upwards.

use super::{LoggedRecord, Violation};
use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;

/// Checks one partition's whole log; `producer_of` says who sent a number.
///
/// # Errors
/// A record is behind a later one.
pub fn check(
    id: TopicPartition,
    log: &[LoggedRecord],
    producer_of: impl Fn(u64) -> Option<usize>,
) -> Result<(), Violation> {
    let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
    for record in log {
        let Some(number) = record.number else { continue };
        let Some(producer) = producer_of(number) else {
            return Err(Violation::new("order", format!("{id} offset {} holds #{number}, never sent", record.offset)));
        };
        match newest.insert(producer, number) {
            Some(before) if before > number => {
                let found =
                    format!("{id} offset {}: #{number} of producer {producer} is behind #{before}", record.offset);
                return Err(Violation::new("order", found));
            }
            _ => {}
        }
    }
    Ok(())
}
