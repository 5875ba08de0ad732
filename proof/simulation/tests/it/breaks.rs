//! Each break is found, and for what it is.

use onceward_simulation::{Break, Options, Violation, run};

/// How many seeds a break may stay hidden.
const SEEDS: u64 = 150;

/// The break shows itself within [`SEEDS`] seeds, first as one of these.
fn found(broken: Break, as_one_of: &[Violation]) {
    for seed in 0..SEEDS {
        let report = run(seed, Options { broken: Some(broken), tracing: false });
        if let Some((violation, why)) = report.violations.first() {
            println!("{broken:?}: seed {seed}: {violation:?}: {why}");
            assert!(as_one_of.contains(violation), "{broken:?} looks like {violation:?}: {why}");
            return;
        }
    }
    panic!("{broken:?} was not found in {SEEDS} seeds");
}

#[test]
fn a_claim_that_looks_first_and_writes_then_is_found() {
    use Violation::{Granted, Overwritten, TwoAnswers, TwoEffects, WrongAnswer};
    found(Break::GetThenSet, &[Granted, Overwritten, TwoAnswers, TwoEffects, WrongAnswer]);
}

#[test]
fn an_answer_told_before_it_is_stored_is_found() {
    found(Break::ToldBeforeStored, &[Violation::ToldNotStored]);
}

#[test]
fn records_that_die_with_a_gateway_are_found() {
    use Violation::{ReleasedWithEffect, ToldNotStored, TwoAnswers, TwoEffects, WrongAnswer};
    // Without its record a key is free, also for another payload.
    let loss = [TwoEffects, TwoAnswers, ToldNotStored, ReleasedWithEffect, WrongAnswer];
    found(Break::RecordsDieWithGateway, &loss);
}

#[test]
fn an_owner_token_that_two_attempts_share_is_found() {
    found(Break::SameOwner, &[Violation::SentTwice, Violation::TwoEffects]);
}

#[test]
fn a_fence_that_does_not_grow_is_found() {
    found(Break::SameFence, &[Violation::SentTwice, Violation::NotGrown]);
}

#[test]
fn a_store_that_forgets_what_was_asked_is_found() {
    found(Break::NoFingerprint, &[Violation::WrongAnswer]);
}

#[test]
fn a_library_that_repeats_requests_is_found() {
    found(Break::RepeatsRequests, &[Violation::SentTwice, Violation::TwoEffects]);
}

#[test]
fn a_gateway_that_gives_nobody_up_is_found() {
    found(Break::NoTimeLimits, &[Violation::Stuck, Violation::Leaked, Violation::NotStopped]);
}

#[test]
fn an_ambiguous_answer_that_frees_the_key_is_found() {
    found(Break::AmbiguousReleases, &[Violation::ReleasedWithEffect, Violation::TwoEffects]);
}
