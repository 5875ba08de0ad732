//! The rules of moving, as tables.

use super::*;
use crate::fingerprint::Fingerprint;
use crate::key::{Principal, RecordId};
use crate::record::{Answer, Fence, Listing, Owner, RULES};
use crate::transition::{carried, completed_with, delivered};

const HERE: Timestamp = Timestamp::from_millis(1_000_000_000);
const THERE: Timestamp = Timestamp::from_millis(2_000_000_000);
const ID: RecordId = RecordId::from_bytes([1; 32]);

fn claim() -> Put {
    Put {
        grant: Some(Grant { owner: Owner::from_bytes([1; 16]), new_life: false }),
        listing: Arc::new(Listing {
            principal: Principal::ANONYMOUS,
            kind: "POST".into(),
            host: String::new(),
            path: "/".into(),
            key: "k".into(),
        }),
        rules: RULES,
        fingerprint: Some(Fingerprint::from_bytes([1; 32])),
        state: State::Running,
        policy: Policy::default(),
        checkpoint: None,
        wake_after: None,
        not_after: Timestamp::MAX,
    }
}

/// A record that was stamped ten seconds ago.
fn record(state: State, policy: Policy) -> Record {
    let fingerprint = claim().fingerprint.filter(|_| state != State::Released);
    let put = Put { state, policy, fingerprint, ..claim() };
    put.stamp(ID, None, Timestamp::from_millis(HERE.as_millis() - 10_000))
}

fn done() -> State {
    State::Done(Answer::new("text", "receipt"))
}

fn abandoned() -> State {
    State::Abandoned { reason: "who knows".into() }
}

fn keeps(retention: u64, tombstone: u64) -> Policy {
    Policy {
        retention: Duration::from_secs(retention),
        tombstone: Duration::from_secs(tombstone),
        ..Policy::default()
    }
}

#[test]
fn what_a_record_of_the_old_store_says_of_its_key() {
    let lease = |seconds| Policy { lease: Duration::from_secs(seconds), ..Policy::default() };
    for (state, policy, expected) in [
        (State::Running, lease(11), Standing::Running),
        (State::Running, lease(10), Standing::Movable),
        (abandoned(), lease(30), Standing::Movable),
        (State::Released, lease(30), Standing::Free),
        (done(), keeps(20, 0), Standing::Movable),
        (done(), keeps(5, 6), Standing::Movable),
        (done(), keeps(5, 5), Standing::Free),
        (State::Tombstone, keeps(0, 11), Standing::Movable),
        (State::Tombstone, keeps(0, 10), Standing::Free),
    ] {
        let record = record(state, policy);
        assert_eq!(judge(&record, HERE).unwrap(), expected, "{record:?}");
    }
}

#[test]
fn a_frozen_record_carries_itself_until_it_was_moved_and_nobody_may_run_it_meanwhile() {
    let policy = Policy { unresolved: Unresolved::Rerun, ..Policy::default() };
    let found = record(abandoned(), policy);
    let stopped = frozen(&found).stamp(ID, Some(&found), HERE);
    assert_eq!(judge(&stopped, HERE).unwrap(), Standing::Frozen(Box::new(found.clone())));
    let marked = moved(&stopped).stamp(ID, Some(&stopped), HERE);
    assert_eq!(judge(&marked, HERE).unwrap(), Standing::Moved);
    let marked_before = taken(&claim()).stamp(ID, None, HERE);
    assert_eq!(judge(&marked_before, HERE).unwrap(), Standing::Moved);
    for record in [&stopped, &marked, &marked_before] {
        assert_eq!(record.policy.unresolved, Unresolved::Hold);
        assert_eq!(
            record.fingerprint, found.fingerprint,
            "another request under the key is a misuse as ever"
        );
    }
    let damaged = Record { checkpoint: Some("x".into()), ..stopped };
    assert_eq!(judge(&damaged, HERE).unwrap_err().kind(), crate::ErrorKind::Corrupt);
}

