//! PURE: which segments are too old or too many, given what is known of each (`retention.ms`, `retention.bytes`).
//!
//! ```text
//!   oldest                                    high watermark      the growing segment
//!     │ newest record too old │ what is left is too much │              │
//!     ├───────────────────────┴──────────────────────────┼──────────────┼────────┤
//!     goes ─────────────────────────────────────────────►│ new start    stays: not committed
//! ```
//!
//! As in Kafka: whole segments go, oldest first. A segment's age is that of its newest record, by the record's own
//! timestamp; the growing one goes by age too, when all of it is too old, but never by size.

/// How long and how much a log keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// `retention.ms`; `None`: for ever.
    pub age_ms_max: Option<u64>,
    /// `retention.bytes`, of all segments; `None`: without a limit.
    pub bytes_max: Option<u64>,
}

/// What is known of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFacts {
    /// The offset behind its last record.
    pub next_offset: i64,
    /// Its bytes, without indexes.
    pub bytes: u64,
    /// The largest timestamp of its records, ms since the Unix epoch; `None` without records.
    pub newest_timestamp: Option<i64>,
}

impl Retention {
    /// Where the log should begin at `now_ms` (since the Unix epoch), or `None` when nothing is to go. `segments` are
    /// all of the log's, oldest first; nothing at or above `upto`, the high watermark, goes.
    #[must_use]
    pub fn log_start(&self, segments: &[SegmentFacts], upto: i64, now_ms: i64) -> Option<i64> {
        let mut excess = self
            .bytes_max
            .map_or(0, |bytes_max| segments.iter().map(|segment| segment.bytes).sum::<u64>().saturating_sub(bytes_max));
        let mut log_start = None;
        for (number, segment) in (1..).zip(segments) {
            let is_growing = number == segments.len();
            // What is left must not be less than may be kept.
            let is_too_much = !is_growing && excess > 0 && segment.bytes <= excess;
            if segment.next_offset > upto || !(is_too_much || self.is_old(segment, now_ms)) {
                break;
            }
            excess = excess.saturating_sub(segment.bytes);
            log_start = Some(segment.next_offset);
        }
        log_start
    }

    fn is_old(&self, segment: &SegmentFacts, now_ms: i64) -> bool {
        let (Some(age_ms_max), Some(newest)) = (self.age_ms_max, segment.newest_timestamp) else { return false };
        // A record from the future is not old.
        u64::try_from(now_ms.saturating_sub(newest)).is_ok_and(|age_ms| age_ms > age_ms_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Segments of 10 offsets each, with these (bytes, newest timestamp).
    fn segments(facts: &[(u64, i64)]) -> Vec<SegmentFacts> {
        let segment = |(next_offset, &(bytes, newest)): (i64, &(u64, i64))| SegmentFacts {
            next_offset,
            bytes,
            newest_timestamp: (bytes > 0).then_some(newest),
        };
        (1..).map(|number| number * 10).zip(facts).map(segment).collect()
    }

    fn age(age_ms_max: u64) -> Retention {
        Retention { age_ms_max: Some(age_ms_max), bytes_max: None }
    }

    fn bytes(bytes_max: u64) -> Retention {
        Retention { age_ms_max: None, bytes_max: Some(bytes_max) }
    }

    #[test]
    fn segments_go_when_their_newest_record_is_too_old_and_all_before_them_are() {
        let log = segments(&[(5, 100), (5, 300), (5, 200), (5, 900)]);
        assert_eq!(age(700).log_start(&log, 40, 801), Some(10));
        assert_eq!(age(700).log_start(&log, 40, 800), None, "as old as allowed");
        assert_eq!(age(700).log_start(&log, 40, 1000), Some(10), "the third waits for the second");
        assert_eq!(age(700).log_start(&log, 40, 1001), Some(30));
        assert_eq!(age(0).log_start(&log, 40, 901), Some(40), "the growing one too");
        assert_eq!(age(0).log_start(&log, 39, 901), Some(30), "but nothing that is not committed");
        assert_eq!(age(0).log_start(&log, 9, 901), None);
        assert_eq!(age(0).log_start(&log, 40, -5), None, "records from the future are not old");
        assert_eq!(age(0).log_start(&segments(&[(0, 0)]), 10, 901), None, "an empty segment has no age");
        assert_eq!(Retention::default().log_start(&log, 40, i64::MAX), None);
    }

    #[test]
    fn the_oldest_segments_go_while_what_is_left_is_enough() {
        let log = segments(&[(5, 0), (5, 0), (5, 0), (5, 0)]);
        assert_eq!(bytes(20).log_start(&log, 40, 0), None);
        assert_eq!(bytes(16).log_start(&log, 40, 0), None, "15 would be less than may be kept");
        assert_eq!(bytes(15).log_start(&log, 40, 0), Some(10));
        assert_eq!(bytes(0).log_start(&log, 40, 0), Some(30), "the growing one never goes by size");
        assert_eq!(bytes(0).log_start(&[], 40, 0), None);
        let both = Retention { age_ms_max: Some(10), bytes_max: Some(15) };
        assert_eq!(both.log_start(&log, 40, 5), Some(10), "whichever is more");
        assert_eq!(both.log_start(&log, 40, 50), Some(40));
        let both = Retention { age_ms_max: Some(34), bytes_max: Some(0) };
        assert_eq!(both.log_start(&segments(&[(1, 41), (2, 0)]), 20, 35), Some(20), "too much, and behind it too old");
    }

    proptest! {
        #[test]
        fn what_goes_is_too_old_or_too_much_and_what_stays_is_neither(
            facts in prop::collection::vec((0..9_u64, 0..50_i64), 0..8),
            age_ms_max in prop::option::of(0..60_u64),
            bytes_max in prop::option::of(0..60_u64),
            upto in 0..90_i64,
            now_ms in 0..80_i64,
        ) {
            let log = segments(&facts);
            let retention = Retention { age_ms_max, bytes_max };
            let start = retention.log_start(&log, upto, now_ms).unwrap_or(0);
            prop_assert!(start <= upto.max(0));
            prop_assert!(start == 0 || log.iter().any(|segment| segment.next_offset == start));
            let gone = usize::try_from(start / 10).unwrap();
            let left: u64 = log[gone..].iter().map(|segment| segment.bytes).sum();
            let last_is_old = log[..gone].last().is_none_or(|segment| retention.is_old(segment, now_ms));
            prop_assert!(last_is_old || left >= bytes_max.unwrap());
            if let Some(next) = log.get(gone).filter(|next| next.next_offset <= upto) {
                prop_assert!(!retention.is_old(next, now_ms));
                let is_last = gone + 1 == log.len();
                let is_empty = next.bytes == 0;
                prop_assert!(is_last || is_empty || bytes_max.is_none_or(|bytes_max| left - next.bytes < bytes_max));
            }
        }
    }
}
