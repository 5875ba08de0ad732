//! The short lane: a few hundred seeds, and a look at whether enough happened in them.

use std::collections::BTreeMap;

use onceward_simulation::{Options, run};

/// Runs these seeds; none may break a promise. Tells how often what happened.
fn clean(seeds: std::ops::Range<u64>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for seed in seeds {
        let report = run(seed, Options::default());
        assert!(
            report.violations.is_empty(),
            "seed {seed}: {:?}\nreplay: cargo run --release -p onceward-simulation -- --seed {seed} --trace",
            report.violations
        );
        for (what, count) in report.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    counts
}

#[test]
fn no_promise_is_broken_in_the_first_seeds() {
    clean(0..60);
}

#[test]
fn no_promise_is_broken_in_the_next_seeds() {
    clean(60..120);
}

#[test]
fn no_promise_is_broken_in_the_last_seeds_and_enough_happens_in_them() {
    let counts = clean(120..200);
    for what in [
        "fault: partition",
        "fault: loss",
        "fault: kill of a gateway",
        "fault: power cut of a gateway",
        "fault: restart of a gateway",
        "store: late",
        "store: reply lost",
        "store: twice",
        "store: taken over",
        "store: abandoned",
        "store: released",
        "upstream: cuts after the effect",
        "upstream: hangs after the effect",
        "upstream: closes the idle connection",
        "told: 409 in-progress",
        "told: 409 unresolved",
        "told: 422 key-reused",
        "told: 504 outcome-unresolved",
        "told: replay, final",
        "settled: answered",
        "settled: unresolved",
    ] {
        assert!(counts.contains_key(what), "{what} never happens: {counts:#?}");
    }
}
