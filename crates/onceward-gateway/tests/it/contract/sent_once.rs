//! An operation goes to the upstream once, whatever becomes of the connection.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use onceward_gateway::settings::Settings;
use onceward_http::Body;
use tokio::net::TcpListener;

use super::origin::{Cut, cut_after, fed};
use super::world::*;
use crate::scripted::Scripted;

/// The caller is told that nobody knows, and so is everybody who asks again; the effect stays single.
async fn assert_unresolved(world: &World, key: &str) {
    let effects = world.effects();
    let again = world.send(pay(key)).await;
    again.assert_problem(409, "unresolved");
    assert_eq!((again.header("retry-after"), world.effects()), (None, effects));
}

#[tokio::test]
async fn an_upstream_that_applies_and_cuts_leaves_the_outcome_unresolved() {
    each(async |pair| {
        let world = World::start(pair, "", |_| async { Err(Cut) }).await;
        world.send(pay("k")).await.assert_problem(504, "outcome-unresolved");
        assert_eq!(world.effects(), 1);
        assert_unresolved(&world, "k").await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_cut_in_its_body_is_not_seen_and_leaves_the_outcome_unresolved() {
    each(async |pair| {
        let world = World::start(pair, "", |_| async { reply(201, &[], cut_after("half")) }).await;
        let got = world.send(pay("k")).await;
        got.assert_problem(504, "outcome-unresolved");
        assert!(!got.body.windows(4).any(|it| it == b"half"));
        assert_unresolved(&world, "k").await;
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_answer_shorter_than_its_content_length_is_not_whole() {
    let short = |mut peer: crate::scripted::Peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\nhalf").await;
    };
    let scripted = Scripted::start(short).await;
    let world = World::before(Origin::elsewhere(scripted.addr), H1, "", |_| {}).await;
    world.send(pay("k")).await.assert_problem(504, "outcome-unresolved");
    world.send(pay("k")).await.assert_problem(409, "unresolved");
    assert_eq!(scripted.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let until_close = |mut peer: crate::scripted::Peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 201 Created\r\n\r\npaid").await;
    };
    let scripted = Scripted::start(until_close).await;
    let world = World::before(Origin::elsewhere(scripted.addr), H1, "", |_| {}).await;
    world.send(pay("k")).await.assert_first(201);
    let again = world.send(pay("k")).await;
    again.assert_replay(201);
    assert_eq!((&again.body[..], scripted.seen().len()), (b"paid".as_slice(), 1));
}

#[tokio::test]
async fn silence_beyond_the_response_timeout_leaves_the_outcome_unresolved() {
    each(async |pair| {
        let handler = |seen: Seen| async move {
            if seen.header("x-head").is_none() {
                std::future::pending::<()>().await;
            }
            // The head comes, and then nothing.
            let (sender, body) = fed();
            std::mem::forget(sender);
            reply(201, &[], body)
        };
        let origin = Origin::start(handler).await;
        let timeout = Duration::from_millis(200);
        let world = World::before(origin, pair, "", |it| it.upstream.response_timeout = timeout).await;
        for (key, sent) in [("a", pay("a")), ("b", pay("b").header("x-head", "1"))] {
            world.send(sent).await.assert_problem(504, "outcome-unresolved");
            assert_unresolved(&world, key).await;
        }
        assert_eq!(world.effects(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_is_502_and_the_key_is_free_at_once() {
    each(async |pair| {
        // Bound and not listening: nobody else gets the port, and it refuses.
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = held.local_addr().unwrap();
        let world = World::before(Origin::elsewhere(addr), pair, "", |_| {}).await;
        world.send(pay("k")).await.assert_problem(502, "upstream-unreachable");
        // Free for any request.
        world.send(pay_other("k")).await.assert_problem(502, "upstream-unreachable");
        drop(held);
        let origin = Origin::on(addr, paid).await;
        world.send(pay("k")).await.assert_first(201);
        world.send(pay("k")).await.assert_replay(201);
        assert_eq!(origin.effects(), 1);
        assert_eq!(origin.last().header("onceward-attempt"), Some("3"));
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_closes_connections_as_they_are_reused_sees_each_operation_at_most_once() {
    // Every connection answers one request; half of them close at once, half of them when the next one comes.
    let closing = |mut peer: crate::scripted::Peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\npaid").await;
        if peer.number.is_multiple_of(2) {
            peer.request().await;
        }
    };
    for front in [Wire::H1, Wire::H2c] {
        let scripted = Scripted::start(closing).await;
        let pair = Pair { front, ..H1 };
        let world = World::before(Origin::elsewhere(scripted.addr), pair, "", |_| {}).await;
        let mut answers = HashSet::new();
        for at in 0..40 {
            let key = format!("k{at}");
            let got = world.send(pay(&key)).await;
            answers.insert(got.status.as_u16());
            match got.status.as_u16() {
                201 => world.send(pay(&key)).await.assert_replay(201),
                504 => world.send(pay(&key)).await.assert_problem(409, "unresolved"),
                status => panic!("{status} says neither that it ran nor that nobody knows"),
            }
        }
        let seen = scripted.seen();
        let keys: HashSet<_> = seen.iter().map(|it| it.get("idempotency-key")[0].to_owned()).collect();
        assert_eq!((keys.len(), seen.len()), (40, 40), "one of them was sent twice");
        assert_eq!(answers, HashSet::from([201, 504]));
    }
}

#[tokio::test]
async fn a_refused_stream_that_is_believed_and_a_goaway_below_ours_free_the_key() {
    for front in [Wire::H1, Wire::H2c] {
        for (goes_away, believed) in [(false, true), (false, false), (true, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let tasks = tokio_util::task::TaskTracker::new();
            tasks.spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let mut refusing = h2::server::handshake(stream).await.unwrap();
                if goes_away {
                    refusing.abrupt_shutdown(h2::Reason::NO_ERROR);
                    while refusing.accept().await.is_some() {}
                    return;
                }
                let (_, mut respond) = refusing.accept().await.unwrap().unwrap();
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                let _ = std::future::poll_fn(|cx| refusing.poll_closed(cx)).await;
            });
            let pair = Pair { front, back: Wire::H2c };
            let tune = |it: &mut Settings| it.upstream.trust_refused_stream = believed;
            let world = World::before(Origin::elsewhere(addr), pair, "", tune).await;
            let got = world.send(pay("k")).await;
            if goes_away || believed {
                got.assert_problem(502, "upstream-unreachable");
            } else {
                got.assert_problem(504, "outcome-unresolved");
                world.send(pay("k")).await.assert_problem(409, "unresolved");
            }
        }
    }
}

#[tokio::test]
async fn a_route_may_ask_for_fresh_connections() {
    let routes = "[[route]]\npath = \"/payments\"\nfresh_connection = true\n";
    each(async |pair| {
        let world = World::start(pair, routes, paid).await;
        for at in 0..3 {
            world.send(post("/orders").key(&format!("o{at}"))).await.assert_first(201);
        }
        assert_eq!(world.origin.connections(), 1);
        for at in 0..3 {
            world.send(pay(&format!("k{at}"))).await.assert_first(201);
            assert!(world.origin.connections() >= at + 2);
        }
    })
    .await;
}

#[tokio::test]
async fn a_pooled_connection_that_idles_too_long_is_not_used_again() {
    each(async |pair| {
        let origin = Origin::start(paid).await;
        let world = World::before(origin, pair, "", |it| it.upstream.idle = Duration::ZERO).await;
        for at in 1..4 {
            world.send(pay(&format!("k{at}"))).await.assert_first(201);
            assert_eq!(world.origin.connections(), at);
        }
    })
    .await;
}

#[tokio::test]
async fn redirects_are_answers_and_nobody_follows_them() {
    each(async |pair| {
        for status in [301, 302, 303, 307, 308] {
            let world = World::start(pair, "", move |_| async move {
                let mut response = Response::new(Body::from(Bytes::from_static(b"over there")));
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
                Ok(response)
            })
            .await;
            world.send(pay("k")).await.assert_first(status);
            let again = world.send(pay("k")).await;
            again.assert_replay(status);
            assert_eq!(again.header("location"), Some("/elsewhere"));
            world.send(ask("GET", "/")).await.assert_first(status);
            assert_eq!(world.effects(), 2);
        }
    })
    .await;
}
