//! The store behind the gateways, and what can be done to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use onceward_testkit::server::{Postgres, PostgresPair, RedisCluster, RedisServer};
use onceward_testkit::{Way, Wire};
use tokio::runtime::Runtime;

use crate::Result;

/// How many bytes a bad disk loses: some twenty records.
const TAIL: u64 = 20_000;
/// How long a primary is back before it is lost for good: callers find it.
const COMEBACK: Duration = Duration::from_millis(1_200);

/// Which store a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One directory, one gateway
    Embedded,
    /// A Redis server that syncs before it answers
    Redis,
    /// Three Redis primaries with a replica each, where every write waits for one
    RedisCluster,
    /// The same without waiting: what is told is lost with a primary, and the harness has to notice
    RedisClusterAsync,
    /// A PostgreSQL server as it comes
    Postgres,
    /// A PostgreSQL primary that waits for its standby, and falls over to it
    PostgresReplica,
    /// The same without waiting: what is told is lost with a primary, and the harness has to notice
    PostgresAsync,
    /// A Redis server on a disk that loses the last of what was synced when the server dies: what is told is lost, and the
    /// harness has to notice
    RedisLosesTail,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::RedisCluster => "redis cluster, replicas=1",
            Self::RedisClusterAsync => "redis cluster that waits for no replica",
            Self::Postgres => "postgres",
            Self::PostgresReplica => "postgres, synchronous standby",
            Self::PostgresAsync => "postgres that waits for no standby",
            Self::RedisLosesTail => "redis on a disk that loses the tail",
        }
    }
}

pub(crate) enum Backend {
    Embedded {
        /// The disk of the store, where it can be made full.
        disk: Option<PathBuf>,
    },
    Server(Box<Server>),
}

impl Backend {
    /// Ends and starts the server, so that it has nothing but what its disk has.
    pub(crate) fn forget(&self) {
        match self {
            Self::Embedded { .. } => {}
            Self::Server(server) => server.kill(Duration::ZERO),
        }
    }
}

enum Process {
    Redis(RedisServer),
    Postgres(Postgres),
    Pair(PostgresPair),
    Cluster(RedisCluster),
}

/// A server of this run's own, behind a wire.
pub(crate) struct Server {
    kind: Kind,
    process: Mutex<Process>,
    pub(crate) wire: Wire,
    /// Carries the wire.
    _runtime: Runtime,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (process, port) = match kind {
            Kind::Postgres => {
                let server = Postgres::start(&[]);
                let port = server.port();
                (Process::Postgres(server), port)
            }
            Kind::PostgresReplica | Kind::PostgresAsync => {
                let pair = PostgresPair::start(kind == Kind::PostgresReplica);
                let port = pair.primary().port();
                (Process::Pair(pair), port)
            }
            Kind::RedisCluster | Kind::RedisClusterAsync => {
                let cluster = RedisCluster::start(true);
                // Nodes name each other to their clients, so no wire is between.
                let port = cluster.nodes[0].port();
                (Process::Cluster(cluster), port)
            }
            Kind::Embedded | Kind::Redis | Kind::RedisLosesTail => {
                let server = RedisServer::start();
                let port = server.port();
                (Process::Redis(server), port)
            }
        };
        let wire = runtime.block_on(Wire::to(local(port)));
        Ok(Self { kind, process: Mutex::new(process), wire, _runtime: runtime })
    }

    /// Where gateways find it.
    pub(crate) fn url(&self) -> String {
        let address = self.wire.address();
        match &*self.process() {
            Process::Redis(_) => format!("redis://{address}"),
            Process::Postgres(_) | Process::Pair(_) => format!("postgres://onceward@{address}/postgres"),
            Process::Cluster(cluster) if self.kind == Kind::RedisCluster => {
                format!("{}?replicas=1&wait=500ms", cluster.url())
            }
            Process::Cluster(cluster) => cluster.url(),
        }
    }

    /// Whether the network before it can be disturbed.
    pub(crate) fn has_wire(&self) -> bool {
        !matches!(&*self.process(), Process::Cluster(_))
    }

    /// `kill -9`, and another start after this pause. Where there are replicas, one that has been behind for that pause takes
    /// the place of a primary.
    pub(crate) fn kill(&self, pause: Duration) {
        match &mut *self.process() {
            Process::Redis(server) => {
                server.kill();
                if self.kind == Kind::RedisLosesTail {
                    server.cut_tail(TAIL);
                }
                thread::sleep(pause);
                server.start_again();
            }
            Process::Postgres(server) => {
                server.kill();
                thread::sleep(pause);
                server.restart();
            }
            Process::Pair(pair) => {
                if pause.as_millis() % 2 == 1 {
                    // It dies and comes back first, with all that was on its own disk and not on the standby.
                    pair.hold_back();
                    thread::sleep(pause);
                    pair.primary().restart();
                    thread::sleep(COMEBACK);
                    pair.fail_over(Duration::ZERO);
                } else {
                    pair.fail_over(pause);
                }
                self.wire.lead_to(local(pair.primary().port()));
                pair.rebuild();
            }
            Process::Cluster(cluster) => {
                let pair = usize::try_from(pause.as_millis()).unwrap_or(0) % 3;
                cluster.swap(pair, pause);
            }
        }
    }

    /// It hangs for so long.
    pub(crate) fn stop(&self, pause: Duration) {
        match &*self.process() {
            Process::Redis(server) => {
                server.pause();
                thread::sleep(pause);
                server.resume();
            }
            Process::Cluster(cluster) => {
                // Shorter than what counts as dead.
                let node = &cluster.nodes[usize::try_from(pause.as_millis()).unwrap_or(0) % 6];
                node.pause();
                thread::sleep(pause.min(Duration::from_millis(600)));
                node.resume();
            }
            // Without its standby the primary cannot tell anybody anything.
            Process::Pair(pair) => pair.restart_standby(pause),
            // Its processes are many; for gateways it is the same.
            Process::Postgres(_) => {
                for clogged in [true, false] {
                    self.wire.clog(Way::There, clogged);
                    self.wire.clog(Way::Back, clogged);
                    if clogged {
                        thread::sleep(pause);
                    }
                }
            }
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
