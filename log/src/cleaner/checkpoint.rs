//! How far a partition is cleaned, and by whom: the file `cleaner.checkpoint`. Without it everything is cleaned again.

use super::classifier::ClassifierIdentity;
use crate::format::checkpoint::{self, CheckpointError, Fields, Kind};

/// What the file says that it is.
pub(super) const KIND: Kind = Kind::new("cleaner");
/// The payload's version.
pub(super) const VERSION: u16 = 1;

/// What was cleaned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cleaned {
    /// Everything below it.
    pub(super) first_dirty: i64,
    /// As this classifier judges.
    pub(super) identity: ClassifierIdentity,
}

/// The file's bytes: first dirty offset (i64, big-endian), the classifier's 32 bytes; in a checkpoint frame.
pub(super) fn encode(cleaned: &Cleaned) -> Vec<u8> {
    let payload = [cleaned.first_dirty.to_be_bytes().as_slice(), &cleaned.identity].concat();
    checkpoint::encode(KIND, VERSION, &payload)
}

/// Reads the file's bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Cleaned, CheckpointError> {
    let mut fields = Fields(checkpoint::decode(KIND, VERSION, bytes)?.payload);
    let cleaned = Cleaned { first_dirty: i64::from_be_bytes(fields.take()?), identity: fields.take()? };
    fields.end()?;
    if cleaned.first_dirty < 0 { Err(CheckpointError::Torn("an offset is negative")) } else { Ok(cleaned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let cleaned = Cleaned { first_dirty: 0x0102, identity: [7; 32] };
        let bytes = encode(&cleaned);
        assert_eq!(&bytes[..16], b"HWCP\x00\x01\x00\x01cleaner\0");
        assert_eq!(bytes[16..20], [0, 0, 0, 40]);
        assert_eq!(bytes[24..], [&[0, 0, 0, 0, 0, 0, 1, 2][..], &[7; 32]].concat());
        assert_eq!(decode(&bytes), Ok(cleaned));
        let negative = encode(&Cleaned { first_dirty: -1, ..cleaned });
        assert_eq!(decode(&negative), Err(CheckpointError::Torn("an offset is negative")));
    }
}
