//! Where outcomes are remembered: a server of the run's own that can be killed, or a directory of its consumer's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use onceward_testkit::server::{Postgres, RedisServer};

use crate::Result;

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Server {
    /// PostgreSQL
    Postgres,
    /// Redis, which syncs before it answers
    Redis,
    /// A directory, which belongs to one consumer and dies with it
    Embedded,
}

/// One that runs.
#[derive(Debug)]
pub(super) enum Store {
    Postgres(Postgres),
    Redis { server: Mutex<RedisServer>, url: String },
    Embedded(PathBuf),
}

impl Store {
    pub(super) fn start(server: Server, folder: &Path) -> Self {
        match server {
            Server::Postgres => Self::Postgres(Postgres::start(&[])),
            Server::Redis => {
                let server = RedisServer::start();
                Self::Redis { url: server.url(), server: Mutex::new(server) }
            }
            Server::Embedded => Self::Embedded(folder.join("records")),
        }
    }

    /// Makes the tables, by the command, and the ledger of effects.
    pub(super) fn prepare(&self, command: &mut Command) -> Result<()> {
        let Self::Postgres(server) = self else { return Ok(()) };
        let migrated = command.args(["store", "migrate", &self.url()]).output()?;
        if !migrated.status.success() {
            return Err(format!("no tables: {}", String::from_utf8_lossy(&migrated.stderr)).into());
        }
        server.sql(
            "CREATE TABLE ledger (number bigserial, id text, attempt bigint, process bigint, at timestamptz DEFAULT clock_timestamp())",
        );
        Ok(())
    }

    /// Whether it is a process of its own, which many use at a time.
    pub(super) fn is_server(&self) -> bool {
        !matches!(self, Self::Embedded(_))
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(it) => it.url("onceward"),
            Self::Redis { url, .. } => url.clone(),
            Self::Embedded(path) => format!("embedded:{}", path.display()),
        }
    }

    /// `kill -9`, and again on what its files have. A directory has no process to kill.
    pub(super) fn restart(&self, away: Duration) -> Result<()> {
        match self {
            Self::Postgres(it) => {
                it.kill();
                std::thread::sleep(away);
                it.restart();
            }
            Self::Redis { server, .. } => {
                let mut server = server.lock().map_err(|_| "the store's keeper panicked")?;
                server.kill();
                std::thread::sleep(away);
                server.start_again();
            }
            Self::Embedded(_) => {}
        }
        Ok(())
    }

    /// What PostgreSQL prints; nothing where there is none.
    pub(super) fn sql(&self, text: &str) -> String {
        match self {
            Self::Postgres(it) => it.sql(text),
            Self::Redis { .. } | Self::Embedded(_) => String::new(),
        }
    }
}
