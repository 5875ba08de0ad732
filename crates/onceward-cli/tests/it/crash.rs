//! `kill -9` at each step of an operation, then a restart over the same records.

use std::io::Read as _;

use crate::client::{get, pay};
use crate::process::{Gateway, Place};
use crate::upstream::{Upstream, answer};
use crate::wait::until;

/// Starts an operation that the upstream holds, kills the gateway there, and starts another one.
fn killed_while_held(upstream: &Upstream, place: &Place, key: &str, hold: &str) -> Gateway {
    let gateway = place.start();
    let caller = pay(key).with("Test-Hold", hold).send_meanwhile(gateway.address);
    upstream.until_arrived(key, 1);
    if hold == "after" {
        upstream.until_effects(key, 1);
    }
    gateway.kill();
    assert!(caller.join().unwrap().is_err(), "nobody can have answered");
    place.start()
}

#[test]
fn a_claim_outlives_a_kill_and_is_in_progress_until_its_lease_is_over() {
    for hold in ["before", "after"] {
        let upstream = Upstream::start();
        let place = Place::before(&upstream.url()).with("policy.lease", "1h").with("policy.run_max", "2h");
        let gateway = killed_while_held(&upstream, &place, "k", hold);
        for _ in 0..3 {
            let refused = gateway.ask(&pay("k"));
            refused.assert_problem(409, "in-progress");
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
        upstream.until_arrived("k", 1);
    }
}

#[test]
fn killed_before_the_effect_is_unresolved_after_the_lease_and_not_run_again() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("policy.lease", "1s");
    let gateway = killed_while_held(&upstream, &place, "k", "before");
    let refused = gateway.ask_until_settled(&pay("k"));
    refused.assert_problem(409, "unresolved");
    assert_eq!(refused.header("retry-after"), None);
    assert_eq!(upstream.effects("k").len(), 0);
    // The upstream may still carry out what it was sent, which is why nobody else may run it.
    upstream.open();
    upstream.until_effects("k", 1);
    gateway.ask(&pay("k")).assert_problem(409, "unresolved");
    upstream.until_arrived("k", 1);
}

#[test]
fn killed_after_the_effect_is_unresolved_after_the_lease_and_not_run_again() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("policy.lease", "1s");
    let gateway = killed_while_held(&upstream, &place, "k", "after");
    gateway.ask_until_settled(&pay("k")).assert_problem(409, "unresolved");
    assert_eq!(gateway.record("k")["state"], "unresolved");
    // The key stays taken for other requests, too.
    gateway.ask(&pay("k").body("{}")).assert_problem(422, "key-reused");
    assert_eq!(upstream.effects("k").len(), 1);
}

#[test]
fn under_rerun_the_next_attempt_after_the_lease_has_a_higher_fence() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("policy.lease", "1s").with("policy.unresolved", "rerun");
    let gateway = killed_while_held(&upstream, &place, "k", "after");
    let answer = gateway.ask_until_settled(&pay("k"));
    answer.assert_first();
    let effects = upstream.effects("k");
    assert_eq!(effects.iter().map(|it| it.attempt).collect::<Vec<_>>(), [1, 2]);
    assert!(effects[0].fence < effects[1].fence, "{effects:?}");
    gateway.ask(&pay("k")).assert_replay_of(&answer);
    assert_eq!(upstream.effects("k").len(), 2);
}

#[test]
fn killed_with_the_answer_stored_and_half_sent_replays_it_byte_for_byte() {
    // More than the buffers of both sockets hold.
    const BYTES: usize = 24 << 20;
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("policy.max_answer", "32MiB");
    let gateway = place.start();
    let mut unread = pay("k").with("Test-Bytes", &BYTES.to_string()).open(gateway.address).unwrap();
    gateway.until_state("k", "done");
    gateway.kill();
    let mut received = Vec::new();
    // How the connection ends says nothing; what had come is what counts.
    let _ = unread.read_to_end(&mut received);
    assert!(received.len() < BYTES, "all of it was sent");
    let gateway = place.start();
    let replay = gateway.ask(&pay("k"));
    assert!(replay.is_replay());
    assert_eq!((replay.status, replay.header("location")), (201, Some("/payments/1")));
    assert!(replay.body == answer(1, BYTES), "the replay is another answer");
    gateway.ask(&pay("k")).assert_replay_of(&replay);
    assert_eq!(upstream.effects("k").len(), 1);
}

#[test]
fn killed_the_moment_the_client_has_its_answer_replays_it() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut given = Vec::new();
    for round in 0..4 {
        let gateway = place.start();
        let key = format!("k-{round}");
        let first = gateway.ask(&pay(&key));
        gateway.kill();
        first.assert_first();
        given.push((key, first));
    }
    let gateway = place.start();
    for (key, first) in given {
        gateway.ask(&pay(&key)).assert_replay_of(&first);
        assert_eq!(upstream.effects(&key).len(), 1);
    }
}

#[test]
fn a_kill_among_many_callers_leaves_no_operation_run_twice() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("policy.lease", "1s");
    let gateway = place.start();
    let keys: Vec<_> = (0..24).map(|it| format!("k-{it}")).collect();
    let callers: Vec<_> = keys.iter().map(|it| pay(it).send_meanwhile(gateway.address)).collect();
    until("some have happened", || keys.iter().any(|it| !upstream.effects(it).is_empty()).then_some(()));
    gateway.kill();
    let answers: Vec<_> = callers.into_iter().map(|it| it.join().unwrap().ok()).collect();
    let gateway = place.start();
    for (key, answer) in keys.iter().zip(answers) {
        let again = gateway.ask_until_settled(&pay(key));
        match (&answer, again.status) {
            (Some(first), _) => again.assert_replay_of(first),
            // Stored and not sent, or never claimed and run now; else nobody knows.
            (None, 201) => {}
            (None, _) => again.assert_problem(409, "unresolved"),
        }
        assert!(upstream.effects(key).len() <= 1, "{key} ran twice");
    }
    assert_eq!(get("/healthz").send(gateway.admin).unwrap().status, 200);
}
