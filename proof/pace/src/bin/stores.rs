//! `stores`: claims, completions and replays through every store, each beside its floor; then the gateway over each.

mod stores {
    pub(crate) mod callers;
    pub(crate) mod gateway;
    pub(crate) mod pgbench;
    pub(crate) mod place;
    pub(crate) mod redis_floor;
    pub(crate) mod resp;
    pub(crate) mod rows;
}

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use onceward_bench::cell::Cell;
use onceward_bench::page::Page;
use onceward_bench::{Result, conclude, machine, until_told_to_end};
use stores::place::{Kind, Place};
use stores::rows::{self, By, Row, What};

/// How far is each store from its floor?
///
/// A pair is the claim of a new key and its completion with an answer of 300 bytes, two calls that wait for each other.
/// A replay is a claim that finds a stored answer. All rows of a table are measured in turn, round after round; the
/// next round goes the other way. Servers are private, new for each number of callers, and on one disk.
#[derive(Debug, Parser)]
struct Args {
    /// Where the temporary folders of all stores are made; users that servers run as must be able to enter it
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// How long each row is measured in each round
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Numbers of concurrent callers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    callers: Vec<u32>,
    /// Only these stores: memory, embedded, postgres, redis, redis-everysec
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Only these calls: pair, claim, replay
    #[arg(long, value_delimiter = ',')]
    what: Vec<What>,
    /// Only these callers: program, bare, store
    #[arg(long, value_delimiter = ',')]
    by: Vec<By>,
    /// Numbers of connections to the gateway over each store; 0 leaves the gateway out
    #[arg(long, value_delimiter = ',', default_values_t = [64])]
    connections: Vec<u32>,
    /// Where the tables are also written, as Markdown
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    conclude("stores", until_told_to_end(run(Args::parse())).await)
}

async fn run(args: Args) -> Result<bool> {
    let kinds = if args.only.is_empty() { Kind::EACH.to_vec() } else { args.only.clone() };
    let mut page = Page::begin(head(&args));
    for &callers in &args.callers {
        let mut places = Vec::new();
        for kind in &kinds {
            places.push(Place::start(*kind, &args.folder).await?);
        }
        let measured = rounds(&places, callers, &args).await?;
        page.add(&format!("\n## {callers} callers\n\n{}", rows::table(&measured)));
    }
    let connections: Vec<u32> = args.connections.iter().copied().filter(|it| *it > 0).collect();
    if !connections.is_empty() {
        page.add(&stores::gateway::measure(&kinds, &args.folder, &connections, args.rounds).await?);
    }
    page.end(args.out.as_deref())?;
    Ok(true)
}

/// Measures every row in every round, and once for a second before it counts.
async fn rounds(places: &[Place], callers: u32, args: &Args) -> Result<Vec<(Row, Cell)>> {
    let rows = places.iter().enumerate().flat_map(|(place, it)| Row::all(place, it));
    let rows = rows.filter(|it| it.is_wanted(&args.what, &args.by));
    let mut cells: Vec<(Row, Cell)> = rows.map(|it| (it, Cell::default())).collect();
    for (row, _) in &cells {
        row.measure(&places[row.place], callers, Duration::from_secs(1)).await?;
    }
    for round in 0..args.rounds {
        let mut order: Vec<usize> = (0..cells.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for number in order {
            let (row, cell) = &mut cells[number];
            let length = Duration::from_secs(args.seconds);
            cell.samples.push(row.measure(&places[row.place], callers, length).await?);
        }
    }
    Ok(cells)
}

fn head(args: &Args) -> String {
    let of = |program: &str, word: &str| machine::version(Command::new(program).arg(word));
    format!(
        "# Every store beside its floor\n\nWritten by `cargo xtask bench stores`; \
         [how to read it](../../docs/benchmarks.md#stores).\n\n{}- {}\n- {}\n- {}\n- {}\n- {} rounds of {} s for each \
         row; load average at the start {}\n",
        machine::facts(&args.folder),
        of("pgbench", "--version"),
        of("postgres", "--version"),
        of("redis-server", "--version"),
        of("redis-benchmark", "--version"),
        args.rounds,
        args.seconds,
        machine::load_average()
    )
}
