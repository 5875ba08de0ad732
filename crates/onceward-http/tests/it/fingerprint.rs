//! The same key with another request is a misuse, whatever became of the first.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http::StatusCode;
use onceward_core::InFlight;
use onceward_http::Told;

use crate::wire::Server;
use crate::world::{
    Ask, Seen, World, let_through, paid, paid_after, pay, pay_other, policy, post, turnstile,
};

/// Two requests with one key: the second is a replay, or refused as another request.
async fn check(first: Ask, second: Ask, is_same: bool) {
    let world = World::new(paid);
    let shown = format!("{first:?} then {second:?}");
    world.send(first.key("k")).await.assert_first(201);
    let got = world.send(second.key("k")).await;
    if is_same {
        got.assert_replay(201);
    } else {
        assert_eq!(got.problem().as_deref(), Some("key-reused"), "{shown}");
        got.assert_problem(422, "key-reused");
    }
    assert_eq!(world.effects(), 1, "{shown}");
}

fn typed(kind: &str, body: &'static str) -> Ask {
    post("/a").header("content-type", kind).body(body)
}

#[tokio::test]
async fn path_query_media_type_and_body_are_what_was_asked() {
    for (target, is_same) in [
        ("/a?b=1&c=2", true),
        ("/a?c=2&b=1", false),
        ("/a?b=1&c=%32", false),
        ("/a?b=1&c=2&", false),
        ("/a?", false),
        ("/a", false),
    ] {
        check(post("/a?b=1&c=2"), post(target), is_same).await;
    }
    for (kind, is_same) in [
        ("application/json; charset=utf-8; v=1", true),
        ("Application/JSON;V=1;charset=\"UTF-8\"", true),
        ("application/json", false),
        ("application/json; charset=latin1; v=1", false),
        ("text/plain; charset=utf-8; v=1", false),
    ] {
        check(typed("application/json; charset=utf-8; v=1", "{}"), typed(kind, "{}"), is_same).await;
    }
    check(typed("a/b", "x"), post("/a").body("x"), false).await;
    for (body, is_same) in [
        (r#"{"a":1,"b":2}"#, true),
        (r#"{"b":2,"a":1}"#, false),
        (r#"{"a":1.0,"b":2}"#, false),
        (r#"{"a":1, "b":2}"#, false),
        ("", false),
    ] {
        check(typed("application/json", r#"{"a":1,"b":2}"#), typed("application/json", body), is_same).await;
    }
    check(post("/a").body("9007199254740993"), post("/a").body("9007199254740992"), false).await;
}

#[tokio::test]
async fn no_other_header_counts() {
    for (name, value) in [
        ("user-agent", "retry/2"),
        ("x-request-id", "2"),
        ("traceparent", "00-1-2-03"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
        ("if-match", "\"1\""),
        ("content-encoding", "identity"),
        ("expect", "100-continue"),
        ("onceward-attempt", "9"),
    ] {
        check(post("/a").body("x"), post("/a").body("x").header(name, value), true).await;
    }
}

#[tokio::test]
async fn the_boundary_of_a_multipart_body_does_not_count() {
    let form = |boundary: &str, value: &str| {
        let body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{value}\r\n--{boundary}--\r\n"
        );
        post("/a").header("content-type", format!("multipart/form-data; boundary={boundary}")).body(body)
    };
    check(form("one", "1"), form("----two", "1"), true).await;
    check(form("one", "1"), form("two", "2"), false).await;
    check(form("one", "a --one"), form("two", "a --two"), false).await;
    check(form("one", "--one-a"), form("two", "--two-a"), false).await;
    check(form("one", "--one a"), form("two", "--two a"), false).await;
}

/// However its boundary is spelt and its body is framed, a form is the same form.
#[tokio::test]
async fn a_form_in_pieces_under_another_boundary_is_the_same_form() {
    let form = |kind: &str, boundary: &str, pieces: usize| {
        let body = format!(
            "--{0}\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--{0}--\r\n",
            boundary.trim_matches('"')
        );
        let size = body.len().div_ceil(pieces);
        let pieces: Vec<_> = body.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let stream = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        post("/a")
            .header("content-type", format!("{kind}; boundary={boundary}"))
            .body(Body::from_stream(stream))
    };
    check(form("multipart/form-data", "one", 1), form("multipart/form-data", "\"two\"", 7), true).await;
    check(form("multipart/mixed", "one", 3), form("Multipart/Mixed", "three", 100), true).await;
    check(form("multipart/mixed", "one", 1), form("multipart/related", "one", 1), false).await;
    // Where it is no multipart, a boundary is a parameter like any other.
    check(form("text/plain", "one", 1), form("text/plain", "two", 1), false).await;
}

#[tokio::test]
async fn chunked_and_sized_bodies_are_the_same_body() {
    let world = World::new(|seen: Seen| async move { (StatusCode::CREATED, seen.body) });
    let server = Server::of(&world).await;
    let head = "POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: k\r\n";
    let bodies = [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\nh\r\n4\r\nello\r\n0\r\nX-Trailer: 1\r\n\r\n",
    ];
    for (nth, body) in bodies.into_iter().enumerate() {
        let answer = server.say(&format!("{head}{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with("hello"), "{answer}");
        assert_eq!(answer.contains("idempotent-replayed: true"), nth > 0, "{answer}");
    }
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn frames_do_not_count_either() {
    let pieces = |pieces: &'static [&'static str]| {
        let stream =
            futures_util::stream::iter(pieces.iter().map(|it| Ok::<_, std::io::Error>(Bytes::from(*it))));
        post("/a").body(Body::from_stream(stream))
    };
    check(pieces(&["hel", "", "lo"]), pieces(&["", "hello"]), true).await;
    check(pieces(&["hel", "lo"]), pieces(&["hel", "l0"]), false).await;
}

#[tokio::test]
async fn huge_and_deep_bodies_are_compared_and_nothing_breaks() {
    let deep = |depth: usize| {
        post("/a").header("content-type", "application/json").body("[".repeat(depth) + &"]".repeat(depth))
    };
    check(deep(200_000), deep(200_000), true).await;
    check(deep(200_000), deep(200_001), false).await;
    let long = |last: &str| post("/a").body("a".repeat((1 << 20) - 1) + last);
    check(long("b"), long("b"), true).await;
    check(long("b"), long("c"), false).await;
}

#[tokio::test]
async fn another_request_is_refused_while_the_first_runs() {
    for in_flight in [InFlight::Reject, InFlight::Wait(Duration::from_secs(60))] {
        let gate = turnstile();
        let world = World::under(policy(|it| it.in_flight = in_flight), paid_after(&gate));
        let first = world.send_aside(pay("k"));
        world.until_effects(1).await;
        let got = world.send(pay_other("k")).await;
        got.assert_problem(422, "key-reused");
        assert_eq!(got.told(), Told::Mismatch);
        let_through(&gate);
        first.got().await.assert_first(201);
        assert_eq!(world.effects(), 1);
    }
}

#[tokio::test]
async fn another_request_is_refused_after_the_first_whatever_became_of_it() {
    let (hour, week) = (Duration::from_secs(3600), Duration::from_secs(7 * 24 * 3600));
    // (the application's answer, how much later, what an equal request gets then)
    for (status, later, equal) in [
        (201, Duration::ZERO, (201, None)),
        (500, Duration::ZERO, (500, None)),
        (502, Duration::ZERO, (409, Some("unresolved"))),
        (502, 100 * week, (409, Some("unresolved"))),
        (201, 24 * hour, (410, Some("answer-gone"))),
        (201, week, (410, Some("answer-gone"))),
    ] {
        let world = World::new(move |_| async move { StatusCode::from_u16(status).unwrap() });
        world.send(pay("k")).await;
        world.clock.advance(later);
        for swept in [false, true] {
            if swept {
                world.engine.maintain().await.unwrap();
            }
            let got = world.send(pay_other("k")).await;
            got.assert_problem(422, "key-reused");
            let same = world.send(pay("k")).await;
            assert_eq!((same.status.as_u16(), same.problem().as_deref()), equal, "{status} {later:?}");
        }
        assert_eq!(world.effects(), 1);
    }
}

#[tokio::test]
async fn after_the_tombstone_and_after_a_release_any_request_may_use_the_key() {
    let world = World::new(paid);
    world.send(pay("k")).await.assert_first(201);
    world.clock.advance(Duration::from_secs(8 * 24 * 3600));
    world.send(pay_other("k")).await.assert_first(201);
    let world = World::new(|seen: Seen| async move {
        if seen.header("onceward-attempt") == Some("1") { StatusCode::FORBIDDEN } else { StatusCode::CREATED }
    });
    assert_eq!(world.send(pay("k")).await.told(), Told::Released);
    world.send(pay_other("k")).await.assert_first(201);
    world.send(pay("k")).await.assert_problem(422, "key-reused");
}
