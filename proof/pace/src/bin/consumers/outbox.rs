//! A relay that empties an outbox, beside the two statements that it cannot do without.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use onceward_bench::Result;
use onceward_bench::cell::{Cell, Sample};
use onceward_bench::report::aligned;
use onceward_bench::upstream::Upstream;
use onceward_pace::servers;
use onceward_pace::spent::{Spent, counted};
use onceward_queue::outbox::webhook::Webhook;
use onceward_queue::outbox::{Outbox, Outgoing, Relay, RelayEvent, RelayObserver, SendFailure, Sender};
use onceward_store_postgres::{PostgresSettings, PostgresStore};
use onceward_testkit::server::Postgres;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::consumers::floor::{self, Table};
use crate::consumers::place::pool;

/// What effects are of.
const KIND: &str = "bench";

/// What runs before it counts.
const WARM: Duration = Duration::from_millis(300);

/// Nobody here is faster than this, in rows a second: so many are added before it begins.
const RATE_MAX: u64 = 40_000;

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// `pgbench`.
    Floor(Table),
    /// A relay, for effects of so many keys (0: without keys).
    Relay { keys: u32, to: To },
}

/// What sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Something that says at once that it did.
    Nobody,
    /// A `POST` to a listener on the loopback interface, in this process.
    Http,
}

impl Row {
    /// In the order of the table.
    pub(crate) const EACH: [Self; 5] = [
        Self::Floor(Table::Bare),
        Self::Floor(Table::Ours),
        Self::Relay { keys: 0, to: To::Nobody },
        Self::Relay { keys: 64, to: To::Nobody },
        Self::Relay { keys: 0, to: To::Http },
    ];

    fn name(self) -> String {
        match self {
            Self::Floor(Table::Bare) => "pgbench, a bare table".to_owned(),
            Self::Floor(Table::Ours) => "pgbench, the relay's statements".to_owned(),
            Self::Relay { keys, to } => {
                let to = if to == To::Http { "over HTTP" } else { "to nobody" };
                let keys = if keys == 0 { "no keys".to_owned() } else { format!("{keys} keys") };
                format!("relay {to}, {keys}")
            }
        }
    }

    /// One measurement, of a table that is filled for it.
    ///
    /// # Errors
    /// Something failed, or there was nothing more to send.
    pub(crate) async fn measure(self, place: &Outboxes, length: Duration) -> Result<Sample> {
        let rows = RATE_MAX * (length + WARM).as_secs().saturating_add(1);
        place.fill(self, rows).await?;
        let sample = match self {
            Self::Floor(table) => {
                let before = Spent::now(None)?;
                let seen = floor::run(&place.server, table, KIND, length).await?;
                let took = Duration::from_micros(seen.took_us);
                Spent::now(None)?.since(&before, counted(place.sent(self).await?, took)?)
            }
            Self::Relay { to, .. } => place.relay(to, length).await?,
        };
        if place.sent(self).await? == rows {
            return Err(format!("{}: all {rows} rows were sent before the time was over", self.name()).into());
        }
        Ok(sample)
    }
}

/// A PostgreSQL with an outbox and a bare table, and a listener.
#[derive(Debug)]
pub(crate) struct Outboxes {
    server: Postgres,
    pool: PgPool,
    upstream: Upstream,
}

impl Outboxes {
    pub(crate) async fn start(parent: &Path) -> Result<Self> {
        let server = servers::postgres(parent);
        let url = server.url("onceward");
        // It makes the tables.
        drop(PostgresStore::open(PostgresSettings::from_url(&url)?).await?);
        let pool = pool(&url).await?;
        sqlx::raw_sql(floor::BARE).execute(&pool).await?;
        Ok(Self { server, pool, upstream: Upstream::start()? })
    }

