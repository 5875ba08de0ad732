//! After a switch of protocols bytes are nobody's business; before it they are.

use http::header::{CONNECTION, UPGRADE};
use hyper_util::rt::TokioIo;

use super::world::*;

/// Switches and echoes.
async fn switches(mut asked: Asked) -> Response<Body> {
    let switched = hyper::upgrade::on(&mut asked);
    if asked.uri().path() != "/switch" {
        return answer(200, "no");
    }
    tokio_util::task::TaskTracker::new().spawn(async move {
        let (mut read, mut write) = tokio::io::split(TokioIo::new(switched.await.unwrap()));
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let mut response = answer(101, "");
    response.headers_mut().insert(CONNECTION, "upgrade".parse().unwrap());
    response.headers_mut().insert(UPGRADE, "echo".parse().unwrap());
    response
}

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
}

#[tokio::test]
async fn a_tunnel_carries_any_bytes_also_those_that_came_early_and_for_as_long_as_it_lasts() {
    let limits = Limits { header_timeout: SOON, idle_timeout: SOON, body_timeout: SOON, ..patient() };
    let world = World::plain(limits, switches).await;
    let mut raw = world.connect().await;
    raw.offer(format!("{}early\0\n", ask("/switch"))).await;
    let switched = raw.read_until("early\0\n").await;
    assert!(switched.starts_with("HTTP/1.1 101 "), "{switched:?}");
    raw.offer("GET / HTTP/1.1\nbad : header\n\n").await;
    raw.read_until("bad : header\n\n").await;
    tokio::time::sleep(SOON * 3).await;
    raw.offer("late").await;
    raw.read_until("late").await;
    // It still has its place.
    assert_eq!(world.counters.open(), 1);
    drop(raw);
    until(|| world.counters.open() == 0).await;
}

#[tokio::test]
async fn where_a_switch_is_declined_what_follows_is_judged() {
    let world = World::plain(patient(), switches).await;
    let mut raw = world.connect().await;
    raw.offer(format!("{}GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\nhost: a\n\n", ask("/"))).await;
    let answers = raw.read_to_end().await;
    assert_eq!((answers.matches("HTTP/1.1 200 ").count(), answers.matches("HTTP/1.1 400 ").count()), (2, 1));
    assert_eq!(world.seen(), 2);
}

#[tokio::test]
async fn who_leaves_while_a_switch_is_decided_ends_its_request() {
    let (gone, mut left) = tokio::sync::mpsc::unbounded_channel::<()>();
    let world = World::plain(patient(), move |_| {
        let gone = gone.clone();
        async move {
            let _guard = Guard(gone);
            std::future::pending().await
        }
    })
    .await;
    let mut raw = world.connect().await;
    raw.offer(format!("{}early", ask("/switch"))).await;
    until(|| world.seen() == 1).await;
    drop(raw);
    within(left.recv()).await.unwrap();
}

/// Says so when it is dropped.
struct Guard(tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// As the HTTP client of Java's library does with every first request over plain TCP.
#[tokio::test]
async fn the_body_of_a_request_that_would_rather_switch_comes_through() {
    let world = World::plain(patient(), async |asked: Asked| {
        let body = asked.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "hello");
        answer(200, "heard")
    })
    .await;
    for framed in
        ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        let mut raw = world.connect().await;
        raw.offer(format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
             http2-settings: AAMAAABkAAQAAP__\r\n{framed}GET / HTTP/1.1\nbad"
        ))
        .await;
        let answers = raw.read_to_end().await;
        assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("heard"), "{answers:?}");
        assert_eq!(answers.matches("HTTP/1.1 400 ").count(), 1, "{answers:?}");
    }
}
