//! WebSocket and its kin: after the 101 bytes go both ways untouched.

use tokio::io::AsyncWriteExt as _;

use super::front::{Raw, serve, serve_marked};
use super::*;
use crate::scripted::Scripted;

const ASK: &str = concat!(
    "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
);

/// Agrees to switch, greets at once, and answers each line with itself in brackets.
async fn chat() -> Scripted {
    Scripted::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n").await;
        peer.send("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello\n").await;
        let (read, mut write) = tokio::io::split(peer.stream);
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(read));
        while let Ok(Some(line)) = lines.next_line().await {
            write.write_all(format!("[{line}]\n").as_bytes()).await.unwrap();
        }
        write.write_all(b"bye\n").await.unwrap();
    })
    .await
}

#[tokio::test]
async fn both_sides_talk_until_one_of_them_ends() {
    let scripted = chat().await;
    let front = serve(upstream(settings(scripted.addr))).await;
    let mut client = Raw::connect(front).await;
    client.send(ASK).await;
    let head = client.read_until("hello\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in
        ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    {
        assert!(head.lines().any(|it| it == line), "{line} is missing: {head}");
    }
    let seen = scripted.only();
    assert_eq!((seen.get("connection"), seen.get("upgrade")), (vec!["upgrade"], vec!["websocket"]));
    assert_eq!(seen.get("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    for word in ["one", "two"] {
        client.send(format!("{word}\n")).await;
        assert_eq!(client.read_until("\n").await, format!("[{word}]\n"));
    }
    client.0.shutdown().await.unwrap();
    assert_eq!(client.read_to_end().await, "bye\n");
}

#[tokio::test]
async fn a_tunnel_is_in_flight_until_it_ends() {
    let scripted = chat().await;
    let upstream = upstream(settings(scripted.addr));
    let mut client = Raw::connect(serve(upstream.clone()).await).await;
    client.send(ASK).await;
    client.read_until("hello\n").await;
    assert_eq!(upstream.states()[0].in_flight, 1);
    drop(client);
    crate::scripted::until(|| upstream.states()[0].in_flight == 0).await;
}

#[tokio::test]
async fn shutdown_cuts_a_tunnel() {
    let scripted = chat().await;
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let upstream = Upstream::new(settings(scripted.addr), tracker.clone(), shutdown.clone()).unwrap();
    let mut client = Raw::connect(serve(upstream).await).await;
    client.send(ASK).await;
    client.read_until("hello\n").await;
    shutdown.cancel();
    assert_eq!(client.read_to_end().await, "");
    tracker.close();
    within(tracker.wait()).await;
}

#[tokio::test]
async fn an_upstream_may_decline_to_switch() {
    let scripted = Scripted::answering("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno").await;
    let front = serve(upstream(settings(scripted.addr))).await;
    let mut client = Raw::connect(front).await;
    for _ in 0..2 {
        client.send(ASK).await;
        assert!(client.read_until("\r\n\r\nno").await.starts_with("HTTP/1.1 426 "));
    }
    assert_eq!(scripted.connections(), 1);
}

#[tokio::test]
async fn http_inside_a_tunnel_and_tunnels_for_operations_are_not_asked_for() {
    let scripted = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let upstream = upstream(settings(scripted.addr));
    let mut client = Raw::connect(serve(upstream.clone()).await).await;
    for protocol in ["h2c", "H2C, websocket", "HTTP/2.0", "TLS/1.0"] {
        client.send(ASK.replace("websocket\r\n", &format!("{protocol}\r\nhttp2-settings: A\r\n"))).await;
        client.read_until("\r\n\r\nok").await;
    }
    let mut operation = Raw::connect(serve_marked(upstream, None).await).await;
    operation.send(ASK).await;
    operation.read_until("\r\n\r\nok").await;
    assert_eq!(scripted.seen().len(), 5);
    for seen in scripted.seen() {
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(seen.get(name), Vec::<&str>::new(), "{}", seen.head);
        }
    }
}
