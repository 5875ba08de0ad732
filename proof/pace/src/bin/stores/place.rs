//! The stores, the private servers that they are on, and what stands for their floors.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use onceward_bench::Result;
use onceward_core::SystemClock;
use onceward_core::store::Store;
use onceward_core::store::memory::MemoryStore;
use onceward_pace::{floor, servers};
use onceward_store_embedded::{Durability, EmbeddedSettings, EmbeddedStore};
use onceward_store_postgres::{PostgresSettings, PostgresStore};
use onceward_store_redis::{RedisSettings, RedisStore};
use onceward_testkit::server::{Postgres, RedisServer};
use tempfile::TempDir;

use crate::stores::callers::{self, STORED, stored_id};
use crate::stores::pgbench::Pgbench;
use crate::stores::redis_floor::RedisFloor;

/// A store, and how durable it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// In the memory of the process
    Memory,
    /// One directory, every write synced
    Embedded,
    /// PostgreSQL as it comes: every commit synced
    Postgres,
    /// Redis with `appendfsync always`
    Redis,
    /// Redis with `appendfsync everysec`
    RedisEverysec,
}

impl Kind {
    /// In the order of the table.
    pub(crate) const EACH: [Self; 5] =
        [Self::Memory, Self::Embedded, Self::Postgres, Self::Redis, Self::RedisEverysec];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Embedded => "embedded",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::RedisEverysec => "redis-everysec",
        }
    }
}

/// What a store is on.
#[derive(Debug)]
pub(crate) enum Server {
    /// This process alone.
    Own,
    /// A folder of this process.
    Folder(TempDir),
    /// A PostgreSQL.
    Postgres(Arc<Postgres>),
    /// A Redis.
    Redis(Arc<RedisServer>),
}

impl Server {
    /// The server that a kind needs.
    pub(crate) fn start(kind: Kind, parent: &Path) -> Result<Self> {
        Ok(match kind {
            Kind::Memory => Self::Own,
            Kind::Embedded => Self::Folder(TempDir::new_in(parent)?),
            Kind::Postgres => Self::Postgres(Arc::new(servers::postgres(parent))),
            Kind::Redis => Self::Redis(Arc::new(servers::redis(parent, "always"))),
            Kind::RedisEverysec => Self::Redis(Arc::new(servers::redis(parent, "everysec"))),
        })
    }

    /// Its process, where all its work is done by one that stays.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Redis(server) => Some(server.pid()),
            Self::Own | Self::Folder(_) | Self::Postgres(_) => None,
        }
    }

    /// Where a store finds it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Own => "memory:".to_owned(),
            Self::Folder(folder) => format!("embedded:{}", folder.path().join("records").display()),
            Self::Postgres(server) => server.url("onceward"),
            Self::Redis(server) => format!("{}?durability=relaxed", server.url()),
        }
    }
}

/// What a store is compared with.
#[derive(Debug)]
pub(crate) enum Floor {
    /// Appending to a file and syncing it.
    File(Arc<floor::Floor>),
    /// The same statements, one after the other.
    Pgbench(Pgbench),
    /// The same scripts, one after the other.
    Redis(Box<RedisFloor>),
}

/// A store, its server and its floor. All of it ends with this.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) floor: Option<Floor>,
    store: Option<Arc<dyn Store>>,
    pub(crate) server: Server,
}

impl Place {
    /// Starts everything, and stores the answers that replays will find.
    pub(crate) async fn start(kind: Kind, parent: &Path) -> Result<Self> {
        let server = Server::start(kind, parent)?;
        let (store, floor): (Option<Arc<dyn Store>>, _) = match &server {
            Server::Own => (None, None),
            Server::Folder(folder) => {
                let settings = EmbeddedSettings::new(folder.path().join("records"));
                let store = EmbeddedStore::open_async(settings, Arc::new(SystemClock)).await?;
                let file =
                    floor::Floor::start(floor::Kind::File, &folder.path().join("file"), Durability::Durable)?;
                (Some(Arc::new(store)), Some(Floor::File(Arc::new(file))))
            }
            Server::Postgres(postgres) => {
                let settings = PostgresSettings::from_url(&server.url())?;
                let store = PostgresStore::open(settings).await?;
                (Some(Arc::new(store)), Some(Floor::Pgbench(Pgbench::new(Arc::clone(postgres))?)))
            }
            Server::Redis(redis) => {
                let settings = RedisSettings::from_url(&server.url())?;
                let floor = RedisFloor::learn(Arc::clone(redis), &settings).await?;
                (Some(Arc::new(RedisStore::open(settings).await?)), Some(Floor::Redis(Box::new(floor))))
            }
        };
        if let Some(store) = &store {
            fill(&**store).await?;
        }
        Ok(Self { kind, floor, store, server })
    }

    /// The store; one in memory is a new one each time, so that it does not fill the machine.
    pub(crate) async fn opened(&self) -> Result<Arc<dyn Store>> {
        if let Some(store) = &self.store {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        fill(&*store).await?;
        Ok(store)
    }
}

async fn fill(store: &dyn Store) -> Result<()> {
    for number in 0..STORED {
        callers::pair(store, stored_id(number)).await?;
    }
    Ok(())
}