    /// So many new rows in the table that a row of ours needs, and no others.
    async fn fill(&self, row: Row, count: u64) -> Result<()> {
        let body =
            "convert_to('{\"order\":' || n || ',\"customer\":\"8f14e45fceea167a\",\"cents\":1200}', 'UTF8')";
        let (table, insert) = match row {
            Row::Floor(Table::Bare) => (
                "bare",
                format!(
                    "INSERT INTO bare (id, kind, destination, body) SELECT sha256(int8send(n)), '{KIND}', $1, {body}"
                ),
            ),
            Row::Floor(Table::Ours) | Row::Relay { .. } => {
                let key = match row {
                    Row::Relay { keys, .. } if keys > 0 => format!("int8send(n % {keys})"),
                    _ => "NULL".to_owned(),
                };
                let add = format!(
                    "onceward_outbox_add_1(NULL, '{KIND}', $1, {key}, '{{}}', '{{}}', {body}, false)"
                );
                ("onceward_outbox", format!("SELECT count({add})"))
            }
        };
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("TRUNCATE {table}"))).execute(&self.pool).await?;
        let text = format!("{insert} FROM generate_series(1, {count}::bigint) AS n");
        let to = format!("{}/fast", self.upstream.urls()[0]);
        sqlx::query(sqlx::AssertSqlSafe(text)).bind(to).execute(&self.pool).await?;
        Ok(())
    }

    async fn sent(&self, row: Row) -> Result<u64> {
        let table = if row == Row::Floor(Table::Bare) { "bare" } else { "onceward_outbox" };
        let text = format!("SELECT count(*) FROM {table} WHERE sent_at IS NOT NULL");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&self.pool).await?;
        Ok(count.unsigned_abs())
    }

    async fn relay(&self, to: To, length: Duration) -> Result<Sample> {
        let sent = Arc::new(Sent::default());
        let sender: Arc<dyn Sender> = match to {
            To::Nobody => Arc::new(Nobody),
            To::Http => Arc::new(Webhook::new()?.plain_http()),
        };
        let relay = Relay::new(self.pool.clone(), Outbox::default()).shared_sender(KIND, sender);
        let (tell, told) = oneshot::channel();
        let counting = Arc::clone(&sent);
        let stop = async move {
            // Nobody listens any more only where the relay has failed, which says more.
            let _ = tell.send(watch(&counting, length).await);
        };
        relay.observer(Arc::clone(&sent) as _).run(stop).await?;
        match sent.strange.load(Ordering::Relaxed) {
            0 => told.await?,
            count => Err(format!("{count} times something else happened than that effects were sent").into()),
        }
    }
}

/// Counts for `length` once it is warm.
async fn watch(sent: &Sent, length: Duration) -> Result<Sample> {
    sleep(WARM).await;
    let (before, at_first, begun) = (Spent::now(None)?, sent.count.load(Ordering::Relaxed), Instant::now());
    sleep(length).await;
    let seen = counted(sent.count.load(Ordering::Relaxed) - at_first, begun.elapsed())?;
    Ok(Spent::now(None)?.since(&before, seen))
}

/// Says at once that it did.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Sender for Nobody {
    async fn send(&self, _effect: &Outgoing) -> std::result::Result<(), SendFailure> {
        Ok(())
    }
}

/// Counts what is noted as sent, and what should not happen.
#[derive(Debug, Default)]
struct Sent {
    count: AtomicU64,
    strange: AtomicU64,
}

impl RelayObserver for Sent {
    fn on(&self, event: &RelayEvent) {
        match event {
            RelayEvent::Sent(count) => self.count.fetch_add(*count as u64, Ordering::Relaxed),
            RelayEvent::Claimed(_) | RelayEvent::Tried(_) => 0,
            _ => self.strange.fetch_add(1, Ordering::Relaxed),
        };
    }
}

/// The table.
pub(crate) fn table(rows: &[(Row, Cell)]) -> String {
    let head = ["who", "rows a second", "× pgbench", "quartiles", "µs each", "others"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let floor = rows.iter().find(|it| it.0 == Row::Floor(Table::Bare));
    for (row, cell) in rows {
        let base = floor.filter(|it| it.0 != *row);
        let ratio = base.and_then(|it| cell.ratio(&it.1, |it| it.seen.rate()));
        let [rate, quartiles] = ratio.map_or_else(Default::default, |it| {
            [format!("{:.2}", it[1]), format!("{:.2}–{:.2}", it[0], it[2])]
        });
        lines.push(vec![
            row.name(),
            format!("{:.0}", cell.median(|it| it.seen.rate())),
            rate,
            quartiles,
            format!("{:.1}", cell.median(|it| it.cpu_us)),
            format!("{:.0} %", cell.median(|it| it.others) * 100.0),
        ]);
    }
    aligned(&lines)
}
