//! `scale`: what stored answers cost a running gateway: throughput, latency, memory, disk, opening, expiry.

mod scale {
    pub(crate) mod expiry;
    pub(crate) mod hall;
}

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use onceward_bench::args::Common;
use onceward_bench::page::Page;
use onceward_bench::report::aligned;
use onceward_bench::usage::mib;
use onceward_bench::{Result, conclude, machine, until_told_to_end};
use scale::hall::{Hall, Load};

/// What do millions of stored answers cost a running gateway?
///
/// Directories with so many answers of 300 bytes each are made first, then a gateway is started over each, and durable
/// first runs are measured in turn, round after round; the next round goes the other way.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// How many answers are stored, in millions; fractions are allowed
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 1.0, 5.0, 20.0])]
    millions: Vec<f64>,
    /// How many answers expire while requests run, in millions; 0 leaves it out
    #[arg(long, default_value_t = 1.0)]
    expire: f64,
    /// How long each size is measured in each round
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Connections of the load generator
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// How often each gateway is started for the time to open
    #[arg(long, default_value_t = 3)]
    opens: u32,
    /// Where the tables are also written, as Markdown
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    conclude("scale", until_told_to_end(run(Args::parse())).await)
}

async fn run(args: Args) -> Result<bool> {
    let mut hall = Hall::open(&args.common).await?;
    let mut page = Page::begin(format!(
        "# Many stored answers\n\nWritten by `cargo xtask bench scale`; \
         [how to read it](../../docs/benchmarks.md#scale).\n\n{}- gateway: {}\n- access log: {}\n- {} rounds of {} s, {} connections, \
         durable first runs; load average at the start {}\n",
        machine::facts(hall.folder()),
        machine::version(Command::new(&args.common.binary).arg("--version")),
        hall.access_log,
        args.rounds,
        args.seconds,
        args.connections,
        machine::load_average()
    ));
    let load = Load { connections: args.connections, length: Duration::from_secs(args.seconds) };
    let (part, mut fine) = sizes(&args, &mut hall, load).await?;
    page.add(&part);
    if args.expire > 0.0 {
        let (part, held) = scale::expiry::measure(&mut hall, millions(args.expire), load.connections).await?;
        page.add(&part);
        fine &= held;
    }
    page.end(args.out.as_deref())?;
    Ok(fine)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a handful of millions")]
fn millions(of: f64) -> u64 {
    (of * 1e6).round() as u64
}

/// One line for each size, and whether every cell was answered as it should be.
async fn sizes(args: &Args, hall: &mut Hall, load: Load) -> Result<(String, bool)> {
    for &size in &args.millions {
        hall.add(millions(size)).await?;
    }
    hall.time_openings(args.opens).await?;
    hall.start().await?;
    for round in 0..args.rounds {
        hall.round(round, load).await?;
    }
    let head = [
        "answers",
        "filled s",
        "disk",
        "open s",
        "open s, killed",
        "requests/s",
        "of the first",
        "quartiles",
        "p50 ms",
        "p99 ms",
        "µs/request",
        "memory",
        "others",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    hall.time_openings_after_a_kill(args.opens).await?;
    let base = hall.rooms.first().map(|it| it.cell.clone()).unwrap_or_default();
    for room in &hall.rooms {
        let name = format!("{:.1} M", room.answers as f64 / 1e6);
        if let Some(why) = &room.cell.failed {
            lines.push(vec![name, format!("FAILED: {why}")]);
            continue;
        }
        let [ratio, quartiles] = room
            .cell
            .ratio(&base, |it| it.seen.rate())
            .map_or_else(Default::default, |[low, middle, high]| {
                [format!("{middle:.2}"), format!("{low:.2}–{high:.2}")]
            });
        lines.push(vec![
            name,
            format!("{:.1}", room.filled.as_secs_f64()),
            mib(room.disk),
            format!("{:.2}", onceward_bench::latency::median(&room.opens)),
            format!("{:.2}", onceward_bench::latency::median(&room.opens_killed)),
            format!("{:.0}", room.cell.median(|it| it.seen.rate())),
            ratio,
            quartiles,
            format!("{:.2}", room.cell.median(|it| it.seen.p50_us) / 1e3),
            format!("{:.2}", room.cell.median(|it| it.seen.p99_us) / 1e3),
            format!("{:.1}", room.cell.median(|it| it.cpu_us)),
            mib(room.memory),
            format!("{:.0} %", room.cell.median(|it| it.others) * 100.0),
        ]);
    }
    let fine = hall.rooms.iter().all(|it| it.cell.failed.is_none());
    hall.rooms.clear();
    Ok((format!("\n## Sizes\n\n{}", aligned(&lines)), fine))
}
