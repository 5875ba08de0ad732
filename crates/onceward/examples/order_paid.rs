//! Orders made of paid carts: an event of Kafka, an order in PostgreSQL, and a mail to the customer, each once.
//!
//! A shop's payment service publishes `order_paid` and, when it gets no answer, publishes it again. Kafka delivers it again after
//! crashes and rebalances. The order, the row of the outbox and the note that the event was handled commit together, so an event
//! that comes five times, to two processes, makes one order.
//!
//! `cargo run -p onceward --features postgres-transactions,kafka --example order_paid -- postgres://user@host/database
//! kafka-host:9092`, in as many terminals as you like. The topic `order_paid` must be there.

use std::future::Future;

use onceward::Engine;
use onceward::postgres::operations::Operations;
use onceward::queue::source::Source;
use onceward::queue::source::kafka::{Kafka, KafkaSettings};
use onceward::queue::{Consumer, Failure, Handling, Identity};
use sqlx::{PgConnection, PgPool};

/// The topic.
const TOPIC: &str = "order_paid";

/// The shop's own tables. Nothing in them knows of events or repeats: there is no unique key to fall back on.
/// Two processes that start at the same time make them one after the other.
const TABLES: &str = "
    SELECT pg_advisory_xact_lock(20261122);
    CREATE TABLE IF NOT EXISTS orders (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        cart text NOT NULL,
        cents bigint NOT NULL,
        made_at timestamptz NOT NULL DEFAULT now()
    )";

/// What the payment service says.
#[derive(Debug, serde::Deserialize)]
struct OrderPaid {
    cart: String,
    cents: i64,
}

/// Makes the order. It may be called again after all it did was undone.
async fn make_order(event: Handling, connection: &mut PgConnection) -> Result<(), Failure> {
    // What nobody can read is put among the dead letters; it is not tried for ever.
    let paid: OrderPaid =
        serde_json::from_slice(&event.message.body).map_err(|it| Failure::park(it.to_string()))?;
    if paid.cents <= 0 {
        return Err(Failure::park("nothing was paid"));
    }
    sqlx::query("INSERT INTO orders (cart, cents) VALUES ($1, $2)")
        .bind(paid.cart)
        .bind(paid.cents)
        .execute(connection)
        .await?;
    Ok(())
}

/// A process of the shop that makes orders until `stop` completes.
///
/// # Errors
/// The database cannot be asked, or the settings are wrong.
pub(crate) async fn run(
    database: &str,
    source: impl Source,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let pool = PgPool::connect(database).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    // Attempts and dead letters lie in the same database.
    let engine = Engine::new(onceward::open(database).await?);
    let upkeep = engine.clone();
    let consumer = Consumer::new("orders", source, engine).key(Identity::header("event-id")).in_transaction(
        pool,
        Operations::default(),
        |event, connection| Box::pin(make_order(event, connection)),
    );
    let tidying = async {
        loop {
            let more = upkeep.maintain().await.is_ok_and(|it| it.more);
            if !more {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    };
    tokio::select! {
        ended = consumer.run(stop) => Ok(ended?),
        () = tidying => Ok(()),
    }
}

/// How the topic is read.
///
/// # Errors
/// The settings are wrong.
pub(crate) fn source(brokers: &str) -> onceward::Result<Kafka> {
    Kafka::new(KafkaSettings::new(brokers, TOPIC, "orders"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut words = std::env::args().skip(1);
    let (Some(database), Some(brokers)) = (words.next(), words.next()) else {
        return Err("give the URL of a database and the address of a Kafka broker".into());
    };
    println!("making an order of each event of the topic {TOPIC}; Ctrl-C ends it");
    run(&database, source(&brokers)?, async { drop(tokio::signal::ctrl_c().await) }).await
}
