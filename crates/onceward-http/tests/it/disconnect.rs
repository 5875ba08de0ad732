//! Clients that leave, and servers that stop.

use std::time::Duration;

use axum::body::{Body, Bytes};
use onceward_core::State;
use onceward_core::store::memory::MemoryStore;
use onceward_http::{HttpPolicy, Routes, Told};
use onceward_testkit::{Fault, FaultyStore, HandClock, Op, eventually, for_polls, within};
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;

use crate::wire::Server;
use crate::world::{World, ask, let_through, paid, paid_after, pay, policy, post, turnstile};

#[tokio::test]
async fn a_client_that_leaves_mid_handler_finds_its_answer_later() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let leaving = world.send_aside(pay("k"));
    world.until_effects(1).await;
    drop(leaving);
    world.send(pay("k")).await.assert_problem(409, "in-progress");
    let_through(&gate);
    eventually(async || world.layer.running() == 0).await;
    world.send(pay("k")).await.assert_replay(201);
    world.clock.advance(Duration::from_secs(2));
    world.send(pay("k")).await.assert_replay(201);
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_connection_that_closes_mid_handler_does_not_stop_the_work() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let server = Server::of(&world).await;
    let request = "POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx";
    let mut leaving = server.connect().await;
    leaving.write_all(request.as_bytes()).await.unwrap();
    world.until_effects(1).await;
    drop(leaving);
    let busy = server.say(request).await;
    assert!(busy.starts_with("HTTP/1.1 409 ") && busy.contains("retry-after: 1"), "{busy}");
    let_through(&gate);
    eventually(async || world.layer.running() == 0).await;
    let replay = server.say(request).await;
    assert!(replay.starts_with("HTTP/1.1 201 ") && replay.contains("idempotent-replayed: true"), "{replay}");
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_during_its_upload_claims_nothing() {
    let world = World::new(paid);
    let server = Server::of(&world).await;
    for body in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut leaving = server.connect().await;
        let head = "POST /a HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n";
        leaving.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        drop(leaving);
    }
    // The same key is free for a whole request; a claim of the others would show.
    let whole = server
        .say("POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 10\r\n\r\n0123456789")
        .await;
    assert!(whole.starts_with("HTTP/1.1 201 "), "{whole}");
    assert_eq!((world.effects(), world.store.ops().iter().filter(|it| **it == Op::Insert).count()), (1, 2));
    let stuck = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    assert!(for_polls(3, Box::pin(async { tokio::select! { biased; _ = world.send(post("/b").key("k").body(stuck)) => (), () = tokio::task::yield_now() => () } })).await.is_some());
    assert_eq!(world.records().await.len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_at_any_await_leaves_one_effect_at_most_and_a_usable_key() {
    let mut ended = false;
    let mut polls = 1;
    while !ended {
        let clock = HandClock::new();
        let store = FaultyStore::yielding(Arc::new(MemoryStore::new(Arc::new(clock.clone()))));
        let world = World::over(clock, Arc::new(store), Routes::new(vec![], HttpPolicy::default()), paid);
        ended = for_polls(polls, world.send(pay("k"))).await.is_some();
        eventually(async || world.layer.running() == 0).await;
        let after_leaving = world.effects();
        world.engine.maintain().await.unwrap();
        let got = world.send(pay("k")).await;
        assert_eq!(got.status, 201, "after {polls} polls: {got:?}");
        assert_eq!(got.is_replay(), after_leaving == 1, "after {polls} polls");
        assert_eq!(world.effects(), 1, "after {polls} polls");
        polls += 1;
        assert!(polls < 200, "a request ends");
    }
    assert!(polls > 8, "there were places to leave at: {polls}");
}

#[tokio::test]
async fn an_answer_that_streams_ends_with_its_client_and_is_not_run_again() {
    struct Gone(Arc<tokio::sync::Semaphore>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    let gone = turnstile();
    let noting = Arc::clone(&gone);
    let world = World::new(move |_| {
        let guard = Gone(Arc::clone(&noting));
        async move {
            let endless = futures_util::stream::unfold((0, guard), |(nth, guard)| async move {
                if nth > 0 {
                    std::future::pending::<()>().await;
                }
                Some((Ok::<_, std::io::Error>(Bytes::from("data: 1\n\n")), (nth + 1, guard)))
            });
            ([("content-type", "text/event-stream")], Body::from_stream(endless))
        }
    });
    use tower::ServiceExt as _;
    let response = world.app.clone().oneshot(pay("k").request()).await.unwrap();
    let mut body = response.into_body().into_data_stream();
    let first = within(futures_util::StreamExt::next(&mut body)).await.unwrap().unwrap();
    assert_eq!(&first[..], b"data: 1\n\n");
    assert_eq!(gone.available_permits(), 0);
    drop(body);
    within(gone.acquire()).await.unwrap().forget();
    world.send(pay("k")).await.assert_problem(409, "answer-not-kept");
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_server_that_drains_refuses_operations_and_ends_what_runs() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let_through(&gate);
    world.send(pay("done")).await.assert_first(201);
    let first = world.send_aside(pay("k"));
    world.until_effects(2).await;
    world.layer.drain();
    for key in ["new", "k", "done"] {
        let got = world.send(pay(key)).await;
        got.assert_problem(503, "draining");
        assert_eq!((got.told(), got.header("retry-after")), (Told::Unavailable, Some("1")));
    }
    assert_eq!(world.records().await.len(), 2, "a refused key is not claimed");
    gate.add_permits(2);
    let passing = world.send(ask(http::Method::GET, "/a")).await;
    assert_eq!((passing.status.as_u16(), passing.told()), (201, Told::PassThrough));
    first.got().await.assert_first(201);
    within(world.layer.idle()).await;
    assert_eq!((world.layer.running(), world.effects()), (0, 3));
}

/// The drain began while the claim was on its way: nothing was sent yet, so the key is free again.
#[tokio::test]
async fn a_claim_that_lands_behind_the_drain_is_given_back() {
    let world = World::new(paid);
    world.engine.hasher().await.unwrap();
    let claim = world.store.gate_after(Op::Insert, 1);
    let first = world.send_aside(pay("k"));
    claim.reached().await;
    world.layer.drain();
    claim.open();
    first.got().await.assert_problem(503, "draining");
    assert_eq!((world.effects(), world.layer.running()), (0, 0));
    assert_eq!(world.records().await[0].state, State::Released);
}

#[tokio::test]
async fn a_server_that_drains_runs_nothing_unprotected() {
    let world = World::under(policy(|it| it.fail_open = true), paid);
    world.layer.drain();
    world.store.down(Fault::Refused);
    world.send(pay("k")).await.assert_problem(503, "draining");
    assert_eq!(world.effects(), 0);
}

#[tokio::test]
async fn what_still_runs_when_the_server_stops_is_unresolved_at_once() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    world.layer.drain();
    within(world.layer.abort()).await;
    let got = first.got().await;
    got.assert_problem(504, "outcome-unresolved");
    assert!(matches!(world.records().await[0].state, State::Abandoned { .. }));
    // The next process sees it without waiting for the lease.
    let next = World::over(
        world.clock.clone(),
        world.store.clone(),
        Routes::new(vec![], HttpPolicy::default()),
        paid,
    );
    next.send(pay("k")).await.assert_problem(409, "unresolved");
    assert_eq!((world.effects(), next.effects()), (1, 0));
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_its_work_unresolved_when_the_lease_is_over() {
    let gate = turnstile();
    let clock = HandClock::new();
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(clock.clone())))));
    let routes = || Routes::new(vec![], HttpPolicy::default());
    // A runtime of its own, shut down in mid-handler.
    let dying = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = World::over(clock.clone(), Arc::clone(&store), routes(), paid_after(&gate));
    let send = world.send(pay("k"));
    let mut sent = tokio::task::JoinSet::new();
    sent.spawn_on(send, dying.handle());
    world.until_effects(1).await;
    dying.shutdown_background();
    within(sent.join_next()).await;
    eventually(async || world.layer.running() == 0).await;
    let next = World::over(clock.clone(), store, routes(), paid);
    next.send(pay("k")).await.assert_problem(409, "in-progress");
    clock.advance(Duration::from_secs(30));
    next.send(pay("k")).await.assert_problem(409, "unresolved");
    assert_eq!((world.effects(), next.effects()), (1, 0));
}
