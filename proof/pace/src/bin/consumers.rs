//! `consumers`: what it costs a consumer that its messages have their effect once, and how fast a relay empties an outbox.

mod consumers {
    pub(crate) mod effect;
    pub(crate) mod floor;
    pub(crate) mod outbox;
    pub(crate) mod place;
    pub(crate) mod plain;
    pub(crate) mod rows;
    pub(crate) mod source;
}

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use consumers::outbox::{self, Outboxes};
use consumers::place::{Kind, Place};
use consumers::rows::{self, By, From, Row};
use onceward_bench::cell::{Cell, Sample};
use onceward_bench::page::Page;
use onceward_bench::{Result, conclude, machine, until_told_to_end};

/// What does it cost that messages have their effect once, and how fast is a relay?
///
/// A consumer whose handler writes once for each message, beside the same handler in a loop that remembers nothing; then a
/// relay that empties an outbox, beside `pgbench`. All rows of a table are measured in turn, round after round; the next
/// round goes the other way. Servers are private, and on one disk.
#[derive(Debug, Parser)]
struct Args {
    /// Where the temporary folders of all servers are made; users that servers run as must be able to enter it
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// How long each row is measured in each round
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How many keys messages have, and how many handlers run at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    keys: Vec<u32>,
    /// With how many keys messages also come from a broker; 0 leaves the broker out
    #[arg(long, default_value_t = 16)]
    broker: u32,
    /// Only these stores: postgres, redis, redis-everysec
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Only these parts: consumers, relay
    #[arg(long, value_delimiter = ',')]
    part: Vec<Part>,
    /// Where the tables are also written, as Markdown
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Consumers that remember, beside a loop that does not
    Consumers,
    /// A relay
    Relay,
}

#[tokio::main]
async fn main() -> ExitCode {
    conclude("consumers", until_told_to_end(run(Args::parse())).await)
}

async fn run(args: Args) -> Result<bool> {
    let mut page = Page::begin(head(&args));
    let wants = |part| args.part.is_empty() || args.part.contains(&part);
    if wants(Part::Consumers) {
        let kinds = if args.only.is_empty() { Kind::EACH.to_vec() } else { args.only.clone() };
        let place = Place::start(&args.folder, &kinds).await?;
        for &keys in &args.keys {
            let mut rows = Vec::new();
            for (kind, from) in kinds.iter().flat_map(|kind| [(*kind, From::Memory), (*kind, From::Broker)]) {
                let bys: &[By] = match from {
                    // What our loop costs is seen where no sync hides it.
                    From::Memory if kind == Kind::Redis => &[By::Plain, By::Hand, By::Once],
                    From::Memory => &[By::Plain, By::Hand, By::Memory, By::Once],
                    From::Broker if keys == args.broker => &[By::Plain, By::Once],
                    From::Broker => &[],
                };
                rows.extend(bys.iter().map(|by| Row { kind, from, by: *by, keys }));
            }
            let measured =
                in_turn(rows, &args, async |row, length| row.measure(&place, length).await).await?;
            page.add(&format!("\n## {keys} {}\n\n", if keys == 1 { "key" } else { "keys" }));
            page.add(&rows::table(&measured));
        }
    }
    if wants(Part::Relay) {
        let place = Outboxes::start(&args.folder).await?;
        let measured =
            in_turn(outbox::Row::EACH.to_vec(), &args, async |row, length| row.measure(&place, length).await);
        page.add("\n## Relay\n\n");
        page.add(&outbox::table(&measured.await?));
    }
    page.end(args.out.as_deref())?;
    Ok(true)
}

/// Measures every row in every round, and once for a second before it counts.
async fn in_turn<R>(
    rows: Vec<R>,
    args: &Args,
    measure: impl AsyncFn(&R, Duration) -> Result<Sample>,
) -> Result<Vec<(R, Cell)>> {
    let mut cells: Vec<(R, Cell)> = rows.into_iter().map(|it| (it, Cell::default())).collect();
    for (row, _) in &cells {
        measure(row, Duration::from_secs(1)).await?;
    }
    for round in 0..args.rounds {
        let mut order: Vec<usize> = (0..cells.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for number in order {
            let (row, cell) = &mut cells[number];
            cell.samples.push(measure(row, Duration::from_secs(args.seconds)).await?);
        }
    }
    Ok(cells)
}

fn head(args: &Args) -> String {
    let of = |program: &str, word: &str| machine::version(Command::new(program).arg(word));
    format!(
        "# Consumers and relays beside their floor\n\nWritten by `cargo xtask bench consumers`; \
         [how to read it](../../docs/benchmarks.md#consumers).\n\n{}- {}\n- {}\n- {}\n- {} rounds of {} s for each row; \
         load average at the start {}\n",
        machine::facts(&args.folder),
        of("pgbench", "--version"),
        of("postgres", "--version"),
        of("redis-server", "--version"),
        args.rounds,
        args.seconds,
        machine::load_average()
    )
}
