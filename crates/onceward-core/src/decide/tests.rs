//! The contract as tables: one line a case.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::key::{Principal, RecordId};
use crate::record::{Fence, Listing, RULES};
use crate::store::{Grant, Put};

const NOW: u64 = 1_000_000_000;
const ME: Owner = Owner::from_bytes([1; 16]);
const OTHER: Owner = Owner::from_bytes([2; 16]);
const SAME: Fingerprint = Fingerprint::from_bytes([1; 32]);
const CHANGED: Fingerprint = Fingerprint::from_bytes([2; 32]);

fn at(seconds_from_now: i64) -> Timestamp {
    Timestamp::from_millis(NOW.saturating_add_signed(seconds_from_now * 1000))
}

fn policy(unresolved: Unresolved) -> Policy {
    Policy {
        lease: Duration::from_secs(10),
        run_max: Duration::from_secs(60),
        retention: Duration::from_secs(100),
        tombstone: Duration::from_secs(100),
        unresolved,
    }
}

fn answer() -> Answer {
    Answer::new("json", b"1".as_slice())
}

/// A record as a store stamped it `age` seconds ago.
fn record(state: State, age: i64, unresolved: Unresolved) -> Record {
    let put = Put {
        grant: Some(Grant { owner: OTHER, new_life: false }),
        listing: Arc::new(Listing {
            principal: Principal::ANONYMOUS,
            kind: "POST".into(),
            host: String::new(),
            path: "/".into(),
            key: "k".into(),
        }),
        rules: RULES,
        fingerprint: (state != State::Released).then_some(SAME),
        state,
        policy: policy(unresolved),
        checkpoint: None,
        wake_after: None,
        not_after: Timestamp::MAX,
    };
    put.stamp(RecordId::from_bytes([0; 32]), None, at(-age))
}

fn abandoned() -> State {
    State::Abandoned { reason: "x".into() }
}

fn done() -> State {
    State::Done(answer())
}

fn claim(fingerprint: Fingerprint, unresolved: Unresolved) -> Claim {
    Claim { owner: ME, fingerprint, policy: policy(unresolved) }
}

#[test]
fn what_a_repeat_gets_follows_the_contract() {
    use Unresolved::Hold;
    let take_over = |new_life| Decision::TakeOver { new_life, policy: policy(Hold) };
    let busy = |age: i64| Decision::Busy { until: at(10 - age) };
    #[rustfmt::skip]
    let table = [
        // found        age   asked     expected
        (State::Running,  0, SAME,    busy(0)),
        (State::Running,  9, SAME,    busy(9)),
        (State::Running, 10, SAME,    Decision::Unresolved),
        (State::Running, 99, SAME,    Decision::Unresolved),
        (State::Running,  0, CHANGED, Decision::Mismatch),
        (State::Running, 99, CHANGED, Decision::Mismatch),
        (abandoned(),     0, SAME,    Decision::Unresolved),
        (abandoned(),     0, CHANGED, Decision::Mismatch),
        (abandoned(), 99999, SAME,    Decision::Unresolved),
        (State::Released, 0, SAME,    take_over(false)),
        (State::Released, 0, CHANGED, take_over(false)),
        (State::Released, 9999, SAME, take_over(false)),
        (done(),          0, SAME,    Decision::Replay(answer())),
        (done(),         99, SAME,    Decision::Replay(answer())),
        (done(),        100, SAME,    Decision::Gone),
        (done(),        199, SAME,    Decision::Gone),
        (done(),        200, SAME,    take_over(true)),
        (done(),          0, CHANGED, Decision::Mismatch),
        (done(),        150, CHANGED, Decision::Mismatch),
        (done(),        200, CHANGED, take_over(true)),
        (State::Tombstone, 150, SAME, Decision::Gone),
        (State::Tombstone, 150, CHANGED, Decision::Mismatch),
        (State::Tombstone, 200, SAME, take_over(true)),
    ];
    for (state, age, asked, expected) in table {
        let found = record(state, age, Hold);
        assert_eq!(decide(&found, &claim(asked, Hold), at(0)), expected, "{found:?} after {age} s");
    }
}

#[test]
fn an_unknown_outcome_is_rerun_only_when_record_and_attempt_both_say_so() {
    use Unresolved::{Hold, Rerun};
    for state in [State::Running, abandoned()] {
        for (recorded, asked, expected) in [
            (Hold, Hold, Decision::Unresolved),
            (Hold, Rerun, Decision::Unresolved),
            (Rerun, Hold, Decision::Unresolved),
            (Rerun, Rerun, Decision::TakeOver { new_life: false, policy: policy(Rerun) }),
        ] {
            let found = record(state.clone(), 50, recorded);
            assert_eq!(decide(&found, &claim(SAME, asked), at(0)), expected, "{recorded:?} {asked:?}");
        }
    }
}

