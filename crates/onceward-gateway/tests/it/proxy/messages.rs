//! What the two sides see of each other's messages, on the wire.

use super::front::{Raw, serve};
use super::*;
use crate::scripted::Scripted;

/// One request through the server and the proxy; gives what the client got.
async fn exchange(scripted: &Scripted, request: &str, end: &str) -> String {
    let front = serve(upstream(settings(scripted.addr))).await;
    let mut client = Raw::connect(front).await;
    client.send(request).await;
    client.read_until(end).await
}

#[tokio::test]
async fn the_raw_path_and_query_arrive_byte_for_byte() {
    let scripted = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let request = "GET /%70ayments//a/../b?x=%zz HTTP/1.1\r\nhost: Shop.Example:80\r\n\r\n";
    exchange(&scripted, request, "ok").await;
    let seen = scripted.only();
    assert_eq!(seen.line(), "GET /%70ayments//a/../b?x=%zz HTTP/1.1");
    assert_eq!(seen.get("host"), ["Shop.Example:80"]);
}

#[tokio::test]
async fn the_upstream_learns_the_clients_address() {
    let scripted = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    exchange(&scripted, "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\n\r\n", "ok").await;
    let seen = scripted.only();
    assert_eq!(seen.get("forwarded"), ["for=127.0.0.1;host=a;proto=http"]);
    assert_eq!(seen.get("x-forwarded-for"), ["192.0.2.1, 127.0.0.1"]);
    assert_eq!(seen.get("via"), ["1.1 onceward"]);
}

#[tokio::test]
async fn response_lines_keep_their_order_and_lose_the_connections_fields() {
    let scripted = Scripted::answering(concat!(
        "HTTP/1.1 302 Moved For A While\r\nlocation: /else?a=%2f\r\nset-cookie: a=1\r\nx-hop: 1\r\n",
        "connection: keep-alive, x-hop\r\nkeep-alive: timeout=9\r\nproxy-authenticate: Basic\r\n",
        "set-cookie: b=2; Path=/\r\ncontent-length: 0\r\n\r\n",
    ))
    .await;
    let got = exchange(&scripted, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\r\n\r\n").await;
    let lines: Vec<_> = got.lines().filter(|it| !it.starts_with("date: ") && !it.is_empty()).collect();
    assert_eq!(
        lines,
        [
            "HTTP/1.1 302 Moved For A While",
            "location: /else?a=%2f",
            "set-cookie: a=1",
            "set-cookie: b=2; Path=/",
            "content-length: 0",
        ]
    );
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    for (method, upstream, expected) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n", Some("content-length: 123")),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", None),
    ] {
        let scripted = Scripted::answering(upstream).await;
        let front = serve(super::upstream(settings(scripted.addr))).await;
        let mut client = Raw::connect(front).await;
        // The second exchange on the same connection shows that the first one left nothing behind.
        for _ in 0..2 {
            client.send(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            let head = client.read_until("\r\n\r\n").await;
            assert_eq!(head.lines().next(), upstream.lines().next());
            assert_eq!(head.lines().find(|it| it.starts_with("content-length")), expected, "{head}");
        }
        assert_eq!(scripted.seen()[0].get("content-length"), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn an_expectation_is_answered_here_and_not_passed_on() {
    let scripted = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let front = serve(upstream(settings(scripted.addr))).await;
    let mut client = Raw::connect(front).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert_eq!(client.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    client.read_until("\r\n\r\nok").await;
    let seen = scripted.only();
    assert_eq!((seen.get("expect").len(), seen.body.as_slice()), (0, b"body".as_slice()));
}

#[tokio::test]
async fn a_chunked_get_keeps_its_body() {
    let scripted = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    exchange(&scripted, request, "ok").await;
    assert_eq!(scripted.only().body, b"body");
}

#[tokio::test]
async fn two_hosts_or_a_connect_never_reach_the_upstream() {
    let scripted = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let two = "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";
    assert!(exchange(&scripted, two, "needed\n").await.starts_with("HTTP/1.1 400 "));
    let connect = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";
    assert!(exchange(&scripted, connect, "available\n").await.starts_with("HTTP/1.1 501 "));
    assert_eq!(scripted.connections(), 0);
}

#[tokio::test]
async fn trailers_of_a_response_pass_to_clients_that_want_them() {
    let scripted = Scripted::answering(concat!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n",
        "2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
    ))
    .await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n";
    let got = exchange(&scripted, request, "0\r\nx-sum: 7\r\n\r\n").await;
    assert!(got.contains("transfer-encoding: chunked\r\n"), "{got}");
    let seen = scripted.only();
    assert_eq!((seen.get("te"), seen.get("connection")), (vec!["trailers"], vec!["te"]));
}

#[tokio::test]
async fn trailers_of_a_request_are_dropped() {
    let scripted = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let request = concat!(
        "POST / HTTP/1.1\r\nhost: a\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n",
        "4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    exchange(&scripted, request, "ok").await;
    let seen = scripted.only();
    assert_eq!((seen.get("trailer").len(), seen.body.as_slice()), (0, b"body".as_slice()));
}
