//! The door: calls go to whoever has a connection, and their answers come back.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Hints, Insert, Loaded, Page, Put, Replace, Store, Swept, Traits,
};
use onceward_core::{Error, ErrorKind, RecordId, Result, Revision};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_util::task::TaskTracker;

use crate::dial::Dialer;
use crate::fault::Cause;
use crate::link::Link;
use crate::puts::{self, Values};
use crate::queue::{Ask, Queue, Reply, Ticket};
use crate::schema;
use crate::settings::PostgresSettings;
use crate::sql::Sql;
use crate::watch::Watch;
use crate::worker::Worker;
use crate::{due, list, sweep};

/// Records in a PostgreSQL database that any number of processes share.
///
/// Its connections run as tasks of the tokio runtime that it was opened on.
pub struct PostgresStore {
    settings: Arc<PostgresSettings>,
    pub(crate) sql: Arc<Sql>,
    queue: Arc<Queue>,
    workers: TaskTracker,
    /// What hints, unless the settings want none.
    watch: Option<Watch>,
    durable: bool,
}

/// Why a store was not opened. No record was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody answers, or not as a server does.
    #[error("PostgreSQL cannot be reached: {cause}")]
    Unreachable {
        /// What was met.
        cause: String,
    },
    /// The certificates or the kind of encryption that the URL names cannot be had.
    #[error("the connection cannot be encrypted as the store URL says: {cause}")]
    Tls {
        /// What is wrong.
        cause: String,
    },
    /// The server is too old.
    #[error("this is PostgreSQL {found}; version 14 is the oldest that works")]
    Old {
        /// Its version.
        found: i32,
    },
    /// The database cannot hold every text.
    #[error("the database has the encoding {found}; make one with `CREATE DATABASE … ENCODING 'UTF8'`")]
    Encoding {
        /// Its encoding.
        found: String,
    },
    /// The schema in the URL does not exist, or, where the URL names none, none that the user's `search_path` names.
    #[error(
        "there is no schema `{schema}`; make one with `CREATE SCHEMA`, owned by the user in the store URL"
    )]
    NoSchema {
        /// The schema.
        schema: String,
    },
    /// The tables are missing or of an older build, and are not to be changed by opening.
    #[error(
        "the tables are at step {found} and this build needs step {known}; run `onceward store migrate URL`, or start a gateway \
         without `migrate=off` in its store URL, which brings them up to date"
    )]
    NotMigrated {
        /// The step of the tables.
        found: i32,
        /// The step of this build.
        known: i32,
    },
    /// A newer build changed the tables in a way that this one cannot work with.
    #[error(
        "the tables are at step {found}, which a newer build made; this build knows step {known}: update it"
    )]
    Newer {
        /// The step of the tables.
        found: i32,
        /// The step of this build.
        known: i32,
    },
    /// The tables could not be made or updated. They are as they were.
    #[error("the tables cannot be made: {cause}")]
    Migrate {
        /// What the server said.
        cause: String,
    },
}

impl OpenError {
    /// Whether no waiting cures it: somebody has to change the URL, the database or the build.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Migrate { .. } => false,
            Self::Tls { .. }
            | Self::Old { .. }
            | Self::Encoding { .. }
            | Self::NoSchema { .. }
            | Self::NotMigrated { .. }
            | Self::Newer { .. } => true,
        }
    }
}

/// Makes and updates the tables, and nothing else: for those who open stores with `migrate=off`. Safe while other
/// processes do the same, and while the store is in use.
///
/// # Errors
/// [`OpenError`]; the tables are as they were.
pub async fn migrate(settings: &PostgresSettings) -> Result<(), OpenError> {
    let settings = PostgresSettings { migrate: true, ..settings.clone() }.bounded();
    let sql = Sql::new(settings.schema.as_deref());
    connect(&settings, &Dialer::new(&settings)?, &sql).await.map(drop)
}

/// Connects to a server whose tables are those of this build, or become it.
async fn connect(
    settings: &PostgresSettings,
    dialer: &Dialer,
    sql: &Sql,
) -> Result<(Link, schema::Server), OpenError> {
    let deadline = Instant::now() + settings.call_timeout.max(std::time::Duration::from_secs(30));
    let unreachable = |it: Cause| OpenError::Unreachable { cause: it.to_string() };
    let mut link = dialer.dial(dialer.first(), Some(deadline)).await.map_err(unreachable)?;
    let server = schema::look(&mut link, deadline).await?;
    let found = schema::version(&mut link, sql, deadline).await?;
    if schema::judge(found)? {
        return Ok((link, server));
    }
    if !settings.migrate {
        return Err(OpenError::NotMigrated { found: found.at, known: schema::KNOWN });
    }
    schema::migrate(&mut link, settings, deadline).await?;
    let found = schema::version(&mut link, sql, deadline).await?;
    if schema::judge(found)? {
        return Ok((link, server));
    }
    Err(OpenError::Migrate { cause: "they are not there afterwards".to_owned() })
}

