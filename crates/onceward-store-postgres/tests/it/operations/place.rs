//! What these tests share: a schema with a ledger that takes everything, and attempts at one operation.

use std::time::Duration;

use onceward_core::{Answer, Attempt, Fingerprint, InFlight};
use onceward_store_postgres::operations::{OperationError, OperationSettings, Operations, Outcome, Work};
use onceward_store_postgres::{PostgresSettings, migrate};
use onceward_testkit::eventually;
use onceward_testkit::server::Postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres as Driver, Transaction};

use crate::sample;

pub(super) type Told = Result<Outcome, OperationError<sqlx::Error>>;

/// A schema on a server, and who uses it. The ledger has no key: what is done twice stands in it twice.
pub(super) struct Place {
    pub(super) pool: PgPool,
    pub(super) operations: Operations,
    /// The schema and its user.
    pub(super) name: String,
    /// Where a store finds the schema.
    pub(super) url: String,
    /// Who may do everything, and does it behind no wire.
    pub(super) root: PgPool,
}

impl Place {
    pub(super) async fn new() -> Self {
        Self::on(Postgres::shared()).await
    }

    pub(super) async fn on(server: &Postgres) -> Self {
        let (name, url) = sample::place(server).await;
        migrate(&PostgresSettings::from_url(&url).unwrap()).await.unwrap();
        let operations =
            Operations::new(OperationSettings { schema: Some(name.clone()), ..OperationSettings::default() });
        let root = PgPoolOptions::new().max_connections(2).connect(&server.url("onceward")).await.unwrap();
        let it = Self { pool: pool(server, server.port(), &name).await, operations, name, url, root };
        it.run("CREATE TABLE SCHEMA.ledger (id bigserial, what text)").await;
        it.run("GRANT ALL ON SCHEMA.ledger, SCHEMA.ledger_id_seq TO SCHEMA").await;
        it
    }

    /// Carries out a statement as who may do everything. `SCHEMA` is the schema.
    pub(super) async fn run(&self, sql: &str) {
        let sql = sql.replace("SCHEMA", &self.name);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.root).await.unwrap();
    }

    /// The number that a statement gives to him.
    pub(super) async fn number(&self, sql: &str) -> i64 {
        let sql = sql.replace("SCHEMA", &self.name);
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.root).await.unwrap()
    }

    /// How often it was done, of what is committed.
    pub(super) async fn effects(&self) -> i64 {
        self.number("SELECT count(*) FROM SCHEMA.ledger").await
    }

    /// How many records there are, of those that are committed.
    pub(super) async fn records(&self) -> i64 {
        self.number("SELECT count(*) FROM SCHEMA.onceward_operations").await
    }

    /// How many transactions of this place wait for a lock.
    pub(super) async fn waiting(&self) -> i64 {
        self.number(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE NOT l.granted AND a.usename = 'SCHEMA'",
        )
        .await
    }

    /// Waits until so many of its transactions wait.
    pub(super) async fn until_waiting(&self, count: i64) {
        eventually(async || self.waiting().await == count).await;
    }

    pub(super) async fn begin(&self) -> Transaction<'static, Driver> {
        self.pool.begin().await.unwrap()
    }

    /// The owned form, with one row in the ledger as its effect.
    pub(super) async fn owned(&self, attempt: &Attempt) -> Told {
        self.operations.run(&self.pool, attempt, |it| note(it, "done")).await
    }

    /// The same within somebody's transaction.
    pub(super) async fn within(&self, transaction: &mut Transaction<'_, Driver>, attempt: &Attempt) -> Told {
        self.operations.run_in(transaction, attempt, |it| note(it, "done")).await
    }
}

/// A pool of this user's.
pub(super) async fn pool(server: &Postgres, port: u16, user: &str) -> PgPool {
    let options: PgConnectOptions = server.url(user).parse().unwrap();
    let options = options.port(port).ssl_mode(sqlx::postgres::PgSslMode::Disable);
    let options = options.options([("search_path", user)]);
    PgPoolOptions::new()
        .max_connections(20)
        .acquire_timeout(Duration::from_secs(20))
        .connect_with(options)
        .await
        .unwrap()
}

/// Writes a row into the ledger. The answer is its number.
pub(super) fn note<'c>(
    connection: &'c mut PgConnection,
    what: &'static str,
) -> Work<'c, 'static, sqlx::Error> {
    Work::new(async move {
        let sql = "INSERT INTO ledger (what) VALUES ($1) RETURNING id";
        let id: i64 = sqlx::query_scalar(sql).bind(what).fetch_one(connection).await?;
        Ok(Answer::new("row", id.to_string()))
    })
}

/// Asks for the same each time.
pub(super) fn attempt(key: &str) -> Attempt {
    onceward_testkit::attempt(key, Fingerprint::from_bytes([7; 32]))
}

pub(super) fn waiting(key: &str, millis: u64) -> Attempt {
    Attempt { in_flight: InFlight::Wait(Duration::from_millis(millis)), ..attempt(key) }
}

/// The answer of a first run.
pub(super) fn ran(told: Told) -> Answer {
    match told.unwrap() {
        Outcome::Ran(answer) => answer,
        other => panic!("it did not run: {other:?}"),
    }
}

/// The answer of a replay.
pub(super) fn replayed(told: Told) -> Answer {
    match told.unwrap() {
        Outcome::Replayed(answer) => answer,
        other => panic!("it was not replayed: {other:?}"),
    }
}

pub(super) fn is_busy(told: &Told) -> bool {
    matches!(told, Ok(Outcome::Busy { .. }))
}

/// Work that does nothing and fails.
pub(super) fn fail<'c>() -> Work<'c, 'static, sqlx::Error> {
    Work::new(async { Err(sqlx::Error::RowNotFound) })
}

/// Fresh connections of the user of this place.
pub(super) async fn again(place: &Place) -> PgPool {
    pool(Postgres::shared(), Postgres::shared().port(), &place.name).await
}
