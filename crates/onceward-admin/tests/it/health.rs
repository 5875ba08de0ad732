use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Method, StatusCode};
use onceward_testkit::{Fault, Op, within};
use serde_json::json;
use tokio::task::JoinSet;

use crate::bench::Bench;

async fn ready(bench: &Bench, status: u16, expected: serde_json::Value) {
    let reply = bench.raw(Method::GET, "/readyz", &[], "").await;
    assert_eq!((reply.status.as_u16(), reply.json()), (status, expected));
}

#[tokio::test]
async fn healthz_never_asks_the_store() {
    let bench = Bench::new();
    bench.store.down(Fault::Hangs);
    bench.draining.store(true, Ordering::Release);
    let reply = bench.raw(Method::GET, "/healthz", &[], "").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.json()["alive"], true);
    assert!(bench.store.log().is_empty());
}

#[tokio::test]
async fn readyz_stays_200_while_the_store_is_down_and_says_so() {
    let bench = Bench::new();
    ready(&bench, 200, json!({ "ready": true, "draining": false, "store": "up" })).await;
    bench.store.down(Fault::Refused);
    bench.advance(2);
    ready(&bench, 200, json!({ "ready": true, "draining": false, "store": "down" })).await;
    bench.store.up();
    bench.advance(2);
    ready(&bench, 200, json!({ "ready": true, "draining": false, "store": "up" })).await;
}

#[tokio::test]
async fn readyz_is_503_while_the_store_is_down_where_that_is_wanted() {
    let bench = Bench::with(|it| it.ready_requires_store = true);
    ready(&bench, 200, json!({ "ready": true, "draining": false, "store": "up" })).await;
    bench.store.down(Fault::Refused);
    bench.advance(2);
    ready(&bench, 503, json!({ "ready": false, "draining": false, "store": "down" })).await;
}

#[tokio::test]
async fn readyz_is_503_from_the_drain_on() {
    let bench = Bench::new();
    bench.draining.store(true, Ordering::Release);
    ready(&bench, 503, json!({ "ready": false, "draining": true, "store": "up" })).await;
}

#[tokio::test]
async fn a_store_that_hangs_is_down_after_half_a_second() {
    let bench = Arc::new(Bench::new());
    bench.store.down(Fault::Hangs);
    let mut asking = JoinSet::new();
    let asked = Arc::clone(&bench);
    asking.spawn(async move { asked.raw(Method::GET, "/readyz", &[], "").await });
    bench.clock.until_asleep(1).await;
    bench.clock.advance(std::time::Duration::from_millis(500));
    let reply = within(asking.join_next()).await.unwrap().unwrap();
    assert_eq!(reply.json()["store"], "down");
}

#[tokio::test]
async fn strangers_cannot_make_work_for_the_store() {
    let bench = Bench::new();
    for _ in 0..50 {
        bench.raw(Method::GET, "/readyz", &[], "").await;
        bench.raw(Method::GET, "/metrics", &[], "").await;
    }
    assert_eq!(bench.store.ops(), [Op::Check]);
}
