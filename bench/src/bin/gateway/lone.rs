//! A lone caller: what one operation costs beside the disk it is stored on.

use std::time::Duration;

use onceward_bench::Result;
use onceward_bench::cell::Cell;
use onceward_bench::latency::{Latencies, median};
use onceward_bench::load::Strength;
use onceward_bench::machine;
use onceward_bench::report::aligned;
use tokio::task::spawn_blocking;

use crate::gateway::stage::{Kind, Stage, Subject};

/// What may be added to two syncs of the disk.
const BUDGET_MS: f64 = 0.150;
/// About what an operation appends to the journal.
const APPENDED: usize = 512;
/// A sync that takes longer is a stall of the disk.
const STALL: Duration = Duration::from_millis(5);

/// Measures one connection, in each round after the disk itself, which is measured as long as a cell: it has to meet as
/// many of its stalls.
pub(crate) async fn measure(stage: &mut Stage, strength: Strength, rounds: u32) -> Result<String> {
    let subjects = stage.subjects();
    let mut cells: Vec<(Subject, Cell)> = subjects.iter().map(|it| (*it, Cell::default())).collect();
    let (mut syncs, mut all_syncs) = (Vec::new(), Latencies::default());
    for _ in 0..rounds {
        let folder = stage.folder().to_owned();
        let mut took = spawn_blocking(move || machine::syncs(&folder, APPENDED, strength.length)).await??;
        syncs.push(took.quantile(0.5).as_secs_f64() * 1e3);
        all_syncs.merge(&took);
        for (subject, cell) in &mut cells {
            match stage.measure(*subject, strength).await? {
                Ok(sample) => cell.samples.push(sample),
                Err(why) => cell.failed = Some(why),
            }
        }
    }
    let sync = median(&syncs);
    let mut lines =
        vec![["cell", "p50 ms", "p99 ms", "over nginx", "over direct"].map(str::to_owned).to_vec()];
    let p50 = |wanted: Kind| {
        let cell = &cells.iter().find(|it| it.0 == Subject::of(wanted))?.1;
        cell.failed.is_none().then(|| cell.median(|it| it.seen.p50_us) / 1e3)
    };
    for (subject, cell) in &cells {
        let Some(why) = &cell.failed else {
            let mine = cell.median(|it| it.seen.p50_us) / 1e3;
            let over = |base: Kind| p50(base).map_or(String::new(), |it| format!("{:+.3}", mine - it));
            lines.push(vec![
                stage.name(subject),
                format!("{mine:.3}"),
                format!("{:.3}", cell.median(|it| it.seen.p99_us) / 1e3),
                over(Kind::Nginx),
                over(Kind::Direct),
            ]);
            continue;
        };
        lines.push(vec![stage.name(subject), format!("FAILED: {why}")]);
    }
    let mut text = format!(
        "\n## A lone caller\n\n{}\nMedian fdatasync after an append of {APPENDED} bytes: {sync:.3} ms.",
        aligned(&lines)
    );
    if let (Some(first), Some(direct)) = (p50(Kind::First), p50(Kind::Direct)) {
        let (added, bound) = (first - direct, 2.0 * sync + BUDGET_MS);
        let verdict = if added <= bound { "within" } else { "NOT within" };
        text.push_str(&format!(
            " A durable first run adds {added:.3} ms over direct: {verdict} two of them and 0.150 ms ({bound:.3} ms).\n"
        ));
    } else {
        text.push('\n');
    }
    text.push_str(&format!(
        "The longest of these {} syncs took {:.1} ms; {:.1} % of their time went to those over {} ms.\n",
        all_syncs.count(),
        all_syncs.quantile(1.0).as_secs_f64() * 1e3,
        all_syncs.share_above(STALL) * 1e2,
        STALL.as_millis(),
    ));
    Ok(text)
}
