//! What the application behind the layer gets, and what never reaches it.

use http::Method;
use onceward_core::RecordId;
use onceward_http::{FreshConnection, HttpPolicy, Operation, Routes, Told};

use crate::world::{Seen, World, ask, paid, pay, post, route};

#[tokio::test]
async fn the_key_goes_on_exactly_as_it_was_sent() {
    for key in ["abc", r#""abc""#, r#""a\"b""#, "a\"b"] {
        let world = World::new(paid);
        world.send(pay(key)).await.assert_first(201);
        assert_eq!(world.last().header("idempotency-key"), Some(key));
    }
}

#[tokio::test]
async fn fences_grow_and_attempts_count_from_one() {
    let world = World::new(|seen: Seen| async move {
        if seen.header("onceward-attempt") == Some("4") { 201 } else { 429 }
            .try_into()
            .map(|it: http::StatusCode| it)
            .unwrap()
    });
    for _ in 0..4 {
        world.send(pay("k")).await;
    }
    let number = |seen: &Seen, name| seen.header(name).unwrap().parse::<u64>().unwrap();
    let seen = world.seen();
    let attempts: Vec<_> = seen.iter().map(|it| number(it, "onceward-attempt")).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    let fences: Vec<_> = seen.iter().map(|it| number(it, "onceward-fence")).collect();
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    world.send(pay("k")).await.assert_replay(201);
    // A new life of the record counts its attempts anew, and its fence still grows.
    world.clock.advance(std::time::Duration::from_secs(30 * 24 * 3600));
    world.engine.maintain().await.unwrap();
    world.send(pay("k")).await;
    assert_eq!(number(&world.last(), "onceward-attempt"), 1);
    assert!(number(&world.last(), "onceward-fence") > fences[3]);
}

#[tokio::test]
async fn what_a_client_sends_under_our_name_is_dropped_everywhere() {
    let forged = |it: crate::world::Ask| {
        it.header("onceward-fence", "1")
            .header("Onceward-Fence", "99999999999999999")
            .header("onceward-attempt", "77")
            .header("ONCEWARD-outcome", "release")
            .header("onceward-anything", "x")
            .header("x-onceward-fence", "kept")
    };
    let world = World::new(paid);
    world.send(forged(pay("k"))).await.assert_first(201);
    let seen = world.last();
    for name in ["onceward-fence", "onceward-attempt"] {
        assert_eq!(seen.head.headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert_ne!(seen.header("onceward-fence"), Some("99999999999999999"));
    assert_eq!(seen.header("onceward-attempt"), Some("1"));
    assert_eq!(seen.header("onceward-outcome"), None);
    assert_eq!(seen.header("onceward-anything"), None);
    assert_eq!(seen.header("x-onceward-fence"), Some("kept"));
    for passing in [ask(Method::GET, "/a"), ask(Method::PUT, "/a").key("k"), post("/a")] {
        assert_eq!(world.send(forged(passing)).await.told(), Told::PassThrough);
        let seen = world.last();
        let ours = seen.head.headers.keys().filter(|it| it.as_str().starts_with("onceward-"));
        assert_eq!(ours.count(), 0);
    }
}

#[tokio::test]
async fn an_operation_is_asked_for_whole_and_in_identity_form() {
    let world = World::new(paid);
    let sent = || {
        pay("k")
            .header("accept-encoding", "gzip, br")
            .header("accept-encoding", "zstd")
            .header("range", "bytes=0-4")
            .header("accept", "application/json")
            .header("x-own", "1")
    };
    world.send(sent()).await.assert_first(201);
    let seen = world.last();
    assert_eq!((seen.header("accept-encoding"), seen.header("range")), (None, None));
    assert_eq!((seen.header("accept"), seen.header("x-own")), (Some("application/json"), Some("1")));
    assert_eq!(&seen.body[..], br#"{"amount":12}"#);
    // Without a key it just passes through, with everything.
    world.send(post("/payments").header("accept-encoding", "gzip").header("range", "bytes=0-4")).await;
    let seen = world.last();
    assert_eq!((seen.header("accept-encoding"), seen.header("range")), (Some("gzip"), Some("bytes=0-4")));
}

#[tokio::test]
async fn request_trailers_of_an_operation_are_dropped() {
    use http_body_util::{BodyExt as _, Full};
    let world = World::new(paid);
    let trailers = http::HeaderMap::from_iter([("onceward-fence".parse().unwrap(), "1".parse().unwrap())]);
    let body = Full::new(bytes::Bytes::from("x")).with_trailers(std::future::ready(Some(Ok(trailers))));
    world.send(post("/a").key("k").body(axum::body::Body::new(body))).await.assert_first(201);
    assert_eq!(&world.last().body[..], b"x");
}

#[tokio::test]
async fn an_operation_is_marked_for_what_stands_behind() {
    let mut fresh = route(&[], "/fresh", HttpPolicy::default());
    fresh.fresh_connection = true;
    let world = World::routed(Routes::new(vec![fresh], HttpPolicy::default()), paid);
    world.send(post("/a").key("k")).await;
    let records = world.records().await;
    let marked = |seen: &Seen| seen.head.extensions.get::<Operation>().map(|it| it.record);
    assert_eq!(marked(&world.last()), Some::<RecordId>(records[0].id));
    assert!(world.last().head.extensions.get::<FreshConnection>().is_none());
    world.send(post("/fresh").key("k")).await;
    assert!(world.last().head.extensions.get::<FreshConnection>().is_some());
    world.send(post("/fresh")).await;
    assert!(marked(&world.last()).is_none());
    assert!(world.last().head.extensions.get::<FreshConnection>().is_none());
}

/// Gateway interfaces such as WSGI make `Onceward_Fence` and `Onceward-Fence` one variable.
#[tokio::test]
async fn headers_that_imitate_ours_with_underscores_are_dropped() {
    let world = World::new(paid);
    let forged = pay("k").header("onceward_fence", "9").header("idempotency_key", "other");
    world.send(forged).await.assert_first(201);
    let seen = world.last();
    assert_eq!((seen.header("onceward_fence"), seen.header("idempotency_key")), (None, None));
    assert_eq!(seen.header("idempotency-key"), Some("k"));
}
