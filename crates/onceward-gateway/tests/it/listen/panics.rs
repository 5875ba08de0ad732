//! A panic ends the exchange it happened in, and nothing else.

use hyper_util::rt::{TokioExecutor, TokioIo};

use super::world::*;

async fn handler(asked: Asked) -> Response<Body> {
    assert_ne!(asked.uri().path(), "/panic", "as the test wants");
    answer(200, "done")
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_the_next_one_works() {
    let world = World::plain(patient(), handler).await;
    let mut other = world.connect().await;
    other.offer("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    other.read_until("done").await;
    assert_eq!(world.tell("GET /panic HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    world.assert_serves().await;
    other.offer("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    other.read_until("done").await;
    assert_eq!((world.counters.count(Count::Panicked), world.counters.under_way()), (1, 0));
}

#[tokio::test]
async fn a_panic_ends_its_stream_and_the_others_of_its_connection_go_on() {
    let world = World::plain(patient(), handler).await;
    let io = TokioIo::new(world.connect().await.0);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    let ask = |path: &str| Request::get(format!("http://a{path}")).body(Body::empty()).unwrap();
    assert!(within(sender.send_request(ask("/panic"))).await.is_err());
    let answer = within(sender.send_request(ask("/"))).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(world.counters.count(Count::Panicked), 1);
}
