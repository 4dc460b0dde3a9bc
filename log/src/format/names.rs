//! Which file in a partition's directory is what.

use crate::limits;

/// Digits of a segment's base offset in its name, enough for every offset.
const OFFSET_DIGITS: usize = 20;

/// The leader epochs' file.
pub const LEADER_EPOCHS: &str = "leader-epoch.checkpoint";
/// How far a partition is cleaned, and by whom.
pub const CLEANER: &str = "cleaner.checkpoint";
/// The file of the ranges that are in quarantine.
pub const QUARANTINE: &str = "quarantine.checkpoint";
/// The recovery points' file of a data directory.
pub const RECOVERY_POINTS: &str = "recovery-points.checkpoint";
/// Says that a data directory was closed in order.
pub const CLEAN_SHUTDOWN: &str = "clean-shutdown.checkpoint";
/// The lock file of a data directory.
pub const LOCK: &str = ".lock";
/// The directory that takes what recovery cuts off.
pub const LOST_FOUND: &str = "lost+found";
/// The end of a temporary file's name; such a file means nothing and is removed at start-up.
pub const TEMPORARY_SUFFIX: &str = ".tmp";
/// The end of the name of a partition's directory that is being removed.
pub const DELETED_SUFFIX: &str = ".deleted";

/// What a name in a partition's directory stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileName {
    /// Record batches from that base offset on.
    Segment(i64),
    /// The offset index of that segment: a cache.
    OffsetIndex(i64),
    /// The time index of that segment: a cache.
    TimeIndex(i64),
    /// What is derived from all batches below that offset.
    Snapshot(i64),
    /// Ranges that are not served.
    Quarantine,
    /// Where each leader epoch begins.
    LeaderEpochs,
    /// How far the partition is cleaned.
    Cleaner,
    /// What the cleaner was writing from that base offset on; worth nothing.
    Cleaned(i64),
    /// A segment that takes the place of those from its base offset up to and without the other one (LOG-5).
    Swap {
        /// Where it begins.
        base_offset: i64,
        /// Where it ends.
        next_offset: i64,
    },
    /// Left by a crash; worth nothing.
    Temporary,
    /// Nothing that the engine makes.
    Foreign,
}

impl FileName {
    /// What `name` stands for.
    pub fn classify(name: &str) -> Self {
        if name == LEADER_EPOCHS {
            return Self::LeaderEpochs;
        }
        if name == QUARANTINE {
            return Self::Quarantine;
        }
        if name == CLEANER {
            return Self::Cleaner;
        }
        if name.ends_with(TEMPORARY_SUFFIX) {
            return Self::Temporary;
        }
        let Some((digits, extension)) = name.split_once('.') else {
            return Self::Foreign;
        };
        if let Some((base, next)) = digits.split_once('-').filter(|_| extension == "swap") {
            return match (offset(base), offset(next)) {
                (Some(base_offset), Some(next_offset)) if base_offset < next_offset => {
                    Self::Swap { base_offset, next_offset }
                }
                _ => Self::Foreign,
            };
        }
        let Some(base_offset) = offset(digits) else {
            return Self::Foreign;
        };
        match extension {
            "log" => Self::Segment(base_offset),
            "index" => Self::OffsetIndex(base_offset),
            "timeindex" => Self::TimeIndex(base_offset),
            "snapshot" => Self::Snapshot(base_offset),
            "cleaned" => Self::Cleaned(base_offset),
            _ => Self::Foreign,
        }
    }
}

/// The offset that a name has in full. More than `i64::MAX` is none.
fn offset(digits: &str) -> Option<i64> {
    let is_whole = digits.len() == OFFSET_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_whole { digits.parse().ok() } else { None }
}

/// The name of a segment's file.
pub fn segment(base_offset: i64) -> String {
    format!("{base_offset:0OFFSET_DIGITS$}.log")
}

/// The name of a snapshot that was taken when the log ended at `offset`.
pub fn snapshot(offset: i64) -> String {
    format!("{offset:0OFFSET_DIGITS$}.snapshot")
}

/// The name of what the cleaner writes, until it is whole.
pub fn cleaned(base_offset: i64) -> String {
    format!("{base_offset:0OFFSET_DIGITS$}.cleaned")
}

/// The name of a segment that takes the place of others, until they are gone.
pub fn swap(base_offset: i64, next_offset: i64) -> String {
    format!("{base_offset:0OFFSET_DIGITS$}-{next_offset:0OFFSET_DIGITS$}.swap")
}

/// The name of a segment's offset index.
pub fn offset_index(base_offset: i64) -> String {
    format!("{base_offset:0OFFSET_DIGITS$}.index")
}

/// The name of a segment's time index.
pub fn time_index(base_offset: i64) -> String {
    format!("{base_offset:0OFFSET_DIGITS$}.timeindex")
}

/// Whether `name` may be that of a partition's directory: letters, digits, `-`, `_`, `.`, not hidden, and none that the
/// engine itself gives.
pub fn is_partition(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= limits::PARTITION_NAME_BYTES_MAX
        && name.bytes().all(allowed)
        && !name.starts_with('.')
        && !name.ends_with(TEMPORARY_SUFFIX)
        && !name.ends_with(DELETED_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        for base_offset in [0, 7, i64::MAX] {
            assert_eq!(FileName::classify(&segment(base_offset)), FileName::Segment(base_offset));
            assert_eq!(FileName::classify(&offset_index(base_offset)), FileName::OffsetIndex(base_offset));
            assert_eq!(FileName::classify(&time_index(base_offset)), FileName::TimeIndex(base_offset));
        }
        assert_eq!(segment(42), "00000000000000000042.log");
        assert_eq!(FileName::classify(&cleaned(42)), FileName::Cleaned(42));
        assert_eq!(FileName::classify(&swap(7, 42)), FileName::Swap { base_offset: 7, next_offset: 42 });
        assert_eq!(swap(7, 42), "00000000000000000007-00000000000000000042.swap");
        assert_eq!(FileName::classify(&swap(42, 42)), FileName::Foreign, "nothing lies between");
        assert_eq!(FileName::classify(CLEANER), FileName::Cleaner);
        assert_eq!(FileName::classify(LEADER_EPOCHS), FileName::LeaderEpochs);
        assert_eq!(FileName::classify("leader-epoch.checkpoint.tmp"), FileName::Temporary);
    }

    #[test]
    fn foreign_names_are_foreign() {
        let long = format!("{:020}.log", u64::MAX);
        for name in ["", "notes.txt", "42.log", "0000000000000000004x.log", "00000000000000000042.log.bak", &long] {
            assert_eq!(FileName::classify(name), FileName::Foreign, "{name}");
        }
    }

    #[test]
    fn partition_names() {
        assert!(is_partition("018f3c1e-0000-7000-8000-000000000000-17"));
        assert!(is_partition("__metadata"));
        let long = "x".repeat(limits::PARTITION_NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", ".lock", "a/b", "lost+found", "t-0.deleted", "t-0.tmp", "Ü", &long] {
            assert!(!is_partition(name), "{name}");
        }
    }
}
