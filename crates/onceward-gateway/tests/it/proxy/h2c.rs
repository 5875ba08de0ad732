//! HTTP/2 upstreams with prior knowledge, and what their refusals prove.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use onceward_gateway::{FreshConnection, Protocol};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::scripted::{Peer, Scripted};

fn h2c(addr: SocketAddr) -> Upstream {
    let mut settings = settings(addr);
    settings.protocol = Protocol::H2c;
    upstream(settings)
}

/// A real HTTP/2 server that answers with what it was asked, and counts its connections.
async fn echo() -> (SocketAddr, Arc<AtomicUsize>, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let (tasks, count, close) = (TaskTracker::new(), Arc::clone(&connections), CancellationToken::new());
    let (peers, closing) = (tasks.clone(), close.clone());
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            let closing = closing.clone();
            peers.spawn(async move {
                let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let (parts, body) = request.into_parts();
                    let asked = format!("{} {} {:?}", parts.method, parts.uri, parts.headers.get("te"));
                    let body = body.collect().await.unwrap();
                    let asked = format!("{asked} {:?}", body.trailers());
                    let body = body.to_bytes();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-sum", "7".parse().unwrap());
                    let text = format!("{asked} {}", String::from_utf8_lossy(&body));
                    Ok::<_, std::convert::Infallible>(Response::new(Body::whole(text.into(), Some(trailers))))
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::select! {
                    _ = server.serve_connection(TokioIo::new(stream), service) => {}
                    () = closing.cancelled(), if first => {}
                }
            });
        }
    });
    (addr, connections, close)
}

#[tokio::test]
async fn requests_share_one_connection_and_only_response_trailers_pass() {
    let (addr, connections, _close) = echo().await;
    let upstream = h2c(addr);
    for _ in 0..3 {
        let mut unwanted = HeaderMap::new();
        unwanted.insert("x-late", "1".parse().unwrap());
        let mut request = operation("").map(|_| Body::whole("pay".into(), Some(unwanted)));
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let response = send(&upstream, request).await;
        assert_eq!(outcome(&response), (StatusCode::OK, None));
        let body = within(response.into_body().collect()).await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "7");
        assert_eq!(body.to_bytes(), "POST http://shop.example/payments Some(\"trailers\") None pay");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_request_may_ask_for_a_fresh_connection() {
    let (addr, connections, _close) = echo().await;
    let upstream = h2c(addr);
    for expected in [1, 2, 2] {
        let mut request = pass_through("/");
        if expected == 2 && connections.load(Ordering::SeqCst) == 1 {
            request.extensions_mut().insert(FreshConnection);
        }
        assert_eq!(send(&upstream, request).await.status(), StatusCode::OK);
        assert_eq!(connections.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn silence_leaves_the_outcome_unknown_and_the_connection_unused() {
    let scripted = Scripted::start(|mut peer| async move {
        read_headers(&mut peer).await;
        peer.closed().await;
    })
    .await;
    let mut settings = settings(scripted.addr);
    settings.protocol = Protocol::H2c;
    settings.response_timeout = std::time::Duration::from_millis(100);
    let upstream = upstream(settings);
    for connections in 1..=2 {
        assert_eq!(outcome(&send(&upstream, operation("pay")).await), UNRESOLVED);
        assert_eq!(scripted.connections(), connections);
    }
}

#[tokio::test]
async fn a_connection_that_is_gone_is_remade() {
    let (addr, connections, close) = echo().await;
    let upstream = h2c(addr);
    get(&upstream).await;
    close.cancel();
    // The close races with the next request, whose outcome may then be unknown; it is soon over.
    within(async {
        while send(&upstream, pass_through("/")).await.status() != StatusCode::OK
            || connections.load(Ordering::SeqCst) < 2
        {}
    })
    .await;
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_refused_connection_frees_the_key() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(outcome(&send(&h2c(closed), operation("pay")).await), RELEASED);
}

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, 0], stream.to_be_bytes().as_slice(), payload].concat()
}

/// Reads frames until the request's headers have come.
pub(super) async fn read_headers(peer: &mut Peer) {
    let mut preface = [0; 24];
    peer.stream.read_exact(&mut preface).await.unwrap();
    peer.send(frame(4, 0, &[])).await;
    loop {
        let mut head = [0; 9];
        peer.stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        peer.stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 1 {
            return;
        }
    }
}

/// The upstream answers the first stream with these bytes and then closes.
async fn answered_with(bytes: Vec<u8>) -> (StatusCode, Option<Outcome>) {
    answered_and_believed(bytes, false).await
}

/// The same, and a refusal is believed or not.
async fn answered_and_believed(bytes: Vec<u8>, believes: bool) -> (StatusCode, Option<Outcome>) {
    let scripted = Scripted::start(move |mut peer| {
        let bytes = bytes.clone();
        async move {
            read_headers(&mut peer).await;
            peer.send(bytes).await;
            peer.stream.set_nodelay(true).unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut peer.stream).await.unwrap();
            peer.closed().await;
        }
    })
    .await;
    let mut settings = settings(scripted.addr);
    settings.protocol = Protocol::H2c;
    settings.trust_refused_stream = believes;
    let found = outcome(&send(&upstream(settings), operation("pay")).await);
    assert_eq!(scripted.connections(), 1, "it was sent again");
    found
}

pub(super) fn goaway(last_stream: u32, reason: u32) -> Vec<u8> {
    frame(7, 0, &[last_stream.to_be_bytes(), reason.to_be_bytes()].concat())
}

pub(super) const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

#[tokio::test]
async fn a_refused_stream_frees_the_key_only_where_it_is_believed() {
    let refused = || frame(3, 1, &REFUSED_STREAM.to_be_bytes());
    assert_eq!(answered_and_believed(refused(), true).await, RELEASED);
    assert_eq!(answered_with(refused()).await, UNRESOLVED);
}

#[tokio::test]
async fn a_stream_above_the_last_of_a_goaway_frees_the_key() {
    assert_eq!(answered_with(goaway(0, NO_ERROR)).await, RELEASED);
}

#[tokio::test]
async fn anything_else_that_ends_a_stream_leaves_the_outcome_unknown() {
    assert_eq!(answered_with(frame(3, 1, &CANCEL.to_be_bytes())).await, UNRESOLVED);
    assert_eq!(answered_with(goaway(1, NO_ERROR)).await, UNRESOLVED);
    assert_eq!(answered_with(goaway(0, PROTOCOL_ERROR)).await, UNRESOLVED);
    assert_eq!(answered_with(Vec::new()).await, UNRESOLVED);
}
