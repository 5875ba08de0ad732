//! What an operation is told when no whole answer comes back.

use std::time::Duration;

use onceward_gateway::Fault;
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::scripted::{Peer, Scripted};

/// Sends an operation and a plain request into the same trouble.
async fn check<F>(
    script: impl Fn(Peer) -> F + Send + 'static,
    operation_gets: (StatusCode, Option<Outcome>),
    others_get: (StatusCode, &str),
) where
    F: Future<Output = ()> + Send + 'static,
{
    let scripted = Scripted::start(script).await;
    let mut settings = settings(scripted.addr);
    settings.response_timeout = Duration::from_millis(150);
    let upstream = upstream(settings);
    let response = send(&upstream, operation("pay")).await;
    assert_eq!(outcome(&response), operation_gets);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let response = send(&upstream, pass_through("/")).await;
    assert_eq!(outcome(&response), (others_get.0, None));
    assert_eq!(text(response).await, others_get.1);
    // Neither of them was sent a second time.
    assert_eq!(scripted.connections(), 2);
}

const BAD_GATEWAY: (StatusCode, &str) = (StatusCode::BAD_GATEWAY, "bad gateway\n");
const TIMED_OUT: (StatusCode, &str) = (StatusCode::GATEWAY_TIMEOUT, "gateway timeout\n");

#[tokio::test]
async fn a_refused_connection_frees_the_key() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream = upstream(settings(closed));
    let response = send(&upstream, operation("pay")).await;
    assert_eq!(outcome(&response), RELEASED);
    assert_eq!(response.extensions().get(), Some(&Fault::Unreachable));
    let response = send(&upstream, pass_through("/")).await;
    assert_eq!(outcome(&response), (StatusCode::BAD_GATEWAY, None));
}

#[tokio::test]
async fn a_host_that_never_accepts_frees_the_key_after_the_connect_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let addr = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Until its queue is full, after which connects hang.
    while let Ok(Ok(it)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
        waiting.push(it);
    }
    let mut settings = settings(addr);
    settings.connect_timeout = Duration::from_millis(100);
    assert_eq!(outcome(&send(&upstream(settings), operation("pay")).await), RELEASED);
}

#[tokio::test]
async fn a_connection_closed_after_the_request_leaves_the_outcome_unknown() {
    check(|mut peer| async move { drop(peer.request().await) }, UNRESOLVED, BAD_GATEWAY).await;
}

#[tokio::test]
async fn a_reset_after_the_request_leaves_the_outcome_unknown() {
    let reset = |mut peer: Peer| async move {
        peer.request().await;
        peer.reset();
    };
    check(reset, UNRESOLVED, BAD_GATEWAY).await;
}

#[tokio::test]
async fn half_a_response_head_leaves_the_outcome_unknown() {
    let half = |mut peer: Peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-").await;
    };
    check(half, UNRESOLVED, BAD_GATEWAY).await;
}

#[tokio::test]
async fn a_response_that_is_not_http_leaves_the_outcome_unknown() {
    let nonsense = |mut peer: Peer| async move {
        peer.request().await;
        peer.send("SSH-2.0-OpenSSH\r\n\r\n").await;
        peer.closed().await;
    };
    check(nonsense, UNRESOLVED, BAD_GATEWAY).await;
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_no_answer() {
    let switch = |mut peer: Peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
        peer.closed().await;
    };
    check(switch, UNRESOLVED, BAD_GATEWAY).await;
}

#[tokio::test]
async fn silence_after_the_request_leaves_the_outcome_unknown() {
    let hang = |mut peer: Peer| async move {
        peer.request().await;
        peer.closed().await;
    };
    check(hang, UNRESOLVED, TIMED_OUT).await;
}

#[tokio::test]
async fn interim_responses_are_not_the_answer() {
    let interim =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let scripted = Scripted::answering(interim).await;
    let response = send(&upstream(settings(scripted.addr)), operation("pay")).await;
    assert_eq!(outcome(&response), (StatusCode::OK, None));
    assert_eq!(text(response).await, "ok");
}

/// The head comes, the rest does not.
async fn cut(part: &'static str, then_silence: bool) {
    let scripted = Scripted::start(move |mut peer| async move {
        peer.request().await;
        peer.send(part).await;
        if then_silence {
            peer.closed().await;
        }
    })
    .await;
    let mut settings = settings(scripted.addr);
    settings.body_idle_timeout = Duration::from_millis(100);
    let response = send(&upstream(settings), operation("pay")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(within(response.into_body().collect()).await.is_err(), "{part:?} was taken for a whole body");
}

#[tokio::test]
async fn a_body_that_is_cut_or_falls_silent_ends_with_an_error() {
    for part in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        cut(part, false).await;
        cut(part, true).await;
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_whole() {
    let scripted = Scripted::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\n\r\nall of it").await;
    })
    .await;
    assert_eq!(get(&upstream(settings(scripted.addr))).await, "all of it");
}

#[tokio::test]
async fn a_slow_upload_is_not_cut_and_a_stalled_one_is() {
    let scripted = Scripted::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let mut settings = settings(scripted.addr);
    settings.response_timeout = Duration::from_millis(600);
    let upstream = upstream(settings);
    let upload = |body| Request::post("/").extension(PassThrough).body(body).unwrap();
    // Longer than the time-out in all, and never silent for half as long.
    let slow = send(&upstream, upload(trickle(6, Duration::from_millis(150), false))).await;
    assert_eq!(slow.status(), StatusCode::NO_CONTENT);
    let stalled = send(&upstream, upload(trickle(1, Duration::from_millis(1), true))).await;
    assert_eq!(stalled.status(), StatusCode::GATEWAY_TIMEOUT);
}

/// A body that comes in pieces, and perhaps never ends.
fn trickle(pieces: usize, pause: Duration, then_hang: bool) -> Body {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
    TaskTracker::new().spawn(async move {
        for _ in 0..pieces {
            tokio::time::sleep(pause).await;
            sender.send_data(Bytes::from_static(b"piece")).await.unwrap();
        }
        if then_hang {
            std::future::pending::<()>().await;
        }
    });
    Body::stream(body)
}
