//! The example with orders: an event that is delivered five times, to two processes, makes one order.

#[expect(dead_code, reason = "nobody calls its `main` here")]
#[path = "../examples/order_paid.rs"]
mod example;

use bytes::Bytes;
use onceward::queue::source::Source as _;
use onceward::queue::source::kafka::MockKafka;
use onceward::queue::{Letters, Message};
use onceward_testkit::server::Postgres;
use onceward_testkit::{eventually, within};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinSet;

fn event(id: &str, body: &str) -> Message {
    Message {
        topic: "order_paid".into(),
        // The partition of an event that is published anew is another.
        key: None,
        headers: vec![("event-id".into(), Bytes::copy_from_slice(id.as_bytes()))],
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_delivered_five_times_to_two_processes_makes_one_order() {
    let kafka = MockKafka::start("order_paid", 4).unwrap();
    let brokers = kafka.bootstrap();
    let server = Postgres::start(&[]);
    let database = server.url("onceward");
    let (stop, stopped) = watch::channel(());
    let mut processes = JoinSet::new();
    for _ in 0..2 {
        let (database, source, mut stopped) =
            (database.clone(), example::source(&brokers).unwrap(), stopped.clone());
        processes.spawn(async move {
            example::run(&database, source, async { drop(stopped.changed().await) }).await
        });
    }
    let payments = example::source(&brokers).unwrap();
    for _ in 0..5 {
        for number in 0..20 {
            let paid = event(
                &format!("paid-{number}"),
                &format!("{{\"cart\":\"c{number}\",\"cents\":{}}}", 100 + number),
            );
            payments.publish(&paid).await.unwrap();
        }
    }
    payments.publish(&event("odd", "not an order")).await.unwrap();
    payments.publish(&event("free", r#"{"cart":"c","cents":0}"#)).await.unwrap();
    let pool = PgPool::connect(&database).await.unwrap();
    let engine = onceward::Engine::new(onceward::open(&database).await.unwrap());
    let made = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&pool).await;
        count.unwrap_or_default()
    };
    // All is behind them when all is committed: what was not handled never is.
    eventually(async || payments.lag().await.is_ok_and(|it| it == Some(0))).await;
    let (letters, _) = Letters::new(engine).list(None, None, 10).await.unwrap();
    assert_eq!(letters.len(), 2, "what is no order is dead, and holds nobody up");
    drop(stop);
    while let Some(ended) = within(processes.join_next()).await {
        ended.unwrap().unwrap();
    }
    assert_eq!(made().await, 20);
}
