//! PURE: what to do with the files of a partition after a stop, given a scan of them (LOG-2, LOG-3).
//!
//! ```text
//!   start                 recovery point            first bad batch           end of the files
//!     │ synced, so it must be good │ may be torn               │ goes to lost+found     │
//!     ▼                            ▼                           ▼                        ▼
//!     ├────────────────────────────┼───────────────────────────┼────────────────────────┤
//!       bad here: damage, refuse     bad here: the log ends      never looked at
//! ```

use headwater_mutants::{Mutant, lacks};

/// What scanning found in one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScannedSegment {
    /// The offset in its name.
    pub base_offset: i64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of good batches from its beginning on.
    pub good_bytes: u64,
    /// The offset behind the last good batch, in this or an earlier segment.
    pub next_offset: i64,
    /// Why the bytes from `good_bytes` on are no batch, or the segment as a whole does not belong here.
    pub fault: Option<String>,
}

/// A segment behind the first bad one; nobody looked into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnscannedSegment {
    /// The offset in its name.
    pub base_offset: i64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// All that is known of a partition's files.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Scan {
    /// In order; only the last may have a fault.
    pub scanned: Vec<ScannedSegment>,
    /// What comes behind a fault.
    pub unscanned: Vec<UnscannedSegment>,
    /// All below was synced.
    pub recovery_point: i64,
    /// Where the log began when the recovery point was written.
    pub start_offset: i64,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Where the log ends.
    pub end_offset: i64,
    /// What to cut off, if anything.
    pub cut: Option<Cut>,
}

/// The end of a log that goes to `lost+found`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Why.
    pub reason: String,
    /// What, in order.
    pub pieces: Vec<Piece>,
}

/// A part of one segment that is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Which segment.
    pub base_offset: i64,
    /// The first byte to go.
    pub position: u64,
    /// How many go: all from there on.
    pub bytes: u64,
    /// Whether the file goes too. It stays, empty, when its name is what tells where the log ends.
    pub removes_file: bool,
}

/// Bytes are bad, or missing, that were synced (LOG-3). Nothing may be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// In which segment; `None` when it is missing as a whole.
    pub base_offset: Option<i64>,
    /// The first bad byte.
    pub position: u64,
    /// The first offset that can't be had.
    pub offset: i64,
    /// What is wrong.
    pub reason: String,
}

/// Decides.
///
/// # Errors
/// [`Loss`] when the scan shows less than was synced.
pub fn plan(scan: &Scan) -> Result<Plan, Loss> {
    debug_assert!(scan.scanned.iter().rev().skip(1).all(|segment| segment.fault.is_none()), "scanning ends at a fault");
    let Some((first, last)) = scan.scanned.first().zip(scan.scanned.last()) else {
        return plan_without_segments(scan);
    };
    if first.base_offset > scan.start_offset && scan.start_offset < scan.recovery_point {
        return Err(Loss {
            base_offset: None,
            position: 0,
            offset: scan.start_offset,
            reason: format!("the segment is missing that begins the log, at offset {}", scan.start_offset),
        });
    }
    let end_offset = last.next_offset;
    if end_offset < scan.recovery_point && !lacks(Mutant::CutBelowRecoveryPoint) {
        let fault = last.fault.clone().unwrap_or_else(|| "the log ends".to_owned());
        return Err(Loss {
            base_offset: Some(last.base_offset),
            position: last.good_bytes,
            offset: end_offset,
            reason: format!("{fault}, but the log was synced up to offset {}", scan.recovery_point),
        });
    }
    let Some(reason) = last.fault.clone() else {
        return Ok(Plan { end_offset, cut: None });
    };
    let bad = Piece {
        base_offset: last.base_offset,
        position: last.good_bytes,
        bytes: last.file_bytes.saturating_sub(last.good_bytes),
        removes_file: last.good_bytes == 0 && last.base_offset != end_offset,
    };
    let beyond = scan.unscanned.iter().map(|segment| Piece {
        base_offset: segment.base_offset,
        position: 0,
        bytes: segment.file_bytes,
        removes_file: true,
    });
    let pieces = std::iter::once(bad).chain(beyond).collect();
    Ok(Plan { end_offset, cut: Some(Cut { reason, pieces }) })
}

