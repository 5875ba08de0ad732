//! Answers that expire while requests run: short measurements one after the other, before, during and after it.

use std::time::Duration;

use onceward_bench::cell::Cell;
use onceward_bench::gateway::Gateway;
use onceward_bench::report::aligned;
use onceward_bench::{Result, client};
use onceward_pace::fill::fill;
use tokio::time::Instant;

use crate::scale::hall::{Hall, Load};

/// How long one measurement is.
const LENGTH: Duration = Duration::from_secs(3);
/// How many there are before the first answer expires, about, and how many after the last one has.
const QUIET: u32 = 6;
/// How long the whole expiry may take.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Stores that many answers which expire soon, and measures first runs until all of them have.
pub(crate) async fn measure(hall: &mut Hall, answers: u64, connections: u32) -> Result<(String, bool)> {
    let directory = hall.folder().join("expiring");
    let pace = Instant::now();
    // How fast this machine fills, so that the first answer expires after the first quiet measurements.
    let trial = answers.div_ceil(20);
    fill(&hall.folder().join("trial"), trial, Duration::from_secs(3600)).await?;
    let filling = pace.elapsed().as_secs_f64() * answers as f64 / trial as f64;
    let retention = Duration::from_secs_f64(1.5 * filling + 5.0) + QUIET * LENGTH;
    fill(&directory, answers, retention).await?;
    let (gateway, _) = hall.gateway_over(&directory).await?;
    let load = Load { connections, length: LENGTH };
    let (mut quiet, mut expiring, mut after) = (Cell::default(), Cell::default(), 0);
    let (mut begun, mut ended): (Option<Instant>, Option<Instant>) = (None, None);
    let started = Instant::now();
    while after < QUIET {
        if started.elapsed() > PATIENCE {
            return Ok((
                format!("\n## Expiry\n\nFAILED: {} of {answers} swept in time\n", swept(&gateway).await?),
                false,
            ));
        }
        let before = swept(&gateway).await?;
        let sample = match hall.first_runs(&gateway, load).await? {
            Ok(sample) => sample,
            Err(why) => return Ok((format!("\n## Expiry\n\nFAILED: {why}\n"), false)),
        };
        let now = swept(&gateway).await?;
        if now > before {
            begun = begun.or(Some(Instant::now() - LENGTH));
            ended = Some(Instant::now());
        }
        // One that is only in part of a kind says nothing of either.
        if now == before {
            quiet.samples.push(sample);
            after += u32::from(now >= answers);
        } else if before > 0 && now < answers {
            expiring.samples.push(sample);
        }
    }
    let took = begun.zip(ended).map_or(0.0, |(begun, ended)| (ended - begun).as_secs_f64());
    gateway.stop().await?;
    Ok((shown(answers, took, &quiet, &expiring), !expiring.samples.is_empty()))
}

fn shown(answers: u64, took: f64, quiet: &Cell, expiring: &Cell) -> String {
    let head = ["while", "measurements", "requests/s", "p50 ms", "p99 ms", "µs/request", "others"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (name, cell) in [("nothing expires", quiet), ("answers expire", expiring)] {
        lines.push(vec![
            name.to_owned(),
            cell.samples.len().to_string(),
            format!("{:.0}", cell.median(|it| it.seen.rate())),
            format!("{:.2}", cell.median(|it| it.seen.p50_us) / 1e3),
            format!("{:.2}", cell.median(|it| it.seen.p99_us) / 1e3),
            format!("{:.1}", cell.median(|it| it.cpu_us)),
            format!("{:.0} %", cell.median(|it| it.others) * 100.0),
        ]);
    }
    let growth = expiring.median(|it| it.seen.p99_us) / quiet.median(|it| it.seen.p99_us) - 1.0;
    format!(
        "\n## Expiry\n\n{}\n{answers} answers became tombstones within {took:.0} s, in measurements of {} s; p99 {:+.0} %.\n",
        aligned(&lines),
        LENGTH.as_secs(),
        growth * 100.0
    )
}

/// How many answers the gateway has turned into tombstones.
async fn swept(gateway: &Gateway) -> Result<u64> {
    let page = client::get(gateway.admin, "/metrics").await?;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let line = text.lines().find_map(|it| it.strip_prefix("onceward_store_swept_total{to=\"tombstone\"} "));
    Ok(line.map_or(Ok(0), str::parse)?)
}
