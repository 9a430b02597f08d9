//! Whole runs: a few dozen seeds must be clean, and the same seed must do the same twice.

use super::*;

fn outcome(seed: u64) -> Outcome {
    run(&Run { seed, ..Run::default() })
}

/// Promise: P1, P3, P5, P7, P11.
#[test]
fn a_few_dozen_seeds_are_clean() {
    let mut totals = Totals::default();
    for seed in 0..24 {
        let outcome = outcome(seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
        totals.add(&outcome.totals);
    }
    assert!(totals.confirmed > 1_000, "{totals:?}");
    assert!(totals.crashes > 20, "{totals:?}");
}

#[test]
fn the_same_seed_does_the_same_twice() {
    for seed in 100..104 {
        let (one, other) = (outcome(seed), outcome(seed));
        assert_eq!(one.hash, other.hash, "seed {seed}");
        assert_eq!(one.totals, other.totals, "seed {seed}");
    }
    assert_ne!(outcome(1).hash, outcome(2).hash);
}
