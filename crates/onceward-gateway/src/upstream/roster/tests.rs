//! Each line is a step: what happens, and what must follow.

use super::*;

const A: Id = 1;
const B: Id = 2;
const C: Id = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Seconds that go by.
    Wait(u64),
    Fails(Id),
    Answers(Id),
    /// A request ends that says nothing of the upstream.
    Neither(Id),
    GoodCheck(Id),
    BadCheck(Id),
    /// The candidates must be these; an ejected one that is due stands first.
    Try(&'static [Id]),
    /// What the last step changed.
    Changed(Option<Change>),
}
use Step::{Answers, BadCheck, Changed, Fails, GoodCheck, Neither, Try, Wait};

const fn ejected(seconds: u64) -> Step {
    Changed(Some(Change::Ejected(Duration::from_secs(seconds))))
}
const RETURNED: Step = Changed(Some(Change::Returned));
const NOTHING: Step = Changed(None);

fn rule(after: u32) -> Rule {
    let (pause, pause_max) = (Duration::from_secs(10), Duration::from_secs(60));
    Rule { after, pause, pause_max, check_failures: None }
}

fn check(rule: Rule, ids: &[Id], steps: &[Step]) {
    let mut now = Instant::now();
    let mut roster = Roster::new(rule, ids.iter().copied());
    let mut changed = None;
    for (number, step) in steps.iter().enumerate() {
        let mut end = |id, verdict| {
            // As a request does it: it has a turn because it was offered one.
            let offered = roster.candidates(ids, now).into_iter().find(|it| it.id == id);
            let turn = offered.map_or(Turn::Ordinary, |it| it.turn);
            assert!(turn != Turn::Trial || roster.begin_trial(id, now));
            roster.ended(id, turn, verdict, now)
        };
        match *step {
            Wait(seconds) => now += Duration::from_secs(seconds),
            Fails(id) => changed = end(id, Verdict::Failed),
            Answers(id) => changed = end(id, Verdict::Well),
            Neither(id) => changed = end(id, Verdict::Neither),
            GoodCheck(id) => changed = roster.checked(id, true, now),
            BadCheck(id) => changed = roster.checked(id, false, now),
            Try(expected) => {
                let found: Vec<Id> = roster.candidates(ids, now).iter().map(|it| it.id).collect();
                assert_eq!(found, expected, "step {number}");
                for &only in ids {
                    let listed = Candidate { id: only, turn: roster.turn_of_only(only) };
                    assert_eq!(roster.candidates(&[only], now), [listed], "step {number}");
                }
            }
            Changed(expected) => assert_eq!(changed, expected, "step {number}: {steps:?}"),
        }
    }
}

#[test]
fn failures_in_a_row_eject_and_a_success_in_between_forgives() {
    check(
        rule(3),
        &[A, B],
        &[
            Fails(A),
            Fails(A),
            NOTHING,
            Answers(A),
            Fails(A),
            Fails(A),
            NOTHING,
            Try(&[A, B]),
            Fails(A),
            ejected(10),
            Try(&[B]),
        ],
    );
}

#[test]
fn zero_never_ejects() {
    check(rule(0), &[A, B], &[Fails(A), Fails(A), Fails(A), NOTHING, Try(&[A, B])]);
}

#[test]
fn each_ejection_in_a_row_lasts_twice_as_long_up_to_the_longest() {
    check(
        rule(1),
        &[A, B],
        &[
            Fails(A),
            ejected(10),
            Wait(9),
            Try(&[B]),
            Wait(1),
            Try(&[A, B]),
            Fails(A),
            ejected(20),
            Wait(19),
            Try(&[B]),
            Wait(1),
            Fails(A),
            ejected(40),
            Wait(40),
            Fails(A),
            ejected(60),
            Wait(60),
            Fails(A),
            ejected(60),
            Wait(60),
            // A success resets.
            Answers(A),
            RETURNED,
            Try(&[A, B]),
            Fails(A),
            ejected(10),
        ],
    );
}