#[test]
fn times_are_moved_as_what_is_left_of_them() {
    let bring = |copy: &Record| brought(copy, HERE, Timestamp::MAX).stamp(ID, None, THERE);
    let brought = |state, policy| bring(&record(state, policy));
    let left = |until| THERE.until(until).as_secs();
    let answered = brought(done(), keeps(20, 30));
    assert_eq!(
        (answered.state.clone(), left(answered.answer_until), left(answered.gone_until)),
        (done(), 10, 40)
    );
    for gone in [brought(done(), keeps(4, 30)), brought(State::Tombstone, keeps(4, 30))] {
        assert_eq!((gone.state.clone(), left(gone.gone_until)), (State::Tombstone, 24));
    }
    let kept_for_ever = Policy { retention: Duration::MAX, tombstone: Duration::MAX, ..Policy::default() };
    let never_gone = brought(done(), kept_for_ever);
    assert_eq!((never_gone.answer_until, never_gone.gone_until), (Timestamp::MAX, Timestamp::MAX));
    let unfinished = brought(State::Running, keeps(20, 30));
    assert!(matches!(unfinished.state, State::Abandoned { .. }));
    assert_eq!(unfinished.policy, keeps(20, 30), "what its claim asked for is for its answer");
    assert_eq!(unfinished.owner, record(State::Running, keeps(20, 30)).owner);
    let sleeping = record(abandoned(), keeps(20, 30));
    let put = Put { wake_after: Some(Duration::from_secs(15)), ..Put::keep(&sleeping, Timestamp::MAX) };
    assert_eq!(left(bring(&put.stamp(ID, None, HERE)).wake_at.unwrap()), 15);
}

#[test]
fn what_an_answer_carries_is_moved_with_it() {
    let policy = keeps(20, 30);
    let held = record(State::Running, policy);
    let put = completed_with(&held, Answer::new("text", "receipt"), "three mails".into(), Timestamp::MAX);
    let long_ago = Timestamp::from_millis(HERE.as_millis() - 1_000_000);
    let copy = put.stamp(ID, Some(&held), long_ago);
    let frozen = frozen(&copy).stamp(ID, Some(&copy), HERE);
    assert!(frozen.wake_at.is_none(), "nobody is woken here any more");
    let Ok(Standing::Frozen(copy)) = judge(&frozen, HERE) else { panic!("{frozen:?}") };
    let put = brought(&copy, HERE, Timestamp::MAX);
    let there = put.stamp(ID, None, THERE);
    assert_eq!((carried(&there), &there.state, there.policy), (Some(&"three mails".into()), &done(), policy));
    assert_eq!(there.wake_at, Some(THERE), "it was due before");
    let over = delivered(&there, Timestamp::MAX).stamp(ID, Some(&there), THERE);
    assert_eq!((carried(&over), THERE.until(over.answer_until).as_secs()), (None, 20));

    let unfinished = record(abandoned(), policy);
    let put = came_after_all(&unfinished, &copy, HERE, Timestamp::MAX).unwrap();
    assert_eq!(carried(&put.stamp(ID, Some(&unfinished), THERE)), Some(&"three mails".into()));
}

#[test]
fn only_an_answer_of_the_same_holder_to_the_same_request_comes_after_all() {
    let copy = record(done(), keeps(20, 30));
    let there = record(abandoned(), keeps(20, 30));
    let put = came_after_all(&there, &copy, HERE, THERE).unwrap();
    assert_eq!((put.grant, put.state, put.not_after), (None, done(), THERE));
    let owner = Owner::from_bytes([9; 16]);
    let fingerprint = Some(Fingerprint::from_bytes([9; 32]));
    for (found, copy) in [
        (Record { owner, ..there.clone() }, copy.clone()),
        (Record { fingerprint, ..there.clone() }, copy.clone()),
        (Record { state: State::Running, ..there.clone() }, copy.clone()),
        (Record { state: State::Released, ..there.clone() }, copy.clone()),
        (Record { state: State::Done(Answer::new("text", "other")), ..there.clone() }, copy),
        (there.clone(), record(done(), keeps(5, 30))),
        (there.clone(), record(State::Tombstone, keeps(20, 30))),
        (there.clone(), there),
    ] {
        assert_eq!(came_after_all(&found, &copy, HERE, THERE), None, "{found:?} {copy:?}");
    }
}

#[test]
fn a_clock_that_is_behind_makes_no_fence_that_is_lower() {
    let found = record(done(), keeps(20, 30));
    let stamped = Timestamp::from_millis(found.fence.0 >> 10);
    assert!(!fences_grow(&found, stamped));
    assert!(fences_grow(&found, stamped.after(Duration::from_millis(1))));
    assert!(fences_grow(&Record { fence: Fence(0), ..found }, Timestamp::from_millis(1)));
}

#[test]
fn a_record_is_shown_on_the_other_clock() {
    let found = record(State::Running, Policy::default());
    let shown = on_the_clock_of(&found, HERE, THERE);
    assert_eq!(THERE.until(shown.lease_until), HERE.until(found.lease_until));
    assert_eq!(shown.created.until(THERE), Duration::from_secs(10));
    assert_eq!(shown.answer_until, Timestamp::MAX);
    assert_eq!(Record { created: found.created, ..on_the_clock_of(&shown, THERE, HERE) }, found);
}

