//! What is no operation streams through untouched.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use onceward_http::Body;
use tokio::io::AsyncWriteExt as _;
use tokio_util::task::TaskTracker;

use super::origin::{Cut, cut_after, fed};
use super::world::*;
use crate::scripted::Scripted;

#[tokio::test]
async fn both_bodies_stream_at_the_same_time() {
    each(async |pair| {
        // Each piece is answered as it comes: this only works when nothing is held back.
        let echo =
            |request: Request<Incoming>| async move { Ok(Response::new(Body::stream(request.into_body()))) };
        let world = World::before(Origin::streaming(echo).await, pair, "", |_| {}).await;
        for sent in [ask("PUT", "/echo").key("k"), post("/echo")] {
            let (mut sender, body) = fed();
            let mut line = world.caller.connect().await;
            let answer = line.send(sent.body(body));
            let mut answer = within(answer).await.unwrap();
            for piece in ["one", "two", "three"] {
                sender.send_data(Bytes::from_static(piece.as_bytes())).await.unwrap();
                let frame = within(answer.body_mut().frame()).await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), piece);
            }
            drop(sender);
            assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "");
        }
        assert_eq!(world.claims(), 0);
    })
    .await;
}

#[tokio::test]
async fn events_reach_the_client_one_by_one() {
    each(async |pair| {
        let (mut sender, body) = fed();
        let body = std::sync::Mutex::new(Some(body));
        let lines = &[("content-type", "text/event-stream")];
        let handler = move |_| std::future::ready(reply(200, lines, body.lock().unwrap().take().unwrap()));
        let world = World::start(pair, "", handler).await;
        let mut line = world.caller.connect().await;
        let mut answer = within(line.send(ask("GET", "/events"))).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            sender.send_data(Bytes::from_static(event.as_bytes())).await.unwrap();
            let frame = within(answer.body_mut().frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_may_be_upgraded() {
    let scripted = Scripted::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .await;
        let (mut read, mut write) = tokio::io::split(peer.stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await;
    let world = World::before(Origin::elsewhere(scripted.addr), H1, "", |_| {}).await;
    let mut raw = world.caller.raw().await;
    raw.send("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").await;
    assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    for word in ["hello", "again"] {
        raw.send(word).await;
        assert_eq!(raw.read_until(word).await, word);
    }
    raw.0.shutdown().await.unwrap();
    assert_eq!(raw.read_to_end().await, "");
}

/// Pages of memory that this process has resident, in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn an_upload_of_100_mb_passes_in_bounded_memory() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 100 * 1024 * 1024 / PIECE;
    static ZEROES: [u8; PIECE] = [0; PIECE];
    let count = |request: Request<Incoming>| async move {
        let (mut body, mut bytes) = (request.into_body(), 0);
        while let Some(frame) = body.frame().await {
            bytes += frame.map_err(|_| Cut)?.into_data().map_or(0, |it| it.len());
        }
        reply(200, &[], bytes.to_string())
    };
    let origin = Origin::streaming(count).await;
    each(async |pair| {
        let world = World::before(origin.clone(), pair, "", |_| {}).await;
        let (mut sender, body) = fed();
        let upload = world.send_aside(post("/upload").body(body));
        let (before, mut most) = (resident_bytes(), 0);
        for _ in 0..PIECES {
            sender.send_data(Bytes::from_static(&ZEROES)).await.unwrap();
            most = most.max(resident_bytes());
        }
        drop(sender);
        let got = upload.got().await;
        assert_eq!(&got.body[..], (PIECES * PIECE).to_string().as_bytes());
        let grown = most.saturating_sub(before);
        assert!(grown < 48 * 1024 * 1024, "it grew by {grown} bytes");
    })
    .await;
}

#[tokio::test]
async fn head_and_options_pass() {
    each(async |pair| {
        let handler = |seen: Seen| async move {
            let mut response = reply(200, &[("allow", "GET"), ("content-length", "1234")], Body::empty())?;
            if seen.head.method == http::Method::OPTIONS {
                response.headers_mut().remove("content-length");
                *response.status_mut() = http::StatusCode::NO_CONTENT;
            }
            Ok(response)
        };
        let world = World::start(pair, "", handler).await;
        let head = world.send(ask("HEAD", "/file").key("k")).await;
        head.assert_first(200);
        assert_eq!((head.header("content-length"), head.body.len()), (Some("1234"), 0));
        let preflight = ask("OPTIONS", "/payments").header("access-control-request-method", "POST");
        let options = world.send(preflight).await;
        options.assert_first(204);
        assert_eq!(options.header("allow"), Some("GET"));
        let seen = world.origin.last();
        assert_eq!(seen.header("access-control-request-method"), Some("POST"));
    })
    .await;
}

#[tokio::test]
async fn its_failures_are_told_in_the_plain_words_of_a_proxy() {
    each(async |pair| {
        let origin = Origin::start(|seen: Seen| async move {
            match seen.target() {
                "/cut" => Err(Cut),
                "/half" => reply(200, &[], cut_after("half")),
                _ => std::future::pending().await,
            }
        })
        .await;
        let timeout = Duration::from_millis(200);
        let world = World::before(origin, pair, "", |it| it.upstream.response_timeout = timeout).await;
        for (path, status) in [("/cut", 502), ("/hang", 504)] {
            let got = world.send(ask("GET", path)).await;
            assert_eq!((got.status.as_u16(), got.problem()), (status, None));
        }
        // A body that is cut reaches the client as cut, never as a shorter one.
        let mut line = world.caller.connect().await;
        let answer = within(line.send(ask("GET", "/half"))).await;
        if let Ok(answer) = answer {
            assert!(within(answer.into_body().collect()).await.is_err());
        }
        assert_eq!(world.effects(), 3);
    })
    .await;
}

#[tokio::test]
async fn trailers_of_a_response_pass() {
    each(async |pair| {
        let handler = |_| async {
            let (mut sender, body) = fed();
            TaskTracker::new().spawn(async move {
                sender.send_data(Bytes::from_static(b"x")).await.unwrap();
                let trailers = [("x-sum".parse().unwrap(), "7".parse().unwrap())];
                sender.send_trailers(http::HeaderMap::from_iter(trailers)).await.unwrap();
            });
            reply(200, &[("trailer", "x-sum")], body)
        };
        let world = World::start(pair, "", handler).await;
        let got = world.send(ask("GET", "/").header("te", "trailers")).await;
        assert_eq!(got.trailers.unwrap()["x-sum"], "7");
    })
    .await;
}
