//! The store behind the gateways, and what can be done to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use onceward_testkit::Wire;
use onceward_testkit::server::RedisServer;
use tokio::runtime::Runtime;

use crate::Result;

/// How many bytes a bad disk loses: some twenty records.
const TAIL: u64 = 20_000;

/// Which store a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One directory, one gateway
    Embedded,
    /// A Redis server that syncs before it answers
    Redis,
    /// The same on a disk that loses the last of what was synced when the server dies: what is told is lost, and the
    /// harness has to notice
    RedisLosesTail,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::RedisLosesTail => "redis on a disk that loses the tail",
        }
    }
}

pub(crate) enum Backend {
    Embedded {
        /// The disk of the store, where it can be made full.
        disk: Option<PathBuf>,
    },
    Server(Server),
}

impl Backend {
    /// Ends and starts the server, so that it has nothing but what its disk has.
    pub(crate) fn forget(&self) -> Result<()> {
        match self {
            Self::Embedded { .. } => Ok(()),
            Self::Server(server) => server.kill(Duration::ZERO),
        }
    }
}

/// A server of this run's own, behind a wire.
pub(crate) struct Server {
    kind: Kind,
    redis: Mutex<RedisServer>,
    pub(crate) wire: Wire,
    /// Carries the wire.
    _runtime: Runtime,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let redis = RedisServer::start();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port()));
        let wire = runtime.block_on(Wire::to(server));
        Ok(Self { kind, redis: Mutex::new(redis), wire, _runtime: runtime })
    }

    /// Where gateways find it.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.wire.address())
    }

    /// `kill -9`, and another start after this pause.
    pub(crate) fn kill(&self, pause: Duration) -> Result<()> {
        let mut redis = self.redis();
        redis.kill();
        if self.kind == Kind::RedisLosesTail {
            redis.cut_tail(TAIL);
        }
        thread::sleep(pause);
        redis.start_again();
        Ok(())
    }

    /// It hangs for so long.
    pub(crate) fn stop(&self, pause: Duration) -> Result<()> {
        let redis = self.redis();
        redis.pause();
        thread::sleep(pause);
        redis.resume();
        Ok(())
    }

    fn redis(&self) -> MutexGuard<'_, RedisServer> {
        self.redis.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
