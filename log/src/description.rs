//! What a log is made of, for people who look after it.

use crate::error::LogError;
use crate::format::names::FileName;
use crate::reader::LogReader;
use crate::segment::Segment;
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Some segments of a log, and what is kept beside them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LogDescription {
    /// In order.
    pub segments: Vec<SegmentDescription>,
    /// Where the next segment begins; `None` when these were the last ones.
    pub next_offset: Option<i64>,
    /// How many segments the log has.
    pub segment_count: usize,
    /// Offsets at which there are snapshots, rising.
    pub snapshots: Vec<i64>,
}

/// One segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentDescription {
    /// Its first offset.
    pub base_offset: i64,
    /// The first offset behind it.
    pub next_offset: i64,
    /// Bytes of its batches.
    pub bytes: u64,
    /// How many of them are known to be synced.
    pub synced_bytes: u64,
    /// Bytes of its indexes, in their files or, while it grows, in memory.
    pub index_bytes: u64,
    /// The timestamp of its first record, ms since the Unix epoch; `None` without one, or when its header is damaged.
    pub first_timestamp: Option<i64>,
    /// The largest timestamp of its records, ms since the Unix epoch.
    pub max_timestamp: Option<i64>,
    /// Whether it grows no more.
    pub is_sealed: bool,
}

impl LogReader {
    /// At most `segments_max` segments, from the one that holds `from` on, and what is kept beside all of them.
    ///
    /// Reads the header of each segment's first batch, and lists the partition's directory.
    ///
    /// # Errors
    /// [`LogError::Deleted`]; [`LogError::Storage`].
    pub fn describe(&self, from: i64, segments_max: usize) -> Result<LogDescription, LogError> {
        self.shared().check_not_deleted()?;
        let segments = self.shared().segments();
        let first = segments.partition_point(|segment| segment.base_offset <= from).saturating_sub(1);
        let mut index_bytes: BTreeMap<i64, u64> = BTreeMap::new();
        let mut snapshots = Vec::new();
        for entry in self.shared().directory.storage().list(&self.shared().path)? {
            match FileName::classify(&entry.name) {
                FileName::OffsetIndex(base_offset) | FileName::TimeIndex(base_offset) => {
                    *index_bytes.entry(base_offset).or_default() += entry.bytes;
                }
                FileName::Snapshot(offset) => snapshots.push(offset),
                _ => {}
            }
        }
        snapshots.sort_unstable();
        let in_files = |segment: &Segment| index_bytes.get(&segment.base_offset).copied().unwrap_or(0);
        let chosen = segments.iter().skip(first).take(segments_max);
        let described: Result<Vec<_>, LogError> =
            chosen.map(|segment| describe(segment, || in_files(segment))).collect();
        let described = described?;
        let next = segments.get(first + described.len());
        Ok(LogDescription {
            segments: described,
            next_offset: next.map(|next: &Arc<Segment>| next.base_offset),
            segment_count: segments.len(),
            snapshots,
        })
    }

    /// Everything below it is known to be synced.
    pub fn recovery_point(&self) -> i64 {
        self.shared().point.next_offset.load(std::sync::atomic::Ordering::Acquire)
    }
}

fn describe(segment: &Segment, index_bytes_in_files: impl Fn() -> u64) -> Result<SegmentDescription, LogError> {
    let first = match segment.bytes() {
        0 => None,
        _ => BatchHeader::decode(&segment.file().read_at(0, BATCH_HEADER_BYTES)?).ok(),
    };
    let growing = segment.growing_index_bytes();
    Ok(SegmentDescription {
        base_offset: segment.base_offset,
        next_offset: segment.next_offset(),
        bytes: segment.bytes(),
        synced_bytes: segment.synced_bytes(),
        index_bytes: growing.unwrap_or_else(index_bytes_in_files),
        first_timestamp: first.map(|header| header.base_timestamp).filter(|timestamp| *timestamp >= 0),
        max_timestamp: segment.newest().map(|newest| newest.timestamp).filter(|timestamp| *timestamp >= 0),
        is_sealed: growing.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use crate::storage::memory::MemoryStorage;
    use crate::testing::{CONFIG, batch, directory, fill, open};

    #[test]
    fn segments_come_a_page_at_a_time_with_their_indexes_and_snapshots() {
        let storage = MemoryStorage::new();
        let (mut log, _) = open(&directory(&storage));
        let reader = log.reader();
        let empty = reader.describe(0, 10).unwrap();
        assert_eq!((empty.segments.len(), empty.next_offset), (0, None));

        fill(&mut log, 30);
        log.keep_snapshot(vec![1, 2, 3]);
        log.flush().unwrap();
        assert_eq!(reader.recovery_point(), 60);
        let all = reader.describe(0, 100).unwrap();
        assert!(all.segments.len() >= 3 && all.segment_count == all.segments.len(), "{all:?}");
        assert_eq!((all.next_offset, &all.snapshots[..]), (None, &[60][..]));
        let per_segment = (CONFIG.segment_bytes / batch(0).len() as u64) as i64 * 2;
        for (number, segment) in (0..).zip(&all.segments) {
            assert_eq!(segment.base_offset, number * per_segment);
            assert_eq!(segment.is_sealed, segment.next_offset < 60);
            assert_eq!(segment.first_timestamp, Some(segment.base_offset));
            assert_eq!(segment.max_timestamp, Some(segment.next_offset - 1));
            assert_eq!((segment.bytes, segment.index_bytes > 2 * 24), (segment.synced_bytes, true));
        }
        let mut paged = Vec::new();
        let mut from = Some(per_segment + 1);
        while let Some(offset) = from {
            let page = reader.describe(offset, 2).unwrap();
            assert!(page.segments.len() <= 2);
            paged.extend(page.segments);
            from = page.next_offset;
        }
        assert_eq!(paged, all.segments[1..]);
        // Appended and not synced; what grows has no index file yet.
        fill(&mut log, 1);
        let last = *reader.describe(61, 1).unwrap().segments.last().unwrap();
        assert!(last.synced_bytes < last.bytes && !last.is_sealed, "{last:?}");
    }
}
