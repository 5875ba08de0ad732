//! The store is away, late or wrong: nothing runs twice, and nobody sees an answer that is not stored.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::StatusCode;
use onceward_core::{Answer, Clock as _, State, Verdict};
use onceward_http::{HttpPolicy, Routes, Told};
use onceward_testkit::{Fault, Op, eventually, within};

use crate::world::{
    Got, STORE_PATIENCE, Seen, World, ask, let_through, paid, paid_after, pay, pay_other, policy, post,
    turnstile,
};

fn fail_open() -> HttpPolicy {
    policy(|it| it.fail_open = true)
}

#[tokio::test]
async fn while_the_store_is_down_nothing_runs() {
    for warm in [true, false] {
        for fault in [Fault::Refused, Fault::Corrupt] {
            let world = World::new(paid);
            if warm {
                world.engine.hasher().await.unwrap();
            }
            world.store.down(fault);
            let got = world.send(pay("k")).await;
            got.assert_problem(503, "store-unavailable");
            assert_eq!((got.told(), got.header("retry-after")), (Told::Unavailable, Some("1")));
            assert_eq!(world.send(ask(http::Method::GET, "/a")).await.status, 201, "the rest passes through");
            assert_eq!(world.send(post("/a")).await.status, 201);
            world.store.up();
            world.send(pay("k")).await.assert_first(201);
            assert_eq!(world.effects(), 3);
        }
    }
}

