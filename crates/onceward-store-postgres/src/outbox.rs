//! The table of effects that go out once their transaction has committed: its functions, as calls. Who sends them, when, and what
//! a failure means is decided elsewhere.
//!
//! Every call but [`add`](OutboxTable::add) is one statement that commits by itself, and names what it changes by number, owner
//! and fence: of what has another owner by now it changes nothing, and says so by leaving it out.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::{Error, ErrorKind, Owner, Result};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection, PgPool, Row as _};

use crate::fault::Fault;
use crate::sql::{self, Sql};

mod rows;

pub use self::rows::{Claimed, Failed, Held, NewRow, ParkedRow, Row, Stats, Wanted};
use self::rows::{row, time};

/// What relays listen on: a notification there says that something was added.
pub const CHANNEL: &str = "onceward_outbox";

/// The place before all lines, where a round of claims begins.
pub const FIRST_LINE: i64 = i64::MIN;

/// The outbox of one schema. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OutboxTable(Arc<Texts>);

#[derive(Debug)]
struct Texts {
    add: Arc<str>,
    claim: Arc<str>,
    extend: Arc<str>,
    sent: Arc<str>,
    failed: Arc<str>,
    give_back: Arc<str>,
    cleanup: Arc<str>,
    stats: Arc<str>,
    parked: Arc<str>,
    redrive: Arc<str>,
    drop: Arc<str>,
    named: bool,
}

impl OutboxTable {
    /// The outbox in `schema`, or where the `search_path` of a connection leads. `named_statements`: whether connections keep the
    /// statements under a name, as [`OperationSettings`](crate::operations::OperationSettings::named_statements) says.
    #[must_use]
    pub fn new(schema: Option<&str>, named_statements: bool) -> Self {
        let sql = Sql::new(schema);
        let text = |name: &str, values| Arc::from(sql.fill(&sql::call(&format!("outbox_{name}"), values)));
        Self(Arc::new(Texts {
            add: text("add", 8),
            claim: text("claim", 8),
            extend: text("extend", 4),
            sent: text("sent", 3),
            failed: text("failed", 6),
            give_back: text("give_back", 3),
            cleanup: text("cleanup", 2),
            stats: text("stats", 0),
            parked: text("parked", 2),
            redrive: text("redrive", 1),
            drop: text("drop", 1),
            named: named_statements,
        }))
    }

    /// Adds an effect in the transaction of `connection`; with `notify`, relays that listen are woken when it commits. One with
    /// a key waits until other transactions that added to its line have ended.
    ///
    /// # Errors
    /// The driver's. The transaction is to be rolled back, at least to a savepoint before the call.
    pub async fn add(
        &self,
        connection: &mut PgConnection,
        row: NewRow<'_>,
        notify: bool,
    ) -> Result<(), sqlx::Error> {
        let names: Vec<&str> = row.headers.iter().map(|it| it.0.as_str()).collect();
        let values: Vec<&[u8]> = row.headers.iter().map(|it| &*it.1).collect();
        sqlx::query(AssertSqlSafe(Arc::clone(&self.0.add)))
            .persistent(self.0.named)
            .bind(&row.id[..])
            .bind(row.kind)
            .bind(row.destination)
            .bind(row.key)
            .bind(names)
            .bind(values)
            .bind(row.body)
            .bind(notify)
            .execute(connection)
            .await
            .map(drop)
    }

    /// Claims what is to go out now, for `owner` and for `lease`, counted by the server from some time after the call began.
    ///
    /// # Errors
    /// `Unavailable`: nothing was claimed. `Uncertain`: something may be, and is somebody else's to claim after `lease`.
    pub async fn claim(
        &self,
        pool: &PgPool,
        owner: Owner,
        lease: Duration,
        wanted: Wanted<'_>,
    ) -> Result<Claimed> {
        const DOING: &str = "claim effects";
        let mut values = PgArguments::default();
        let added = [
            values.add(owner.as_bytes().as_slice()),
            values.add(millis(lease)),
            values.add(wanted.kinds),
            values.add(wanted.after),
            values.add(count(wanted.lines_max)),
            values.add(count(wanted.line_max)),
            values.add(count(wanted.rows_max)),
            values.add(i64::try_from(wanted.bytes_max).unwrap_or(i64::MAX)),
        ];
        let told = self.rows(pool, &self.0.claim, values, added, DOING).await?;
        let Some((last, rows)) = told.split_last() else { return Err(strange(DOING)) };
        let next = last.try_get("o_line").map_err(|_| strange(DOING))?;
        let mut rows = rows.iter().map(row).collect::<Option<Vec<_>>>().ok_or_else(|| strange(DOING))?;
        rows.sort_unstable_by_key(|it| (it.line, it.held.seq));
        Ok(Claimed { rows, next })
    }

