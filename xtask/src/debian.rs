//! Programs that a fresh Debian machine lacks.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::said;

/// Installs `package` where `program` is missing. Only root can; anybody else is told the command.
pub(crate) fn need(program: &str, package: &str) -> Result<(), String> {
    if is_there(program) {
        return Ok(());
    }
    let remedy = format!("apt-get update && apt-get install --yes {package}");
    let asked = format!("`{program}` is missing; as root run: {remedy}");
    let uid = Command::new("id").arg("-u").output().map(|it| it.stdout).unwrap_or_default();
    if uid.trim_ascii() != b"0" || !is_there("apt-get") {
        return Err(asked);
    }
    for words in [&["update"][..], &["install", "--yes", "--no-install-recommends", package]] {
        if !said(Command::new("apt-get").args(words), Path::new("apt-get"))? {
            return Err(asked);
        }
    }
    if is_there(program) { Ok(()) } else { Err(asked) }
}

/// The servers of which tests start private ones.
pub(crate) fn need_servers() -> Result<(), String> {
    let servers = [("postgres", "postgresql"), ("pgbouncer", "pgbouncer"), ("redis-server", "redis-server")];
    servers.into_iter().try_for_each(|(program, package)| need(program, package))
}

/// On the path, or where Debian puts servers.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let postgres = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let servers = postgres.map(|it| it.path().join("bin")).chain([PathBuf::from("/usr/sbin")]);
    std::env::split_paths(&path).chain(servers).any(|folder| folder.join(program).is_file())
}
