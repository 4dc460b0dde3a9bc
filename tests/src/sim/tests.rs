//! The simulator's own promises.

use super::campaign::Campaign;
use super::rng::Rng;
use super::run::{Options, run, run_shape};
use super::shape::Shape;

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

// Real wasm, which pays with fuel, is as much a function of the seed.
#[test]
fn compiled_guests_give_the_same_run_too() {
    let run_compiled = |seed| {
        let mut rng = Rng::new(seed);
        let mut shape = Shape::draw(&mut rng);
        (shape.compiled, shape.processors) = (true, 2);
        run_shape(seed, shape, rng, Options::default())
    };
    let mut steps = 0;
    for seed in 0..8 {
        let (first, second) = (run_compiled(seed), run_compiled(seed));
        assert!(first.violation.is_none(), "seed {seed}: {:?}", first.violation);
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        steps += first.steps;
    }
    assert!(steps > 100, "{steps}");
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