    /// Keeps effects for another `lease`, counted by the server from some time after the call began. Gives those that are still
    /// the owner's.
    ///
    /// # Errors
    /// Any: some may be kept.
    pub async fn extend(
        &self,
        pool: &PgPool,
        owner: Owner,
        lease: Duration,
        held: &[Held],
    ) -> Result<Vec<i64>> {
        let (seqs, fences) = apart(held.iter().copied());
        let mut values = PgArguments::default();
        let added = [
            values.add(owner.as_bytes().as_slice()),
            values.add(millis(lease)),
            values.add(seqs),
            values.add(fences),
        ];
        self.seqs(pool, &self.0.extend, values, added, "extend the lease of effects").await
    }

    /// Notes that effects are sent. Gives those that were still the owner's; the note about others changes nothing.
    ///
    /// # Errors
    /// Any: some may be noted. The same call again is harmless.
    pub async fn sent(&self, pool: &PgPool, owner: Owner, held: &[Held]) -> Result<Vec<i64>> {
        self.ended(pool, &self.0.sent, owner, held, "note that effects are sent").await
    }

    /// Notes that effects did not go out. Gives those that were still the owner's; the note about others changes nothing.
    ///
    /// # Errors
    /// Any: some may be noted. The same call again is harmless: what is noted has no owner any more.
    pub async fn failed(&self, pool: &PgPool, owner: Owner, failed: &[Failed]) -> Result<Vec<i64>> {
        let (seqs, fences) = apart(failed.iter().map(|it| it.held));
        let mut sorted: Vec<_> = failed.iter().collect();
        sorted.sort_unstable_by_key(|it| it.held);
        let pauses: Vec<_> = sorted.iter().map(|it| it.pause.map(millis)).collect();
        // What the server does not take in a text.
        let reasons: Vec<_> = sorted.iter().map(|it| it.reason.replace('\0', " ")).collect();
        let tried: Vec<_> = sorted.iter().map(|it| it.tried).collect();
        let mut values = PgArguments::default();
        let added = [
            values.add(owner.as_bytes().as_slice()),
            values.add(seqs),
            values.add(fences),
            values.add(pauses),
            values.add(reasons),
            values.add(tried),
        ];
        self.seqs(pool, &self.0.failed, values, added, "note that effects failed").await
    }

    /// Gives back effects that were not tried. Gives those that were still the owner's.
    ///
    /// # Errors
    /// Any: some may be given back. The same call again is harmless.
    pub async fn give_back(&self, pool: &PgPool, owner: Owner, held: &[Held]) -> Result<Vec<i64>> {
        self.ended(pool, &self.0.give_back, owner, held, "give effects back").await
    }

    /// Removes up to `max` effects that were sent longer than `keep` ago, and gives how many. Unsent ones stay, however old.
    ///
    /// # Errors
    /// Any: some may be removed.
    pub async fn cleanup(&self, pool: &PgPool, keep: Duration, max: usize) -> Result<u64> {
        const DOING: &str = "remove sent effects";
        let mut values = PgArguments::default();
        let added = [values.add(millis(keep)), values.add(count(max))];
        let rows = self.rows(pool, &self.0.cleanup, values, added, DOING).await?;
        let removed = rows.first().and_then(|it| it.try_get::<i64, _>(0).ok());
        Ok(removed.ok_or_else(|| strange(DOING))?.unsigned_abs())
    }

