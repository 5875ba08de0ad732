//! The key: how it is spelled, when it is needed, what is refused.

use http::StatusCode;
use onceward_core::Key;
use onceward_http::{HttpPolicy, KeyRule, Told};

use crate::wire::Server;
use crate::world::{World, paid, pay, policy, post};

#[tokio::test]
async fn quoted_and_bare_spellings_are_one_key() {
    for (first, second) in [
        ("abc", r#""abc""#),
        (r#""abc""#, "abc"),
        (r#""a\"b""#, "a\"b"),
        (r#""a\\b""#, r"a\b"),
        (" abc ", "abc"),
        ("a;b=1", r#""a;b=1""#),
    ] {
        let world = World::new(paid);
        world.send(pay(first)).await.assert_first(201);
        world.send(pay(second)).await.assert_replay(201);
        assert_eq!(world.effects(), 1, "{first} and {second}");
    }
}

#[tokio::test]
async fn two_keys_are_two_operations_also_with_equal_requests() {
    let world = World::new(paid);
    for key in ["a", "A", "a0", "/payments", "POST", "..", "hash-key", "\u{7e}"] {
        world.send(pay(key)).await.assert_first(201);
    }
    assert_eq!(world.effects(), 8);
}

#[tokio::test]
async fn a_key_that_is_the_name_of_a_record_addresses_nothing_else() {
    let world = World::new(paid);
    world.send(pay("k")).await.assert_first(201);
    let id = world.records().await[0].id;
    world.send(pay(&id.to_string())).await.assert_first(201);
    assert_eq!(world.records().await.len(), 2);
}

#[tokio::test]
async fn a_key_of_255_characters_is_a_key() {
    let world = World::new(paid);
    let longest = "k".repeat(255);
    world.send(pay(&longest)).await.assert_first(201);
    world.send(pay(&format!("\"{longest}\""))).await.assert_replay(201);
    assert!(Key::parse(&longest).is_ok());
}

#[tokio::test]
async fn what_is_not_exactly_one_key_is_refused_and_asks_nobody() {
    let world = World::new(paid);
    let (long, long_quoted) = ("k".repeat(256), format!("\"{}\"", "k".repeat(256)));
    for bad in [
        b"".as_slice(),
        b" ",
        b"\t",
        b"\"\"",
        b"\"",
        b"\"abc",
        b"\"abc\\\"",
        b"\"abc\"d",
        b"\"abc\";a=1",
        b"\"abc\", \"abc\"",
        b"\"a\\bc\"",
        b"\"a b\"",
        b"a b",
        b"a\tb",
        b"caf\xc3\xa9",
        b"\xff",
        long.as_bytes(),
        long_quoted.as_bytes(),
    ] {
        let got = world.send(post("/payments").header("idempotency-key", bad)).await;
        got.assert_problem(400, "key-invalid");
        assert_eq!(got.told(), Told::Refused);
    }
    let two = post("/payments").key("abc").key("abc");
    world.send(two).await.assert_problem(400, "key-invalid");
    assert_eq!((world.effects(), world.store.log().len()), (0, 0));
}

#[tokio::test]
async fn two_key_lines_on_the_wire_are_refused() {
    let world = World::new(paid);
    let server = Server::of(&world).await;
    for lines in ["Idempotency-Key: a\r\nIdempotency-Key: a", "Idempotency-Key: a\r\nidempotency-key:"] {
        let request = format!(
            "POST /payments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = server.say(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("key-invalid"), "{answer}");
    }
    assert_eq!(world.effects(), 0);
}

#[tokio::test]
async fn a_missing_key_is_refused_only_where_one_is_required() {
    for (rule, expected) in [
        (KeyRule::Required, None),
        (KeyRule::Optional, Some(StatusCode::CREATED)),
        (KeyRule::Ignored, Some(StatusCode::CREATED)),
    ] {
        let world = World::under(policy(|it| it.key = rule), paid);
        for _ in 0..2 {
            let got = world.send(post("/payments").body("x")).await;
            match expected {
                None => got.assert_problem(400, "key-missing"),
                Some(status) => assert_eq!((got.status, got.told()), (status, Told::PassThrough)),
            }
        }
        assert_eq!(world.effects(), if expected.is_some() { 2 } else { 0 }, "{rule:?}");
        assert_eq!(world.store.log().len(), 0, "what passes through asks no store");
    }
}

#[tokio::test]
async fn where_keys_are_ignored_even_a_bad_one_passes_through() {
    let world = World::under(HttpPolicy { key: KeyRule::Ignored, ..HttpPolicy::default() }, paid);
    for _ in 0..2 {
        assert_eq!(world.send(post("/payments").key("a b")).await.told(), Told::PassThrough);
        assert_eq!(world.send(post("/payments").key("k")).await.told(), Told::PassThrough);
    }
    assert_eq!(world.effects(), 4);
}
