//! The example with payments, as a client sees it: each is made once, whatever happens to the client and the database.
#![expect(clippy::unwrap_used, reason = "these are tests: a step that fails ends them")]

#[expect(dead_code, reason = "nobody calls its `main` here")]
#[path = "../examples/payments.rs"]
mod example;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use onceward_testkit::server::Postgres;
use onceward_testkit::{for_polls, within};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

struct Shop {
    server: Arc<Postgres>,
    router: Router,
    pool: PgPool,
}

impl Shop {
    async fn open() -> Self {
        let server = Arc::new(Postgres::start(&[]));
        let url = server.url("onceward");
        let (router, _) = example::application(&url).await.unwrap();
        Self { pool: PgPool::connect(&url).await.unwrap(), server, router }
    }

    /// What is left on the account, and how many payments there are.
    async fn books(&self) -> (i64, i64) {
        let sql = "SELECT cents, (SELECT count(*) FROM payments) FROM accounts WHERE name = 'anna'";
        sqlx::query_as(sql).fetch_one(&self.pool).await.unwrap()
    }
}

async fn send(router: &Router, key: &str, cents: i64) -> (StatusCode, String) {
    let body = format!("{{\"account\":\"anna\",\"cents\":{cents},\"currency\":\"EUR\"}}");
    let request = Request::post("/payments").header("idempotency-key", key).body(Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_made_once_and_a_declined_one_leaves_its_key_free() {
    let shop = Shop::open().await;
    let first = send(&shop.router, "order-1", 1200).await;
    assert_eq!(first.0, StatusCode::CREATED, "{first:?}");
    assert_eq!(send(&shop.router, "order-1", 1200).await, first);
    assert_eq!(send(&shop.router, "order-1", 1300).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(send(&shop.router, "", 1).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(shop.books().await, (98_800, 1));

    assert_eq!(send(&shop.router, "order-2", 99_000).await.0, StatusCode::PAYMENT_REQUIRED);
    sqlx::query("UPDATE accounts SET cents = 100000").execute(&shop.pool).await.unwrap();
    assert_eq!(send(&shop.router, "order-2", 99_000).await.0, StatusCode::CREATED);
    assert_eq!(shop.books().await, (1000, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_that_leave_at_any_point_and_come_again_pay_once() {
    let shop = Shop::open().await;
    let mut clients = JoinSet::new();
    for polls in 1..=20 {
        let router = shop.router.clone();
        clients.spawn(async move {
            let _left = for_polls(polls, send(&router, "order-1", 1200)).await;
            send(&router, "order-1", 1200).await
        });
    }
    let told = within(clients.join_all()).await;
    assert!(told.iter().all(|it| *it == told[0] && it.0 == StatusCode::CREATED), "{told:?}");
    assert_eq!(shop.books().await, (98_800, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_makes_no_payment_twice_and_loses_none() {
    const CLIENTS: i64 = 8;
    const EACH: i64 = 25;
    let shop = Shop::open().await;
    let (told, mut seen) = tokio::sync::watch::channel(0);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (router, told) = (shop.router.clone(), told.clone());
        clients.spawn(async move {
            for nth in 0..EACH {
                let key = format!("order-{client}-{nth}");
                loop {
                    match send(&router, &key, 7).await {
                        (StatusCode::CREATED, _) => break,
                        (StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT, _) => {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                told.send_modify(|it| *it += 1);
            }
        });
    }
    within(seen.wait_for(|it| *it >= CLIENTS * EACH / 3)).await.unwrap();
    let server = Arc::clone(&shop.server);
    let killed = tokio::task::spawn_blocking(move || {
        server.kill();
        server.restart();
    });
    within(killed).await.unwrap();
    within(clients.join_all()).await;
    let pool = PgPool::connect(&shop.server.url("onceward")).await.unwrap();
    let shop = Shop { pool, ..shop };
    assert_eq!(shop.books().await, (100_000 - 7 * CLIENTS * EACH, CLIENTS * EACH));
}