/// Says what a fail-over costs: loudly where there is a standby to fail over to.
fn warn_of_fail_over(server: &schema::Server) {
    const SAYS: &str = "PostgreSQL answers before a standby has what was written: a fail-over to one can take answers that \
                        callers have, and operations can then run twice";
    match (&server.loses_at_fail_over, server.followers) {
        (None, _) => {}
        (Some(setting), 0) => tracing::info!(setting, "{SAYS}"),
        (Some(setting), standbys) => tracing::warn!(setting, standbys, "{SAYS}"),
    }
}

impl PostgresStore {
    /// Connects, makes or updates the tables unless the settings say otherwise, and says in the log what a power cut
    /// could take if the server does not wait for its disk, and what a fail-over could if it does not wait for a standby.
    ///
    /// # Errors
    /// [`OpenError`]; no record was touched.
    ///
    /// # Cancel safety
    /// A dropped call may have made the tables.
    pub async fn open(settings: PostgresSettings) -> Result<Self, OpenError> {
        let settings = Arc::new(settings.bounded());
        let sql = Arc::new(Sql::new(settings.schema.as_deref()));
        let dialer = Arc::new(Dialer::new(&settings)?);
        let (link, server) = connect(&settings, &dialer, &sql).await?;
        if let Some(setting) = &server.loses {
            tracing::warn!(
                setting,
                "PostgreSQL answers before its disk has what was written: a power cut can take answers that callers \
                 have, and operations can then run twice"
            );
        }
        warn_of_fail_over(&server);
        let queue = Arc::new(Queue::new(settings.max_queue));
        let workers = TaskTracker::new();
        // The first one counts before anybody asks.
        let mut link = Some(link);
        for number in 0..settings.connections {
            let worker = Worker {
                dialer: Arc::clone(&dialer),
                call_timeout: settings.call_timeout,
                sql: Arc::clone(&sql),
                queue: Arc::clone(&queue),
                spare: number > 0,
            };
            if link.is_some() {
                queue.linked();
            }
            workers.spawn(worker.run(link.take()));
        }
        let watch = settings.hints.then(|| Watch::new(&queue, &sql.watch, settings.call_timeout));
        if let Some(watch) = &watch {
            workers.spawn(watch.clone().run());
        }
        workers.close();
        Ok(Self { watch, settings, sql, queue, workers, durable: server.loses.is_none() })
    }

    /// Takes no more calls, carries out those that wait, and closes the connections. Dropping the store does the same
    /// without waiting for it.
    pub async fn close(&self) {
        self.queue.close();
        self.workers.wait().await;
    }

    /// Reads rows.
    pub(crate) async fn read(&self, text: &Arc<str>, values: Values<'static>) -> Result<Vec<Row>> {
        let text = Arc::clone(text);
        self.ask("read records", true, |reply| Ask::Rows { text, values, reads: true, reply }).await
    }

    /// Writes by a statement of its own.
    pub(crate) async fn write(&self, text: &Arc<str>, values: Values<'static>) -> Result<Vec<Row>> {
        let text = Arc::clone(text);
        self.ask("drop what is over", false, |reply| Ask::Rows { text, values, reads: false, reply }).await
    }

    /// Sends a call and waits for its answer, for as long as one call may take.
    async fn ask<T>(&self, doing: &'static str, reads: bool, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket::default();
        self.queue.push(ask(reply), ticket.clone())?;
        let cause = match tokio::time::timeout(self.settings.call_timeout, answer).await {
            Ok(Ok(told)) => return told,
            Ok(Err(_)) => "the task that has the connection ended",
            Err(_) => "there was no answer in time",
        };
        let was_sent = !ticket.give_up();
        let kind = if was_sent && !reads { ErrorKind::Uncertain } else { ErrorKind::Unavailable };
        Err(Error::new(kind, doing).caused_by(Cause(cause.to_owned())))
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        puts::check(put)?;
        let put = Box::new(put.clone());
        self.ask("keep a record", false, |reply| Ask::Insert { id, put, reply }).await
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        puts::check(put)?;
        let put = Box::new(put.clone());
        self.ask("swap a record", false, |reply| Ask::Replace { id, seen, put, reply }).await
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        self.ask("load a record", true, |reply| Ask::Load { id, reply }).await
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        due::due(self, from, limit).await
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        list::list(self, filter, cursor, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        sweep::sweep(self, limit).await
    }

    async fn check(&self) -> Result<()> {
        self.read(&self.sql.check, Vec::new()).await.map(drop)
    }

    fn traits(&self) -> Traits {
        Traits { name: "postgres", durable: self.durable, shared: true }
    }

    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.watch.as_ref()?.hints(id)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("settings", &self.settings).finish_non_exhaustive()
    }
}
