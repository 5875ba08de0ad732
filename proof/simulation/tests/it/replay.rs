//! A seed that fails can be looked at again.

use onceward_simulation::{Break, Options, Report, run};

fn traced(seed: u64, broken: Option<Break>) -> Report {
    run(seed, Options { broken, tracing: true })
}

/// Runs the seed twice and compares the traces event for event.
fn check(seed: u64, broken: Option<Break>) {
    let (once, again) = (traced(seed, broken), traced(seed, broken));
    assert!(!once.events.is_empty());
    for (at, (once, again)) in once.events.iter().zip(&again.events).enumerate() {
        assert_eq!(once, again, "seed {seed}, event {at}");
    }
    assert_eq!(once.events.len(), again.events.len(), "seed {seed}");
    assert_eq!(once.counts, again.counts, "seed {seed}");
    assert_eq!(once.violations, again.violations, "seed {seed}");
    assert_eq!(once.simulated, again.simulated, "seed {seed}");
}

#[test]
fn the_same_seed_is_the_same_run_event_for_event() {
    for seed in 1000..1025 {
        check(seed, None);
    }
}

#[test]
fn another_seed_is_another_run() {
    assert_ne!(traced(1, None).events, traced(2, None).events);
}

#[test]
fn keeping_the_trace_changes_nothing() {
    for seed in 0..5 {
        let (with, without) = (traced(seed, None), run(seed, Options::default()));
        assert!(without.events.is_empty());
        assert_eq!((with.counts, with.simulated), (without.counts, without.simulated), "seed {seed}");
    }
}

#[test]
fn a_failing_seed_fails_again_in_the_same_way() {
    let fails = |seed| !traced(seed, Some(Break::ToldBeforeStored)).violations.is_empty();
    let seed = (0..100).find(|it| fails(*it)).expect("this break is found soon");
    check(seed, Some(Break::ToldBeforeStored));
}