fn plan_without_segments(scan: &Scan) -> Result<Plan, Loss> {
    if scan.recovery_point > scan.start_offset {
        return Err(Loss {
            base_offset: None,
            position: 0,
            offset: scan.start_offset,
            reason: format!("all segments are missing, but the log was synced up to offset {}", scan.recovery_point),
        });
    }
    Ok(Plan { end_offset: scan.start_offset, cut: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(base_offset: i64, next_offset: i64, good_bytes: u64) -> ScannedSegment {
        ScannedSegment { base_offset, file_bytes: good_bytes, good_bytes, next_offset, fault: None }
    }

    fn bad(base_offset: i64, next_offset: i64, good_bytes: u64) -> ScannedSegment {
        let fault = Some("bad".to_owned());
        ScannedSegment { base_offset, file_bytes: good_bytes + 7, good_bytes, next_offset, fault }
    }

    fn scan(scanned: Vec<ScannedSegment>, recovery_point: i64) -> Scan {
        Scan { scanned, recovery_point, ..Scan::default() }
    }

    #[test]
    fn a_good_log_is_left_alone() {
        assert_eq!(plan(&Scan::default()), Ok(Plan { end_offset: 0, cut: None }));
        let scan = scan(vec![scanned(0, 5, 100), scanned(5, 9, 80)], 9);
        assert_eq!(plan(&scan), Ok(Plan { end_offset: 9, cut: None }));
    }

    // covers LOG-2
    #[test]
    fn a_bad_batch_above_the_recovery_point_ends_the_log() {
        let mut scan = scan(vec![scanned(0, 5, 100), bad(5, 9, 80)], 9);
        scan.unscanned = vec![UnscannedSegment { base_offset: 20, file_bytes: 33 }];
        let pieces = vec![
            Piece { base_offset: 5, position: 80, bytes: 7, removes_file: false },
            Piece { base_offset: 20, position: 0, bytes: 33, removes_file: true },
        ];
        assert_eq!(plan(&scan), Ok(Plan { end_offset: 9, cut: Some(Cut { reason: "bad".to_owned(), pieces }) }));
    }

    // covers LOG-3
    #[test]
    fn a_bad_batch_below_the_recovery_point_is_damage() {
        let loss = plan(&scan(vec![scanned(0, 5, 100), bad(5, 9, 80)], 10));
        let reason = "bad, but the log was synced up to offset 10".to_owned();
        assert_eq!(loss, Err(Loss { base_offset: Some(5), position: 80, offset: 9, reason }));
        let shorter = plan(&scan(vec![scanned(0, 5, 100)], 10));
        assert_eq!(shorter.map_err(|loss| loss.offset), Err(5));
    }

    #[test]
    fn a_segment_that_tells_where_the_log_ends_stays() {
        let first = |plan: Plan| plan.cut.map(|cut| cut.pieces[0].removes_file);
        let mut only = scan(vec![bad(40, 40, 0)], 0);
        only.start_offset = 40;
        assert_eq!(plan(&only).map(first), Ok(Some(false)));
        // A gap before it: its name says something else.
        assert_eq!(plan(&scan(vec![scanned(0, 5, 100), bad(40, 5, 0)], 0)).map(first), Ok(Some(true)));
    }

    // covers LOG-3, LOG-10
    #[test]
    fn missing_segments_are_damage_when_they_were_synced() {
        assert_eq!(plan(&scan(vec![], 3)).map_err(|loss| loss.base_offset), Err(None));
        assert_eq!(plan(&scan(vec![scanned(5, 9, 80)], 7)).map_err(|loss| loss.offset), Err(0));
        let mut emptied = scan(vec![], 7);
        emptied.start_offset = 7;
        assert_eq!(plan(&emptied), Ok(Plan { end_offset: 7, cut: None }));
    }
}
