//! Runs seeds, many or one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use onceward_simulation::{Break, Options, Report, run};

/// Runs the gateway in a simulated world, seed by seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs the seeds from A up to, not including, B.
    #[arg(long, value_name = "A..B", value_parser = range, default_value = "0..1000")]
    seeds: Range<u64>,
    /// Runs this seed alone.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Prints everything that happens.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Breaks something on purpose.
    #[arg(long, value_enum)]
    broken: Option<Break>,
    /// How many seeds run at once.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write A..B")?;
    let number = |it: &str| it.parse().map_err(|error| format!("{it}: {error}"));
    Ok(number(from)?..number(to)?)
}

fn main() -> ExitCode {
    let Arguments { seeds, seed, trace, broken, threads } = Arguments::parse();
    if let Some(seed) = seed {
        return one(seed, broken, trace);
    }
    #[expect(clippy::disallowed_methods, reason = "how long the machine took, for people")]
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(seed, Options { broken, tracing: false });
                    failed.fetch_or(!report.violations.is_empty(), Ordering::Relaxed);
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(report);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.print(began.elapsed());
    match sum.failed {
        None => ExitCode::SUCCESS,
        Some(seed) => {
            println!("\nseed {seed} fails; once more, with its trace:\n");
            one(seed, broken, true)
        }
    }
}

fn one(seed: u64, broken: Option<Break>, trace: bool) -> ExitCode {
    let report = run(seed, Options { broken, tracing: trace });
    for event in &report.events {
        println!("{event}");
    }
    for (what, count) in &report.counts {
        println!("{count:>8}  {what}");
    }
    for (violation, why) in &report.violations {
        println!("\nseed {seed}: {violation:?}: {why}");
    }
    if report.violations.is_empty() {
        println!("\nseed {seed}: clean, {:?} simulated", report.simulated);
        return ExitCode::SUCCESS;
    }
    println!("replay: cargo run --release -p onceward-simulation -- --seed {seed} --trace");
    ExitCode::FAILURE
}

/// What many seeds came to.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    simulated: Duration,
    counts: BTreeMap<String, u64>,
    failed: Option<u64>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.simulated += report.simulated;
        for (what, count) in report.counts {
            *self.counts.entry(what).or_default() += count;
        }
        if !report.violations.is_empty() {
            self.failed = Some(self.failed.map_or(report.seed, |it| it.min(report.seed)));
        }
    }

    fn print(&self, took: Duration) {
        for (what, count) in &self.counts {
            println!("{count:>10}  {what}");
        }
        let minutes = took.as_secs_f64() / 60.0;
        let rate = f64::from(u32::try_from(self.seeds).unwrap_or(u32::MAX)) / minutes;
        println!(
            "\n{} seeds in {:.1} s: {rate:.0} seeds per minute, {:.1} hours simulated",
            self.seeds,
            took.as_secs_f64(),
            self.simulated.as_secs_f64() / 3600.0
        );
    }
}