#[test]
fn whose_key_another_one_may_have_is_locked_out() {
    use crate::decide::{Finish, Loss, judge_loss};

    let rerun = Policy { unresolved: Unresolved::Rerun, ..Policy::default() };
    let hold = Policy::default();
    for (state, policy, is_locked_out) in [
        (State::Running, rerun, true),
        (abandoned(), rerun, true),
        (State::Running, hold, false),
        (abandoned(), hold, false),
        (State::Released, hold, true),
        (State::Tombstone, keeps(1, 1), true),
    ] {
        let found = record(state, policy);
        let stops = |standing| matches!(standing, Standing::Free);
        let put = if stops(judge(&found, HERE).unwrap()) { moved(&found) } else { frozen(&found) };
        let marked = put.stamp(ID, Some(&found), HERE);
        let last = moved(&marked).stamp(ID, Some(&marked), HERE);
        for shown in [&marked, &last] {
            let lost = judge_loss(&found, Finish::Complete, Some(shown)) == Loss::Lost;
            assert_eq!(lost, is_locked_out, "{found:?} {shown:?}");
        }
    }
    // An answer that is there may be stored once more: its holder does not know that it is.
    let found = record(done(), keeps(20, 30));
    let marked = frozen(&found).stamp(ID, Some(&found), HERE);
    assert_eq!((marked.owner, marked.fence), (found.owner, found.fence));
}

#[test]
fn a_store_that_is_left_says_so_for_ever_and_in_no_listing() {
    let hash_key = record(done(), keeps(20, 30));
    let kind = crate::store::browse::RESERVED_KIND.into();
    let hash_key =
        Record { listing: Arc::new(Listing { kind, ..Listing::clone(&hash_key.listing) }), ..hash_key };
    let note = leaving(&hash_key).stamp(ID, None, HERE);
    assert_eq!(
        [place(None), place(Some(&hash_key)), place(Some(&note))],
        [Place::Here, Place::Here, Place::Leaving]
    );
    assert!(note.agenda().next().is_none(), "it waits for nothing, and no sweep drops it");
    assert!(!crate::store::Filter::default().matches(&note, HERE));
    let freed = crate::transition::released(&note, Timestamp::MAX).stamp(ID, Some(&note), HERE);
    assert_eq!(place(Some(&freed)), Place::Here);
    let gone = left(&note, "redis://there").stamp(ID, Some(&note), HERE);
    assert_eq!(place(Some(&gone)), Place::Left { to: "redis://there".into() });
    assert!(gone.agenda().next().is_none() && !crate::store::Filter::default().matches(&gone, HERE));
}

#[test]
fn a_note_that_was_touched_is_what_it_was_and_is_not_quiet() {
    let note = leaving(&record(done(), keeps(20, 30))).stamp(ID, None, HERE);
    let later = HERE.after(QUIET);
    assert!(is_quiet(&note, later) && !is_quiet(&note, HERE.after(QUIET - Duration::from_millis(1))));
    let again = touched(&note).stamp(ID, Some(&note), later);
    assert!(place(Some(&again)) == Place::Leaving && again.revision > note.revision);
    assert!(!is_quiet(&again, later));
    assert!(LOOK_EVERY < CLAIM_WITHIN && CLAIM_WITHIN < QUIET, "no claim lands once it is quiet");
}

#[test]
fn where_records_come_back_what_stood_there_before_stands_for_nothing() {
    let note = left(&record(done(), keeps(20, 30)), "there").stamp(ID, None, HERE);
    let old = record(done(), keeps(2_000, 3_000));
    let mark = taken(&claim()).stamp(ID, None, HERE.after(Duration::from_secs(1)));
    for found in [&old, &mark, &frozen(&old).stamp(ID, Some(&old), HERE)] {
        let gone = vacated(found, &note).unwrap().stamp(ID, Some(found), HERE);
        assert!(gone.vacant_at(HERE) && is_vacated(&gone) && gone.owner == Owner::NOBODY, "{gone:?}");
        assert!(gone.fence > found.fence, "who held it is locked out");
        assert_eq!(vacated(&gone, &note), None, "once is enough");
    }
    let newer = old.clone();
    let newer = Put::keep(&newer, Timestamp::MAX).stamp(ID, Some(&newer), HERE.after(Duration::from_secs(1)));
    assert_eq!(vacated(&newer, &note), None, "it was stored after all had left");
    assert!(!is_vacated(&record(State::Tombstone, keeps(0, 0))), "somebody had it");
}
