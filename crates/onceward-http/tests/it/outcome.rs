//! What an answer means for its key: stored, released or unknown.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};
use onceward_core::State;
use onceward_http::{HttpPolicy, Outcome, Routes, Told};
use onceward_testkit::{eventually, within};
use tokio::task::JoinSet;
use tower::{Layer as _, Service as _};

use crate::world::{Got, Seen, World, ask, let_through, paid, pay, pay_other, policy, post, turnstile};

/// What the application answers, and what it says of the outcome.
#[derive(Debug, Clone, Copy)]
struct Case {
    status: u16,
    retry_after: bool,
    header: Option<&'static str>,
    extension: Option<Outcome>,
}

fn case(status: u16) -> Case {
    Case { status, retry_after: false, header: None, extension: None }
}

fn answer(case: Case) -> Response {
    let mut response = (StatusCode::from_u16(case.status).unwrap(), [("x-own", "1")], "said").into_response();
    if case.retry_after {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("9"));
    }
    if let Some(word) = case.header {
        response.headers_mut().insert("onceward-outcome", HeaderValue::from_static(word));
    }
    if let Some(outcome) = case.extension {
        response.extensions_mut().insert(outcome);
    }
    response
}

/// The first caller always gets the application's answer; `expected` is what became of the key.
async fn check(policy: HttpPolicy, case: Case, expected: Outcome) {
    let world = World::under(policy, move |_| async move { answer(case) });
    let first = world.send(pay("k")).await;
    assert_eq!(
        (first.status.as_u16(), first.text(), first.header("x-own")),
        (case.status, "said", Some("1"))
    );
    assert_eq!(first.header("retry-after"), case.retry_after.then_some("9"));
    assert_eq!(first.header("onceward-outcome"), None, "{case:?}");
    let again = world.send(pay("k")).await;
    assert_eq!(again.header("onceward-outcome"), None, "{case:?}");
    let (told, effects) = match expected {
        Outcome::Store => {
            assert!(again.is_replay(), "{case:?}: {again:?}");
            assert_eq!((again.status, again.body), (first.status, first.body));
            (Told::FirstRun, 1)
        }
        Outcome::Release => {
            assert_eq!((again.status.as_u16(), again.text()), (case.status, "said"), "{case:?}");
            (Told::Released, 2)
        }
        Outcome::Unknown => {
            again.assert_problem(409, "unresolved");
            assert_eq!(again.header("retry-after"), None, "so that no client hammers");
            (Told::Unknown, 1)
        }
    };
    assert_eq!((first.exchange.unwrap().told, world.effects()), (told, effects), "{case:?}");
}

#[tokio::test]
async fn an_answer_is_stored_unless_its_status_says_otherwise() {
    // 204 and 304 carry no body and stand in the replay tests.
    for status in [200, 201, 301, 302, 400, 402, 404, 405, 409, 410, 412, 413, 422, 451, 500, 501, 505, 599] {
        check(HttpPolicy::default(), case(status), Outcome::Store).await;
        check(HttpPolicy::default(), Case { retry_after: true, ..case(status) }, Outcome::Store).await;
    }
}

#[tokio::test]
async fn rejections_before_anything_ran_free_the_key() {
    for status in [401, 403, 407, 425, 429] {
        check(HttpPolicy::default(), case(status), Outcome::Release).await;
    }
    check(HttpPolicy::default(), Case { retry_after: true, ..case(503) }, Outcome::Release).await;
}

#[tokio::test]
async fn what_something_in_front_may_have_said_is_unknown() {
    for status in [408, 502, 503, 504] {
        check(HttpPolicy::default(), case(status), Outcome::Unknown).await;
    }
    for status in [408, 502, 504] {
        check(HttpPolicy::default(), Case { retry_after: true, ..case(status) }, Outcome::Unknown).await;
    }
}

#[tokio::test]
async fn a_route_may_choose_its_statuses() {
    let own = || {
        policy(|it| {
            it.release_on = vec![404];
            it.unknown_on = vec![500];
        })
    };
    check(own(), case(404), Outcome::Release).await;
    check(own(), case(500), Outcome::Unknown).await;
    check(own(), case(401), Outcome::Store).await;
    check(own(), case(502), Outcome::Store).await;
}

#[tokio::test]
async fn the_application_overrules_the_lists_by_header_or_in_process() {
    let store = |status| Case { header: Some("store"), ..case(status) };
    check(HttpPolicy::default(), store(502), Outcome::Store).await;
    check(HttpPolicy::default(), store(429), Outcome::Store).await;
    let release = Case { header: Some("release"), ..case(500) };
    check(HttpPolicy::default(), release, Outcome::Release).await;
    let unknown = |status| Case { header: Some("unknown"), ..case(status) };
    check(HttpPolicy::default(), unknown(200), Outcome::Unknown).await;
    check(HttpPolicy::default(), Case { retry_after: true, ..unknown(503) }, Outcome::Unknown).await;
    for said in [Outcome::Store, Outcome::Release, Outcome::Unknown] {
        for status in [200, 429, 502] {
            check(HttpPolicy::default(), Case { extension: Some(said), ..case(status) }, said).await;
        }
    }
    // A misspelt word overrules, too: nobody knows what was meant.
    check(HttpPolicy::default(), Case { header: Some("whatever"), ..case(429) }, Outcome::Unknown).await;
    check(HttpPolicy::default(), Case { header: Some("Release"), ..case(200) }, Outcome::Release).await;
}

#[tokio::test]
async fn the_word_of_the_outcome_never_passes_through_either() {
    let world = World::new(|_| async { answer(Case { header: Some("release"), ..case(200) }) });
    for sent in [post("/a"), ask(http::Method::GET, "/a")] {
        assert_eq!(world.send(sent).await.header("onceward-outcome"), None);
    }
}

