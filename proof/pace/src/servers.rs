//! The private servers that stores are measured on, set as for work.

use std::path::Path;

use onceward_testkit::server::{Postgres, RedisServer};

/// A PostgreSQL whose files are in a new folder in `parent`. Every commit is synced.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn postgres(parent: &Path) -> Postgres {
    let settings = [("max_connections", "400"), ("shared_buffers", "256MB"), ("max_wal_size", "4GB")];
    Postgres::start_in(parent, &settings, &[])
}

/// A Redis whose files are in a new folder in `parent`. `fsync` is its `appendfsync`: `always` or `everysec`.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn redis(parent: &Path, fsync: &str) -> RedisServer {
    // A rewrite in the middle of a measurement would be somebody's bad luck.
    RedisServer::start_in(parent, &[("appendfsync", fsync), ("auto-aof-rewrite-percentage", "0")])
}
