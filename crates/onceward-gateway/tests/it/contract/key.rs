//! The key and who has to send one.

use super::world::*;

#[tokio::test]
async fn quoted_and_bare_spellings_are_one_key_and_go_on_as_received() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        for (at, (first, second)) in
            [("abc", "\"abc\""), ("\"a\\\"b\\\\c\"", "a\"b\\c"), ("  bare ", "bare")].into_iter().enumerate()
        {
            world.send(pay(first)).await.assert_first(201);
            world.send(pay(second)).await.assert_replay(201);
            assert_eq!(world.effects(), at + 1, "{first} and {second}");
            // Blanks around a value are no part of it; HTTP/1.1 drops them and HTTP/2 may not send them.
            assert_eq!(world.origin.last().header("idempotency-key").unwrap().trim(), first.trim());
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_has_1_to_255_characters() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        for key in ["k".repeat(255), format!("\"{}\"", "q".repeat(255)), "~".into()] {
            world.send(pay(&key)).await.assert_first(201);
            world.send(pay(&key)).await.assert_replay(201);
        }
        world.send(pay(&"k".repeat(256))).await.assert_problem(400, "key-invalid");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_exactly_one_key_is_refused_and_reaches_nobody() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        for key in [
            b"".as_slice(),
            b"   ",
            b"\"\"",
            b"\"abc",
            b"\"",
            b"\"abc\";p=1",
            b"\"abc\" \"def\"",
            b"\"a b\"",
            b"\"a\\x\"",
            b"a b",
            b"a\tb",
            b"caf\xe9",
            b"caf\xc3\xa9",
        ] {
            let sent = post("/payments").header("idempotency-key", key);
            world.send(sent).await.assert_problem(400, "key-invalid");
        }
        world.send(pay("a").key("a")).await.assert_problem(400, "key-invalid");
        assert_eq!((world.effects(), world.claims()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_missing_key_is_refused_only_where_one_is_required() {
    let routes = r#"
        [[route]]
        path = "/payments"
        key = "required"
        [[route]]
        path = "/free"
        key = "ignored"
    "#;
    each(async |pair| {
        let world = World::start(pair, routes, paid).await;
        world.send(post("/payments")).await.assert_problem(400, "key-missing");
        assert_eq!(world.effects(), 0);
        world.send(post("/orders")).await.assert_first(201);
        for key in ["k", "k", "\"bad"] {
            world.send(post("/free").key(key)).await.assert_first(201);
        }
        assert_eq!(world.effects(), 4);
    })
    .await;
}
