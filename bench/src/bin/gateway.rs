//! `gateway`: throughput, latency and processor time of the gateway, beside nginx and beside the bare API.

mod gateway {
    pub(crate) mod bound;
    pub(crate) mod lone;
    pub(crate) mod stage;
}

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use gateway::stage::{Kind, Named, Stage, Subject};
use onceward_bench::args::Common;
use onceward_bench::cell::Cell;
use onceward_bench::load::Strength;
use onceward_bench::page::Page;
use onceward_bench::report::{Row, duel, table};
use onceward_bench::{Result, conclude, machine, until_told_to_end};

/// How fast is the gateway, beside nginx and beside the bare API?
///
/// All cells are measured in turn, round after round; the next round goes the other way. Figures are medians over
/// the rounds, ratios are medians of the ratios within each round.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// A second build of the gateway to measure beside the first
    #[arg(long, value_name = "FILE")]
    peer: Option<PathBuf>,
    /// How long each cell is measured in each round
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Numbers of connections; 1 is the lone caller, beside the disk's fdatasync
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    connections: Vec<u32>,
    /// Only these cells: direct, nginx, nginx-get, pass, pass-get, first, relaxed, replay
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Another store to run `first` and `replay` over besides the embedded one; may be said again
    #[arg(long = "store", value_name = "NAME=URL")]
    stores: Vec<Named>,
    /// How many stored answers the replays take turns with
    #[arg(long, default_value_t = 1000)]
    keys: u32,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Where the tables are also written, as Markdown
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    conclude("gateway", until_told_to_end(run(Args::parse())).await)
}

async fn run(args: Args) -> Result<bool> {
    let kinds = if args.only.is_empty() { Kind::EACH.to_vec() } else { args.only.clone() };
    let mut stage = Stage::set(&args.common, args.peer.as_ref(), &kinds, &args.stores, args.keys).await?;
    let mut page = Page::begin(head(&args, &stage));
    let mut fine = true;
    for &connections in &args.connections {
        let strength =
            Strength { threads: args.threads, connections, length: Duration::from_secs(args.seconds) };
        let part = if connections == 1 {
            gateway::lone::measure(&mut stage, strength, args.rounds).await?
        } else {
            let cells = rounds(&mut stage, strength, args.rounds).await?;
            fine &= cells.values().all(|it| it.failed.is_none());
            format!("\n## {connections} connections\n\n{}", shown(&stage, &cells))
        };
        page.add(&part);
    }
    stage.end().await?;
    page.end(args.out.as_deref())?;
    Ok(fine)
}

/// Measures every subject in every round, each a second long once before it counts.
async fn rounds(stage: &mut Stage, strength: Strength, rounds: u32) -> Result<BTreeMap<Subject, Cell>> {
    let mut order = stage.subjects();
    let mut cells: BTreeMap<Subject, Cell> = order.iter().map(|it| (*it, Cell::default())).collect();
    for subject in &order {
        // A failure here would show again where it counts.
        let _warm = stage.measure(*subject, Strength { length: Duration::from_secs(1), ..strength }).await?;
    }
    for round in 0..rounds {
        for subject in &order {
            let measured = stage.measure(*subject, strength).await?;
            let cell = cells.entry(*subject).or_default();
            match measured {
                Ok(sample) => cell.samples.push(sample),
                Err(why) => cell.failed = Some(format!("in round {}: {why}", round + 1)),
            }
        }
        order.reverse();
    }
    Ok(cells)
}

fn shown(stage: &Stage, cells: &BTreeMap<Subject, Cell>) -> String {
    let row = |subject: &Subject, base: Option<Subject>| Row {
        name: stage.name(subject),
        cell: &cells[subject],
        base: base.and_then(|it| Some((it.kind.name(), cells.get(&it)?))),
    };
    let rows: Vec<Row<'_>> = cells.keys().map(|it| row(it, it.kind.base().map(Subject::of))).collect();
    let this = |peer: &Subject| Some(Subject { peer: false, ..*peer });
    let duels: Vec<Row<'_>> = cells.keys().filter(|it| it.peer).map(|it| row(it, this(it))).collect();
    let mut text = table(&rows);
    if !duels.is_empty() {
        let _ = write!(text, "\n{}", duel(&duels));
    }
    let bounds = bounds(stage, cells);
    if !bounds.is_empty() {
        let _ = write!(text, "\n{bounds}");
    }
    text
}

/// How near to nginx the stores on servers could come, where the gateway over memory was measured as well.
fn bounds(stage: &Stage, cells: &BTreeMap<Subject, Cell>) -> String {
    let first: Vec<_> = cells.iter().filter(|(it, _)| it.kind == Kind::First && !it.peer).collect();
    let memory = first.iter().find(|(it, _)| stage.is_in_memory(it));
    let (Some((_, memory)), Some(nginx)) = (memory, cells.get(&Subject::of(Kind::Nginx))) else {
        return String::new();
    };
    let cores = std::thread::available_parallelism().map_or(1.0, |it| it.get() as f64);
    let servers = first.iter().filter(|(it, _)| it.store > 0 && !stage.is_in_memory(it));
    let said =
        servers.filter_map(|(it, cell)| gateway::bound::says(&stage.name(it), cell, memory, nginx, cores));
    said.collect::<Vec<_>>().join("\n")
}

fn head(args: &Args, stage: &Stage) -> String {
    let versions = [
        ("gateway", machine::version(Command::new(&args.common.binary).arg("--version"))),
        ("nginx", machine::version(Command::new("nginx").arg("-v"))),
        ("wrk", machine::version(Command::new("wrk").arg("-v"))),
    ];
    let mut text = format!(
        "# The gateway beside nginx and beside the bare API\n\nWritten by `cargo xtask bench gateway`; \
         [how to read it](../../docs/benchmarks.md#gateway).\n\n{}",
        machine::facts(stage.folder())
    );
    for (name, version) in versions {
        let _ = writeln!(text, "- {name}: {version}");
    }
    if let Some(peer) = &args.peer {
        let _ = writeln!(text, "- peer: {}", machine::version(Command::new(peer).arg("--version")));
    }
    let _ = writeln!(text, "- access log: {}, off in nginx", stage.access_log());
    let _ = writeln!(
        text,
        "- {} rounds of {} s for each cell, {} threads of wrk, {} stored keys; load average at the start {}",
        args.rounds,
        args.seconds,
        args.threads,
        args.keys,
        machine::load_average()
    );
    text
}
