//! The rows of a table of consumers: whose messages, with which effect, and whether it is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use onceward_bench::Result;
use onceward_bench::cell::{Cell, Sample};
use onceward_bench::report::aligned;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Engine, SystemClock};
use onceward_pace::spent::{Spent, counted};
use onceward_queue::{Consumer, ConsumerSettings, Event, Handling, Identity, Observer, Source};
use onceward_store_postgres::operations::Operations;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::consumers::effect;
use crate::consumers::place::{Kind, Place};
use crate::consumers::plain::{self, Handler};
use crate::consumers::source::{Counted, EVENT_ID, Endless, stream};

/// What runs before it counts.
const WARM: Duration = Duration::from_millis(300);

/// No consumer here is faster than this, in messages a second: so many are published before it begins.
const RATE_MAX: u64 = 80_000;

/// Where messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// They are made up.
    Memory,
    /// A Redis stream.
    Broker,
}

/// Who consumes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A loop that remembers nothing.
    Plain,
    /// The same, and its handler looks whether it saw the message before: what teams write by hand.
    Hand,
    /// A [`Consumer`] that remembers in its own memory, under a lease: what our loop costs without a server.
    Memory,
    /// A [`Consumer`] that remembers where the effect is: in one transaction with it in PostgreSQL, under a lease in Redis.
    Once,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) from: From,
    pub(crate) by: By,
    /// How many keys messages have, and how many handlers run at a time.
    pub(crate) keys: u32,
}

impl Row {
    /// One measurement.
    ///
    /// # Errors
    /// Something failed, or there are fewer effects than acknowledged messages.
    pub(crate) async fn measure(&self, place: &Place, length: Duration) -> Result<Sample> {
        let messages = RATE_MAX * (length + WARM).as_secs().saturating_add(1);
        let source = Arc::new(match self.from {
            From::Memory => Counted::new(Endless::new(self.keys)),
            From::Broker => Counted::new(stream(&place.broker, messages, self.keys).await?),
        });
        let server = match self.kind {
            Kind::Postgres => place.postgres()?.pid,
            Kind::Redis | Kind::RedisEverysec => place.redis(self.kind)?.server.pid(),
        };
        let server = Some(server);
        let (tell, told) = oneshot::channel();
        let counting = Arc::clone(&source);
        let stop = async move {
            // Nobody listens any more only where the consumer has failed, which says more.
            let _ = tell.send(watch(&counting, server, length).await);
        };
        match self.by {
            By::Plain | By::Hand => self.plain(place, Arc::clone(&source) as _, stop).await?,
            By::Memory | By::Once => self.once(place, Arc::clone(&source) as _, stop).await?,
        }
        let sample = told.await??;
        let effects = match self.kind {
            Kind::Postgres => effect::take_rows(&place.postgres()?.pool).await?,
            Kind::Redis | Kind::RedisEverysec => {
                effect::take_elements(place.redis(self.kind)?.connection.clone()).await?
            }
        };
        let acknowledged = source.acknowledged();
        if self.from == From::Broker && acknowledged == messages {
            return Err("all messages were handled before the time was over".into());
        }
        if effects < acknowledged {
            return Err(
                format!("{acknowledged} messages were acknowledged, and had {effects} effects").into()
            );
        }
        Ok(sample)
    }

    async fn plain(
        &self,
        place: &Place,
        source: Arc<dyn Source>,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        let by_hand = self.by == By::Hand;
        let handler: Handler = match self.kind {
            Kind::Postgres => {
                let pool = place.postgres()?.pool.clone();
                Arc::new(move |message| {
                    let pool = pool.clone();
                    Box::pin(async move {
                        if by_hand {
                            effect::transaction_by_hand(&pool, &message).await?;
                        } else {
                            effect::transaction(&pool, &message).await?;
                        }
                        Ok(())
                    })
                })
            }
            Kind::Redis | Kind::RedisEverysec => {
                let connection = place.redis(self.kind)?.connection.clone();
                Arc::new(move |message| {
                    let connection = connection.clone();
                    Box::pin(async move {
                        if by_hand {
                            effect::element_by_hand(connection, &message).await?;
                        } else {
                            effect::element(connection, &message).await?;
                        }
                        Ok(())
                    })
                })
            }
        };
        plain::run(source, self.keys, handler, stop).await
    }

