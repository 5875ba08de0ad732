//! A replay is the first answer, byte for byte, without what belonged to the moment it was made.

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use onceward_core::State;
use onceward_http::{HttpPolicy, Routes, Told};

use crate::wire::{Server, head};
use crate::world::{Got, Seen, World, ask, paid, pay, policy, post};

type Lines = &'static [(&'static str, &'static str)];

fn answer(status: u16, lines: Lines, body: &'static [u8]) -> Response {
    let mut response = Body::from(body).into_response();
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().remove("content-type");
    for (name, value) in lines {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

/// The first answer and its replay.
async fn twice(status: u16, lines: Lines, body: &'static [u8]) -> (Got, Got) {
    let world = World::new(move |_| async move { answer(status, lines, body) });
    let first = world.send(pay("k")).await;
    let replay = world.send(pay("k")).await;
    assert!(!first.is_replay());
    assert!(replay.is_replay(), "{status} {lines:?}");
    assert_eq!(world.effects(), 1);
    (first, replay)
}

#[tokio::test]
async fn status_and_body_come_back_byte_for_byte() {
    for (status, body) in [
        (200, b"ok".as_slice()),
        (200, b""),
        (201, b"\x00\xff\xfe\r\n\r\n\x00"),
        (202, b"0"),
        (200, b"\"\""),
        (200, b"[]"),
        (200, b"false"),
        (204, b""),
        (205, b""),
        (206, b"part"),
        (299, b"odd"),
        (301, b"moved"),
        (302, b""),
        (303, b""),
        (304, b""),
        (307, b""),
        (308, b""),
        (400, b"bad"),
        (402, b"no money"),
        (404, b""),
        (409, b"conflict of the application"),
        (410, b""),
        (412, b""),
        (422, b"invalid"),
        (500, b"boom"),
        (501, b""),
        (505, b""),
        (599, b"odd"),
    ] {
        let (first, replay) = twice(status, &[], body).await;
        for got in [&first, &replay] {
            assert_eq!((got.status.as_u16(), &got.body[..]), (status, body));
            assert_eq!(got.problem(), None);
        }
    }
}

#[tokio::test]
async fn a_problem_body_of_the_application_is_an_answer_like_any_other() {
    let body = br#"{"type":"https://bank.test/no-money","status":402}"#;
    let (first, replay) = twice(402, &[("content-type", "application/problem+json")], body).await;
    assert_eq!(first.body, replay.body);
    assert_eq!(replay.problem().as_deref(), Some("no-money"));
    assert!(replay.is_replay(), "replays of errors carry the marker too");
}

#[tokio::test]
async fn every_stored_line_comes_back_in_order() {
    let (first, replay) = twice(
        201,
        &[
            ("set-cookie", "a=1; Path=/"),
            ("location", "/payments/1"),
            ("link", "</1>; rel=next"),
            ("set-cookie", "b=2"),
            ("etag", "W/\"1\""),
            ("link", "</2>; rel=last"),
            ("set-cookie", "a=3"),
            ("content-type", "application/json; charset=UTF-8"),
            ("retry-after", "7"),
            ("cache-control", "private"),
            ("x-empty", ""),
        ],
        b"{}",
    )
    .await;
    assert_eq!(replay.lines("set-cookie"), ["a=1; Path=/", "b=2", "a=3"]);
    assert_eq!(replay.lines("link"), ["</1>; rel=next", "</2>; rel=last"]);
    let mut marked = first.headers.clone();
    marked.insert("idempotent-replayed", "true".parse().unwrap());
    assert_eq!(replay.headers, marked);
}

#[tokio::test]
async fn what_belongs_to_a_connection_or_a_moment_is_never_replayed() {
    let (_, replay) = twice(
        200,
        &[
            ("connection", "close, X-Hop"),
            ("connection", "x-hop-too"),
            ("x-hop", "1"),
            ("x-hop-too", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("upgrade", "h2c"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("x-kept", "1"),
        ],
        b"x",
    )
    .await;
    let mut names: Vec<_> = replay.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "idempotent-replayed", "x-kept"]);
}

#[tokio::test]
async fn lines_that_a_route_says_go_stale_are_left_out_of_replays_only() {
    let drop = policy(|it| {
        it.replay_drop = vec![HeaderName::from_static("x-request-id"), HeaderName::from_static("age")]
    });
    let world = World::under(drop, |_| async { [("x-request-id", "1"), ("age", "3"), ("etag", "\"1\"")] });
    let first = world.send(pay("k")).await;
    assert_eq!((first.header("x-request-id"), first.header("age")), (Some("1"), Some("3")));
    let replay = world.send(pay("k")).await;
    assert_eq!((replay.header("x-request-id"), replay.header("age")), (None, None));
    assert_eq!(replay.header("etag"), Some("\"1\""));
}

#[tokio::test]
async fn a_marker_that_the_application_sends_is_stripped() {
    let world = World::new(|_| async {
        answer(200, &[("idempotent-replayed", "true"), ("Idempotent-Replayed", "yes")], b"x")
    });
    for sent in [pay("k"), post("/payments"), ask(Method::GET, "/payments")] {
        let got = world.send(sent).await;
        assert_eq!(got.lines("idempotent-replayed"), [""; 0], "{:?}", got.told());
    }
    assert_eq!(world.send(pay("k")).await.lines("idempotent-replayed"), ["true"]);
}

#[tokio::test]
async fn trailers_come_back() {
    let world = World::new(|_| async {
        let trailers = HeaderMap::from_iter([
            ("x-sum".parse::<HeaderName>().unwrap(), "1".parse().unwrap()),
            ("x-sign".parse().unwrap(), "2".parse().unwrap()),
        ]);
        let body = Full::new(Bytes::from("body")).with_trailers(std::future::ready(Some(Ok(trailers))));
        ([("trailer", "x-sum, x-sign")], Body::new(body))
    });
    let first = world.send(pay("k")).await;
    let replay = world.send(pay("k")).await;
    assert!(replay.is_replay());
    assert_eq!(first.trailers.as_ref().map(HeaderMap::len), Some(2));
    assert_eq!((replay.body, replay.trailers), (first.body, first.trailers));

    let mut server = Server::of(&world).await;
    for nth in 0..2 {
        let sent = http::Request::post(format!("http://{}/t", server.addr)).header("idempotency-key", "h2");
        let (head, whole) = server.say_h2c(sent.body(Full::default()).unwrap()).await;
        assert_eq!(head.headers.contains_key("idempotent-replayed"), nth == 1);
        assert_eq!(whole.trailers().unwrap()["x-sum"], "1");
        assert_eq!(&whole.to_bytes()[..], b"body");
    }
    for nth in 0..2 {
        let sent = "POST /t HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTE: trailers\r\nIdempotency-Key: h1\r\nContent-Length: 0\r\n\r\n";
        let got = server.say(sent).await;
        assert_eq!(got.contains("idempotent-replayed: true"), nth == 1, "{got}");
        assert!(got.contains("x-sum: 1") && got.contains("body"), "{got}");
    }
}

#[tokio::test]
async fn the_same_bytes_go_over_the_wire_with_the_same_length() {
    // The application streams: its length is only known once the answer is whole.
    let world = World::new(|seen: Seen| async move {
        let status = seen.head.uri.path()[1..].parse::<u16>().unwrap();
        let chunks = if status == 204 || status == 304 { vec![] } else { vec!["one", "", "two"] };
        let chunks = chunks.into_iter().map(|it| Ok::<_, std::io::Error>(Bytes::from(it)));
        (StatusCode::from_u16(status).unwrap(), Body::from_stream(futures_util::stream::iter(chunks)))
    });
    let server = Server::of(&world).await;
    for status in [200, 201, 204, 304, 404, 500] {
        let request = format!(
            "POST /{status} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx"
        );
        let (first, replay) = (server.say(&request).await, server.say(&request).await);
        let mut marked = head(&replay);
        let at = marked.iter().position(|it| it == "idempotent-replayed: true").expect("it is a replay");
        marked.remove(at);
        let mut unmarked = head(&first);
        marked.sort();
        unmarked.sort();
        assert_eq!(marked, unmarked);
        let has_body = status != 204 && status != 304;
        assert_eq!(unmarked.iter().any(|it| it == "content-length: 6"), has_body, "{first}");
        assert_eq!(first.ends_with("onetwo") && replay.ends_with("onetwo"), has_body, "{replay}");
        let dates = replay.to_ascii_lowercase().matches("\r\ndate: ").count();
        assert_eq!(dates, 1, "the server says the time of the replay, once: {replay}");
    }
}

#[tokio::test]
async fn http_1_0_gets_first_answer_and_replay_too() {
    let world = World::new(crate::world::paid);
    let server = Server::of(&world).await;
    for nth in 0..2 {
        let got = server
            .say("POST /a HTTP/1.0\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx")
            .await;
        assert!(got.starts_with("HTTP/1.0 201 ") && got.ends_with("\r\n\r\npaid"), "{got}");
        assert_eq!(got.contains("idempotent-replayed"), nth == 1);
    }
}

#[tokio::test]
async fn serving_a_replay_changes_nothing_that_is_stored() {
    let world = World::new(crate::world::paid);
    world.send(pay("k")).await.assert_first(201);
    let before = world.records().await;
    // Another process without a cache of its own, so that the store is asked.
    let other = World::over(
        world.clock.clone(),
        world.store.clone(),
        onceward_http::Routes::new(vec![], policy(|_| {})),
        crate::world::paid,
    );
    for _ in 0..3 {
        other.send(pay("k")).await.assert_replay(201);
        assert_eq!(world.send(pay("k")).await.told(), Told::Replay);
    }
    assert_eq!(world.records().await, before);
    assert_eq!(other.effects(), 0);
}

#[tokio::test]
async fn a_replay_ends_with_its_retention_and_never_becomes_a_second_run() {
    let world = World::new(crate::world::paid);
    world.send(pay("k")).await.assert_first(201);
    world.clock.advance(std::time::Duration::from_secs(24 * 3600) - std::time::Duration::from_millis(1));
    world.send(pay("k")).await.assert_replay(201);
    world.clock.advance(std::time::Duration::from_millis(1));
    let gone = world.send(pay("k")).await;
    gone.assert_problem(410, "answer-gone");
    assert_eq!(gone.told(), Told::Gone);
    world.clock.advance(std::time::Duration::from_secs(7 * 24 * 3600) - std::time::Duration::from_millis(1));
    world.send(pay("k")).await.assert_problem(410, "answer-gone");
    assert_eq!(world.effects(), 1);
}

/// Long answers are packed where they are kept. Nobody who asks can tell.
#[tokio::test]
async fn a_long_answer_comes_back_byte_for_byte_to_every_process() {
    let body: String = (0..20_000).map(|it| format!("{it},")).collect();
    let told = body.clone();
    let world = World::new(move |_| {
        let body = told.clone();
        async move { (StatusCode::CREATED, [("set-cookie", "a=1"), ("content-type", "text/csv")], body) }
    });
    let first = world.send(pay("k")).await;
    first.assert_first(201);
    let State::Done(kept) = &world.records().await[0].state else { panic!("it is done") };
    assert!(kept.stored_len() < kept.len() / 2, "{} of {}", kept.stored_len(), kept.len());
    let routes = Routes::new(Vec::new(), HttpPolicy::default());
    let elsewhere = World::over(world.clock.clone(), world.store.clone(), routes, paid);
    for world in [&world, &elsewhere] {
        for _from_store_then_from_cache in 0..2 {
            let again = world.send(pay("k")).await;
            again.assert_replay(201);
            assert_eq!((&again.body, again.text()), (&first.body, &*body));
            assert_eq!(again.header("content-length"), first.header("content-length"));
            assert_eq!(again.lines("set-cookie"), ["a=1"]);
        }
    }
    assert_eq!((world.effects(), elsewhere.effects()), (1, 0));
}
