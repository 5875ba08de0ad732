//! How long a caller may take and how much it may hold.

use std::sync::Arc;

use http_body_util::channel::Channel;
use tokio::sync::Semaphore;

use super::world::*;

const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_told_so() {
    let world = World::hello(Limits { header_timeout: SOON, ..patient() }).await;
    for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n"] {
        let answer = world.tell(part).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    }
    assert_eq!((world.seen(), world.counters.count(Count::HeaderTimeout)), (0, 3));
}

#[tokio::test]
async fn bytes_one_by_one_do_not_prolong_a_head() {
    let world = World::hello(Limits { header_timeout: SOON, ..patient() }).await;
    let mut raw = world.connect().await;
    raw.offer("GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
    let (mut read, mut write) = raw.0.into_split();
    let mut drip = tokio::task::JoinSet::new();
    drip.spawn(async move {
        while write.write_all(b"y").await.is_ok() {
            tokio::time::sleep(SOON / 10).await;
        }
    });
    let mut answer = [0; 12];
    within(read.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_second_head_has_as_long_and_an_idle_connection_longer() {
    let world = World::hello(Limits { header_timeout: SOON, ..patient() }).await;
    let mut raw = world.connect().await;
    raw.offer(ASK).await;
    raw.read_until("hello 0").await;
    // Longer than a head may take: nothing has begun.
    tokio::time::sleep(SOON * 2).await;
    raw.offer(ASK).await;
    raw.read_until("hello 0").await;
    raw.offer("GET / HTTP/1.1\r\nho").await;
    assert!(raw.read_to_end().await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn half_a_head_behind_a_request_waits_for_its_answer() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let world = World::plain(Limits { header_timeout: SOON, ..patient() }, move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(200, "done")
        }
    })
    .await;
    let mut raw = world.connect().await;
    raw.offer(format!("{ASK}{}", &ASK[..10])).await;
    until(|| world.seen() == 1).await;
    tokio::time::sleep(SOON * 2).await;
    opened.add_permits(2);
    raw.read_until("done").await;
    raw.offer(&ASK[10..]).await;
    raw.read_until("done").await;
}

#[tokio::test]
async fn whoever_says_nothing_is_not_waited_for() {
    let world = World::hello(Limits { header_timeout: SOON, ..patient() }).await;
    assert_eq!(world.tell("").await, "");
    // Nor who stops in the middle of what could be HTTP/2.
    assert_eq!(world.tell("PRI * HTTP/2.0\r\n").await, "");
    assert_eq!(world.counters.count(Count::HeaderTimeout), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let world = World::plain(Limits { idle_timeout: SOON, ..patient() }, move |asked: Asked| {
        let gate = Arc::clone(&gate);
        async move {
            if asked.uri().path() == "/slow" {
                gate.acquire().await.unwrap().forget();
            }
            answer(200, "done")
        }
    })
    .await;
    let mut busy = world.connect().await;
    busy.offer("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(|| world.seen() == 1).await;
    let mut idle = world.connect().await;
    idle.offer(ASK).await;
    idle.read_until("done").await;
    assert_eq!(idle.read_to_end().await, "");
    assert_eq!(world.counters.count(Count::IdleTimeout), 1);
    opened.add_permits(1);
    busy.read_until("done").await;
    assert_eq!(busy.read_to_end().await, "");
}

#[tokio::test]
async fn a_body_that_stalls_is_refused_and_one_that_trickles_is_not() {
    let world = World::hello(Limits { body_timeout: SOON, ..patient() }).await;
    for body in ["Content-Length: 5\r\n\r\nhell", "Transfer-Encoding: chunked\r\n\r\n5\r\nhell"] {
        let answer = world.tell(format!("POST / HTTP/1.1\r\nhost: a\r\n{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer:?}");
    }
    assert_eq!(world.counters.count(Count::BodyTimeout), 2);
    let mut raw = world.connect().await;
    raw.offer("POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 10\r\n\r\n").await;
    for _ in 0..10 {
        tokio::time::sleep(SOON / 3).await;
        raw.offer("x").await;
    }
    raw.read_until("hello 10").await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_stall() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let world = World::plain(Limits { body_timeout: SOON, ..patient() }, move |asked: Asked| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            drop(asked);
            answer(200, "unread")
        }
    })
    .await;
    let mut raw = world.connect().await;
    raw.offer("POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\n\r\nhell").await;
    until(|| world.seen() == 1).await;
    tokio::time::sleep(SOON * 2).await;
    opened.add_permits(1);
    raw.read_until("unread").await;
}

#[tokio::test]
async fn a_stall_behind_the_head_of_an_answer_cuts_the_connection() {
    let world = World::plain(Limits { body_timeout: SOON, ..patient() }, |asked: Asked| async {
        // An echo: the answer begins before the request has ended.
        Response::new(Body::stream(asked.into_body()))
    })
    .await;
    let mut raw = world.connect().await;
    raw.offer("POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\n\r\nhell").await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn who_does_not_take_its_answer_is_cut_and_others_go_on() {
    let world = World::plain(Limits { write_timeout: SOON, ..patient() }, |asked: Asked| async move {
        if asked.uri().path() == "/big" { Response::new(zeros(32 << 20)) } else { answer(200, "done") }
    })
    .await;
    let mut raw = world.connect_narrow().await;
    raw.offer("GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(|| world.counters.count(Count::WriteTimeout) == 1).await;
    until(|| world.counters.open() == 0).await;
    world.assert_serves().await;
    raw.closed().await;
}

#[tokio::test]
async fn a_slow_reader_that_reads_gets_all_of_it() {
    let world = World::plain(Limits { write_timeout: SOON, ..patient() }, |_| async {
        Response::new(zeros(8 << 20))
    })
    .await;
    let mut raw = world.connect_narrow().await;
    raw.offer("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let mut piece = vec![0; 1 << 20];
    let (mut read, mut paused) = (0, 0);
    loop {
        let count = within(raw.0.read(&mut piece)).await.unwrap();
        if count == 0 {
            break;
        }
        read += count;
        if read > paused + (1 << 20) {
            // All pauses together are longer than the limit, none is.
            tokio::time::sleep(SOON / 3).await;
            paused = read;
        }
    }
    assert!(read > 8 << 20, "{read}");
    assert_eq!(world.counters.count(Count::WriteTimeout), 0);
}

#[tokio::test]
async fn a_stream_of_events_may_say_nothing_for_long() {
    let (held, mut senders) = tokio::sync::mpsc::unbounded_channel();
    let limits = Limits { write_timeout: SOON, idle_timeout: SOON, body_timeout: SOON, ..patient() };
    let world = World::plain(limits, move |_| {
        let (sender, body) = Channel::<bytes::Bytes, std::io::Error>::new(1);
        held.send(sender).unwrap();
        async { Response::new(Body::stream(body)) }
    })
    .await;
    let mut raw = world.connect().await;
    raw.offer(ASK).await;
    let mut sender = within(senders.recv()).await.unwrap();
    raw.read_until("\r\n\r\n").await;
    tokio::time::sleep(SOON * 3).await;
    sender.send_data("event".into()).await.unwrap();
    raw.read_until("event\r\n").await;
}

#[tokio::test]
async fn one_connection_too_many_makes_the_idlest_leave() {
    let world = World::hello(Limits { connections_max: 3, ..patient() }).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut raw = world.connect().await;
        raw.offer(ASK).await;
        raw.read_until("hello 0").await;
        // Milliseconds order them.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        idle.push(raw);
    }
    // The first is used again, so the second is without a request for longest.
    idle[0].offer(ASK).await;
    idle[0].read_until("hello 0").await;
    let mut fourth = world.connect().await;
    fourth.offer(ASK).await;
    fourth.read_until("hello 0").await;
    assert_eq!(idle[1].read_to_end().await, "");
    for at in [0, 2] {
        idle[at].offer(ASK).await;
        idle[at].read_until("hello 0").await;
    }
    assert_eq!((world.counters.count(Count::ClosedForRoom), world.counters.open()), (1, 3));
}

#[tokio::test]
async fn who_never_asked_leaves_before_who_did() {
    let world = World::hello(Limits { connections_max: 2, ..patient() }).await;
    let mut idle = world.connect().await;
    idle.offer(ASK).await;
    idle.read_until("hello 0").await;
    let mut loris = world.connect().await;
    loris.offer("GET / HTTP/1.1\r\nho").await;
    until(|| world.counters.open() == 2).await;
    world.assert_serves().await;
    loris.closed().await;
    idle.offer(ASK).await;
    idle.read_until("hello 0").await;
}

/// A listener whose service holds the first request until a permit is added, and a second one that was asked.
async fn one_inside(limits: Limits) -> (World, Arc<Semaphore>, Raw, Raw) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let world = World::plain(limits, move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(200, "done")
        }
    })
    .await;
    let mut first = world.connect().await;
    first.offer(ASK).await;
    until(|| world.seen() == 1).await;
    let mut second = world.connect().await;
    second.offer(ASK).await;
    (world, opened, first, second)
}

#[tokio::test]
async fn while_every_connection_is_busy_new_ones_wait() {
    let (world, opened, mut first, mut second) = one_inside(Limits { connections_max: 1, ..patient() }).await;
    until(|| world.counters.count(Count::Full) == 1).await;
    assert_eq!((world.seen(), world.counters.open()), (1, 1));
    opened.add_permits(2);
    // The first is idle then, and makes room.
    first.read_until("done").await;
    second.read_until("done").await;
}

#[tokio::test]
async fn requests_beyond_their_limit_are_told_to_come_back() {
    let (world, opened, mut first, mut second) = one_inside(Limits { requests_max: 1, ..patient() }).await;
    let refused = second.read_until("}").await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1\r\n"), "{refused:?}");
    assert_eq!((world.seen(), world.counters.under_way()), (1, 1));
    opened.add_permits(2);
    first.read_until("done").await;
    until(|| world.counters.under_way() == 0).await;
    // On the same connection.
    second.offer(ASK).await;
    second.read_until("done").await;
    assert_eq!(world.counters.count(Count::RequestsFull), 1);
}

#[tokio::test]
async fn a_thousand_that_drip_keep_nobody_else_waiting() {
    let world = World::hello(patient()).await;
    let mut slow = Vec::new();
    for _ in 0..1000 {
        let mut raw = world.connect().await;
        raw.offer("GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
        slow.push(raw);
    }
    for _ in 0..20 {
        world.assert_serves().await;
    }
    assert_eq!(world.counters.open(), 1000);
}
