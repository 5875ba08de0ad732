//! The short lane: the quick setups, and every rule that is broken on purpose.

use std::num::NonZero;

use onceward_model::{Promise, calm, explore, limits, mutants, never_settles, setups, shortest};

/// Explores a setup whole: every promise holds, and everything that should be seen is.
fn holds(name: &str) {
    let setup = setups().into_iter().find(|it| it.name == name && it.quick).expect("a quick setup");
    let explored = explore(&setup, NonZero::<usize>::MIN, &[]);
    let broken = explored.broken.first().map(|it| (it.name(), shortest(&setup, *it)));
    assert_eq!(broken, None);
    assert_eq!(explored.unseen, []);
}

/// Looks from every reachable state of a setup whether all settles.
fn settles(name: &str) {
    let setup = setups().into_iter().find(|it| it.name == name && it.quick).expect("a quick setup");
    let calm = calm(&setup);
    assert_eq!(calm.stuck, None);
    assert!(calm.reachable > 10_000, "only {} states", calm.reachable);
}

/// Explores a broken rule until it has broken what it must. Without their mutation these are setups, or parts of
/// setups, that hold: see the tests above.
fn breaks(name: &str, promises: &[Promise]) {
    let all = mutants().into_iter().chain(limits());
    let broken = all.into_iter().find(|it| it.setup.name == name).expect("a broken rule");
    assert_eq!(broken.breaks, promises);
    let explored = explore(&broken.setup, NonZero::<usize>::MIN, promises);
    for promise in promises {
        assert!(explored.broken.contains(promise), "{} is kept", promise.name());
        assert!(shortest(&broken.setup, *promise).is_some_and(|it| it.len() > 3));
    }
}

#[test]
fn two_attempts_under_hold_keep_every_promise() {
    holds("hold, 2 attempts");
}

#[test]
fn renewals_and_saves_keep_every_promise() {
    holds("hold, 2 attempts, a renewal and a save");
}

#[test]
fn the_stricter_policy_keeps_every_promise() {
    holds("first rerun, then hold");
}

#[test]
fn two_attempts_under_rerun_keep_every_promise() {
    holds("rerun, 2 attempts");
}

#[test]
fn a_sweep_keeps_every_promise() {
    holds("hold, 2 attempts, swept");
}

#[test]
fn an_operator_keeps_every_promise() {
    holds("hold, 2 attempts, operator");
}

#[test]
fn a_lost_tail_keeps_what_does_not_need_it() {
    holds("hold, 2 attempts, the store loses its tail");
}

#[test]
fn a_release_that_deletes_grants_to_an_attempt_that_has_ended() {
    breaks("a release deletes the record", &[Promise::EndedAttempt]);
}

#[test]
fn revisions_that_count_from_one_repeat() {
    breaks("revisions count from 1", &[Promise::RevisionsGrow]);
}

#[test]
fn a_sweep_from_a_stale_list_removes_what_it_never_saw() {
    breaks("a sweep acts on a stale list", &[Promise::Sweep]);
}

#[test]
fn without_not_after_a_late_call_claims_for_an_attempt_that_has_ended() {
    breaks("no not_after", &[Promise::EndedAttempt]);
}

#[test]
fn fences_without_time_repeat() {
    breaks("fences without time", &[Promise::FencesGrow]);
}

#[test]
fn a_shared_owner_token_runs_twice() {
    breaks("two attempts share an owner token", &[Promise::OneEffectUnderHold]);
}

#[test]
fn the_policy_of_the_later_attempt_runs_twice() {
    breaks("the policy of the later attempt decides", &[Promise::OneEffectUnderHold]);
}

#[test]
fn an_operator_without_the_revision_changes_what_was_never_shown() {
    breaks("an operator without the revision", &[Promise::Operator]);
}

#[test]
fn an_answer_told_before_it_is_stored_is_told_twice_and_differs() {
    breaks("the answer is told before it is stored", &[Promise::ToldIsStored, Promise::OneAnswer]);
}

#[test]
fn rerun_needs_a_far_side_that_does_something_about_repeats() {
    breaks("rerun, the far side ignores fences and repeats", &[Promise::OneEffectUnderRerun]);
}

#[test]
fn a_fence_alone_does_not_count_effects() {
    breaks("rerun, the far side only refuses lower fences", &[Promise::OneEffectUnderRerun]);
}

#[test]
fn first_answers_alone_let_a_late_effect_contradict_the_stored_answer() {
    breaks("rerun, the far side only dedups", &[Promise::AnswerIsTrue]);
}

#[test]
fn a_release_after_an_unknown_outcome_hides_it() {
    breaks("a release frees what is unknown", &[Promise::UnknownStays]);
}

#[test]
fn a_holder_that_goes_on_after_its_loss_overwrites_an_answer() {
    breaks("a holder goes on after its loss", &[Promise::OldHolder, Promise::FinalAnswer]);
}

#[test]
fn an_insert_that_overwrites_grants_twice() {
    breaks("an insert overwrites", &[Promise::Exclusive, Promise::FinalAnswer]);
}

#[test]
fn a_lost_write_repeats_an_effect_also_under_hold() {
    breaks("hold, an acknowledged write is lost", &[Promise::OneEffectUnderHold]);
}

#[test]
fn a_clock_behind_a_lost_write_repeats_its_numbers() {
    breaks(
        "an acknowledged write is lost, the clock is not ahead",
        &[Promise::FencesGrow, Promise::RevisionsGrow],
    );
}

#[test]
fn once_faults_stop_everything_settles_under_hold() {
    settles("hold, 2 attempts");
}

#[test]
fn once_faults_stop_everything_settles_under_rerun() {
    settles("rerun, 2 attempts");
}

#[test]
fn once_faults_stop_everything_settles_after_an_operator() {
    settles("hold, 2 attempts, operator");
}

#[test]
fn a_lease_that_never_ends_never_settles() {
    assert!(calm(&never_settles()).stuck.is_some());
}

#[test]
fn every_promise_is_broken_by_some_mutant() {
    let broken: Vec<_> = mutants().into_iter().flat_map(|it| it.breaks).collect();
    let safe: Vec<_> = Promise::ALL.into_iter().filter(|it| !broken.contains(it)).collect();
    assert_eq!(safe, []);
}
