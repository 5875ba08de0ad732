//! How many operations one principal may have in flight.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::IntoResponse;
use http::StatusCode;
use onceward_core::InFlight;
use onceward_http::Told;
use onceward_testkit::{Fault, Op, eventually};

use crate::world::{Ask, STORE_PATIENCE, Seen, World, let_through, paid, paid_after, pay, policy, turnstile};

fn by(ask: Ask, who: &str) -> Ask {
    ask.header("x-api-key", who)
}

/// A caller that is gone once its request has had its effect, the `nth` of the world.
async fn leave_at(world: &World, ask: Ask, nth: usize) {
    tokio::select! {
        got = world.send(ask) => panic!("it stands at the turnstile: {got:?}"),
        () = world.until_effects(nth) => {}
    }
}

/// Nobody's places are taken.
async fn assert_free(world: &World) {
    eventually(async || world.layer.principals_in_flight() == 0).await;
}

#[tokio::test]
async fn one_more_than_the_bound_is_refused_before_any_claim_and_others_go_on() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    world.layer.set_keys_in_flight(2);
    let (first, second) = (world.send_aside(by(pay("k1"), "a")), world.send_aside(by(pay("k2"), "a")));
    world.until_effects(2).await;
    world.store.forget();
    for key in ["k1", "k2", "k3"] {
        let got = world.send(by(pay(key), "a")).await;
        got.assert_problem(429, "too-many-in-flight");
        assert_eq!((got.told(), got.header("retry-after")), (Told::Refused, Some("1")));
    }
    assert_eq!(world.store.log(), [], "the store is not asked");
    let other = world.send_aside(by(pay("k1"), "b"));
    world.until_effects(3).await;
    gate.add_permits(3);
    for sent in [first, second, other] {
        sent.got().await.assert_first(201);
    }
    let_through(&gate);
    world.send(by(pay("k3"), "a")).await.assert_first(201);
    assert_free(&world).await;
}

#[tokio::test]
async fn callers_without_a_credential_are_not_counted_together() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    world.layer.set_keys_in_flight(1);
    let sent: Vec<_> = (0..20).map(|nth| world.send_aside(pay(&format!("k{nth}")))).collect();
    world.until_effects(20).await;
    gate.add_permits(20);
    for it in sent {
        it.got().await.assert_first(201);
    }
}

/// The next request of a caller that has its answer finds the place free.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_after_the_other_is_never_too_many() {
    let world = World::new(paid);
    world.layer.set_keys_in_flight(1);
    for nth in 0..300 {
        let got = world.send(by(pay(&format!("k{}", nth / 2)), "a")).await;
        assert_eq!(got.status, StatusCode::CREATED, "{got:?}");
    }
    assert_free(&world).await;
}

#[tokio::test]
async fn a_duplicate_that_waits_takes_a_place() {
    let gate = turnstile();
    let world =
        World::under(policy(|it| it.in_flight = InFlight::Wait(Duration::from_secs(10))), paid_after(&gate));
    world.layer.set_keys_in_flight(2);
    let first = world.send_aside(by(pay("k"), "a"));
    world.until_effects(1).await;
    let before = world.clock.sleepers();
    let waits = world.send_aside(by(pay("k"), "a"));
    world.clock.until_asleep(before + 1).await;
    world.send(by(pay("k"), "a")).await.assert_problem(429, "too-many-in-flight");
    // A waiter that leaves gives its place back.
    drop(waits);
    let waits = world.send_aside(by(pay("k"), "a"));
    world.clock.until_asleep(before + 1).await;
    let_through(&gate);
    first.got().await.assert_first(201);
    waits.got().await.assert_replay(201);
    assert_free(&world).await;
}

#[tokio::test]
async fn work_whose_caller_has_left_keeps_its_place_until_it_ends() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    world.layer.set_keys_in_flight(1);
    leave_at(&world, by(pay("k1"), "a"), 1).await;
    world.send(by(pay("k2"), "a")).await.assert_problem(429, "too-many-in-flight");
    let_through(&gate);
    assert_free(&world).await;
    world.send(by(pay("k1"), "a")).await.assert_replay(201);
}

#[tokio::test]
async fn an_upload_takes_a_place_and_gives_it_back_when_it_is_cut_or_left() {
    let world = World::new(paid);
    world.layer.set_keys_in_flight(1);
    let endless = || Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let slow = world.send_aside(by(crate::world::post("/a").key("k1").body(endless()), "a"));
    eventually(async || world.layer.principals_in_flight() == 1).await;
    world.send(by(pay("k2"), "a")).await.assert_problem(429, "too-many-in-flight");
    drop(slow);
    assert_free(&world).await;
    let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))]);
    let cut = by(crate::world::post("/a").key("k1").body(Body::from_stream(broken)), "a");
    world.send(cut).await.assert_problem(400, "request-incomplete");
    assert_free(&world).await;
}

#[tokio::test]
async fn however_an_operation_ends_its_place_is_free_again() {
    let world = World::new(|seen: Seen| async move {
        match seen.header("x-end").unwrap() {
            "panic" => panic!("on cue"),
            status => (StatusCode::from_bytes(status.as_bytes()).unwrap(), "told").into_response(),
        }
    });
    world.layer.set_keys_in_flight(1);
    for (nth, end) in ["200", "500", "429", "502", "panic", "200"].into_iter().enumerate() {
        let key = format!("k{nth}");
        world.send(by(pay(&key), "a").header("x-end", end)).await;
        assert_free(&world).await;
    }
    world.store.down(Fault::Refused);
    world.send(by(pay("down"), "a").header("x-end", "200")).await.assert_problem(503, "store-unavailable");
    assert_free(&world).await;
}

#[tokio::test]
async fn an_answer_that_is_still_being_stored_keeps_its_place_after_the_caller_was_told() {
    let world = World::new(paid);
    world.layer.set_keys_in_flight(1);
    world.engine.hasher().await.unwrap();
    let completion = world.store.gate_before(Op::Replace, 1);
    let first = world.send_aside(by(pay("k1"), "a"));
    completion.reached().await;
    world.clock.advance(STORE_PATIENCE);
    first.got().await.assert_problem(503, "answer-not-stored");
    world.send(by(pay("k2"), "a")).await.assert_problem(429, "too-many-in-flight");
    completion.open();
    world.pass_time_until(|| world.layer.principals_in_flight() == 0).await;
    world.send(by(pay("k1"), "a")).await.assert_replay(201);
}

#[tokio::test]
async fn an_unprotected_run_takes_a_place_too_where_the_caller_is_known() {
    let gate = turnstile();
    let world = World::under(policy(|it| it.fail_open = true), paid_after(&gate));
    world.layer.set_keys_in_flight(1);
    world.engine.hasher().await.unwrap();
    world.store.down(Fault::Refused);
    let first = world.send_aside(by(pay("k1"), "a"));
    world.until_effects(1).await;
    world.send(by(pay("k2"), "a")).await.assert_problem(429, "too-many-in-flight");
    let_through(&gate);
    assert_eq!(first.got().await.told(), Told::FailedOpen);
    assert_free(&world).await;
    leave_at(&world, by(pay("k3"), "a"), 2).await;
    world.send(by(pay("k4"), "a")).await.assert_problem(429, "too-many-in-flight");
    let_through(&gate);
    assert_free(&world).await;
}
