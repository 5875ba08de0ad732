//! `pgbench`: clients of PostgreSQL that are not ours.

use std::fs;
use std::path::Path;
use std::time::Duration;

use onceward_bench::Result;
use onceward_bench::latency::Latencies;
use onceward_bench::load::Seen;
use onceward_testkit::server::Postgres;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::spent::seen;

/// What `clients` make of the script in `script`, in one of its modes: `simple`, `extended`, `prepared`, within `length`, which is in whole seconds. A request is a
/// transaction, that is, the whole script once; `variables` are what it begins with, for each client.
///
/// # Errors
/// It cannot be started, or a transaction failed.
pub async fn run(
    server: &Postgres,
    script: &Path,
    clients: u32,
    length: Duration,
    mode: &str,
    variables: &[(&str, &str)],
) -> Result<Seen> {
    let logs = TempDir::new()?;
    let mut command = server.program("pgbench");
    command.args(["--no-vacuum", "--protocol", mode, "--log", "--log-prefix"]).arg(logs.path().join("log"));
    command.args(["-c", &clients.to_string(), "-j", &clients.min(2).to_string()]);
    command.args(["-T", &length.as_secs().max(1).to_string()]);
    for (name, value) in variables {
        command.args(["-D", &format!("{name}={value}")]);
    }
    command.arg("-f").arg(script).arg("postgres");
    let out = spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let rate = said.lines().find_map(|it| it.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    let failed = said.lines().any(|it| it.starts_with("number of failed") && !it.contains(": 0 "));
    let (Some(rate), true, false) = (rate, out.status.success(), failed) else {
        return Err(format!("pgbench: {said}{}", String::from_utf8_lossy(&out.stderr)).into());
    };
    let took = latencies(logs.path())?;
    let length = took.count() as f64 / rate;
    seen(took, Duration::from_secs_f64(length))
}

/// How long each transaction took: the third field of each line, in microseconds.
fn latencies(folder: &Path) -> Result<Latencies> {
    let mut took = Latencies::default();
    for file in fs::read_dir(folder)? {
        for line in fs::read_to_string(file?.path())?.lines() {
            let micros = line.split(' ').nth(2).ok_or("a log of pgbench cannot be read")?;
            took.add(Duration::from_micros(micros.parse()?));
        }
    }
    Ok(took)
}