#[test]
fn after_the_pause_one_request_tries_and_no_other() {
    let now = Instant::now();
    let mut roster = Roster::new(rule(1), [A, B]);
    roster.ended(A, Turn::Ordinary, Verdict::Failed, now);
    let later = now + Duration::from_secs(10);
    let trial = Candidate { id: A, turn: Turn::Trial };
    let ordinary = Candidate { id: B, turn: Turn::Ordinary };
    assert_eq!(roster.candidates(&[A, B], later), [trial, ordinary]);
    assert_eq!(roster.candidates(&[B, A], later), [trial, ordinary]);
    assert!(roster.begin_trial(A, later));
    assert!(!roster.begin_trial(A, later));
    assert_eq!(roster.candidates(&[A, B], later), [ordinary]);
    // A request that was under way when it was ejected neither returns it nor ends the trial.
    assert_eq!(roster.ended(A, Turn::Ordinary, Verdict::Well, later), None);
    assert_eq!(roster.ended(A, Turn::Ordinary, Verdict::Neither, later), None);
    assert_eq!(roster.candidates(&[A, B], later), [ordinary]);
    assert_eq!(roster.ended(A, Turn::Trial, Verdict::Well, later), Some(Change::Returned));
}

#[test]
fn a_trial_that_shows_nothing_leaves_the_next_request_to_try() {
    check(rule(1), &[A, B], &[Fails(A), Wait(10), Neither(A), NOTHING, Try(&[A, B]), Answers(A), RETURNED]);
}

#[test]
fn the_last_one_is_never_ejected_and_all_are_tried_least_recently_failed_first() {
    check(rule(2), &[A], &[Fails(A), Fails(A), Fails(A), NOTHING, Try(&[A])]);
    check(
        rule(2),
        &[A, B, C],
        &[
            Fails(B),
            Fails(B),
            ejected(10),
            Wait(1),
            Fails(A),
            Fails(A),
            ejected(10),
            Wait(1),
            Try(&[C]),
            Fails(C),
            NOTHING,
            Try(&[C]),
            Fails(C),
            NOTHING,
            Try(&[B, A, C]),
            // Any success ends it.
            Wait(1),
            Fails(B),
            Try(&[A, C, B]),
            Answers(A),
            RETURNED,
            Try(&[A, C]),
            // The failing one may go now that another is well.
            Fails(C),
            ejected(10),
            Try(&[A]),
        ],
    );
}

#[test]
fn bad_checks_eject_and_a_good_one_returns() {
    let checked = Rule { check_failures: Some(2), ..rule(1) };
    check(
        checked,
        &[A, B],
        &[
            BadCheck(A),
            NOTHING,
            GoodCheck(A),
            NOTHING,
            BadCheck(A),
            NOTHING,
            BadCheck(A),
            ejected(10),
            Try(&[B]),
            // No request is risked where checks tell.
            Wait(20),
            Try(&[B]),
            BadCheck(A),
            NOTHING,
            GoodCheck(A),
            RETURNED,
            Try(&[A, B]),
            // What requests have found wrong stays out for its while, whatever checks say.
            Fails(A),
            ejected(20),
            GoodCheck(A),
            NOTHING,
            Wait(20),
            Try(&[B]),
            GoodCheck(A),
            RETURNED,
        ],
    );
    check(
        checked,
        &[A, B],
        &[
            BadCheck(A),
            BadCheck(A),
            ejected(10),
            BadCheck(B),
            BadCheck(B),
            NOTHING,
            Try(&[A, B]),
            GoodCheck(B),
            Try(&[B]),
        ],
    );
}

#[test]
fn who_stays_keeps_its_health_and_who_left_is_forgotten() {
    let now = Instant::now();
    let mut roster = Roster::new(rule(1), [A, B]);
    roster.ended(A, Turn::Ordinary, Verdict::Failed, now);
    roster.replace(rule(1), [A, C]);
    let well: Vec<Id> = roster.candidates(&[A, C], now).iter().map(|it| it.id).collect();
    assert_eq!(well, [C]);
    assert_eq!(roster.ended(B, Turn::Ordinary, Verdict::Failed, now), None);
    assert_eq!(roster.out_for(A, now), Some(Duration::from_secs(10)));
    assert_eq!(roster.out_for(B, now), None);
}
