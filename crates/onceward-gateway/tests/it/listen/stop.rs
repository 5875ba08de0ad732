//! Told to end gracefully, a listener owes an answer to whoever has begun to ask, and nothing to others.

use super::http2::Frames;
use super::world::*;

#[tokio::test]
async fn who_has_said_nothing_is_cut_and_who_has_begun_is_answered() {
    let world = World::hello(patient()).await;
    let mut silent = world.connect().await;
    let mut begun = world.connect().await;
    begun.offer("GET / HTTP/1.1\r\nho").await;
    let mut idle = world.connect().await;
    idle.offer("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    idle.read_until("hello 0").await;
    let mut frames = Frames::open(&world).await;
    // What was begun has come, since what was sent later on another connection was answered, and then some.
    until(|| world.counters.open() == 4).await;
    world.assert_serves().await;
    world.stop.accepting.cancel();
    world.stop.graceful.cancel();
    silent.closed().await;
    idle.closed().await;
    assert_eq!(frames.goaway().await, 0);
    begun.offer("st: a\r\n\r\n").await;
    let answer = begun.read_to_end().await;
    assert!(answer.ends_with("hello 0") && answer.contains("connection: close\r\n"), "{answer:?}");
}

#[tokio::test]
async fn told_to_close_now_everything_is_cut() {
    let world = World::plain(patient(), |_| std::future::pending()).await;
    let mut busy = world.connect().await;
    busy.offer("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(|| world.seen() == 1).await;
    world.stop.graceful.cancel();
    world.stop.now.cancel();
    assert_eq!(busy.read_to_end().await, "");
    until(|| world.counters.open() == 0 && world.counters.under_way() == 0).await;
}

#[tokio::test]
async fn http2_that_makes_room_says_goodbye() {
    let world = World::hello(Limits { connections_max: 1, write_timeout: SOON, ..patient() }).await;
    let mut frames = Frames::open(&world).await;
    until(|| world.counters.open() == 1).await;
    // The preface has come when its settings are answered.
    let settings = 4;
    assert_eq!(frames.next().await.unwrap().0, settings);
    // It does not answer the goodbye, so it is cut after the time for that.
    world.assert_serves().await;
    assert_eq!(frames.goaway().await, 0);
}
