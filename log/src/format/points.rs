//! The recovery points of all partitions in a data directory: the file `recovery-points.checkpoint`.
//!
//! One file for the directory, not one per partition: it is written about every second, and ten thousand files are ten
//! thousand syncs.

use super::checkpoint::{self, CheckpointError, Fields, Kind};
use crate::limits;
use std::collections::BTreeMap;

/// What the file says that it is.
pub const KIND: Kind = Kind::new("recovery");
/// The payload's version.
pub const VERSION: u16 = 1;

/// What is known about one partition.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RecoveryPoint {
    /// All records below this offset were synced: what is bad there is damage, not a torn tail (LOG-3).
    pub next_offset: i64,
    /// The first offset of the log; records below it may be gone.
    pub start_offset: i64,
}

/// The file's bytes: in order of names, the name's length (u16), the name, next offset, start offset (i64 each), and in
/// front of them their number (u32). Big-endian, in a checkpoint frame.
pub fn encode(points: &BTreeMap<String, RecoveryPoint>) -> Vec<u8> {
    let mut payload = Vec::with_capacity(4 + points.len() * 64);
    payload.extend_from_slice(&u32::try_from(points.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (name, point) in points {
        payload.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        payload.extend_from_slice(name.as_bytes());
        payload.extend_from_slice(&point.next_offset.to_be_bytes());
        payload.extend_from_slice(&point.start_offset.to_be_bytes());
    }
    checkpoint::encode(KIND, VERSION, &payload)
}

/// Reads the file's bytes.
///
/// # Errors
/// [`CheckpointError`]; torn also when a name or a number makes no sense.
pub fn decode(bytes: &[u8]) -> Result<BTreeMap<String, RecoveryPoint>, CheckpointError> {
    let mut fields = Fields(checkpoint::decode(KIND, VERSION, bytes)?.payload);
    let count = u32::from_be_bytes(fields.take()?);
    let mut points = BTreeMap::new();
    for _ in 0..count {
        let length = u16::from_be_bytes(fields.take()?);
        let name = std::str::from_utf8(fields.take_slice(usize::from(length))?)
            .map_err(|_| CheckpointError::Torn("a partition's name is no text"))?;
        let next_offset = i64::from_be_bytes(fields.take()?);
        let start_offset = i64::from_be_bytes(fields.take()?);
        if next_offset < 0 || start_offset < 0 {
            return Err(CheckpointError::Torn("an offset is negative"));
        }
        points.insert(name.to_owned(), RecoveryPoint { next_offset, start_offset });
        if points.len() > limits::PARTITIONS_MAX {
            return Err(CheckpointError::Torn("it names too many partitions"));
        }
    }
    fields.end()?;
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let point = |next_offset, start_offset| RecoveryPoint { next_offset, start_offset };
        let points = BTreeMap::from([("a-0".to_owned(), point(17, 3)), ("b-12".to_owned(), point(0, 0))]);
        assert_eq!(decode(&encode(&points)), Ok(points));
        assert_eq!(decode(&encode(&BTreeMap::new())), Ok(BTreeMap::new()));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_without_allocating_for_it() {
        let bytes = checkpoint::encode(KIND, VERSION, &u32::MAX.to_be_bytes());
        assert_eq!(decode(&bytes), Err(CheckpointError::Torn("it ends early")));
    }
}
