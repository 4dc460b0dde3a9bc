//! One step through a segment's bytes: what stands at the front of a window on them.

use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchError, BatchHeader};

/// What stands at the front.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A whole batch with a sane header; its CRC is still to be checked.
    Batch(BatchHeader),
    /// The window has to hold so many bytes to tell; the segment has them.
    Need(usize),
    /// No batch.
    Bad(BadStep),
}

/// Why there is no batch.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadStep {
    /// The segment ends inside a header.
    #[error("the segment ends after {0} bytes of a batch header")]
    HeaderCut(u64),
    /// The header makes no sense, or the checksum is wrong.
    #[error("{}", .0.finding())]
    Batch(#[from] BatchError),
    /// The segment ends inside a batch.
    #[error("the segment ends {missing} bytes before its last batch does")]
    BodyCut {
        /// How many bytes are missing.
        missing: u64,
    },
    /// A batch that begins at another offset than the one before it ends at.
    #[error("a batch begins at offset {found} where {expected} is due")]
    Offset {
        /// Where it should begin.
        expected: i64,
        /// Where it begins.
        found: i64,
    },
    /// The file is shorter than it was.
    #[error("the file ends before its known length of {0} bytes")]
    Shrunk(u64),
}

/// Looks at the front of `window`, behind whose first byte the segment has `left` bytes (that one included).
pub(crate) fn step(window: &[u8], left: u64) -> Step {
    if left < BATCH_HEADER_BYTES as u64 {
        return Step::Bad(BadStep::HeaderCut(left));
    }
    if window.len() < BATCH_HEADER_BYTES {
        return Step::Need(BATCH_HEADER_BYTES);
    }
    let header = match BatchHeader::decode(window) {
        Ok(header) => header,
        Err(error) => return Step::Bad(error.into()),
    };
    let total_bytes = header.total_bytes();
    if total_bytes as u64 > left {
        return Step::Bad(BadStep::BodyCut { missing: total_bytes as u64 - left });
    }
    if total_bytes > window.len() { Step::Need(total_bytes) } else { Step::Batch(header) }
}
