//! Runs seeds, many or one.

use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum as _};
use onceward_simulation::{Break, Options, Share, Sum, run, run_many};

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
    /// Runs this seed twice and compares the traces.
    #[arg(long, requires = "seed")]
    twice: bool,
    /// Breaks something on purpose.
    #[arg(long, value_enum)]
    broken: Option<Break>,
    /// How many processes share the seeds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    processes: u64,
    /// Runs a part of the seeds and writes what the parent reads.
    #[arg(long, value_name = "PART/PARTS", value_parser = share, hide = true)]
    share: Option<(u64, u64)>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = pair(text, "..")?;
    Ok(from..to)
}

fn share(text: &str) -> Result<(u64, u64), String> {
    pair(text, "/").and_then(|it| if it.0 < it.1 { Ok(it) } else { Err("no such part".into()) })
}

fn pair(text: &str, between: &str) -> Result<(u64, u64), String> {
    let (one, other) = text.split_once(between).ok_or(format!("write A{between}B"))?;
    let number = |it: &str| it.parse().map_err(|error| format!("{it}: {error}"));
    Ok((number(one)?, number(other)?))
}

fn main() -> ExitCode {
    let Arguments { seeds, seed, trace, twice, broken, processes, share } = Arguments::parse();
    if let Some(seed) = seed {
        if twice && !is_the_same_twice(seed, broken) {
            println!("seed {seed}: the second run differs");
            return ExitCode::FAILURE;
        }
        return one(seed, broken, trace);
    }
    if let Some((part, parts)) = share {
        print!("{}", Share { seeds, part, parts }.run(broken).write());
        return ExitCode::SUCCESS;
    }
    #[expect(clippy::disallowed_methods, reason = "how long the machine took, for people")]
    let began = Instant::now();
    let name = broken.and_then(|it| it.to_possible_value());
    let sum = match run_many(&seeds, processes, name.as_ref().map(|it| it.get_name())) {
        Ok(sum) => sum,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    print(&sum, began.elapsed());
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

fn is_the_same_twice(seed: u64, broken: Option<Break>) -> bool {
    let traced = || run(seed, Options { broken, tracing: true });
    let (once, again) = (traced(), traced());
    (once.events, once.counts, once.simulated) == (again.events, again.counts, again.simulated)
}

fn print(sum: &Sum, took: Duration) {
    for (what, count) in &sum.counts {
        println!("{count:>10}  {what}");
    }
    let minutes = took.as_secs_f64() / 60.0;
    let rate = f64::from(u32::try_from(sum.seeds).unwrap_or(u32::MAX)) / minutes;
    println!(
        "\n{} seeds in {:.1} s: {rate:.0} seeds per minute, {:.1} hours simulated",
        sum.seeds,
        took.as_secs_f64(),
        sum.simulated.as_secs_f64() / 3600.0
    );
}
