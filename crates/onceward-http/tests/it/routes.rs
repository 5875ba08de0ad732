//! Which requests are operations, which policy they get, and what their identity is.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use futures_util::StreamExt as _;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use onceward_core::record::RULES;
use onceward_http::{HttpPolicy, KeyRule, Oversize, Routes, Told};
use onceward_testkit::within;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::wire::Server;
use crate::world::{World, ask, paid, paid_after, pay, policy, post, required, route, turnstile};

#[tokio::test]
async fn post_and_patch_are_operations_and_others_only_where_a_route_says_so() {
    let routes = || {
        Routes::new(
            vec![route(&[Method::PUT, Method::DELETE], "/things/{id}", HttpPolicy::default())],
            HttpPolicy::default(),
        )
    };
    for (method, path, is_operation) in [
        (Method::POST, "/payments", true),
        (Method::PATCH, "/payments", true),
        (Method::PUT, "/payments", false),
        (Method::DELETE, "/payments", false),
        (Method::GET, "/payments", false),
        (Method::HEAD, "/payments", false),
        (Method::OPTIONS, "/payments", false),
        (Method::TRACE, "/payments", false),
        (Method::from_bytes(b"QUERY").unwrap(), "/payments", false),
        (Method::PUT, "/things/1", true),
        (Method::DELETE, "/things/1", true),
        (Method::POST, "/things/1", true),
        (Method::GET, "/things/1", false),
    ] {
        let world = World::routed(routes(), paid);
        for _ in 0..2 {
            world.send(ask(method.clone(), path).key("k")).await;
        }
        assert_eq!(world.effects(), if is_operation { 1 } else { 2 }, "{method} {path}");
        // Without a key nothing is an operation.
        assert_eq!(world.send(ask(method.clone(), path)).await.told(), Told::PassThrough);
    }
}

#[tokio::test]
async fn a_safe_method_never_becomes_an_operation_even_when_a_route_names_it() {
    let world = World::routed(
        Routes::new(vec![route(&[Method::GET], "/**", required())], HttpPolicy::default()),
        paid,
    );
    assert_eq!(world.send(ask(Method::GET, "/a")).await.told(), Told::PassThrough);
}

#[tokio::test]
async fn what_is_no_operation_streams_both_ways_untouched() {
    // The application answers each chunk as it comes: this only works when nothing is held back.
    let echo = |request: Request| async move {
        assert_eq!(request.headers()["accept-encoding"], "gzip");
        assert_eq!(request.headers()["range"], "bytes=0-1");
        Body::from_stream(request.into_body().into_data_stream())
    };
    let base = World::new(paid);
    let world = World::around(
        base.clock.clone(),
        base.store.clone(),
        Routes::new(Vec::new(), HttpPolicy::default()),
        Router::new().fallback(echo),
    );
    for (method, key) in [(Method::PUT, Some("k")), (Method::POST, None)] {
        let (tx, rx) = mpsc::unbounded_channel::<&'static str>();
        let chunks = futures_util::stream::unfold(rx, |mut rx| async move {
            rx.recv().await.map(|it| (Ok::<_, std::io::Error>(Bytes::from(it)), rx))
        });
        let mut sent = ask(method, "/stream").header("accept-encoding", "gzip").header("range", "bytes=0-1");
        if let Some(key) = key {
            sent = sent.key(key);
        }
        let sent = sent.body(Body::from_stream(chunks)).request();
        let mut answer =
            within(world.app.clone().oneshot(sent)).await.unwrap().into_body().into_data_stream();
        for chunk in ["one", "two"] {
            tx.send(chunk).unwrap();
            assert_eq!(within(answer.next()).await.unwrap().unwrap(), chunk);
        }
        drop(tx);
        assert!(within(answer.next()).await.is_none());
    }
    assert_eq!(world.store.log().len(), 0);
}

