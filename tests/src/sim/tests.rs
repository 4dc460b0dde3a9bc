//! The simulator's own promises.

use super::campaign::Campaign;
use super::run::{Options, run};

// The determinism gate: nothing but the seed decides.
#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..6 {
        let (first, second) = (run(seed, Options::default()), run(seed, Options::default()));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert!(first.events > 100, "something happened");
        let kept = run(seed, Options { kept: 10, keeps_history: true, ..Options::default() });
        assert_eq!(kept.hash, first.hash, "whether lines are kept makes no difference");
    }
}

#[test]
fn different_seeds_give_different_runs() {
    let hashes: std::collections::BTreeSet<u64> = (0..10).map(|seed| run(seed, Options::default()).hash).collect();
    assert_eq!(hashes.len(), 10);
}

// Everything in reliability §3 that one broker can be tried under: see the checkers for the rules.
#[test]
fn two_thousand_seeds_hold() {
    let summary = Campaign::new(0, 2000).run(&|_| {});
    if let Some(outcome) = summary.failures.first() {
        let (seed, violation, lines) = (outcome.seed, &outcome.violation, outcome.last.join("\n"));
        panic!("seed {seed}: {violation:?}\n{lines}\nreplay: cargo xtask sim --seed {seed}");
    }
    assert_eq!(summary.seeds, 2000);
    println!("{summary}");
}
