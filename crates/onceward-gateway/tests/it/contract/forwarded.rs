//! What the upstream gets.

use super::Lines;
use super::origin::pieces;
use super::world::*;

#[tokio::test]
async fn fences_grow_and_attempts_count_from_one() {
    each(async |pair| {
        let world = World::start(pair, "", always(429, &[], b"")).await;
        let mut fences = Vec::new();
        for attempt in ["1", "2", "3"] {
            world.send(pay("k")).await.assert_first(429);
            let seen = world.origin.last();
            assert_eq!(seen.header("onceward-attempt"), Some(attempt));
            fences.push(seen.header("onceward-fence").unwrap().parse::<u64>().unwrap());
        }
        assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    })
    .await;
}

#[tokio::test]
async fn what_a_client_sends_under_our_name_is_dropped_everywhere() {
    const FORGED: Lines = &[
        ("onceward-fence", "18446744073709551615"),
        ("onceward-attempt", "77"),
        ("Onceward-Outcome", "release"),
        ("onceward-anything", "forged"),
        // CGI and its kin cannot tell these apart from the real ones.
        ("onceward_fence", "forged"),
        ("idempotency_key", "forged"),
    ];
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        for (sent, ours) in [(pay("k"), 2), (post("/no-key"), 0), (ask("GET", "/"), 0)] {
            world.send(sent.lines(FORGED)).await.assert_first(201);
            let seen = world.origin.last();
            let lines: Vec<_> =
                seen.head.headers.iter().filter(|it| it.0.as_str().starts_with("onceward")).collect();
            assert_eq!(lines.len(), ours, "{lines:?}");
            assert_eq!(seen.header("idempotency_key"), None);
            assert!(lines.iter().all(|it| !FORGED.iter().any(|forged| forged.1 == *it.1)), "{lines:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn accept_encoding_and_range_go_on_only_with_what_passes_through() {
    const LINES: Lines = &[("accept-encoding", "gzip"), ("range", "bytes=0-1")];
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.send(pay("k").lines(LINES)).await.assert_first(201);
        let seen = world.origin.last();
        assert_eq!((seen.header("accept-encoding"), seen.header("range")), (None, None));
        for sent in [ask("GET", "/"), post("/no-key")] {
            world.send(sent.lines(LINES)).await.assert_first(201);
            let seen = world.origin.last();
            assert_eq!(
                (seen.header("accept-encoding"), seen.header("range")),
                (Some("gzip"), Some("bytes=0-1"))
            );
        }
    })
    .await;
}

#[tokio::test]
async fn the_host_is_the_callers_unless_the_upstreams_own_is_asked_for() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.send(pay("k").host("Shop.Example:8080")).await.assert_first(201);
        assert_eq!(world.origin.last().host(), "Shop.Example:8080");
        let origin = world.origin.clone();
        let tune = |it: &mut onceward_gateway::settings::Settings| {
            it.upstream.host = onceward_gateway::settings::HostRule::Upstream;
        };
        let other = World::before(origin, pair, "", tune).await;
        other.send(pay("k").host("Shop.Example:8080")).await.assert_first(201);
        assert_eq!(other.origin.last().host(), other.origin.addr.to_string());
        assert_eq!(other.origin.last().header("x-forwarded-host"), Some("Shop.Example:8080"));
    })
    .await;
}

#[tokio::test]
async fn a_body_arrives_whole_and_without_its_trailers() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        for sent in [post("/p").key("a"), post("/p")] {
            let trailers = http::HeaderMap::from_iter([("x-late".parse().unwrap(), "1".parse().unwrap())]);
            let body = onceward_http::Body::whole("pay".into(), Some(trailers));
            world.send(sent.header("trailer", "x-late").body(body)).await.assert_first(201);
            let seen = world.origin.last();
            assert_eq!((&seen.body[..], seen.trailers), (b"pay".as_slice(), None));
            assert_eq!((seen.head.headers.get("x-late"), seen.head.headers.get("trailer")), (None, None));
        }
        world.send(post("/p").key("b").body(pieces(&["p", "a", "y"]))).await.assert_first(201);
        assert_eq!(&world.origin.last().body[..], b"pay");
    })
    .await;
}

#[tokio::test]
async fn interim_responses_are_dropped() {
    let early =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\npaid";
    let scripted = crate::scripted::Scripted::answering(early).await;
    let world = World::before(Origin::elsewhere(scripted.addr), H1, "", |_| {}).await;
    for request in ["POST /p HTTP/1.1\r\nidempotency-key: k\r\ncontent-length: 0\r\n", "GET / HTTP/1.1\r\n"] {
        let mut raw = world.caller.raw().await;
        raw.send(format!("{request}host: a\r\n\r\n")).await;
        assert!(raw.read_until("paid").await.starts_with("HTTP/1.1 201 "));
    }
}
