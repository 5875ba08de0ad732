//! What one caller may take, through the whole gateway: whoever takes more is told so, nothing is claimed for
//! it, and others go on.

use std::time::Duration;

use onceward_gateway::settings::Settings;

use super::origin::fed;
use super::world::*;

const SOON: Duration = Duration::from_millis(150);

fn as_alice(ask: Ask) -> Ask {
    ask.header("authorization", "Bearer alice")
}

#[tokio::test]
async fn who_has_too_many_operations_in_flight_is_refused_and_others_are_not() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, "[limits]\nkeys_in_flight = 2\n", paid_after(&gate)).await;
        let mut held = vec![world.send_aside(as_alice(pay("a"))), world.send_aside(as_alice(pay("b")))];
        until(|| world.effects() == 2).await;
        let claims = world.claims();
        let refused = world.send(as_alice(pay("c"))).await;
        refused.assert_problem(429, "too-many-in-flight");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        assert_eq!(world.claims(), claims);
        // So is a duplicate: who it is comes before what it asks.
        world.send(as_alice(pay("a"))).await.assert_problem(429, "too-many-in-flight");
        held.push(world.send_aside(pay("a").header("authorization", "Bearer bob")));
        held.extend(["a", "b", "c"].map(|key| world.send_aside(pay(key))));
        until(|| world.effects() == 6).await;
        gate.add_permits(99);
        for it in held {
            it.got().await.assert_first(201);
        }
        world.send(as_alice(pay("c"))).await.assert_first(201);
        world.send(as_alice(pay("c"))).await.assert_replay(201);
        assert_eq!(world.effects(), 7);
    })
    .await;
}

#[tokio::test]
async fn one_request_more_than_may_be_under_way_is_refused_before_anything_is_claimed() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, "[limits]\nrequests = 2\n", paid_after(&gate)).await;
        let held = [world.send_aside(pay("a")), world.send_aside(pay("b"))];
        until(|| world.effects() == 2).await;
        let claims = world.claims();
        for more in [pay("c"), pay("a"), ask("GET", "/payments")] {
            let refused = world.send(more).await;
            refused.assert_problem(503, "overloaded");
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
        assert_eq!((world.claims(), world.effects()), (claims, 2));
        assert_eq!(world.metric("onceward_listener_ended_total{reason=\"requests_full\"}").await, "3");
        gate.add_permits(9);
        for it in held {
            it.got().await.assert_first(201);
        }
        world.pay_until("c", |it| it.status == 201).await.assert_first(201);
        assert_eq!(world.effects(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_head_with_too_many_lines_or_bytes_claims_nothing() {
    each(async |pair| {
        let world = World::start(pair, "[limits]\nheader_count = 20\nheader_bytes = \"8KiB\"\n", paid).await;
        let many = (0..30).fold(pay("k"), |it, at| it.header(&format!("x-{at}"), "y"));
        let long = pay("k").header("x-long", "y".repeat(9000));
        world.send(many).await.assert_problem(431, "header-too-large");
        let got = world.send(long).await;
        // Of HTTP/2, the library that unpacks the head says so by itself, without a body.
        let code = (pair.front == Wire::H1).then_some("header-too-large");
        assert_eq!((got.status.as_u16(), got.problem().as_deref()), (431, code), "{got:?}");
        assert_eq!((world.claims(), world.effects()), (0, 0));
        world.send(pay("k")).await.assert_first(201);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stalls_claims_nothing() {
    each(async |pair| {
        let tune = |it: &mut Settings| it.limits.body_timeout = SOON;
        let world = World::before(Origin::start(paid).await, pair, "", tune).await;
        // The first operation of all has the store make its hash key.
        world.send(pay("other")).await.assert_first(201);
        let before = (world.claims(), world.effects());
        let (mut sender, body) = fed();
        sender.send_data("half".into()).await.unwrap();
        let got = world.send(post("/payments").key("k").body(body)).await;
        got.assert_problem(408, "request-timeout");
        drop(sender);
        assert_eq!((world.claims(), world.effects()), before);
        world.send(pay("k")).await.assert_first(201);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_reaches_nobody() {
    const HEAD: &str = "POST /payments HTTP/1.1\r\nHost: api.test\r\nIdempotency-Key: k\r\n";
    const SECOND: &str = "GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n";
    for vector in [
        format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("Content-Length: 0\r\nContent-Length: 44\r\n\r\n{SECOND}"),
        format!("Content-Length: 0, 44\r\n\r\n{SECOND}"),
        format!("Content-Length: +0\r\n\r\n{SECOND}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("X: a\r\n Content-Length: 44\r\n\r\n{SECOND}"),
        format!("X: a\nContent-Length: 0\r\n\r\n{SECOND}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{SECOND}"),
    ] {
        let world = World::start(H1, "", paid).await;
        let mut raw = world.caller.raw().await;
        raw.send(format!("{HEAD}{vector}")).await;
        let answer = raw.read_to_end().await;
        let answers: Vec<_> = answer.lines().filter(|it| it.starts_with("HTTP/1.1 ")).collect();
        assert_eq!((answers.len(), &answers[0][..13]), (1, "HTTP/1.1 400 "), "{vector:?} got {answer:?}");
        assert_eq!((world.claims(), world.effects()), (0, 0), "{vector:?}");
        assert_eq!(world.origin.connections(), 0, "{vector:?}");
        let page = world.admin.send(ask("GET", "/metrics")).await;
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        let counted = page.lines().filter(|it| it.starts_with("onceward_requests_violating_total"));
        assert_eq!(counted.filter(|it| it.ends_with(" 1")).count(), 1, "{vector:?}");
    }
}

#[tokio::test]
async fn callers_that_never_finish_their_heads_do_not_keep_others_out() {
    each(async |pair| {
        let world = World::start(pair, "[limits]\nconnections = 4\n", paid).await;
        let mut loris = Vec::new();
        for _ in 0..12 {
            let mut raw = world.caller.raw().await;
            raw.send("POST /payments HTTP/1.1\r\nHost: api.test\r\nX-Slow: ").await;
            loris.push(raw);
        }
        for at in 0..6 {
            world.send(pay(&format!("k{at}"))).await.assert_first(201);
        }
        assert_eq!(world.effects(), 6);
        // Each that came had another one leave.
        let left = world.metric("onceward_listener_ended_total{reason=\"closed_for_room\"}").await;
        let open = world.metric("onceward_connections_open").await;
        assert!(
            left.parse::<u32>().unwrap() > 8 && open.parse::<u32>().unwrap() <= 4,
            "{left} left, {open} open"
        );
    })
    .await;
}