#[tokio::test]
async fn trailers_of_what_passes_through_pass_through() {
    let base = World::new(paid);
    let echo = |request: Request| async move {
        let whole = request.into_body().collect().await.unwrap();
        let trailers = whole.trailers().cloned().unwrap();
        Body::new(Full::new(whole.to_bytes()).with_trailers(std::future::ready(Some(Ok(trailers)))))
    };
    let world = World::around(
        base.clock.clone(),
        base.store.clone(),
        Routes::new(Vec::new(), HttpPolicy::default()),
        Router::new().fallback(echo),
    );
    let trailers = http::HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    let body = Full::new(Bytes::from("x")).with_trailers(std::future::ready(Some(Ok(trailers.clone()))));
    let got = world.send(ask(Method::PUT, "/a").body(Body::new(body))).await;
    assert_eq!(got.trailers, Some(trailers));
}

#[tokio::test]
async fn grpc_is_never_an_operation() {
    for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC-web", "application/grpc;a=1"]
    {
        let world = World::new(paid);
        for _ in 0..2 {
            let got = world.send(post("/svc/Call").key("k").header("content-type", kind)).await;
            assert_eq!(got.told(), Told::PassThrough, "{kind}");
        }
        let world = World::under(required(), paid);
        for key in [true, false] {
            let sent = post("/svc/Call").header("content-type", kind);
            let sent = if key { sent.key("k") } else { sent };
            world.send(sent).await.assert_problem(415, "grpc-unsupported");
        }
        assert_eq!(world.effects(), 0);
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_dodges_a_required_key_and_the_application_gets_the_raw_bytes() {
    let routes = || {
        let needs = vec![route(&[], "/payments", required()), route(&[], "/v1/**", required())];
        Routes::new(needs, HttpPolicy::default())
    };
    for (target, needs_key) in [
        ("/payments", true),
        ("/%70ayments", true),
        ("/p%61yment%73", true),
        ("/./payments", true),
        ("/x/../payments", true),
        ("/x/%2e%2E/payments", true),
        ("/%2e/payments?a=b", true),
        ("/../payments", true),
        ("/v1", true),
        ("/v1/", true),
        ("/v1/a/b", true),
        ("/V1/a", false),
        ("/v10", false),
        ("/payments/", false),
        ("/pay%2Fments", false),
    ] {
        let world = World::routed(routes(), paid);
        let bare = world.send(post(target)).await;
        if needs_key {
            bare.assert_problem(400, "key-missing");
        } else {
            assert_eq!(bare.told(), Told::PassThrough, "{target}");
        }
        world.send(post(target).key("k")).await.assert_first(201);
        assert_eq!(world.last().head.uri.to_string(), target);
    }
}

#[tokio::test]
async fn the_first_route_that_matches_wins() {
    let ignored = || policy(|it| it.key = KeyRule::Ignored);
    for (routes, expected) in [
        (vec![route(&[], "/payments", required()), route(&[], "/**", ignored())], Some("key-missing")),
        (vec![route(&[], "/**", ignored()), route(&[], "/payments", required())], None),
        (
            vec![route(&[Method::PATCH], "/payments", ignored()), route(&[], "/{any}", required())],
            Some("key-missing"),
        ),
    ] {
        let world = World::routed(Routes::new(routes, HttpPolicy::default()), paid);
        assert_eq!(world.send(post("/payments")).await.problem().as_deref(), expected);
    }
}

#[tokio::test]
async fn an_answer_names_the_route_that_chose_its_policy() {
    let world = World::routed(
        Routes::new(vec![route(&[], "/orders/{id}", HttpPolicy::default())], HttpPolicy::default()),
        paid,
    );
    for (target, name) in [("/orders/7", "/orders/{id}"), ("/payments", "default")] {
        let got = world.send(post(target).key("k")).await;
        assert_eq!(got.exchange.unwrap().route.unwrap().name, name);
    }
}

#[tokio::test]
async fn method_host_and_path_exactly_as_sent_are_the_identity() {
    for (other, is_same) in [
        (post("/payments"), true),
        (post("/payments").host("API.Test"), true),
        (post("/payments").host("api.test:80"), true),
        (post("http://api.test/payments"), true),
        (post("http://API.test:80/payments").host("other.test"), true),
        (post("https://api.test:443/payments"), true),
        (post("/payments").host("api.test:8080"), false),
        (post("/payments").host("other.test"), false),
        (post("/payments").host(""), false),
        (post("http://other.test/payments"), false),
        (ask(Method::PATCH, "/payments"), false),
        (post("/payments/"), false),
        (post("/Payments"), false),
        (post("/%70ayments"), false),
        (post("/./payments"), false),
    ] {
        let world = World::new(paid);
        world.send(post("/payments").key("k")).await.assert_first(201);
        let shown = format!("{other:?}");
        let got = world.send(other.key("k")).await;
        assert_eq!(got.is_replay(), is_same, "{shown}");
        assert_eq!(world.effects(), if is_same { 1 } else { 2 }, "{shown}");
    }
}

#[tokio::test]
async fn http_1_and_http_2_callers_meet_at_one_record() {
    let world = World::new(paid);
    let mut server = Server::of(&world).await;
    let addr = server.addr;
    let first = server
        .say(&format!(
            "POST /payments HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx"
        ))
        .await;
    assert!(first.starts_with("HTTP/1.1 201 "), "{first}");
    let again = http::Request::post(format!("http://{addr}/payments"))
        .header("idempotency-key", "\"k\"")
        .body(Full::new(Bytes::from("x")))
        .unwrap();
    let (head, body) = server.say_h2c(again).await;
    assert_eq!((head.status.as_u16(), &body.to_bytes()[..]), (201, b"paid".as_slice()));
    assert_eq!(head.headers["idempotent-replayed"], "true");
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn routes_and_their_policies_never_change_identity() {
    let world = World::new(paid);
    world.send(post("/orders/7").key("k")).await.assert_first(201);
    let other = policy(|it| {
        it.key = KeyRule::Required;
        it.policy.retention = Duration::from_secs(1);
        it.max_answer_bytes = 1;
    });
    world.layer.set_routes(Routes::new(vec![route(&[Method::POST], "/orders/{id}", other)], required()));
    world.send(post("/orders/7").key("k")).await.assert_replay(201);
}

#[tokio::test]
async fn every_record_carries_the_version_of_the_rules_that_made_it() {
    let world = World::new(paid);
    world.send(post("/payments").key("k")).await.assert_first(201);
    let records = world.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].rules, records[0].listing.path.as_str()), (RULES, "/payments"));
}

