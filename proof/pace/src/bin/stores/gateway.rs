//! The gateway over each store, beside nginx: measured by the command `gateway`, over servers that are started here.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use onceward_bench::Result;
use tempfile::TempDir;

use crate::stores::place::{Kind, Server};

/// What is measured.
const CELLS: &str = "direct,nginx,first,replay";

/// The tables of the command `gateway`, which lies beside this one.
pub(crate) async fn measure(
    kinds: &[Kind],
    folder: &Path,
    connections: &[u32],
    rounds: u32,
) -> Result<String> {
    // The embedded store is there in any case.
    let mut servers = Vec::new();
    for kind in kinds.iter().filter(|it| **it != Kind::Embedded) {
        servers.push((kind.name(), Server::start(*kind, folder)?));
    }
    let (scratch, beside) = (TempDir::new()?, std::env::current_exe()?.with_file_name("gateway"));
    let page = scratch.path().join("page");
    let connections: Vec<String> = connections.iter().map(ToString::to_string).collect();
    let mut command = tokio::process::Command::new(&beside);
    command.args(["--only", CELLS, "--connections", &connections.join(","), "--rounds", &rounds.to_string()]);
    command.arg("--folder").arg(folder).arg("--out").arg(&page);
    for (name, server) in &servers {
        command.arg("--store").arg(format!("{name}={}", server.url()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let ended = command.status().await.map_err(|it| format!("no {}: {it}", beside.display()))?;
    let page = fs::read_to_string(page).unwrap_or_default();
    if !ended.success() {
        return Err(format!("the bench of the gateway ended with {ended}: {page}").into());
    }
    let tables = page.find("\n## ").map_or("", |it| &page[it..]);
    Ok(format!("\n# The gateway over each store\n{tables}"))
}