    async fn once(
        &self,
        place: &Place,
        source: Arc<dyn Source>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        let strange = Arc::new(Strange::default());
        let engine = match self.kind {
            _ if self.by == By::Memory => Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock)))),
            Kind::Postgres => place.postgres()?.engine.clone(),
            Kind::Redis | Kind::RedisEverysec => place.redis(self.kind)?.engine.clone(),
        };
        let settings = ConsumerSettings { parallel: self.keys as usize, ..ConsumerSettings::default() };
        let consumer = Consumer::new("bench", source, engine)
            .key(Identity::header(EVENT_ID))
            .settings(settings)
            .observer(Arc::clone(&strange) as _);
        let consumer = match self.kind {
            Kind::Postgres if self.by == By::Memory => {
                let pool = place.postgres()?.pool.clone();
                consumer.handler(move |it: Handling| {
                    let pool = pool.clone();
                    async move { Ok(effect::transaction(&pool, &it.message).await?) }
                })
            }
            Kind::Postgres => {
                let pool = place.postgres()?.pool.clone();
                consumer.in_transaction(pool, Operations::default(), |it: Handling, connection| {
                    async move { Ok(effect::row(connection, &it.message).await?) }.boxed()
                })
            }
            Kind::Redis | Kind::RedisEverysec => {
                let connection = place.redis(self.kind)?.connection.clone();
                consumer.handler(move |it: Handling| {
                    let connection = connection.clone();
                    async move { Ok(effect::element(connection, &it.message).await?) }
                })
            }
        };
        consumer.run(stop).await?;
        match strange.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            count => Err(format!("{count} messages were not handled at once").into()),
        }
    }
}

/// Counts for `length` once it is warm.
async fn watch(source: &Counted, server: Option<u32>, length: Duration) -> Result<Sample> {
    sleep(WARM).await;
    let (before, acknowledged, begun) = (Spent::now(server)?, source.acknowledged(), Instant::now());
    sleep(length).await;
    let seen = counted(source.acknowledged() - acknowledged, begun.elapsed())?;
    Ok(Spent::now(server)?.since(&before, seen))
}

/// Counts what should not happen.
#[derive(Debug, Default)]
struct Strange(AtomicU64);

impl Observer for Strange {
    fn on(&self, event: &Event) {
        match event {
            Event::Received { redelivered: false }
            | Event::Begun { attempt: 1, took_over: false }
            | Event::Handled(_)
            | Event::Done
            | Event::Lag(_)
            | Event::Headroom(_) => {}
            _ => drop(self.0.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// The table of one number of keys.
pub(crate) fn table(rows: &[(Row, Cell)]) -> String {
    let head = [
        "effect",
        "messages",
        "consumer",
        "a second",
        "× plain",
        "quartiles",
        "× by hand",
        "µs each",
        "of the server",
        "others",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (row, cell) in rows {
        let ratio = |to: By| {
            let other = rows.iter().find(|it| it.0 == Row { by: to, ..*row } && row.by != to);
            other.and_then(|it| cell.ratio(&it.1, |it| it.seen.rate()))
        };
        let [rate, quartiles] = ratio(By::Plain).map_or_else(Default::default, |it| {
            [format!("{:.2}", it[1]), format!("{:.2}–{:.2}", it[0], it[2])]
        });
        let by_hand = ratio(By::Hand).filter(|_| row.by == By::Once);
        let server = cell.median(|it| it.upstream_us);
        let from = match row.from {
            From::Memory => "memory",
            From::Broker => "redis stream",
        };
        let by = match (row.by, row.kind) {
            (By::Plain, _) => "plain",
            (By::Hand, _) => "by hand",
            (By::Memory, _) => "lease, in memory",
            (By::Once, Kind::Postgres) => "same transaction",
            (By::Once, _) => "lease",
        };
        lines.push(vec![
            row.kind.name().to_owned(),
            from.to_owned(),
            by.to_owned(),
            format!("{:.0}", cell.median(|it| it.seen.rate())),
            rate,
            quartiles,
            by_hand.map_or_else(String::new, |it| format!("{:.2}", it[1])),
            format!("{:.1}", cell.median(|it| it.cpu_us)),
            if server > 0.0 { format!("{server:.1}") } else { String::new() },
            format!("{:.0} %", cell.median(|it| it.others) * 100.0),
        ]);
    }
    aligned(&lines)
}
