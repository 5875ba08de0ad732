//! Consumers whose effect commits with the note that it was made.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use onceward_core::store::Filter;
use onceward_core::{Engine, State, SystemClock, Unresolved};
use onceward_queue::source::memory::{MemoryBroker, MemorySettings};
use onceward_queue::{
    Consumer, ConsumerSettings, Event, Failure, Handling, Identity, Letter, Message, Reason, Retries,
};
use onceward_store_postgres::operations::{Isolation, OperationSettings, Operations};
use onceward_store_postgres::{PostgresSettings, PostgresStore};
use onceward_testkit::server::Postgres;
use onceward_testkit::{eventually, within};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::scene::{Events, settings};

/// A broker in memory, and a database with a ledger that takes everything.
struct Place {
    broker: MemoryBroker,
    url: String,
    pool: PgPool,
    isolation: Option<Isolation>,
    attempts_max: u32,
    events: Arc<Events>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinSet<onceward_core::Result<()>>,
}

impl Running {
    async fn kill(mut self) {
        self.task.shutdown().await;
    }

    async fn stop(mut self) {
        self.stop.send(()).unwrap();
        within(self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}

impl Place {
    async fn new() -> Self {
        let url = Postgres::shared().url("onceward");
        let pool = PgPoolOptions::new().max_connections(40).connect(&url).await.unwrap();
        sqlx::raw_sql("CREATE TABLE ledger (id bigserial, what text)").execute(&pool).await.unwrap();
        let memory = MemorySettings { visible_for: Duration::from_millis(600), ..MemorySettings::default() };
        let broker = MemoryBroker::new(Arc::new(SystemClock), memory);
        Self { broker, url, pool, isolation: None, attempts_max: 3, events: Arc::default() }
    }

    /// An engine as another process has it.
    async fn engine(&self) -> Engine {
        let settings = PostgresSettings::from_url(&self.url).unwrap();
        Engine::new(Arc::new(PostgresStore::open(settings).await.unwrap()))
    }

    async fn consume(
        &self,
        handler: impl for<'c> Fn(Handling, &'c mut PgConnection) -> BoxFuture<'c, Result<(), Failure>>
        + Send
        + Sync
        + 'static,
    ) -> Running {
        let operations =
            Operations::new(OperationSettings { isolation: self.isolation, ..OperationSettings::default() });
        let settings = settings(Unresolved::Hold);
        let retries = Retries { attempts_max: self.attempts_max, ..settings.retries };
        let consumer = Consumer::new("billing", self.broker.source("orders"), self.engine().await)
            .key(Identity::header("event-id"))
            .settings(ConsumerSettings { retries, ..settings })
            .observer(Arc::<Events>::clone(&self.events))
            .in_transaction(self.pool.clone(), operations, handler);
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(consumer.run(async {
            let _ = stopped.await;
        }));
        Running { stop, task }
    }

    fn publish(&self, id: &str, body: &'static str) {
        self.broker.publish(Message {
            topic: "orders".into(),
            key: None,
            headers: vec![("event-id".into(), Bytes::copy_from_slice(id.as_bytes()))],
            body: Bytes::from_static(body.as_bytes()),
        });
    }

    async fn until_all_is_done(&self) {
        eventually(async || self.broker.kept("orders").is_empty()).await;
    }

    /// What stands in the ledger, in order.
    async fn effects(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT what FROM ledger ORDER BY what").fetch_all(&self.pool).await.unwrap()
    }

    async fn letters(&self) -> Vec<Letter> {
        let filter = Filter { kind: Some(onceward_queue::DEAD_LETTER.into()), ..Filter::default() };
        let page = self.engine().await.list(&filter, None, 100).await.unwrap();
        let letter = |state: &State| match state {
            State::Done(answer) => Letter::from_answer(answer).unwrap(),
            other => panic!("{other:?}"),
        };
        page.records.iter().map(|it| letter(&it.state)).collect()
    }
}

async fn write(it: &Handling, connection: &mut PgConnection) -> Result<(), Failure> {
    let sql = "INSERT INTO ledger (what) VALUES ($1)";
    sqlx::query(sql).bind(it.key.as_str()).execute(connection).await?;
    Ok(())
}

fn plainly<'c>(it: Handling, connection: &'c mut PgConnection) -> BoxFuture<'c, Result<(), Failure>> {
    Box::pin(async move { write(&it, connection).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_five_times_to_two_consumers_is_written_once() {
    let place = Place::new().await;
    let (one, two) = (place.consume(plainly).await, place.consume(plainly).await);
    for _ in 0..5 {
        place.publish("order-paid-1", "{}");
        place.publish("order-paid-2", "{}");
    }
    place.until_all_is_done().await;
    one.stop().await;
    two.stop().await;
    assert_eq!(place.effects().await, ["order-paid-1", "order-paid-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_are_killed_again_and_again_lose_and_double_nothing() {
    // Each kill counts as an attempt of what ran.
    let place = Place { attempts_max: 1000, ..Place::new().await };
    let mut ids: Vec<_> = (0..200).map(|it| format!("m-{it}")).collect();
    for id in &ids {
        place.publish(id, "{}");
        place.publish(id, "{}");
    }
    let mut done = 0;
    while !place.broker.kept("orders").is_empty() {
        let running = place.consume(plainly).await;
        let ended = || place.events.count(|it| matches!(it, Event::Done | Event::DuplicateOfDone));
        // Killed while others of its handlers run, wherever they stand.
        eventually(async || ended() >= done + 30 || place.broker.kept("orders").is_empty()).await;
        running.kill().await;
        done = ended();
        place.broker.deliver_again();
    }
    ids.sort();
    assert_eq!(place.letters().await, []);
    assert_eq!(place.effects().await, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_wrote_before_it_failed_is_not_there() {
    let place = Place::new().await;
    let running = place
        .consume(|it, connection| {
            Box::pin(async move {
                write(&it, connection).await?;
                match (it.key.as_str(), it.attempt) {
                    ("twice", 1) => Err(Failure::retry("once more")),
                    ("errs", 1) => {
                        sqlx::query("SELECT 1 / 0").execute(connection).await?;
                        Ok(())
                    }
                    ("panics", 1) => panic!("this is the handler's panic, and meant"),
                    ("never", _) => Err(Failure::park("no such order")),
                    ("swallows", 1) => {
                        let _ = sqlx::query("SELECT 1 / 0").execute(connection).await;
                        Ok(())
                    }
                    _ => Ok(()),
                }
            })
        })
        .await;
    for id in ["errs", "never", "once", "panics", "swallows", "twice"] {
        place.publish(id, "{}");
    }
    place.until_all_is_done().await;
    place.publish("never", "{}");
    place.until_all_is_done().await;
    running.stop().await;
    assert_eq!(place.effects().await, ["errs", "once", "panics", "swallows", "twice"]);
    let letters = place.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason, letters[0].detail.as_str()), (Reason::Handler, "no such order"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_another_transaction_works_on_is_not_acknowledged() {
    let place = Place::new().await;
    let begun = Arc::new(Notify::new());
    let began = Arc::clone(&begun);
    let holder = place
        .consume(move |it, connection| {
            let began = Arc::clone(&began);
            Box::pin(async move {
                write(&it, connection).await?;
                began.notify_one();
                pending().await
            })
        })
        .await;
    place.publish("m-1", "{}");
    within(begun.notified()).await;
    place.publish("m-1", "{}");
    let other = place.consume(plainly).await;
    eventually(async || place.events.count(|it| *it == Event::DuplicateOfRunning) > 0).await;
    assert_eq!(place.broker.kept("orders").len(), 2);
    holder.kill().await;
    place.until_all_is_done().await;
    other.stop().await;
    assert_eq!(place.effects().await, ["m-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_the_process_with_it_is_parked() {
    let place = Place::new().await;
    place.publish("bomb", "{}");
    let (exploded, begun) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    loop {
        let (explode, count) = (Arc::clone(&exploded), Arc::clone(&begun));
        let running = place
            .consume(move |_, _| {
                let (explode, count) = (Arc::clone(&explode), Arc::clone(&count));
                Box::pin(async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    explode.notify_one();
                    pending().await
                })
            })
            .await;
        tokio::select! {
            () = exploded.notified() => running.kill().await,
            () = place.until_all_is_done() => break running.stop().await,
        }
        assert!(begun.load(Ordering::SeqCst) < 8, "it is tried for ever");
    }
    let letters = place.letters().await;
    assert_eq!((letters.len(), letters[0].reason), (1, Reason::Attempts));
    // The first cannot be told from one that never began.
    assert_eq!(begun.load(Ordering::SeqCst), 4);
    place.publish("bomb", "{}");
    place.until_all_is_done_by(plainly).await;
    assert_eq!(place.effects().await, [""; 0]);
    assert_eq!(place.letters().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_with_another_payload_is_parked() {
    let place = Place::new().await;
    place.publish("m-1", "{}");
    place.until_all_is_done_by(plainly).await;
    place.publish("m-1", "{\"cents\":1}");
    place.until_all_is_done_by(plainly).await;
    assert_eq!(place.effects().await, ["m-1"]);
    assert_eq!(place.letters().await[0].reason, Reason::OtherPayload);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_meet_are_begun_again_and_count_as_nobodys_failure() {
    let place = Place { isolation: Some(Isolation::Serializable), ..Place::new().await };
    for number in 0..40 {
        place.publish(&format!("m-{number}"), "{}");
    }
    let running = place
        .consume(|it, connection| {
            Box::pin(async move {
                // Each reads what all others write.
                let count = "SELECT count(*) FROM ledger";
                let count: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await?;
                let sql = "INSERT INTO ledger (what) VALUES ($1)";
                sqlx::query(sql).bind(format!("{count:03}")).execute(connection).await?;
                assert_eq!(it.attempt, 1);
                Ok(())
            })
        })
        .await;
    place.until_all_is_done().await;
    running.stop().await;
    let wanted: Vec<_> = (0..40).map(|it| format!("{it:03}")).collect();
    assert_eq!(place.effects().await, wanted, "as if one came after the other");
    assert!(place.events.count(|it| matches!(it, Event::Begun { .. })) > 40, "they met");
    assert_eq!(place.events.count(|it| matches!(it, Event::Retried(_))), 0);
}

impl Place {
    /// Lets another consumer work until nothing is left.
    async fn until_all_is_done_by(
        &self,
        handler: impl for<'c> Fn(Handling, &'c mut PgConnection) -> BoxFuture<'c, Result<(), Failure>>
        + Send
        + Sync
        + 'static,
    ) {
        let running = self.consume(handler).await;
        self.until_all_is_done().await;
        running.stop().await;
    }
}
