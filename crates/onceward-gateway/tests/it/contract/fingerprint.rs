//! The same key with another request is a misuse, never a replay.

use std::time::Duration;

use super::origin::pieces;
use super::world::*;

#[tokio::test]
async fn chunked_and_content_length_bodies_are_the_same_body() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.send(pay("k")).await.assert_first(201);
        assert_eq!(world.origin.last().header("content-length"), Some("13"));
        world.send(pay("k").body(pieces(&["{\"amo", "unt\":", "12}"]))).await.assert_replay(201);
        let mut raw = world.caller.raw().await;
        let head = "POST /payments HTTP/1.1\r\nhost: api.test\r\nidempotency-key: k\r\n";
        raw.send(format!(
            "{head}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\nc\r\n\"amount\":12}}\r\n0\r\n\r\n"
        ))
        .await;
        assert!(raw.read_until("paid").await.contains("idempotent-replayed: true\r\n"));
        raw.send(format!("{head}content-length: 13\r\n\r\n{{\"amount\":13}}")).await;
        assert!(raw.read_until("}").await.starts_with("HTTP/1.1 422 "));
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn query_media_type_and_body_are_what_was_asked_and_no_other_header_counts() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        let typed =
            |kind: &str, body: &'static str| post("/p?a=1").key("k").header("content-type", kind).body(body);
        world.send(typed("text/plain;b=2; a=1", "x")).await.assert_first(201);
        world.send(typed("Text/Plain; A=1;B=2", "x").header("x-trace", "7")).await.assert_replay(201);
        for other in [
            typed("text/plain;b=2; a=1", "y"),
            typed("text/plain", "x"),
            post("/p?a=2").key("k").header("content-type", "text/plain;a=1;b=2").body("x"),
            post("/p").key("k").header("content-type", "text/plain;a=1;b=2").body("x"),
        ] {
            world.send(other).await.assert_problem(422, "key-reused");
        }
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_boundary_of_a_multipart_body_does_not_count() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        let form = |boundary: &str, value: &str| {
            let kind = format!("multipart/form-data; boundary={boundary}");
            let body = format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=a\r\n\r\n{value}\r\n--{boundary}--\r\n"
            );
            post("/form").key("k").header("content-type", kind).body(body)
        };
        world.send(form("one", "1")).await.assert_first(201);
        world.send(form("two", "1")).await.assert_replay(201);
        world.send(form("two", "2")).await.assert_problem(422, "key-reused");
    })
    .await;
}

#[tokio::test]
async fn another_request_is_refused_whatever_became_of_the_first() {
    each(async |pair| {
        let gate = turnstile();
        let wait = paid_after(&gate);
        let handler = move |seen: Seen| {
            let status = seen.header("x-status").map(|it| it.parse().unwrap());
            let paid = status.is_none().then(|| wait(seen));
            async move {
                match paid {
                    Some(paid) => paid.await,
                    None => reply(status.unwrap(), &[], ""),
                }
            }
        };
        let short = "[policy]\nretention = \"1s\"\n";
        let world = World::start(pair, short, handler).await;
        let first = world.send_aside(pay("k"));
        world.origin.until_effects(1).await;
        world.send(pay_other("k")).await.assert_problem(422, "key-reused");
        gate.add_permits(1);
        first.got().await.assert_first(201);
        world.send(pay_other("k")).await.assert_problem(422, "key-reused");

        world.send(pay("u").header("x-status", "504")).await.assert_first(504);
        world.send(pay_other("u")).await.assert_problem(422, "key-reused");

        let gone = world.pay_until("k", |it| !it.is_replay()).await;
        gone.assert_problem(410, "answer-gone");
        world.send(pay_other("k")).await.assert_problem(422, "key-reused");
        assert_eq!(world.effects(), 2);
    })
    .await;
}

#[tokio::test]
async fn without_a_tombstone_the_key_is_new_after_retention() {
    let short = "[policy]\nretention = \"1s\"\ntombstone = \"0\"\n";
    let world = World::start(H1, short, paid).await;
    world.send(pay("k")).await.assert_first(201);
    let started = tokio::time::Instant::now();
    world.pay_until("k", |it| !it.is_replay()).await.assert_first(201);
    assert!(started.elapsed() >= Duration::from_millis(900));
    assert_eq!(world.effects(), 2);
}
