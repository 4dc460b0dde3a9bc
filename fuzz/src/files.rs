//! The small files of a data directory: indexes, leader epochs, recovery points; torn, foreign, or whole and senseless.

use crate::batch;
use crate::edits::edited;
use headwater_log::format::checkpoint::{self, Kind};
use headwater_log::format::epochs::{self, LeaderEpochs};
use headwater_log::format::index::{self, SegmentIndex};
use headwater_log::format::names::FileName;
use headwater_log::format::points;
use headwater_protocol::batch::BatchHeader;

/// Bytes of the segment that the indexes are of.
const SEGMENT_BYTES: u64 = 10_000;

/// Any bytes as any file; and as the payload of a file whose frame and checksum are right.
///
/// # Panics
/// When what is taken does not survive being written and read again.
pub fn whole(input: &[u8]) {
    let framed = |kind: Kind, version| checkpoint::encode(kind, version, input);
    for bytes in [input.to_vec(), framed(epochs::KIND, epochs::VERSION)] {
        if let Ok(epochs) = LeaderEpochs::decode(&bytes) {
            let starts: Vec<_> = epochs.entries().iter().map(|entry| (entry.epoch, entry.start_offset)).collect();
            assert!(starts.is_sorted(), "epochs rise, and so do their starts");
            assert_eq!(LeaderEpochs::decode(&epochs.encode()).as_ref(), Ok(&epochs));
        }
    }
    for bytes in [input.to_vec(), framed(points::KIND, points::VERSION)] {
        if let Ok(found) = points::decode(&bytes) {
            assert_eq!(points::decode(&points::encode(&found)).as_ref(), Ok(&found));
        }
    }
    FileName::classify(&String::from_utf8_lossy(input));
}

/// The two index files of one segment, valid ones edited, their checksums right.
///
/// # Panics
/// When an index that is taken points outside of its segment.
pub fn indexes(input: &[u8]) {
    let (left, right) = input.split_at(input.len() / 2);
    let valid = valid_index();
    let file = |kind, bytes: &[u8], edits| {
        let payload = checkpoint::decode(kind, index::VERSION, bytes).map(|file| file.payload.to_vec());
        checkpoint::encode(kind, index::VERSION, &edited(&payload.unwrap_or_default(), edits))
    };
    let offsets = file(index::OFFSETS_KIND, &valid.encode_offsets(), left);
    let times = file(index::TIMES_KIND, &valid.encode_times(), right);
    let covered = valid.covered_bytes();
    let Ok(found) = SegmentIndex::decode(100, covered, 1, &offsets, &times) else { return };
    for offset in [i64::MIN, 0, 100, 105, 1 << 40, i64::MAX] {
        assert!(found.place_of(offset).position <= covered);
    }
    for timestamp in [i64::MIN, 0, 1_000, i64::MAX] {
        assert!(found.place_before(timestamp).position <= covered);
    }
}

fn valid_index() -> SegmentIndex {
    let mut index = SegmentIndex::new(100, 1);
    let bytes = batch::valid(0, batch::PRODUCER);
    let Ok(mut header) = BatchHeader::decode(&bytes) else { return index };
    header.base_offset = 100;
    while index.covered_bytes() + bytes.len() as u64 <= SEGMENT_BYTES {
        index.push(&header);
        header.max_timestamp += 7;
        header.base_offset = header.next_offset();
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::fuzz!(small_files, 50_000, whole);
    crate::fuzz!(index_files, 50_000, indexes);

    #[test]
    fn what_is_edited_is_valid_before() {
        let index = valid_index();
        assert!(index.covered_bytes() > SEGMENT_BYTES / 2);
        let decoded =
            SegmentIndex::decode(100, index.covered_bytes(), 1, &index.encode_offsets(), &index.encode_times());
        assert!(decoded.is_ok_and(|decoded| decoded.place_of(i64::MAX).position > 0));
    }
}
