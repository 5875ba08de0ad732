//! Where the cases get their stores from: one private server per test process, one schema and role per fixture.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Insert, Loaded, Page, Put, Replace, Store, StoreTime, Swept, Traits,
};
use onceward_core::{Clock as _, RecordId, Result, Revision, Timestamp};
use onceward_store_postgres::{PostgresSettings, PostgresStore};
use onceward_testkit::HandClock;
use onceward_testkit::conformance::Fixture;
use onceward_testkit::server::{PgBouncer, Postgres};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

/// A name that no other fixture of this process has.
pub(crate) fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("fixture_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A client of the driver itself.
pub(crate) async fn client(url: &str) -> (Client, JoinHandle<()>) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server takes clients");
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    let driving = tokio::spawn(async { drop(connection.await) });
    (client, driving)
}

/// Runs statements as the user who may do everything.
pub(crate) async fn run(server: &Postgres, sql: &str) {
    let (client, _) = client(&server.url("onceward")).await;
    client.batch_execute(sql).await.expect("the statements are carried out");
}

/// Makes a schema and a role that may use it and nothing else. Both have this name.
pub(crate) async fn make_schema(server: &Postgres, name: &str) {
    let sql = format!(
        "CREATE ROLE {name} LOGIN; CREATE SCHEMA {name}; GRANT USAGE, CREATE ON SCHEMA {name} TO {name};
         REVOKE ALL ON SCHEMA public FROM PUBLIC"
    );
    run(server, &sql).await;
}

pub(crate) async fn open(url: &str) -> PostgresStore {
    let settings = PostgresSettings::from_url(url).expect("the URL is right");
    PostgresStore::open(settings).await.expect("the store opens")
}

/// On the server's own clock, where transactions have this isolation unless they say otherwise.
pub(crate) struct Own {
    isolation: &'static str,
    name: String,
}

impl Own {
    pub(crate) fn new(isolation: &'static str) -> Self {
        Self { isolation, name: name() }
    }

    fn url(&self) -> String {
        format!("{}?schema={}", Postgres::shared().url(&self.name), self.name)
    }
}

#[async_trait]
impl Fixture for Own {
    async fn open(&self) -> Arc<dyn Store> {
        let Self { name, isolation } = self;
        make_schema(Postgres::shared(), name).await;
        run(
            Postgres::shared(),
            &format!("ALTER ROLE {name} SET default_transaction_isolation = '{isolation}'"),
        )
        .await;
        Arc::new(open(&self.url()).await)
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        Arc::new(open(&self.url()).await)
    }

    /// The server is killed, and the store with it.
    async fn crash(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        Postgres::shared().kill();
        drop(store);
        Postgres::shared().restart();
        Arc::new(open(&self.url()).await)
    }

    async fn beside(&self, _store: &Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        Some(Arc::new(open(&self.url()).await))
    }

    fn clock(&self) -> Option<HandClock> {
        None
    }
}

/// Through PgBouncer in statement mode.
pub(crate) struct Pooled {
    pooler: PgBouncer,
    name: String,
}

impl Pooled {
    pub(crate) fn new() -> Self {
        Self { pooler: PgBouncer::start(Postgres::shared(), "statement"), name: name() }
    }

    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(open(&format!("{}?schema={}", self.pooler.url(), self.name)).await)
    }
}

#[async_trait]
impl Fixture for Pooled {
    async fn open(&self) -> Arc<dyn Store> {
        make_schema(Postgres::shared(), &self.name).await;
        self.store().await
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.store().await
    }

    async fn crash(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.pooler.kill();
        drop(store);
        self.pooler.restart();
        self.store().await
    }

    fn clock(&self) -> Option<HandClock> {
        None
    }
}

/// On a clock in the hand: the role's path leads to a `clock_timestamp` that reads what the hand wrote.
pub(crate) struct Injected {
    clock: HandClock,
    time: StoreTime,
    name: String,
    hand: Arc<Mutex<Option<Hand>>>,
}

/// Writes the hand's time where the server reads it.
struct Hand {
    client: Client,
    written: Timestamp,
}

impl Injected {
    pub(crate) fn new() -> Self {
        let clock = HandClock::new();
        // The clock of another machine: no jump of this one's is felt there.
        let time = StoreTime::begin(Arc::new(clock.clone()), Timestamp::ZERO);
        Self { clock, time, name: name(), hand: Arc::default() }
    }

    async fn store(&self) -> Arc<dyn Store> {
        // No `schema=`: the path of the role leads there.
        let store = Arc::new(open(&Postgres::shared().url(&self.name)).await);
        Arc::new(Ticking {
            store,
            time: self.time.clone(),
            name: self.name.clone(),
            hand: Arc::clone(&self.hand),
        })
    }
}

#[async_trait]
impl Fixture for Injected {
    async fn open(&self) -> Arc<dyn Store> {
        let name = &self.name;
        make_schema(Postgres::shared(), name).await;
        run(
            Postgres::shared(),
            &format!(
                "ALTER ROLE {name} SET search_path = {name}, pg_catalog;
                 CREATE TABLE {name}.hand (now_ms bigint NOT NULL);
                 INSERT INTO {name}.hand VALUES ({});
                 GRANT SELECT ON {name}.hand TO {name};
                 CREATE FUNCTION {name}.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
                 $$ SELECT 'epoch'::timestamptz + now_ms * interval '1 millisecond' FROM {name}.hand $$",
                self.clock.wall().as_millis(),
            ),
        )
        .await;
        self.store().await
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.store().await
    }

    async fn crash(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        Postgres::shared().kill();
        drop(store);
        *self.hand.lock().await = None;
        Postgres::shared().restart();
        self.store().await
    }

    async fn beside(&self, _store: &Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        Some(self.store().await)
    }

    fn clock(&self) -> Option<HandClock> {
        Some(self.clock.clone())
    }
}

/// Takes the hand's time to the server before each call.
#[derive(Debug)]
struct Ticking {
    store: Arc<PostgresStore>,
    time: StoreTime,
    name: String,
    hand: Arc<Mutex<Option<Hand>>>,
}

impl std::fmt::Debug for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hand").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Ticking {
    async fn tick(&self) -> &PostgresStore {
        let mut hand = self.hand.lock().await;
        if hand.is_none() {
            let (client, _) = client(&Postgres::shared().url("onceward")).await;
            *hand = Some(Hand { client, written: Timestamp::ZERO });
        }
        let hand = hand.as_mut().expect("it was just made");
        let now = self.time.now();
        if now > hand.written {
            let sql = format!("UPDATE {}.hand SET now_ms = {}", self.name, now.as_millis());
            hand.client.batch_execute(&sql).await.expect("the server takes the time");
            hand.written = now;
        }
        &self.store
    }
}

#[async_trait]
impl Store for Ticking {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        self.tick().await.insert(id, put).await
    }
    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        self.tick().await.replace(id, seen, put).await
    }
    async fn load(&self, id: RecordId) -> Result<Loaded> {
        self.tick().await.load(id).await
    }
    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.tick().await.due(from, limit).await
    }
    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.tick().await.list(filter, cursor, limit).await
    }
    async fn sweep(&self, limit: usize) -> Result<Swept> {
        self.tick().await.sweep(limit).await
    }
    async fn check(&self) -> Result<()> {
        self.tick().await.check().await
    }
    fn traits(&self) -> Traits {
        self.store.traits()
    }
}
