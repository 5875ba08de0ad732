//! No caller sees a byte of an answer that is not stored.

use std::time::Duration;

use onceward_testkit::{Fault, Op};

use super::world::*;

/// How long a test looks for what must not come. Too short can only overlook a mistake.
const A_MOMENT: Duration = Duration::from_millis(40);

#[tokio::test]
async fn no_byte_is_seen_before_the_end_of_the_operation_is_stored() {
    each(async |pair| {
        // Whatever its end means for the key: stored, released, unknown, too long to keep.
        for (status, body) in [(201, "paid"), (429, "later"), (504, "who knows"), (200, "longer than kept")] {
            let toml = "[policy]\nmax_answer = 10\n";
            let world = World::start(pair, toml, move |_| async move { reply(status, &[], body) }).await;
            let gate = world.store.gate_before(Op::Replace, 1);
            let mut line = world.caller.connect().await;
            let mut answer = line.send(pay("k"));
            within(async {
                tokio::select! {
                    _ = &mut answer => panic!("an answer of {status} came before it was stored"),
                    () = gate.reached() => {}
                }
            })
            .await;
            assert!(tokio::time::timeout(A_MOMENT, &mut answer).await.is_err(), "{status} came too early");
            gate.open();
            let got = Got::read(within(answer).await.unwrap()).await;
            assert_eq!((got.status.as_u16(), &got.body[..]), (status, body.as_bytes()));
        }
    })
    .await;
}

#[tokio::test]
async fn not_even_the_head_is_on_the_wire_before_the_answer_is_stored() {
    let world = World::start(H1, "", paid).await;
    let gate = world.store.gate_before(Op::Replace, 1);
    let mut raw = world.caller.raw().await;
    raw.send("POST /p HTTP/1.1\r\nhost: a\r\nidempotency-key: k\r\ncontent-length: 0\r\n\r\n").await;
    gate.reached().await;
    assert!(tokio::time::timeout(A_MOMENT, raw.0.readable()).await.is_err());
    gate.open();
    assert!(raw.read_until("paid").await.starts_with("HTTP/1.1 201 "));
}

#[tokio::test]
async fn a_store_that_comes_back_in_time_costs_the_caller_only_time() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, "", paid_after(&gate)).await;
        let first = world.send_aside(pay("k"));
        world.origin.until_effects(1).await;
        world.store.down(Fault::Refused);
        gate.add_permits(1);
        let tries = || world.store.ops().iter().filter(|it| **it == Op::Replace).count();
        until(|| tries() >= 2).await;
        world.store.up();
        first.got().await.assert_first(201);
        world.send(pay("k")).await.assert_replay(201);
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_never_stored_is_503_and_its_claim_stays() {
    each(async |pair| {
        let gate = turnstile();
        let origin = Origin::start(paid_after(&gate)).await;
        let timeout = Duration::from_millis(300);
        let world = World::before(origin, pair, "", |it| it.upstream.response_timeout = timeout).await;
        let first = world.send_aside(pay("k"));
        world.origin.until_effects(1).await;
        world.store.down(Fault::Refused);
        gate.add_permits(1);
        let got = first.got().await;
        got.assert_problem(503, "answer-not-stored");
        assert!(!got.body.windows(4).any(|it| it == b"paid"));
        world.send(pay("k")).await.assert_problem(503, "store-unavailable");
        world.store.up();
        // Storing went on by itself; the effect is not repeated.
        world.pay_until("k", Got::is_replay).await.assert_replay(201);
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_lost_reply_of_the_completion_is_asked_for_again_and_the_caller_gets_the_answer() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.store.cue(Op::Replace, 1, Fault::ReplyLost);
        world.send(pay("k")).await.assert_first(201);
        world.send(pay("k")).await.assert_replay(201);
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn another_gateway_over_the_same_store_replays() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.send(pay("k")).await.assert_first(201);
        assert_eq!(world.gateway.stop().await, onceward_gateway::Ended::Clean);
        let next = World::over(world.store, world.origin, pair, "", |_| {}).await;
        next.send(pay("k")).await.assert_replay(201);
        assert_eq!(next.effects(), 1);
    })
    .await;
}
