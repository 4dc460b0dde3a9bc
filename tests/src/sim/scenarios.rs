//! Seeds that failed once, and what they found. What a seed does changes when the simulator draws something more, so
//! each defect has a test of its own where it was mended as well.

use super::run::{Options, run};

const FOUND: [(u64, &str); 5] = [
    (68, "log: a power cut took the first segment, and what was left passed for the whole log (LOG-2)"),
    (
        93,
        "log: bytes of an append that a full disk refused came back in the middle of the log after a power cut (LOG-7)",
    ),
    (544, "the same: a consumer at offset 0 never got anywhere"),
    (805, "the same, of one partition of several"),
    (2126, "log: the name of a data directory's parent was not synced, a power cut took everything (LOG-6)"),
];

#[test]
fn what_failed_once_holds() {
    for (seed, found) in FOUND {
        let outcome = run(seed, Options::default());
        assert!(outcome.violation.is_none(), "seed {seed}, which found {found:?}: {:?}", outcome.violation);
    }
}
