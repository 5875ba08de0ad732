//! `store`: pairs of claim and completion through the embedded store, beside bare fjall and a bare file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use onceward_bench::cell::{Cell, Sample};
use onceward_bench::latency::Latencies;
use onceward_bench::load::Seen;
use onceward_bench::measure::Spent;
use onceward_bench::page::Page;
use onceward_bench::report::aligned;
use onceward_bench::{Result, conclude, machine};
use onceward_core::store::{Insert, Replace, Store as _};
use onceward_core::{Clock as _, SystemClock};
use onceward_pace::floor::{Floor, Kind, Rows};
use onceward_pace::made_up;
use onceward_store_embedded::{Durability, EmbeddedSettings, EmbeddedStore};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How far is the embedded store from its floor?
///
/// A pair is the claim of a new key and its completion with an answer of 300 bytes: two writes that wait for each
/// other. All rows of the table are measured in turn, round after round; the next round goes the other way.
#[derive(Debug, Parser)]
struct Args {
    /// Where the temporary folders are made; the system's default when absent
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How long each row is measured in each round
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Numbers of concurrent callers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    callers: Vec<u32>,
    /// Only these rows: store, fjall, file
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the tables are also written, as Markdown
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Takes pairs.
#[derive(Debug, Clone)]
enum Taker {
    Store(Arc<EmbeddedStore>),
    Floor(Arc<Floor>),
}

/// One row of the table.
struct Subject {
    name: &'static str,
    durability: Durability,
    taker: Taker,
    _folder: TempDir,
}

#[tokio::main]
async fn main() -> ExitCode {
    conclude("store", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<bool> {
    let mut subjects = Vec::new();
    for durability in [Durability::Durable, Durability::Relaxed] {
        for name in ["file", "fjall", "store"] {
            if args.only.is_empty() || args.only.iter().any(|it| it == name) {
                subjects.push(Subject::start(name, durability, &args).await?);
            }
        }
    }
    let Some(first) = subjects.first() else { return Err("--only leaves nothing".into()) };
    let mut page = Page::begin(format!(
        "# The embedded store beside its floor\n\nWritten by `cargo xtask bench store`; \
         [how to read it](../../docs/benchmarks.md#store).\n\n{}- {} rounds of {} s for each row; load average at \
         the start {}\n",
        machine::facts(first._folder.path()),
        args.rounds,
        args.seconds,
        machine::load_average()
    ));
    for &callers in &args.callers {
        let mut cells: Vec<Cell> = subjects.iter().map(|_| Cell::default()).collect();
        for round in 0..args.rounds {
            let mut order: Vec<usize> = (0..subjects.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for number in order {
                let sample =
                    measure(&subjects[number].taker, callers, Duration::from_secs(args.seconds)).await?;
                cells[number].samples.push(sample);
            }
        }
        page.add(&format!("\n## {callers} callers\n\n{}", table(&subjects, &cells)));
    }
    page.end(args.out.as_deref())?;
    Ok(true)
}

impl Subject {
    async fn start(name: &'static str, durability: Durability, args: &Args) -> Result<Self> {
        let folder = match &args.folder {
            Some(parent) => TempDir::new_in(parent)?,
            None => TempDir::new()?,
        };
        let path = folder.path().join("records");
        let taker = match name {
            "file" => Taker::Floor(Arc::new(Floor::start(Kind::File, &path, durability)?)),
            "fjall" => Taker::Floor(Arc::new(Floor::start(Kind::Fjall, &path, durability)?)),
            _ => {
                let settings = EmbeddedSettings { durability, ..EmbeddedSettings::new(path) };
                Taker::Store(Arc::new(EmbeddedStore::open_async(settings, Arc::new(SystemClock)).await?))
            }
        };
        Ok(Self { name, durability, taker, _folder: folder })
    }
}

impl Taker {
    /// Claims a new key and completes it.
    async fn pair(&self) -> Result<()> {
        let (id, claim) = (made_up::id(), made_up::claim(format!("r00001-0-{}", fastrand::u32(..))));
        match self {
            Self::Store(store) => {
                let Insert::Kept(running) = store.insert(id, &claim).await? else {
                    return Err("a new key was not kept".into());
                };
                let done = made_up::completion(claim, made_up::answer());
                match store.replace(id, running.revision, &done).await? {
                    Replace::Kept(_) => Ok(()),
                    Replace::Lost(..) | Replace::Late(_) => Err("a completion was not kept".into()),
                }
            }
            Self::Floor(floor) => {
                let running = claim.stamp(id, None, SystemClock.wall());
                floor.write(Rows::of(None, &running)).await?;
                let done = made_up::completion(claim, made_up::answer());
                let done = done.stamp(id, Some(&running), SystemClock.wall());
                floor.write(Rows::of(Some(&running), &done)).await
            }
        }
    }
}

/// Lets that many callers take pairs one after the other.
async fn measure(taker: &Taker, callers: u32, length: Duration) -> Result<Sample> {
    let (mut tasks, begun) = (JoinSet::new(), Instant::now());
    let before = Spent::now(Some(std::process::id()), None)?;
    for _ in 0..callers {
        let taker = taker.clone();
        tasks.spawn(async move {
            let mut took = Latencies::default();
            while begun.elapsed() < length {
                let asked = Instant::now();
                taker.pair().await?;
                took.add(asked.elapsed());
            }
            Result::Ok(took)
        });
    }
    let mut took = Latencies::default();
    while let Some(ended) = tasks.join_next().await {
        took.merge(&ended??);
    }
    let after = Spent::now(Some(std::process::id()), None)?;
    let [p50_us, p99_us] = [0.5, 0.99].map(|it| took.quantile(it).as_secs_f64() * 1e6);
    let took_us = u64::try_from(begun.elapsed().as_micros())?;
    let requests = took.count() as u64;
    Ok(after.since(before, Seen { requests, took_us, refused: 0, broken: 0, p50_us, p99_us }))
}

fn table(subjects: &[Subject], cells: &[Cell]) -> String {
    let head = ["row", "durability", "pairs/s", "× file", "× fjall", "p50 ms", "p99 ms", "µs/pair", "others"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (subject, cell) in subjects.iter().zip(cells) {
        let beside = |name: &str| {
            let is_base =
                |it: &&(&Subject, &Cell)| it.0.name == name && it.0.durability == subject.durability;
            let base = subjects.iter().zip(cells).collect::<Vec<_>>().iter().find(is_base).map(|it| it.1);
            let ratio = base.and_then(|it| cell.ratio(it, |it| it.seen.rate()));
            ratio.map_or(String::new(), |[low, middle, high]| format!("{middle:.2} ({low:.2}–{high:.2})"))
        };
        lines.push(vec![
            subject.name.to_owned(),
            format!("{:?}", subject.durability).to_lowercase(),
            format!("{:.0}", cell.median(|it| it.seen.rate())),
            beside("file"),
            beside("fjall"),
            format!("{:.3}", cell.median(|it| it.seen.p50_us) / 1e3),
            format!("{:.3}", cell.median(|it| it.seen.p99_us) / 1e3),
            format!("{:.1}", cell.median(|it| it.cpu_us)),
            format!("{:.0} %", cell.median(|it| it.others) * 100.0),
        ]);
    }
    aligned(&lines)
}
