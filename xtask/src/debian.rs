//! Programs that a fresh Debian machine lacks.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::said;

/// Installs `package` where `program` is missing. Only root can; anybody else is told the command.
pub(crate) fn need(program: &str, package: &str) -> Result<(), String> {
    need_that(program, package, &|| is_there(program))
}

/// Installs `package` where what it brings is not there.
fn need_that(what: &str, package: &str, is_there_now: &dyn Fn() -> bool) -> Result<(), String> {
    if is_there_now() {
        return Ok(());
    }
    let remedy = format!("apt-get update && apt-get install --yes {package}");
    let asked = format!("`{what}` is missing; as root run: {remedy}");
    let uid = Command::new("id").arg("-u").output().map(|it| it.stdout).unwrap_or_default();
    if uid.trim_ascii() != b"0" || !is_there("apt-get") {
        return Err(asked);
    }
    for words in [&["update"][..], &["install", "--yes", "--no-install-recommends", package]] {
        if !said(Command::new("apt-get").args(words), Path::new("apt-get"))? {
            return Err(asked);
        }
    }
    if is_there_now() { Ok(()) } else { Err(asked) }
}

/// The servers of which tests start private ones, and what the tested recipes are written for.
pub(crate) fn need_servers() -> Result<(), String> {
    let servers = [
        ("postgres", "postgresql"),
        ("pgbouncer", "pgbouncer"),
        ("redis-server", "redis-server"),
        ("nats-server", "nats-server"),
    ];
    servers.into_iter().try_for_each(|(program, package)| need(program, package))?;
    need_that("psycopg", "python3-psycopg", &|| {
        // Debian's own Python, which has what Debian installs.
        let python = ["/usr/bin/python3", "python3"].into_iter().find(|it| Path::new(it).exists());
        let tried = Command::new(python.unwrap_or("python3")).args(["-c", "import psycopg"]).output();
        tried.is_ok_and(|it| it.status.success())
    })
}

/// The brokers that only `--brokers` starts.
pub(crate) fn need_brokers() -> Result<(), String> {
    need("rabbitmq-server", "rabbitmq-server")
}

/// On the path, or where Debian puts servers.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let postgres = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let servers = postgres.map(|it| it.path().join("bin")).chain([PathBuf::from("/usr/sbin")]);
    std::env::split_paths(&path).chain(servers).any(|folder| folder.join(program).is_file())
}
