//! PURE: what of a log can be cleaned, whether that is due, and which segments become one.
//!
//! ```text
//!   log start      first dirty                    end            upto        the growing segment
//!     ├── clean ───────┼── dirty, cleanable ───────┼── too young ──┼── not committed ──┼────────┤
//!                                dirty / (clean + dirty) > min.cleanable.dirty.ratio: due
//! ```
//!
//! As in Kafka, but for one thing: with several passes the end of one may lie within a segment.

/// When and how a log is cleaned.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CleaningPolicy {
    /// `min.cleanable.dirty.ratio`, 0 to 1: a log is due when more than this part of what can be cleaned is dirty.
    pub dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`: segments with a younger record stay as they are.
    pub lag_ms_min: u64,
    /// `max.compaction.lag.ms`: a log with an older dirty record is due whatever its ratio; `None`: without a limit.
    pub lag_ms_max: Option<u64>,
    /// `delete.retention.ms`: how long tombstones stay after they were cleaned for the first time.
    pub delete_retention_ms: u64,
}

/// What is known of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentFacts {
    pub(super) base_offset: i64,
    pub(super) next_offset: i64,
    pub(super) bytes: u64,
    /// The largest timestamp of its records; `None` without one.
    pub(super) newest_timestamp: Option<i64>,
    /// Whether all of it is synced.
    pub(super) is_synced: bool,
}

/// How a log stands with the cleaner.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Standing {
    /// Below it everything was cleaned by today's classifier.
    pub first_dirty: i64,
    /// Up to here it can be cleaned now.
    pub end: i64,
    /// Bytes of segments below the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes of segments that can be cleaned and are dirty; one that is dirty in part counts as a whole.
    pub dirty_bytes: u64,
    /// Bytes of segments that can't be cleaned yet, the growing one included.
    pub uncleanable_bytes: u64,
}

impl Standing {
    /// Of `segments`, all of the log's, oldest first. Nothing at or above `upto` can be cleaned.
    pub(super) fn of(
        policy: &CleaningPolicy,
        segments: &[SegmentFacts],
        first_dirty: i64,
        upto: i64,
        now_ms: i64,
    ) -> Self {
        let sealed = segments.len().saturating_sub(1);
        let may_be_cleaned = |segment: &&SegmentFacts| {
            let is_old = segment.newest_timestamp.is_none_or(|newest| is_past(newest, policy.lag_ms_min, now_ms));
            segment.next_offset <= upto && segment.is_synced && is_old
        };
        let cleanable = segments[..sealed].iter().take_while(may_be_cleaned).count();
        let end = segments[..cleanable].last().map_or(0, |last| last.next_offset);
        let start = segments.first().map_or(0, |first| first.base_offset);
        let mut standing = Self { first_dirty: first_dirty.clamp(start, end.max(start)), end, ..Self::default() };
        for (index, segment) in segments.iter().enumerate() {
            match segment {
                _ if index >= cleanable => standing.uncleanable_bytes += segment.bytes,
                _ if segment.next_offset <= standing.first_dirty => standing.clean_bytes += segment.bytes,
                _ => standing.dirty_bytes += segment.bytes,
            }
        }
        standing
    }

    /// The part of what can be cleaned that is dirty, 0 to 1.
    #[must_use]
    pub fn dirty_ratio(&self) -> f64 {
        let all = self.clean_bytes.saturating_add(self.dirty_bytes);
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }

    /// Whether there is anything to clean.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.first_dirty < self.end
    }

    /// Whether the log should be cleaned. `oldest_dirty` is the timestamp of a dirty batch, the first one.
    pub(super) fn is_due(&self, policy: &CleaningPolicy, oldest_dirty: Option<i64>, now_ms: i64) -> bool {
        let is_late = policy.lag_ms_max.zip(oldest_dirty).is_some_and(|(lag, oldest)| is_past(oldest, lag, now_ms));
        self.is_dirty() && (is_late || self.dirty_ratio() > policy.dirty_ratio_min)
    }
}

/// Whether `age_ms` have passed since `timestamp`; never for one in the future.
fn is_past(timestamp: i64, age_ms: u64, now_ms: i64) -> bool {
    u64::try_from(now_ms.saturating_sub(timestamp)).is_ok_and(|age| age >= age_ms)
}

/// Cuts segments that are cleaned into groups, each of which becomes one segment: neighbours that together are no
/// longer than `segment_bytes`. How many are in each.
pub(super) fn groups(segments: &[SegmentFacts], segment_bytes: u64) -> Vec<usize> {
    let mut groups: Vec<usize> = Vec::new();
    let (mut bytes, mut base_offset) = (0, 0);
    for segment in segments {
        // Offsets in an index are 32 bits wide.
        let fits = bytes + segment.bytes <= segment_bytes && segment.next_offset - base_offset <= i64::from(i32::MAX);
        match groups.last_mut().filter(|_| fits) {
            Some(count) => {
                *count += 1;
                bytes += segment.bytes;
            }
            None => {
                groups.push(1);
                (bytes, base_offset) = (segment.bytes, segment.base_offset);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CleaningPolicy =
        CleaningPolicy { dirty_ratio_min: 0.5, lag_ms_min: 0, lag_ms_max: None, delete_retention_ms: 0 };

    /// Segments of 10 offsets and these (bytes, newest timestamp), the last one growing.
    fn segments(facts: &[(u64, i64)]) -> Vec<SegmentFacts> {
        let segment = |(base_offset, &(bytes, newest)): (i64, &(u64, i64))| SegmentFacts {
            base_offset,
            next_offset: base_offset + 10,
            bytes,
            newest_timestamp: (bytes > 0).then_some(newest),
            is_synced: true,
        };
        (0..).step_by(10).zip(facts).map(segment).collect()
    }

    // covers CMP-2
    #[test]
    fn the_growing_segment_and_what_is_not_committed_synced_or_old_enough_stay() {
        let log = segments(&[(5, 100), (5, 300), (5, 200), (5, 900)]);
        let end = |policy: &CleaningPolicy, upto, now_ms| Standing::of(policy, &log, 0, upto, now_ms).end;
        assert_eq!(end(&POLICY, 40, 1000), 30);
        assert_eq!(end(&POLICY, 29, 1000), 20);
        assert_eq!(end(&POLICY, 9, 1000), 0);
        let young = CleaningPolicy { lag_ms_min: 500, ..POLICY };
        assert_eq!(end(&young, 40, 799), 10, "the third waits for the second");
        assert_eq!(end(&young, 40, 800), 30);
        assert_eq!(end(&young, 40, 599), 0);
        let mut unsynced = log.clone();
        unsynced[1].is_synced = false;
        assert_eq!(Standing::of(&POLICY, &unsynced, 0, 40, 1000).end, 10);
        assert_eq!(Standing::of(&POLICY, &[], 7, 40, 1000), Standing::default());
    }

    #[test]
    fn a_log_is_due_by_ratio_or_by_age() {
        let log = segments(&[(60, 100), (30, 300), (10, 200), (5, 900)]);
        let standing = |first_dirty| Standing::of(&POLICY, &log, first_dirty, 40, 1000);
        let all = standing(0);
        assert_eq!((all.clean_bytes, all.dirty_bytes, all.uncleanable_bytes), (0, 100, 5));
        assert!(all.is_due(&POLICY, None, 1000));
        let some = standing(10);
        assert_eq!((some.clean_bytes, some.dirty_bytes, some.dirty_ratio()), (60, 40, 0.4));
        assert!(!some.is_due(&POLICY, Some(0), 1000), "no more than half of it is dirty");
        assert!(some.is_due(&CleaningPolicy { dirty_ratio_min: 0.39, ..POLICY }, None, 1000));
        let lag = CleaningPolicy { lag_ms_max: Some(700), ..POLICY };
        assert!(some.is_due(&lag, Some(300), 1000) && !some.is_due(&lag, Some(301), 1000));
        assert!(!standing(30).is_due(&lag, Some(0), 1000) && !standing(30).is_dirty(), "nothing is dirty");
        let always = CleaningPolicy { dirty_ratio_min: 0.0, ..POLICY };
        assert!(!standing(99).is_due(&always, Some(0), 1000), "a checkpoint above what can be cleaned");
        assert_eq!(standing(25).dirty_bytes, 10, "dirty in part");
    }

    #[test]
    fn neighbours_become_one_segment_as_long_as_that_is_not_too_long() {
        let log = segments(&[(5, 0), (5, 0), (20, 0), (1, 0), (9, 0), (10, 0)]);
        assert_eq!(groups(&log, 10), [2, 1, 2, 1]);
        assert_eq!(groups(&log, 1), [1; 6]);
        assert_eq!(groups(&[], 10), [0; 0]);
        let wide = [
            SegmentFacts { next_offset: 1 << 30, ..log[0] },
            SegmentFacts { base_offset: 1 << 30, next_offset: 1 << 31, ..log[0] },
        ];
        assert_eq!(groups(&wide, 10), [1, 1]);
    }
}
