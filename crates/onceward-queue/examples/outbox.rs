//! Measures an outbox on a PostgreSQL of its own, whose files are in memory: how many effects per second go in and out.
//!
//! `cargo run --release -p onceward-queue --features postgres --example outbox`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::{Clock as _, SystemClock};
use onceward_queue::outbox::{
    Effect, Outbox, OutboxSettings, Outgoing, Relay, RelaySettings, SendFailure, Sender,
};
use onceward_store_postgres::{PostgresSettings, migrate};
use onceward_testkit::server::Postgres;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Notify;
use tokio::task::JoinSet;

const ROWS: usize = 50_000;

/// Sends nothing, and says when so many were sent.
#[derive(Debug, Clone)]
struct Nothing {
    left: Arc<AtomicUsize>,
    done: Arc<Notify>,
}

#[async_trait]
impl Sender for Nothing {
    async fn send(&self, _effect: &Outgoing) -> Result<(), SendFailure> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.done.notify_one();
        }
        Ok(())
    }
}

fn effect(key: Option<usize>) -> Effect {
    Effect {
        kind: "nothing".into(),
        destination: "nowhere".into(),
        key: key.map(|it| it.to_string().into()),
        headers: vec![("content-type".into(), "application/json".into())],
        body: "x".repeat(300).into(),
    }
}

async fn add(
    pool: &PgPool,
    outbox: &Outbox,
    keys: Option<usize>,
    per_transaction: usize,
    rows: usize,
) -> f64 {
    let began = SystemClock.boot();
    let mut adders = JoinSet::new();
    for adder in 0..8 {
        let (pool, outbox) = (pool.clone(), outbox.clone());
        adders.spawn(async move {
            for nth in 0..rows / 8 / per_transaction {
                let of =
                    |it: usize| effect(keys.map(|keys| (adder * 7919 + nth * per_transaction + it) % keys));
                let effects: Vec<_> = (0..per_transaction).map(of).collect();
                let mut transaction = pool.begin().await.expect("it begins");
                outbox.add_all(&mut transaction, &effects).await.expect("it is added");
                transaction.commit().await.expect("it commits");
            }
        });
    }
    adders.join_all().await;
    rate(rows, SystemClock.boot() - began)
}

async fn relay(pool: &PgPool, relays: usize, rows: usize) -> f64 {
    let sender = Nothing { left: Arc::new(AtomicUsize::new(rows)), done: Arc::default() };
    let began = SystemClock.boot();
    let mut running = JoinSet::new();
    let stop = Arc::new(Notify::new());
    for _ in 0..relays {
        let stop = Arc::clone(&stop);
        let settings = RelaySettings { keep: None, ..RelaySettings::default() };
        let relay =
            Relay::new(pool.clone(), Outbox::default()).sender("nothing", sender.clone()).settings(settings);
        running.spawn(relay.run(async move { stop.notified().await }));
    }
    sender.done.notified().await;
    stop.notify_waiters();
    for told in running.join_all().await {
        told.expect("it runs");
    }
    rate(rows, SystemClock.boot() - began)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to be read")]
fn rate(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64()
}

#[tokio::main]
async fn main() {
    let server = Postgres::start(&[("shared_buffers", "256MB")]);
    let url = server.url("onceward");
    let settings = PostgresSettings::from_url(&url).expect("it is a URL");
    migrate(&settings).await.expect("the tables are made");
    let pool = PgPoolOptions::new().max_connections(20).connect(&url).await.expect("the server is there");
    let clear = async || {
        for sql in ["TRUNCATE onceward_outbox", "VACUUM ANALYZE"] {
            sqlx::raw_sql(sql).execute(&pool).await.expect("it is cleared");
        }
    };
    let quiet = Outbox::default();
    let loud = Outbox::new(&OutboxSettings { notify: true, ..OutboxSettings::default() });
    for round in 1..=2 {
        for (name, outbox) in [("quiet", &quiet), ("notify", &loud)] {
            let added = add(&pool, outbox, None, 1, 8000).await;
            println!("round {round}: add, one per transaction, 8 connections, {name}: {added:.0}/s");
            clear().await;
        }
        for (name, keys) in [("no key", None), ("5000 keys", Some(5000)), ("10 keys", Some(10))] {
            for relays in [1, 2] {
                let added = add(&pool, &quiet, keys, 25, ROWS).await;
                let sent = relay(&pool, relays, ROWS).await;
                println!("round {round}: {name}: added {added:.0}/s, {relays} relays send {sent:.0}/s");
                clear().await;
            }
        }
    }
    // What a transaction that stays open costs: vacuum can take nothing away.
    let mut open = pool.begin().await.expect("it begins");
    sqlx::query("SELECT txid_current()").execute(&mut *open).await.expect("it has a number");
    for nth in 1..=4 {
        add(&pool, &quiet, None, 25, ROWS).await;
        let sent = relay(&pool, 1, ROWS).await;
        println!("beside an open transaction, {} effects sent before: {sent:.0}/s", (nth - 1) * ROWS);
    }
    let hot = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'onceward_outbox'";
    let (all, hot): (i64, i64) = sqlx::query_as(hot).fetch_one(&pool).await.expect("it counts");
    println!("{hot} of {all} updates stayed on their page");
}
