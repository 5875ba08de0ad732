//! What is too big to keep: requests before any claim, answers after the effect.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use http::StatusCode;
use onceward_core::State;
use onceward_http::{HttpPolicy, Oversize, Told};
use onceward_testkit::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::wire::{Server, read_to_end};
use crate::world::{Seen, World, paid, pay, policy, post};

fn small(oversize: Oversize) -> HttpPolicy {
    policy(|it| {
        it.max_request_bytes = 10;
        it.max_answer_bytes = 10;
        it.oversize = oversize;
    })
}

fn chunked(pieces: &'static [&'static str]) -> Body {
    Body::from_stream(futures_util::stream::iter(
        pieces.iter().map(|it| Ok::<_, std::io::Error>(Bytes::from(*it))),
    ))
}

#[tokio::test]
async fn a_request_over_the_bound_is_refused_before_any_claim() {
    let sized = |len: &str, body| post("/a").key("k").header("content-length", len).body(body);
    for (request, is_accepted) in [
        (post("/a").key("k").body("0123456789"), true),
        (post("/a").key("k").body("0123456789a"), false),
        (post("/a").key("k").body(chunked(&["01234", "56789"])), true),
        (post("/a").key("k").body(chunked(&["01234", "56789", "a"])), false),
        (sized("11", Body::from("short")), false),
        (sized("10", Body::from("0123456789")), true),
        (sized("99999999999999999999999", chunked(&["01234", "56789", "a"])), false),
    ] {
        let world = World::under(small(Oversize::Pass), paid);
        world.engine.hasher().await.unwrap();
        world.store.forget();
        let got = world.send(request).await;
        if is_accepted {
            got.assert_first(201);
        } else {
            got.assert_problem(413, "request-too-large");
            assert_eq!(got.told(), Told::Refused);
            assert!(got.text().contains("At most 10 bytes"), "{}", got.text());
            assert_eq!((world.effects(), world.store.log().len()), (0, 0));
        }
    }
}

#[tokio::test]
async fn the_bound_holds_for_operations_only() {
    let world = World::under(small(Oversize::Pass), |seen: Seen| async move { seen.body });
    for request in [post("/a"), crate::world::ask(http::Method::PUT, "/a").key("k")] {
        let got = world.send(request.body("0123456789abc")).await;
        assert_eq!((got.text(), got.told()), ("0123456789abc", Told::PassThrough));
    }
}

#[tokio::test]
async fn a_head_that_is_refused_asks_for_no_body() {
    let world = World::under(small(Oversize::Pass), paid);
    let server = Server::of(&world).await;
    for (head, status) in [
        ("Idempotency-Key: k\r\nContent-Length: 11", "413"),
        ("Idempotency-Key: a b\r\nContent-Length: 5", "400"),
        ("Idempotency-Key: k\r\nAuthorization: Digest a\r\nContent-Length: 5", "400"),
    ] {
        let mut stream = server.connect().await;
        let request = format!(
            "POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n{head}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_to_end(stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
    }
    let mut stream = server.connect().await;
    let head = "POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    within(stream.read_exact(&mut go_on)).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(world.records().await.len(), 0, "an upload that has not come claims nothing");
    stream.write_all(b"hello").await.unwrap();
    assert!(read_to_end(stream).await.starts_with("HTTP/1.1 201 "));
}

#[tokio::test]
async fn a_long_answer_passes_once_and_is_never_run_again() {
    for pieces in [&["0123456789a"] as &'static [&'static str], &["01234", "567", "89abc", "", "end"]] {
        let world = World::under(small(Oversize::Pass), move |_| async move {
            (StatusCode::CREATED, [("set-cookie", "a=1"), ("idempotent-replayed", "true")], chunked(pieces))
        });
        let first = world.send(pay_small()).await;
        assert_eq!(
            (first.status.as_u16(), first.text(), first.told()),
            (201, pieces.concat().as_str(), Told::Oversize)
        );
        assert_eq!((first.header("set-cookie"), first.header("idempotent-replayed")), (Some("a=1"), None));
        for _ in 0..2 {
            let again = world.send(pay_small()).await;
            again.assert_problem(409, "answer-not-kept");
            assert_eq!((again.told(), again.header("retry-after")), (Told::NotKept, None));
        }
        world.send(post("/a").key("k").body("2")).await.assert_problem(422, "key-reused");
        assert_eq!(world.effects(), 1);
    }
}