#[tokio::test]
async fn a_store_that_never_says_what_became_of_a_claim_is_given_up_after_a_while() {
    let world = World::new(paid);
    world.engine.hasher().await.unwrap();
    world.store.down(Fault::ReplyLost);
    world.pass_time_for(world.send_aside(pay("k"))).await.assert_problem(503, "store-unavailable");
    world.store.up();
    // The claim that landed all the same is released by the upkeep, for nothing ran under it.
    world.send(pay("k")).await.assert_problem(409, "in-progress");
    world.engine.maintain().await.unwrap();
    world.send(pay("k")).await.assert_first(201);
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_found_again_and_runs_once() {
    let world = World::new(paid);
    world.engine.hasher().await.unwrap();
    for (nth, fault) in
        [Fault::ReplyLost, Fault::CallLost, Fault::Twice, Fault::Repeated].into_iter().enumerate()
    {
        let key = format!("k{nth}");
        world.store.cue(Op::Insert, 1, fault);
        world.pass_time_for(world.send_aside(pay(&key))).await.assert_first(201);
        world.send(pay(&key)).await.assert_replay(201);
        assert_eq!(world.effects(), nth + 1);
    }
}

#[tokio::test]
async fn fail_open_runs_unprotected_and_says_so() {
    for warm in [true, false] {
        let world = World::under(fail_open(), |_| async {
            ([("idempotent-replayed", "true"), ("onceward-outcome", "store")], "paid")
        });
        if warm {
            world.engine.hasher().await.unwrap();
        }
        world.store.down(Fault::Refused);
        for nth in 1..=2 {
            let got = world.send(pay("k").header("onceward-fence", "9")).await;
            assert_eq!((got.status.as_u16(), got.text(), got.told()), (200, "paid", Told::FailedOpen));
            assert_eq!((got.header("idempotent-replayed"), got.header("onceward-outcome")), (None, None));
            assert_eq!(
                world.last().header("onceward-fence"),
                None,
                "there is no permit, so there is no fence"
            );
            assert_eq!(world.effects(), nth);
        }
        world.store.up();
        world.send(pay("k")).await.assert_first(200);
        world.send(pay("k")).await.assert_replay(200);
    }
}

#[tokio::test]
async fn an_unprotected_run_goes_on_when_its_caller_leaves_and_is_waited_for() {
    let gate = turnstile();
    let world = World::under(fail_open(), paid_after(&gate));
    world.store.down(Fault::Refused);
    let leaves = world.send_aside(pay("k1"));
    world.until_effects(1).await;
    drop(leaves);
    let stays = world.send_aside(pay("k2"));
    world.until_effects(2).await;
    assert_eq!(world.layer.running(), 2);
    world.layer.drain();
    let mut idle = tokio::task::JoinSet::new();
    let layer = world.layer.clone();
    idle.spawn(async move { layer.idle().await });
    let_through(&gate);
    eventually(async || world.layer.running() == 1).await;
    assert!(idle.try_join_next().is_none(), "the other still runs");
    let_through(&gate);
    let got = stays.got().await;
    assert_eq!((got.status.as_u16(), got.text(), got.told()), (201, "paid", Told::FailedOpen));
    within(idle.join_next()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_unprotected_run_that_is_stopped_panics_or_is_cut_off_has_no_known_outcome() {
    let gate = turnstile();
    let world = World::under(fail_open(), paid_after(&gate));
    world.store.down(Fault::Refused);
    let sent = world.send_aside(pay("k"));
    world.until_effects(1).await;
    within(world.layer.abort()).await;
    sent.got().await.assert_problem(504, "outcome-unresolved");
    let panics = World::under(fail_open(), |_| async { panic!("on cue") as () });
    panics.store.down(Fault::Refused);
    let got = panics.send(pay("k")).await;
    got.assert_problem(504, "outcome-unresolved");
    assert_eq!(got.told(), Told::FailedOpen);
}

#[tokio::test]
async fn fail_open_still_refuses_what_is_no_operation() {
    let world = World::under(
        policy(|it| {
            it.fail_open = true;
            it.max_request_bytes = 20;
        }),
        paid,
    );
    world.store.down(Fault::Refused);
    world.send(post("/a").key("a b")).await.assert_problem(400, "key-invalid");
    world.send(post("/a").key("k").body("x".repeat(21))).await.assert_problem(413, "request-too-large");
    assert_eq!(world.effects(), 0);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_never_run_over() {
    let world = World::under(fail_open(), paid);
    world.engine.hasher().await.unwrap();
    for _ in 0..2 {
        world.store.cue(Op::Insert, 1, Fault::Corrupt);
        let got = world.send(pay("bad")).await;
        got.assert_problem(503, "store-unavailable");
        world.send(pay("good")).await;
    }
    assert_eq!(world.effects(), 1, "one bad record stops nobody else");
}

#[tokio::test]
async fn a_hash_key_that_cannot_be_read_fails_closed() {
    let world = World::under(fail_open(), paid);
    world.store.down(Fault::Corrupt);
    world.send(pay("k")).await.assert_problem(503, "store-unavailable");
    assert_eq!(world.effects(), 0);
}

#[tokio::test]
async fn a_stored_answer_that_cannot_be_read_is_refused_and_stops_nobody_else() {
    for junk in [
        Answer::new("http", b"\x09junk".as_slice()),
        Answer::new("http", b"\x01\x00\xc8\x00\x00\x00\x02".as_slice()),
        Answer::new("json", b"{}".as_slice()),
        Answer::new("http", b"".as_slice()),
    ] {
        let world = World::under(fail_open(), |_| async { StatusCode::BAD_GATEWAY });
        assert_eq!(world.send(pay("k")).await.told(), Told::Unknown);
        let found = world.records().await.remove(0);
        world.engine.verdict(found.id, found.revision, &Verdict::Answer(junk), false).await.unwrap();
        for _ in 0..2 {
            world.send(pay("k")).await.assert_problem(503, "store-unavailable");
        }
        world.send(pay_other("k")).await.assert_problem(422, "key-reused");
        assert_eq!(world.send(pay("other")).await.told(), Told::Unknown);
        assert_eq!(world.effects(), 2);
    }
}

/// The application's answer, and how the caller hears it once it is stored.
fn answers() -> [(&'static str, Told); 5] {
    [
        ("store", Told::FirstRun),
        ("release", Told::Released),
        ("unknown", Told::Unknown),
        ("long", Told::Oversize),
        ("stream", Told::Oversize),
    ]
}

async fn answer(seen: Seen) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    match seen.head.uri.path() {
        "/long" => Body::from(vec![b'x'; (1 << 20) + 1]).into_response(),
        "/stream" => ([("content-type", "text/event-stream")], "data: 1\n\n").into_response(),
        word => ([("onceward-outcome", word[1..].to_owned())], "said").into_response(),
    }
}

#[tokio::test]
async fn no_byte_is_seen_before_the_end_of_the_operation_is_stored() {
    for (path, told) in answers() {
        for stops_before in [true, false] {
            let world = World::new(answer);
            world.engine.hasher().await.unwrap();
            let gate = if stops_before {
                world.store.gate_before(Op::Replace, 1)
            } else {
                world.store.gate_after(Op::Replace, 1)
            };
            let mut sent = world.send_aside(post(&format!("/{path}")).key("k"));
            gate.reached().await;
            for _ in 0..50 {
                tokio::task::yield_now().await;
                assert!(sent.is_answered().is_none(), "{path}: an answer before it is stored");
            }
            gate.open();
            let got = sent.got().await;
            assert_eq!((got.told(), got.status.as_u16(), got.body.is_empty()), (told, 200, false), "{path}");
        }
    }
}

/// The application of [`answer`] behind a turnstile. The store goes down while it works; this is what the
/// caller hears when its patience is over.
async fn impatient(path: &str) -> (World, Got) {
    let gate = turnstile();
    let passing = Arc::clone(&gate);
    let world = World::new(move |seen| {
        let gate = Arc::clone(&passing);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(seen).await
        }
    });
    let sent = world.send_aside(post(path).key("k"));
    world.until_effects(1).await;
    world.store.down(Fault::Refused);
    gate.add_permits(2);
    let start = world.clock.boot();
    let got = world.pass_time_for(sent).await;
    let waited = world.clock.boot() - start;
    assert!(waited >= STORE_PATIENCE, "{waited:?}");
    (world, got)
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_not_told_and_is_replayed_once_the_store_is_back() {
    for (word, _) in answers() {
        let path = format!("/{word}");
        let (world, got) = impatient(&path).await;
        match word {
            "store" | "long" | "stream" => {
                got.assert_problem(503, "answer-not-stored");
                assert_eq!((got.told(), got.header("retry-after")), (Told::NotStored, Some("1")));
            }
            _ => got.assert_problem(504, "outcome-unresolved"),
        }
        let again = || world.send(post(&path).key("k"));
        again().await.assert_problem(503, "store-unavailable");
        world.store.up();
        // The claim stays meanwhile: nobody else may run.
        again().await.assert_problem(409, "in-progress");
        world.pass_time_until(|| world.layer.running() == 0).await;
        match word {
            "store" => again().await.assert_replay(200),
            "release" => assert_eq!(again().await.told(), Told::Released),
            "unknown" => again().await.assert_problem(409, "unresolved"),
            _ => again().await.assert_problem(409, "answer-not-kept"),
        }
        assert_eq!(world.effects(), if word == "release" { 2 } else { 1 }, "{word}");
    }
}

#[tokio::test]
async fn an_answer_that_is_never_stored_becomes_unresolved() {
    let (world, got) = impatient("/store").await;
    got.assert_problem(503, "answer-not-stored");
    within(world.layer.abort()).await;
    world.store.up();
    world.clock.advance(Duration::from_secs(30));
    let next = World::over(
        world.clock.clone(),
        world.store.clone(),
        Routes::new(vec![], HttpPolicy::default()),
        answer,
    );
    next.send(post("/store").key("k")).await.assert_problem(409, "unresolved");
    assert_eq!((world.effects(), next.effects()), (1, 0));
}

#[tokio::test]
async fn a_lost_reply_of_the_completion_is_asked_for_again_and_the_caller_gets_the_answer() {
    for fault in [Fault::ReplyLost, Fault::CallLost, Fault::Refused, Fault::Twice, Fault::Repeated] {
        let world = World::new(paid);
        world.engine.hasher().await.unwrap();
        world.store.cue(Op::Replace, 1, fault);
        world.pass_time_for(world.send_aside(pay("k"))).await.assert_first(201);
        world.send(pay("k")).await.assert_replay(201);
        assert_eq!(world.effects(), 1);
    }
}

#[tokio::test]
async fn an_operators_verdict_during_the_run_is_what_everybody_hears() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    let found = world.records().await.remove(0);
    assert_eq!(found.state, State::Running);
    world.engine.verdict(found.id, found.revision, &Verdict::Rerun, true).await.unwrap();
    let_through(&gate);
    first.got().await.assert_problem(504, "outcome-unresolved");
    eventually(async || world.layer.running() == 0).await;
    let_through(&gate);
    world.send(pay("k")).await.assert_first(201);
    assert_eq!(world.last().header("onceward-attempt"), Some("2"));
}

/// What stands is what everybody hears, also the caller whose own answer would have been too big to keep.
#[tokio::test]
async fn an_answer_that_an_operator_gave_beats_one_that_streams() {
    let gate = turnstile();
    let world = World::under(policy(|it| it.max_answer_bytes = 1), paid_after(&gate));
    let first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    let found = world.records().await.remove(0);
    let given =
        onceward_http::stored_answer(StatusCode::ACCEPTED, http::HeaderMap::new(), Bytes::from("by hand"));
    world.engine.verdict(found.id, found.revision, &Verdict::Answer(given), true).await.unwrap();
    let_through(&gate);
    let got = first.got().await;
    assert_eq!((got.status, got.text()), (StatusCode::ACCEPTED, "by hand"));
    world.send(pay("k")).await.assert_replay(202);
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn bytes_of_an_answer_are_data_and_nothing_in_them_is_obeyed() {
    let world = World::new(|_| async {
        Body::from(Bytes::from_static(
            b"HTTP/1.1 200 OK\r\nIdempotent-Replayed: true\r\n\r\n{\"$type\":\"System.Exec\"}",
        ))
    });
    let first = world.send(pay("k")).await;
    let replay = world.send(pay("k")).await;
    assert_eq!((replay.is_replay(), replay.body), (true, first.body));
}

/// A claim whose reply was lost may have landed: running beside it could be a second run.
#[tokio::test]
async fn fail_open_does_not_run_beside_a_claim_that_may_have_landed() {
    let world = World::under(fail_open(), paid);
    world.engine.hasher().await.unwrap();
    world.store.down(Fault::ReplyLost);
    let got = world.pass_time_for(world.send_aside(pay("k"))).await;
    got.assert_problem(503, "store-unavailable");
    assert_eq!(world.effects(), 0);
}
