//! Requests that two readers could read in two ways get 400, the end of their connection, and no service.

use super::world::*;

#[track_caller]
fn assert_refused(answer: &str, status: &str, of: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{of:?} got {answer:?}");
    assert!(answer.contains("connection: close\r\n"), "{of:?} got {answer:?}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{of:?} got {answer:?}");
}

/// Each would be one request, two or none, depending on who reads.
const AMBIGUOUS: [(&str, &str); 38] = [
    (
        "cl.te",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
    ),
    (
        "te.cl",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nX\r\n0\r\n\r\n",
    ),
    ("equal lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nX"),
    ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nXX"),
    ("listed lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nX"),
    ("plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nX"),
    ("minus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nX"),
    ("space in length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\nX"),
    ("hex length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0xa\r\n\r\n0123456789"),
    ("overflow", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\nX"),
    ("empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nX"),
    (
        "te twice",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("te list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("te identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("te xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("te gzip", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("te vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("te in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("folded", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("folded value", "GET / HTTP/1.1\r\nHost: a\r\nx: a\r\n\tContent-Length: 5\r\n\r\n"),
    ("folded first", "GET / HTTP/1.1\r\n x: a\r\nHost: a\r\n\r\n"),
    ("space before colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("tab before colon", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 1\r\n\r\nX"),
    ("bare cr", "GET / HTTP/1.1\r\nHost: a\r\nx: a\rContent-Length: 5\r\n\r\n"),
    ("bare lf", "GET / HTTP/1.1\r\nHost: a\nContent-Length: 5\r\n\r\n"),
    ("all bare lf", "GET / HTTP/1.1\nHost: a\n\n"),
    ("last bare lf", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("nul", "GET / HTTP/1.1\r\nHost: a\r\nx: a\0b\r\n\r\n"),
    ("control", "GET / HTTP/1.1\r\nHost: a\r\nx: \x01\r\n\r\n"),
    ("no name", "GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\nx: a\r\n\r\n"),
    ("listed hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("other host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("other version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
];

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused_and_nobody_sees_it() {
    let world = World::hello(patient()).await;
    for (name, bytes) in AMBIGUOUS {
        // What a smuggler hopes is taken for a request comes right behind.
        let answer = world.tell(format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_refused(&answer, "400 ", name);
        assert!(answer.contains("urn:onceward:error:request-ambiguous"), "{answer:?}");
        assert_eq!(world.seen(), 0, "{name}");
    }
    let refused: u64 = Violation::ALL.iter().map(|it| world.counters.violations(*it)).sum();
    assert_eq!(refused, AMBIGUOUS.len() as u64);
    world.assert_serves().await;
}

#[tokio::test]
async fn a_refusal_waits_for_the_answers_before_it() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let opened = std::sync::Arc::clone(&gate);
    let world = World::plain(patient(), move |_| {
        let gate = std::sync::Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(200, "first")
        }
    })
    .await;
    for (name, bytes) in AMBIGUOUS {
        let mut raw = world.connect().await;
        raw.offer(format!("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok{bytes}")).await;
        opened.add_permits(1);
        let answers = raw.read_to_end().await;
        let (first, second) = answers.split_at(answers.find("firstHTTP").expect(name) + 5);
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answers:?}");
        assert_refused(second, "400 ", name);
    }
    assert_eq!(world.seen(), AMBIGUOUS.len());
}

#[tokio::test]
async fn a_head_in_pieces_gets_the_same_verdict() {
    let world = World::hello(patient()).await;
    for (name, bytes) in AMBIGUOUS.iter().step_by(5) {
        let mut raw = world.connect().await;
        for byte in bytes.as_bytes() {
            raw.offer([*byte]).await;
        }
        assert_refused(&raw.read_to_end().await, "400 ", name);
    }
    assert_eq!(world.seen(), 0);
    let mut raw = world.connect().await;
    for byte in b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" {
        raw.offer([*byte]).await;
    }
    assert!(raw.read_until("hello 5").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

/// Each is no body, or a body and something else, depending on who reads.
const BROKEN_CHUNKS: [&str; 10] = [
    "5\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
    "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "5\r\nhello\r\n0\r\nx : 1\r\n\r\n",
    "5\r\nhello\r\n0\n\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\nfffffffffffffffff\r\n",
    "x\r\n",
];

#[tokio::test]
async fn a_body_whose_chunks_are_not_plain_is_refused_and_never_whole() {
    let world = World::hello(patient()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (at, body) in BROKEN_CHUNKS.iter().enumerate() {
        // At once with its head, so that nobody has seen that either.
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let refused = world.tell(format!("{head}{body}{smuggled}")).await;
        assert_refused(&refused, "400 ", &format!("with its head: {body}"));
        assert!(refused.contains("request-ambiguous"), "{refused:?}");
        assert_eq!(world.seen(), at, "{body:?}");
        // After its head, which the service is busy with by then.
        let mut raw = world.connect().await;
        raw.offer(head).await;
        until(|| world.seen() == at + 1).await;
        raw.offer(format!("{body}{smuggled}")).await;
        let refused = raw.read_to_end().await;
        assert_refused(&refused, "400 ", body);
        assert!(refused.contains("request-ambiguous"), "{refused:?}");
    }
    assert_eq!(world.seen(), BROKEN_CHUNKS.len());
}

#[tokio::test]
async fn plain_requests_follow_each_other_on_one_connection() {
    let world = World::hello(patient()).await;
    let mut raw = world.connect().await;
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\n";
    let bare = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..50 {
        raw.offer(format!("{sized}{chunked}{sized}\r\n{bare}")).await;
        let answers = raw.read_until("hello 0").await;
        assert_eq!(answers.matches("hello 5").count(), 3, "{answers:?}");
    }
    assert_eq!(world.seen(), 200);
}

#[tokio::test]
async fn a_long_body_arrives_whole_whatever_it_holds() {
    let world = World::hello(patient()).await;
    let mut raw = world.connect().await;
    let body = "GET /smuggled HTTP/1.1\nHost : a\r\n\r\n".repeat(100_000);
    raw.offer(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    raw.offer(&body).await;
    raw.read_until(&format!("hello {}", body.len())).await;
    raw.offer("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for chunk in body.as_bytes().chunks(70_001) {
        raw.offer(format!("{:x}\r\n", chunk.len())).await;
        raw.offer(chunk).await;
        raw.offer("\r\n").await;
    }
    raw.offer("0\r\n\r\n").await;
    raw.read_until(&format!("hello {}", body.len())).await;
    assert_eq!(world.seen(), 2);
}

#[tokio::test]
async fn a_target_or_a_head_beyond_its_limit_has_a_status_of_its_own() {
    let limits = Limits { target_bytes_max: 100, head_bytes_max: 1000, headers_max: 5, ..patient() };
    let world = World::hello(limits).await;
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(bytes - 1));
    assert_refused(&world.tell(target(101)).await, "414 ", "a long target");
    // Without an end, too.
    assert_refused(&world.tell(&target(5000)[..200]).await, "414 ", "a target without end");
    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_refused(&world.tell(lines(5)).await, "431 ", "many lines");
    let long = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(bytes));
    assert_refused(&world.tell(long(1000)).await, "431 ", "a long line");
    assert_refused(&world.tell(&long(9000)[..5000]).await, "431 ", "a line without end");
    assert_eq!(world.seen(), 0);
    for plain in [target(100), lines(3), long(900)] {
        let answer = world.tell(plain.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
}

#[tokio::test]
async fn noise_is_refused_at_its_first_bytes() {
    let world = World::hello(patient()).await;
    let hello_of_tls: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for noise in [hello_of_tls, b"\0\0\0\0", b"\r\n\r\n", b"()\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        assert_refused(&world.tell(noise).await, "400 ", &String::from_utf8_lossy(noise));
    }
    assert_eq!(world.seen(), 0);
}