fn pay_small() -> crate::world::Ask {
    post("/a").key("k").body("1")
}

#[tokio::test]
async fn a_long_answer_that_is_refused_is_never_run_again_either() {
    let world = World::under(small(Oversize::Refuse), |_| async { (StatusCode::CREATED, "0123456789a") });
    let first = world.send(pay_small()).await;
    first.assert_problem(502, "answer-too-large");
    assert_eq!(first.told(), Told::Oversize);
    world.send(pay_small()).await.assert_problem(409, "answer-not-kept");
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn an_answer_of_exactly_the_bound_is_kept() {
    for oversize in [Oversize::Pass, Oversize::Refuse] {
        let world = World::under(small(oversize), |_| async { chunked(&["01234", "56789"]) });
        world.send(pay_small()).await.assert_first(200);
        assert_eq!(world.send(pay_small()).await.text(), "0123456789");
        assert_eq!(world.effects(), 1);
    }
}

#[tokio::test]
async fn events_and_upgrades_count_as_streams() {
    for oversize in [Oversize::Pass, Oversize::Refuse] {
        for (status, kind) in
            [(200, "text/event-stream"), (200, "Text/Event-Stream; charset=utf-8"), (101, "")]
        {
            let world = World::under(small(oversize), move |_| async move {
                let status = StatusCode::from_u16(status).unwrap();
                (status, [("content-type", kind), ("connection", "upgrade"), ("upgrade", "x")], "e")
            });
            let first = world.send(pay_small()).await;
            match oversize {
                Oversize::Pass => {
                    assert_eq!((first.status.as_u16(), first.told()), (status, Told::Oversize));
                    if status == 101 {
                        assert_eq!(first.header("upgrade"), Some("x"));
                    }
                }
                Oversize::Refuse => first.assert_problem(502, "answer-too-large"),
            }
            world.send(pay_small()).await.assert_problem(409, "answer-not-kept");
            assert_eq!(world.effects(), 1, "{status} {kind}");
        }
    }
}

#[tokio::test]
async fn the_record_of_a_passing_answer_is_finished_before_its_first_byte() {
    let gate = crate::world::turnstile();
    let passing = Arc::clone(&gate);
    let world = World::new(move |_| {
        let gate = Arc::clone(&passing);
        async move {
            let events = futures_util::stream::once(async move {
                gate.acquire_owned().await.unwrap().forget();
                Ok::<_, std::io::Error>(Bytes::from("data: 1\n\n"))
            });
            ([("content-type", "text/event-stream")], Body::from_stream(events))
        }
    });
    let first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    // No byte has come, and yet a repeat is refused for good.
    onceward_testkit::eventually(async || matches!(world.records().await[0].state, State::Done(_))).await;
    world.send(pay("k")).await.assert_problem(409, "answer-not-kept");
    crate::world::let_through(&gate);
    assert_eq!(first.got().await.text(), "data: 1\n\n");
}

#[tokio::test]
async fn a_long_answer_may_still_free_its_key_or_leave_it_open() {
    for (status, told, effects) in [(429, Told::Released, 2), (502, Told::Unknown, 1)] {
        let world = World::under(small(Oversize::Pass), move |_| async move {
            (StatusCode::from_u16(status).unwrap(), "0123456789a")
        });
        let first = world.send(pay_small()).await;
        assert_eq!((first.status.as_u16(), first.text(), first.told()), (status, "0123456789a", told));
        world.send(pay_small()).await;
        assert_eq!(world.effects(), effects);
    }
}
