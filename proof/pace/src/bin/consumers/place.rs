//! The private servers, and what consumers need on each of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use onceward_bench::Result;
use onceward_core::Engine;
use onceward_pace::servers;
use onceward_store_postgres::{PostgresSettings, PostgresStore};
use onceward_store_redis::{RedisSettings, RedisStore};
use onceward_testkit::server::{Postgres, RedisServer};
use redis::aio::MultiplexedConnection;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::consumers::effect;

/// Where effects are written, and what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// PostgreSQL as it comes: effect and outcome in one transaction
    Postgres,
    /// Redis with `appendfsync always`: a lease around the effect
    Redis,
    /// The same with `appendfsync everysec`
    RedisEverysec,
}

impl Kind {
    /// In the order of the table.
    pub(crate) const EACH: [Self; 3] = [Self::Postgres, Self::Redis, Self::RedisEverysec];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::RedisEverysec => "redis-everysec",
        }
    }
}

/// A PostgreSQL, the pool of the handlers, and the engine that keeps attempts and dead letters.
#[derive(Debug)]
pub(crate) struct InPostgres {
    pub(crate) pool: PgPool,
    pub(crate) engine: Engine,
    /// The process whose children serve the connections.
    pub(crate) pid: u32,
    _server: Postgres,
}

/// A Redis, the connection of the handlers, and the engine that remembers.
#[derive(Debug)]
pub(crate) struct InRedis {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) engine: Engine,
    pub(crate) server: RedisServer,
}

/// All of them. It ends with this.
#[derive(Debug)]
pub(crate) struct Place {
    postgres: Option<InPostgres>,
    redis: Vec<(Kind, InRedis)>,
    /// The broker is another Redis, so that its work is not the store's.
    pub(crate) broker: RedisServer,
}

impl Place {
    pub(crate) async fn start(parent: &Path, kinds: &[Kind]) -> Result<Self> {
        let mut redis = Vec::new();
        for (kind, fsync) in [(Kind::Redis, "always"), (Kind::RedisEverysec, "everysec")] {
            if kinds.contains(&kind) {
                redis.push((kind, InRedis::start(parent, fsync).await?));
            }
        }
        let postgres = kinds.contains(&Kind::Postgres);
        let postgres = if postgres { Some(InPostgres::start(parent).await?) } else { None };
        Ok(Self { postgres, redis, broker: servers::redis(parent, "everysec") })
    }

    pub(crate) fn postgres(&self) -> Result<&InPostgres> {
        Ok(self.postgres.as_ref().ok_or("PostgreSQL was not started")?)
    }

    pub(crate) fn redis(&self, kind: Kind) -> Result<&InRedis> {
        let found = self.redis.iter().find(|it| it.0 == kind);
        Ok(&found.ok_or("Redis was not started")?.1)
    }
}

impl InPostgres {
    async fn start(parent: &Path) -> Result<Self> {
        let server = servers::postgres(parent);
        let url = server.url("onceward");
        let store = PostgresStore::open(PostgresSettings::from_url(&url)?).await?;
        let pool = pool(&url).await?;
        effect::make_table(&pool).await?;
        let text = "SELECT (string_to_array(pg_read_file('postmaster.pid'), E'\\n'))[1]";
        let pid = sqlx::query_scalar::<_, String>(text).fetch_one(&pool).await?.parse()?;
        Ok(Self { pool, engine: Engine::new(Arc::new(store)), pid, _server: server })
    }
}

impl InRedis {
    async fn start(parent: &Path, fsync: &str) -> Result<Self> {
        let server = servers::redis(parent, fsync);
        let settings = RedisSettings::from_url(&format!("{}?durability=relaxed", server.url()))?;
        let engine = Engine::new(Arc::new(RedisStore::open(settings).await?));
        let mut connection = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
        connection.set_response_timeout(Duration::from_secs(30));
        Ok(Self { connection, engine, server })
    }
}

/// A pool as an application has it: with the driver's defaults, and a connection for each handler.
///
/// # Errors
/// The server cannot be reached.
pub(crate) async fn pool(url: &str) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(100).connect(url).await?)
}