#[tokio::test]
async fn a_method_in_small_letters_dodges_nothing() {
    let world = World::under(required(), paid);
    for method in ["post", "Post", "patch"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        world.send(ask(method.clone(), "/payments").key("k")).await.assert_problem(400, "request-ambiguous");
        world.send(ask(method, "/payments")).await.assert_problem(400, "request-ambiguous");
    }
    assert_eq!(world.effects(), 0);
    let get = Method::from_bytes(b"get").unwrap();
    assert_eq!(world.send(ask(get, "/payments")).await.told(), Told::PassThrough);
}

#[tokio::test]
async fn two_host_lines_are_refused_before_any_claim() {
    let world = World::new(paid);
    let got = world.send(post("/a").key("k").header("host", "b")).await;
    got.assert_problem(400, "request-ambiguous");
    assert_eq!((world.effects(), world.records().await.len()), (0, 0));
}

#[tokio::test]
async fn hosts_that_differ_in_bytes_outside_ascii_are_two() {
    let world = World::new(paid);
    for (effects, host) in [(1, b"a\xe9".as_slice()), (2, b"a\xea"), (2, b"A\xe9")] {
        world.send(post("/a").key("k").host(host)).await;
        assert_eq!(world.effects(), effects, "{host:?}");
    }
}

#[tokio::test]
async fn after_a_reload_what_runs_and_what_is_stored_keep_the_policy_they_began_with() {
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
    let gate = turnstile();
    let world = World::under(policy(|it| it.policy.retention = hour), paid_after(&gate));
    let running = world.send_aside(pay("k1"));
    world.until_effects(1).await;
    let reloaded = policy(|it| {
        it.policy.retention = day;
        it.max_answer_bytes = 1;
        it.oversize = Oversize::Refuse;
    });
    world.layer.set_routes(Routes::new(Vec::new(), reloaded));
    gate.add_permits(2);
    running.got().await.assert_first(201);
    world.send(pay("k1")).await.assert_replay(201);
    world.send(pay("k2")).await.assert_problem(502, "answer-too-large");
    world.clock.advance(hour);
    world.send(pay("k1")).await.assert_problem(410, "answer-gone");
    world.send(pay("k2")).await.assert_problem(409, "answer-not-kept");
    assert_eq!(world.effects(), 2);
}