    /// How the outbox stands. Looks at every unsent effect.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn stats(&self, pool: &PgPool) -> Result<Stats> {
        const DOING: &str = "count effects";
        let rows = self.rows(pool, &self.0.stats, PgArguments::default(), [], DOING).await?;
        let read = || {
            let row = rows.first()?;
            let number = |at| row.try_get::<i64, _>(at).ok().map(i64::unsigned_abs);
            let oldest: Option<i64> = row.try_get(3).ok()?;
            Some(Stats {
                unsent: number(0)?,
                parked: number(1)?,
                owned: number(2)?,
                oldest: oldest.map(|it| Duration::from_millis(it.unsigned_abs())),
                attempts: row.try_get::<i32, _>(4).ok()?.unsigned_abs(),
            })
        };
        read().ok_or_else(|| strange(DOING))
    }

    /// Up to `max` parked effects whose numbers are above `after` (0 for all).
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn parked(&self, pool: &PgPool, after: i64, max: usize) -> Result<Vec<ParkedRow>> {
        const DOING: &str = "list parked effects";
        let mut values = PgArguments::default();
        let added = [values.add(after), values.add(count(max))];
        let rows = self.rows(pool, &self.0.parked, values, added, DOING).await?;
        let read = |it: &PgRow| {
            Some(ParkedRow {
                row: row(it)?,
                parked_at: time(it, "o_parked_at")?,
                reason: it.try_get::<Option<String>, _>("o_reason").ok()?.unwrap_or_default(),
            })
        };
        rows.iter().map(read).collect::<Option<_>>().ok_or_else(|| strange(DOING))
    }

    /// Lets parked effects be tried again, as if they never had been. Gives those that were parked.
    ///
    /// # Errors
    /// Any: some may be. The same call again is harmless.
    pub async fn redrive(&self, pool: &PgPool, ids: &[[u8; 16]]) -> Result<Vec<[u8; 16]>> {
        self.ids(pool, &self.0.redrive, ids, "redrive parked effects").await
    }

    /// Removes parked effects: they never go out, and what is behind them does. Gives those that were parked.
    ///
    /// # Errors
    /// Any: some may be removed. The same call again is harmless.
    pub async fn drop_parked(&self, pool: &PgPool, ids: &[[u8; 16]]) -> Result<Vec<[u8; 16]>> {
        self.ids(pool, &self.0.drop, ids, "drop parked effects").await
    }

    /// What takes nothing but an owner and what is the owner's.
    async fn ended(
        &self,
        pool: &PgPool,
        text: &Arc<str>,
        owner: Owner,
        held: &[Held],
        doing: &'static str,
    ) -> Result<Vec<i64>> {
        let (seqs, fences) = apart(held.iter().copied());
        let mut values = PgArguments::default();
        let added = [values.add(owner.as_bytes().as_slice()), values.add(seqs), values.add(fences)];
        self.seqs(pool, text, values, added, doing).await
    }

    async fn ids(
        &self,
        pool: &PgPool,
        text: &Arc<str>,
        ids: &[[u8; 16]],
        doing: &'static str,
    ) -> Result<Vec<[u8; 16]>> {
        let mut values = PgArguments::default();
        let added = [values.add(ids.iter().map(|it| &it[..]).collect::<Vec<_>>())];
        let rows = self.rows(pool, text, values, added, doing).await?;
        let read = |it: &PgRow| it.try_get::<&[u8], _>(0).ok()?.try_into().ok();
        rows.iter().map(read).collect::<Option<_>>().ok_or_else(|| strange(doing))
    }

    async fn seqs<const N: usize>(
        &self,
        pool: &PgPool,
        text: &Arc<str>,
        values: PgArguments,
        added: [Result<(), sqlx::error::BoxDynError>; N],
        doing: &'static str,
    ) -> Result<Vec<i64>> {
        let rows = self.rows(pool, text, values, added, doing).await?;
        rows.iter().map(|it| it.try_get(0).ok()).collect::<Option<_>>().ok_or_else(|| strange(doing))
    }

    async fn rows<const N: usize>(
        &self,
        pool: &PgPool,
        text: &Arc<str>,
        values: PgArguments,
        added: [Result<(), sqlx::error::BoxDynError>; N],
        doing: &'static str,
    ) -> Result<Vec<PgRow>> {
        for it in added {
            it.map_err(|it| Error::new(ErrorKind::Invalid, doing).caused_by(it))?;
        }
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(text)), values).persistent(self.0.named);
        query.fetch_all(pool).await.map_err(|it| Fault::of_sqlx(&it).of_write(doing))
    }
}

/// In the order of their numbers: two statements that change some of the same rows lock them in the same order.
fn apart(held: impl Iterator<Item = Held>) -> (Vec<i64>, Vec<i64>) {
    let mut held: Vec<_> = held.collect();
    held.sort_unstable();
    held.into_iter().map(|it| (it.seq, it.fence)).unzip()
}

fn millis(it: Duration) -> i64 {
    // A thousand years: the server adds it to its own time.
    i64::try_from(it.as_millis()).unwrap_or(i64::MAX).min(31_536_000_000_000)
}

fn count(it: usize) -> i32 {
    i32::try_from(it).unwrap_or(i32::MAX)
}

fn strange(doing: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, doing)
        .caused_by("the server answered something else than it was asked")
}
