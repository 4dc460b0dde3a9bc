//! The gate: what nobody notices, nothing protects.

use super::crash::{SIZES, crash_everywhere};
use super::fold::{acts, live};
use headwater_mutants::{Mutant, without};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Random lives that are tried; most rules are missed in the first few.
const LIVES: usize = 200;

/// Whether leaving out the rule makes a crash or a life fail.
fn is_noticed(mutant: Mutant) -> bool {
    let mut runner = TestRunner::deterministic();
    let lives = (0..LIVES).map(|_| acts().new_tree(&mut runner).map(|tree| tree.current()));
    let fails = |run: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(|| without(Some(mutant), run))).is_err();
    let is_of_crashes = mutant.rule() == "LOG-5";
    let is_seen_by_crashes = is_of_crashes
        && SIZES
            .iter()
            .any(|(segment_bytes, dedupe_bytes)| fails(&mut || drop(crash_everywhere(*segment_bytes, *dedupe_bytes))));
    is_seen_by_crashes || lives.flatten().any(|life| fails(&mut || live(life.clone())))
}

#[test]
fn each_rule_of_the_cleaner_left_out_is_noticed() {
    let missed: Vec<&str> =
        Mutant::OF_CLEANER.iter().filter(|mutant| !is_noticed(**mutant)).map(|mutant| mutant.name()).collect();
    assert!(missed.is_empty(), "not noticed: {}", missed.join(", "));
}
