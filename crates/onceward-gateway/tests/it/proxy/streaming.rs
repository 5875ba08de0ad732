//! What passes through is never gathered in memory, in either direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;

use super::front::{Raw, serve};
use super::*;
use crate::scripted::Scripted;

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_upload_never_runs_far_ahead_of_its_reader() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let addr = listener.local_addr().unwrap();
    let received = Arc::new(AtomicU64::new(0));
    let (tasks, count) = (TaskTracker::new(), Arc::clone(&received));
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut buffer, mut tail) = (vec![0; 64 << 10], Vec::new());
        while !tail.ends_with(b"0\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the upload was cut");
            count.fetch_add(read as u64, Ordering::SeqCst);
            tail.extend_from_slice(&buffer[read.saturating_sub(5)..read]);
            tail.drain(..tail.len().saturating_sub(5));
        }
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        tokio::io::AsyncWriteExt::write_all(&mut stream, ok).await.unwrap();
    });

    let front = serve(upstream(settings(addr))).await;
    let mut client = Raw::connect(front).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let (mut sent, mut ahead_max) = (0, 0);
    let piece = vec![b'x'; 64 << 10];
    while sent < 64 * MIB {
        within(client.send(format!("{:x}\r\n", piece.len()))).await;
        within(client.send(&piece)).await;
        within(client.send("\r\n")).await;
        sent += piece.len() as u64;
        ahead_max = ahead_max.max(sent.saturating_sub(received.load(Ordering::SeqCst)));
    }
    client.send("0\r\n\r\n").await;
    client.read_until("\r\n\r\nok").await;
    assert!(received.load(Ordering::SeqCst) > 64 * MIB);
    // What lies between them is what the kernel and one read buffer hold.
    assert!(ahead_max < 24 * MIB, "{ahead_max} bytes ahead");
}

#[tokio::test]
async fn an_upload_waits_while_nobody_reads_it() {
    let scripted = Scripted::start(|mut peer| async move {
        peer.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let pulled = Arc::new(AtomicU64::new(0));
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
    let (tasks, count) = (TaskTracker::new(), Arc::clone(&pulled));
    tasks.spawn(async move {
        while sender.send_data(Bytes::from(vec![0; 256 << 10])).await.is_ok() {
            count.fetch_add(256 << 10, Ordering::SeqCst);
        }
    });
    let mut settings = settings(scripted.addr);
    settings.response_timeout = std::time::Duration::from_millis(300);
    let request = Request::post("/").extension(PassThrough).body(Body::stream(body)).unwrap();
    // The body never ends, so only back-pressure and then the time-out can end this.
    let response = send(&upstream(settings), request).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(pulled.load(Ordering::SeqCst) < 24 * MIB, "{pulled:?}");
}

#[tokio::test]
async fn events_reach_the_client_one_by_one() {
    let (step, stepped) = tokio::sync::watch::channel(0);
    let scripted = Scripted::start(move |mut peer| {
        let mut stepped = stepped.clone();
        async move {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
            for event in 1..=3 {
                stepped.wait_for(|it| *it >= event).await.unwrap();
                peer.send(format!("data: {event}\n\n")).await;
            }
            stepped.wait_for(|it| *it > 3).await.unwrap();
        }
    })
    .await;
    let front = serve(upstream(settings(scripted.addr))).await;
    let mut client = Raw::connect(front).await;
    client.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    for event in 1..=3 {
        // The next event is written only once this one has come all the way.
        step.send(event).unwrap();
        client.read_until(&format!("data: {event}\n\n\r\n")).await;
    }
    step.send(4).unwrap();
    client.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn events_may_be_silent_for_longer_than_other_bodies() {
    for (media_type, is_cut) in
        [("text/event-stream; charset=utf-8", false), ("Text/Event-Stream", false), ("text/plain", true)]
    {
        let (speak, spoken) = tokio::sync::watch::channel(false);
        let scripted = Scripted::start(move |mut peer| {
            let mut spoken = spoken.clone();
            async move {
                peer.request().await;
                peer.send(format!("HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\n\r\n")).await;
                if spoken.wait_for(|it| *it).await.is_ok() {
                    peer.send("data: late\n\n").await;
                }
            }
        })
        .await;
        let response = send(&upstream(settings(scripted.addr)), pass_through("/events")).await;
        let mut body = Box::pin(response.into_body().collect());
        // Looked at once, so that its time runs; then an hour goes by at once.
        assert!(look_at(&mut body).is_none());
        super::ejection::pass(std::time::Duration::from_secs(3600)).await;
        speak.send(true).unwrap();
        match within(&mut body).await {
            Ok(body) => assert!(!is_cut && body.to_bytes() == "data: late\n\n", "{media_type}"),
            Err(error) => assert!(is_cut, "{media_type}: {error}"),
        }
    }
}

/// Looks at a future once.
fn look_at<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_cut_body_reaches_the_client_as_cut() {
    let scripted = Scripted::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    })
    .await;
    let front = serve(upstream(settings(scripted.addr))).await;
    let mut client = Raw::connect(front).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let got = client.read_to_end().await;
    assert!(got.contains("transfer-encoding: chunked") && !got.ends_with("0\r\n\r\n"), "{got}");
}
