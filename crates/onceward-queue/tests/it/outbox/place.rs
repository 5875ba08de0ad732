//! A database, and senders that write down what they are given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::Result;
use onceward_queue::Retries;
use onceward_queue::outbox::{
    Effect, EffectId, Outbox, OutboxSettings, Outgoing, Relay, RelayEvent, RelayObserver, RelaySettings,
    SendFailure, Sender, Stats,
};
use onceward_store_postgres::outbox::OutboxTable;
use onceward_store_postgres::{PostgresSettings, migrate};
use onceward_testkit::server::Postgres;
use onceward_testkit::{eventually, within};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub(super) struct Place {
    pub(super) url: String,
    pub(super) pool: PgPool,
    pub(super) outbox: Outbox,
    pub(super) table: OutboxTable,
    pub(super) settings: RelaySettings,
    pub(super) events: Arc<Events>,
}

/// Everything that relays told.
#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Vec<RelayEvent>>);

impl RelayObserver for Events {
    fn on(&self, event: &RelayEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Events {
    pub(super) fn count(&self, wanted: impl Fn(&RelayEvent) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|it| wanted(it)).count()
    }
}

impl Place {
    pub(super) async fn new() -> Self {
        let url = Postgres::shared().url("onceward");
        migrate(&PostgresSettings::from_url(&url).unwrap()).await.unwrap();
        let pool = PgPoolOptions::new().max_connections(40).connect(&url).await.unwrap();
        let retries = Retries {
            attempts_max: 3,
            pause: Duration::from_millis(20),
            pause_max: Duration::from_millis(40),
        };
        let settings = RelaySettings {
            lease: Duration::from_secs(1),
            poll: Duration::from_millis(5),
            retries,
            ..RelaySettings::default()
        };
        let table = OutboxTable::new(None, true);
        Self { url, pool, outbox: Outbox::default(), table, settings, events: Arc::default() }
    }

    /// Adds effects in a transaction of their own.
    pub(super) async fn add(&self, effects: &[Effect]) -> Vec<EffectId> {
        let mut transaction = self.pool.begin().await.unwrap();
        let mut ids = Vec::new();
        for effect in effects {
            ids.push(self.outbox.add(&mut transaction, effect).await.unwrap());
        }
        transaction.commit().await.unwrap();
        ids
    }

    pub(super) fn notifying() -> Outbox {
        Outbox::new(&OutboxSettings { notify: true, ..OutboxSettings::default() })
    }

    pub(super) fn relay(&self, sender: impl Sender) -> Running {
        Running::new(
            Relay::new(self.pool.clone(), self.outbox.clone())
                .sender("log", sender)
                .settings(self.settings.clone())
                .observer(Arc::<Events>::clone(&self.events)),
        )
    }

    pub(super) async fn stats(&self) -> Stats {
        self.outbox.stats(&self.pool).await.unwrap()
    }

    pub(super) async fn until_all_is_sent(&self) {
        eventually(async || self.stats().await.unsent == 0).await;
    }

    pub(super) async fn until_parked(&self, count: u64) {
        eventually(async || self.stats().await.parked == count).await;
    }

    /// How many transactions wait for a lock.
    pub(super) async fn waiting(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

/// An effect for the sender `log`.
pub(super) fn effect(key: Option<&str>, body: &str) -> Effect {
    Effect {
        kind: "log".into(),
        destination: "here".into(),
        key: key.map(|it| Bytes::copy_from_slice(it.as_bytes())),
        headers: vec![("trace".into(), Bytes::from_static(b"t-1"))],
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// What was given to senders, in order; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Outgoing>>>);

impl Log {
    pub(super) fn note(&self, effect: &Outgoing) {
        self.0.lock().unwrap().push(effect.clone());
    }

    pub(super) fn all(&self) -> Vec<Outgoing> {
        self.0.lock().unwrap().clone()
    }

    /// The bodies, in order.
    pub(super) fn bodies(&self) -> Vec<String> {
        self.all().iter().map(|it| String::from_utf8(it.body.to_vec()).unwrap()).collect()
    }

    pub(super) async fn until(&self, count: usize) {
        eventually(async || self.all().len() >= count).await;
    }
}

#[async_trait]
impl Sender for Log {
    async fn send(&self, effect: &Outgoing) -> Result<(), SendFailure> {
        self.note(effect);
        Ok(())
    }
}

/// Notes what it is given, and says what a function says.
#[derive(Clone)]
pub(super) struct Scripted<F>(pub(super) Log, pub(super) F);

impl<F> std::fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
impl<F, T> Sender for Scripted<F>
where
    F: Fn(Outgoing) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), SendFailure>> + Send,
{
    async fn send(&self, effect: &Outgoing) -> Result<(), SendFailure> {
        self.0.note(effect);
        (self.1)(effect.clone()).await
    }
}

/// A relay that runs.
pub(super) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinSet<onceward_core::Result<()>>,
}

impl Running {
    pub(super) fn new(relay: Relay) -> Self {
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(relay.run(async {
            let _ = stopped.await;
        }));
        Self { stop, task }
    }

    /// As `kill -9` does.
    pub(super) async fn kill(mut self) {
        self.task.shutdown().await;
    }

    /// As `SIGTERM` does.
    pub(super) async fn stop(mut self) {
        self.stop.send(()).unwrap();
        within(self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}