#[test]
fn where_nobody_knows_what_was_asked_only_an_operator_lets_it_run_again() {
    use Unresolved::{Hold, Rerun};
    #[rustfmt::skip]
    let table = [
        // found          age  recorded asked  expected
        (abandoned(),       0, Hold,  Hold,  Decision::Unresolved),
        (abandoned(),   99999, Hold,  Rerun, Decision::Unresolved),
        (abandoned(),       0, Rerun, Rerun, Decision::Unresolved),
        (abandoned(),   99999, Rerun, Rerun, Decision::Unresolved),
        (State::Running,    0, Rerun, Rerun, Decision::Busy { until: at(10) }),
        (State::Running,   99, Rerun, Rerun, Decision::Unresolved),
        // What an operator made of it.
        (done(),            0, Hold,  Hold,  Decision::Replay(answer())),
        (done(),          100, Hold,  Hold,  Decision::Gone),
        (State::Tombstone, 150, Hold, Hold,  Decision::Gone),
        (State::Tombstone, 200, Hold, Hold,  Decision::TakeOver { new_life: true, policy: policy(Hold) }),
        (State::Released,   0, Hold,  Rerun, Decision::TakeOver { new_life: false, policy: policy(Rerun) }),
    ];
    for (state, age, recorded, asked, expected) in table {
        let found = Record { fingerprint: None, ..record(state, age, recorded) };
        assert_eq!(decide(&found, &claim(SAME, asked), at(0)), expected, "{found:?} after {age} s");
        let verdict = judge_verdict(&found, &Verdict::Rerun, false, at(0));
        assert_eq!(verdict == Verdicts::Allowed, expected == Decision::Unresolved, "{found:?}");
    }
}

#[test]
fn only_the_begin_that_was_granted_gets_its_permit_back() {
    let found = record(State::Running, 5, Unresolved::Hold);
    let mine = Claim { owner: OTHER, ..claim(SAME, Unresolved::Hold) };
    assert_eq!(decide(&found, &mine, at(0)), Decision::Yours);
    let late = record(State::Running, 50, Unresolved::Hold);
    assert!(matches!(decide(&late, &mine, at(0)), Decision::TakeOver { new_life: false, .. }));
}

#[test]
fn a_lost_swap_is_judged_by_owner_and_fence() {
    let held = record(State::Running, 5, Unresolved::Hold);
    let later = |change: fn(&mut Record)| {
        let mut it = held.clone();
        it.revision = Revision(it.revision.0 + 1);
        change(&mut it);
        it
    };
    let mine_running = later(|_| {});
    let mine_abandoned = later(|it| it.state = abandoned());
    let mine_done = later(|it| it.state = done());
    let mine_released = later(|it| (it.state, it.fingerprint) = (State::Released, None));
    let other_owner = later(|it| it.owner = ME);
    let other_fence = later(|it| it.fence = Fence(it.fence.0 + 1));
    let other_done = later(|it| (it.owner, it.state) = (ME, done()));
    let other_asked = later(|it| (it.owner, it.state, it.fingerprint) = (ME, done(), Some(CHANGED)));
    let again = Loss::Again(mine_running.revision);
    use Finish::{Abandon, Complete, Release, Renew};
    #[rustfmt::skip]
    let table = [
        (Renew,    Some(&mine_running),   again.clone()),
        (Complete, Some(&mine_running),   again.clone()),
        (Release,  Some(&mine_running),   again.clone()),
        (Abandon,  Some(&mine_running),   again.clone()),
        (Renew,    Some(&mine_abandoned), Loss::Lost),
        (Complete, Some(&mine_abandoned), again.clone()),
        (Release,  Some(&mine_abandoned), Loss::Lost),
        (Abandon,  Some(&mine_abandoned), Loss::AlreadySo),
        (Renew,    Some(&mine_done),      Loss::Lost),
        (Complete, Some(&mine_done),      Loss::Stands(answer())),
        (Release,  Some(&mine_done),      Loss::Lost),
        (Abandon,  Some(&mine_done),      Loss::Lost),
        (Release,  Some(&mine_released),  Loss::AlreadySo),
        (Complete, Some(&mine_released),  Loss::Lost),
        (Renew,    Some(&other_owner),    Loss::Lost),
        (Complete, Some(&other_owner),    Loss::Lost),
        (Complete, Some(&other_fence),    Loss::Lost),
        (Release,  Some(&other_fence),    Loss::Lost),
        (Complete, Some(&other_done),     Loss::Stands(answer())),
        (Complete, Some(&other_asked),    Loss::Lost),
        (Complete, None,                  Loss::Lost),
        (Release,  None,                  Loss::Lost),
    ];
    for (wanted, shown, expected) in table {
        assert_eq!(judge_loss(&held, wanted, shown), expected, "{wanted:?} {shown:?}");
    }
}

#[test]
fn an_operator_needs_force_only_while_a_lease_is_alive() {
    let rerun = Verdict::Rerun;
    let answered = Verdict::Answer(answer());
    use Unresolved::Hold;
    #[rustfmt::skip]
    let table = [
        (State::Running,  5, &rerun,           false, Verdicts::LeaseAlive),
        (State::Running,  5, &Verdict::Remove, false, Verdicts::LeaseAlive),
        (State::Running,  5, &rerun,           true,  Verdicts::Allowed),
        (State::Running, 50, &rerun,           false, Verdicts::Allowed),
        (State::Running, 50, &answered,        false, Verdicts::Allowed),
        (abandoned(),     0, &answered,        false, Verdicts::Allowed),
        (done(),          0, &rerun,           true,  Verdicts::NothingToResolve),
        (done(),          0, &answered,        true,  Verdicts::NothingToResolve),
        (done(),          0, &Verdict::Remove, false, Verdicts::Allowed),
        (State::Released, 0, &rerun,           false, Verdicts::NothingToResolve),
    ];
    for (state, age, verdict, forced, expected) in table {
        let found = record(state, age, Hold);
        assert_eq!(judge_verdict(&found, verdict, forced, at(0)), expected, "{found:?} {verdict:?}");
    }
}
