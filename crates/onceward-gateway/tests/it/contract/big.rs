//! Requests and answers beyond the bounds, and those that stream.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio_util::task::TaskTracker;

use super::Lines;
use super::origin::{fed, pieces};
use super::world::*;

const SMALL: &str = "[policy]\nmax_request = 10\nmax_answer = 10\n";
const SSE: Lines = &[("content-type", "text/event-stream")];

#[tokio::test]
async fn a_request_over_the_bound_is_refused_before_any_claim() {
    each(async |pair| {
        let world = World::start(pair, SMALL, paid).await;
        let sent = |body: &'static str| post("/p").key("k").body(body);
        world.send(sent("12345678901")).await.assert_problem(413, "request-too-large");
        let chunked = post("/p").key("k").body(pieces(&["12345", "67890", "1"]));
        world.send(chunked).await.assert_problem(413, "request-too-large");
        assert_eq!(world.effects(), 0);
        // Nothing was claimed, so the key is free, and the bound itself is allowed.
        world.send(sent("1234567890")).await.assert_first(201);
        // The bound is about operations.
        world.send(post("/p").body("12345678901")).await.assert_first(201);
    })
    .await;
}

#[tokio::test]
async fn an_expectation_is_answered_after_the_header_checks() {
    let world = World::start(H1, SMALL, paid).await;
    let mut raw = world.caller.raw().await;
    let head = "POST /p HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n";
    raw.send(format!("{head}idempotency-key: k\r\ncontent-length: 3\r\n\r\n")).await;
    assert_eq!(raw.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(world.effects(), 0);
    raw.send("pay").await;
    assert!(raw.read_until("paid").await.starts_with("HTTP/1.1 201 "));
    assert_eq!(world.origin.last().header("expect"), None);
    for (lines, status) in [
        ("idempotency-key: k\r\ncontent-length: 11\r\n", 413),
        ("idempotency-key: \"k\r\ncontent-length: 3\r\n", 400),
        ("idempotency-key: k\r\ncookie: a=b\r\ncontent-length: 3\r\n", 400),
    ] {
        let mut raw = world.caller.raw().await;
        raw.send(format!("{head}{lines}\r\n")).await;
        let said = raw.read_until("}").await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
    }
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_long_answer_passes_once_and_is_never_run_again() {
    each(async |pair| {
        for body in [|| "12345678901".into(), || pieces(&["123456", "78901"])] {
            let world = World::start(pair, SMALL, move |_| async move { reply(201, &[], body()) }).await;
            let first = world.send(post("/p").key("k")).await;
            first.assert_first(201);
            assert_eq!(&first.body[..], b"12345678901");
            world.send(post("/p").key("k")).await.assert_problem(409, "answer-not-kept");
            assert_eq!(world.effects(), 1);
        }
        let world = World::start(pair, SMALL, always(201, &[], b"1234567890")).await;
        world.send(post("/p").key("k")).await.assert_first(201);
        world.send(post("/p").key("k")).await.assert_replay(201);
    })
    .await;
}

#[tokio::test]
async fn a_long_answer_that_is_refused_is_never_run_again_either() {
    let refuse = format!("{SMALL}oversize = \"refuse\"\n");
    each(async |pair| {
        let world = World::start(pair, &refuse, always(201, &[], b"12345678901")).await;
        world.send(post("/p").key("k")).await.assert_problem(502, "answer-too-large");
        world.send(post("/p").key("k")).await.assert_problem(409, "answer-not-kept");
        let world = World::start(pair, &refuse, always(200, SSE, b"")).await;
        world.send(post("/p").key("k")).await.assert_problem(502, "answer-too-large");
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn events_of_an_operation_come_one_by_one_after_its_record_is_finished() {
    each(async |pair| {
        let (mut sender, body) = fed();
        let body = std::sync::Mutex::new(Some(body));
        let handler = move |_| std::future::ready(reply(200, SSE, body.lock().unwrap().take().unwrap()));
        let world = World::start(pair, "", handler).await;
        let mut line = world.caller.connect().await;
        let mut answer = within(line.send(pay("k"))).await.unwrap();
        // The stream is open and its end is known already.
        world.send(pay("k")).await.assert_problem(409, "answer-not-kept");
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            sender.send_data(Bytes::from_static(event.as_bytes())).await.unwrap();
            let frame = within(answer.body_mut().frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
        }
        drop(sender);
        assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "");
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_passes_ends_with_its_client() {
    each(async |pair| {
        let (gone, mut left) = tokio::sync::mpsc::unbounded_channel();
        let handler = move |_| {
            let gone = gone.clone();
            async move {
                let (mut sender, body) = fed();
                TaskTracker::new().spawn(async move {
                    while sender.send_data(Bytes::from_static(b"data: x\n\n")).await.is_ok() {
                        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                    }
                    gone.send(()).unwrap();
                });
                reply(200, SSE, body)
            }
        };
        let world = World::start(pair, "", handler).await;
        let mut line = world.caller.connect().await;
        let answer = within(line.send(pay("k"))).await.unwrap();
        drop((answer, line));
        within(left.recv()).await.unwrap();
        world.send(pay("k")).await.assert_problem(409, "answer-not-kept");
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_operation_never_becomes_a_tunnel() {
    let world = World::start(H1, "", paid).await;
    let mut raw = world.caller.raw().await;
    raw.send("POST /p HTTP/1.1\r\nhost: a\r\nidempotency-key: k\r\nconnection: upgrade\r\n").await;
    raw.send("upgrade: websocket\r\ncontent-length: 0\r\n\r\n").await;
    assert!(raw.read_until("paid").await.starts_with("HTTP/1.1 201 "));
    assert_eq!(world.origin.last().header("upgrade"), None);
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_no_answer_to_an_operation() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let scripted = crate::scripted::Scripted::answering(switch).await;
    let world = World::before(Origin::elsewhere(scripted.addr), H1, "", |_| {}).await;
    world.send(pay("k")).await.assert_problem(504, "outcome-unresolved");
    world.send(pay("k")).await.assert_problem(409, "unresolved");
    assert_eq!(scripted.seen().len(), 1);
}

#[tokio::test]
async fn a_client_that_sends_its_whole_body_before_it_reads_still_learns_why_it_was_refused() {
    let world = World::start(H1, "", paid).await;
    for (framing, prefix) in [("content-length: 8388608", ""), ("transfer-encoding: chunked", "800000\r\n")] {
        let mut raw = world.caller.raw().await;
        raw.send(format!("POST /p HTTP/1.1\r\nhost: a\r\nidempotency-key: k\r\n{framing}\r\n\r\n{prefix}"))
            .await;
        raw.send(vec![b'x'; 8 << 20]).await;
        let said = raw.read_until("}").await;
        assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    }
    assert_eq!(world.effects(), 0);
}