#[tokio::test]
async fn after_a_release_ten_concurrent_retries_run_exactly_once_more() {
    let gate = turnstile();
    let passing = Arc::clone(&gate);
    let world = World::new(move |seen: Seen| {
        let gate = Arc::clone(&passing);
        async move {
            if seen.header("onceward-attempt") == Some("1") {
                return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "later").into_response();
            }
            gate.acquire().await.unwrap().forget();
            (StatusCode::CREATED, "paid").into_response()
        }
    });
    assert_eq!(world.send(pay("k")).await.told(), Told::Released);
    let mut retries = JoinSet::new();
    for _ in 0..10 {
        retries.spawn(world.send(pay("k")));
    }
    world.until_effects(2).await;
    let mut busy = 0;
    while busy < 9 {
        let got = within(retries.join_next()).await.unwrap().unwrap();
        got.assert_problem(409, "in-progress");
        busy += 1;
    }
    let_through(&gate);
    within(retries.join_next()).await.unwrap().unwrap().assert_first(201);
    assert_eq!(world.effects(), 2);
    world.send(pay("k")).await.assert_replay(201);
}

#[tokio::test]
async fn a_handler_that_panics_leaves_the_outcome_unknown() {
    let world = World::new(|_| async {
        if true {
            panic!("on purpose");
        }
    });
    assert_unresolved(&world, world.send(pay("k")).await).await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_leaves_the_outcome_unknown() {
    let world = World::new(|_| async {
        let pieces = [Ok(Bytes::from("half")), Err(std::io::Error::other("cut"))];
        Body::from_stream(futures_util::stream::iter(pieces))
    });
    assert_unresolved(&world, world.send(pay("k")).await).await;
}

#[tokio::test]
async fn an_answer_shorter_or_longer_than_its_content_length_is_not_whole() {
    for length in ["0", "1", "5", "10"] {
        let world = World::new(move |_| async move {
            let body =
                Body::from_stream(futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from("half"))]));
            ([("content-length", length)], body)
        });
        assert_unresolved(&world, world.send(pay("k")).await).await;
    }
    let world = World::new(|_| async { ([("content-length", "4")], Body::from("half")) });
    world.send(pay("k")).await.assert_first(200);
    // An answer without a body may say what its length would be.
    let world = World::new(|_| async { (StatusCode::NOT_MODIFIED, [("content-length", "4")]) });
    world.send(pay("k")).await.assert_first(304);
}

#[tokio::test]
async fn a_service_that_fails_leaves_the_outcome_unknown() {
    let world = World::new(paid);
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let mut service = world.layer.layer(tower::service_fn(move |_: http::Request<onceward_http::Body>| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err::<http::Response<Body>, _>("no answer") }
    }));
    for expected in ["outcome-unresolved", "unresolved"] {
        let request: Request = pay("k").request();
        let response = service.call(request).await.unwrap();
        let got = Got::read(response.map(Body::new)).await;
        assert_eq!(got.problem().as_deref(), Some(expected));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    let passing: Request = post("/a").request();
    assert!(service.call(passing).await.is_err(), "what passes through fails as it fails");
}

/// The caller heard 504; repeats are refused without a pause to retry after, and nothing ran again.
async fn assert_unresolved(world: &World, first: Got) {
    first.assert_problem(504, "outcome-unresolved");
    assert_eq!((first.told(), first.header("retry-after")), (Told::Unknown, None));
    assert!(matches!(world.records().await[0].state, State::Abandoned { .. }), "unresolved at once");
    let again = world.send(pay("k")).await;
    again.assert_problem(409, "unresolved");
    assert_eq!((again.told(), again.header("retry-after")), (Told::Unresolved, None));
    world.send(pay_other("k")).await.assert_problem(422, "key-reused");
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn our_own_refusals_do_not_poison_the_key() {
    let world = World::routed(Routes::new(Vec::new(), policy(|it| it.max_request_bytes = 20)), paid);
    let cut = Body::from_stream(futures_util::stream::iter([
        Ok(Bytes::from("{")),
        Err(std::io::Error::other("cut")),
    ]));
    world.send(pay("k").header("authorization", "Digest a")).await.assert_problem(400, "principal-unknown");
    world
        .send(post("/payments").key("k").body("x".repeat(21)))
        .await
        .assert_problem(413, "request-too-large");
    world.send(post("/payments").key("k").body(cut)).await.assert_problem(400, "request-incomplete");
    assert_eq!(world.records().await.len(), 0);
    world.send(pay("k")).await.assert_first(201);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nobody_follows_it() {
    let world = World::new(|_| async { (StatusCode::SEE_OTHER, [("location", "/payments/1")]) });
    let first = world.send(pay("k")).await;
    assert_eq!((first.status.as_u16(), first.header("location")), (303, Some("/payments/1")));
    let replay = world.send(pay("k")).await;
    assert_eq!((replay.is_replay(), replay.header("location")), (true, Some("/payments/1")));
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn work_that_goes_on_after_the_answer_does_not_hold_the_answer_back() {
    let gate = turnstile();
    let background = Arc::new(tokio::sync::Mutex::new(JoinSet::new()));
    let (passing, tasks) = (Arc::clone(&gate), Arc::clone(&background));
    let world = World::new(move |_| {
        let (gate, tasks) = (Arc::clone(&passing), Arc::clone(&tasks));
        async move {
            tasks.lock().await.spawn(async move { gate.acquire_owned().await.unwrap().forget() });
            "accepted"
        }
    });
    world.send(pay("k")).await.assert_first(200);
    world.send(pay("k")).await.assert_replay(200);
    let_through(&gate);
    eventually(async || background.lock().await.try_join_next().is_some()).await;
}
