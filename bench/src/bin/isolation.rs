//! `isolation`: p50 and p99 of honest callers with and without a bad neighbour.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use onceward_bench::caller::{self, Mix, Plan};
use onceward_bench::disturb::{Disturbance, Neighbour};
use onceward_bench::gateway::{Gateway, SETTINGS};
use onceward_bench::latency::{Latencies, median};
use onceward_bench::nginx::{Nginx, Role};
use onceward_bench::upstream::Upstream;
use onceward_bench::{Result, args::Common, conclude};
use tokio::time::sleep;

/// Does one bad neighbour make other callers slower?
///
/// Quiet and disturbed rounds alternate; the ratio of a pair is disturbed p99 / quiet p99.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Pairs of a quiet and a disturbed round, for each disturbance
    #[arg(long, default_value_t = 6)]
    pairs: u32,
    /// How long a round measures
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Requests a second of the honest callers
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Connections of the honest callers
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// Only these disturbances, by name
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out the comparison with nginx
    #[arg(long)]
    without_nginx: bool,
    /// The highest median ratio that passes
    #[arg(long, default_value_t = 1.10)]
    limit: f64,
}

/// What is measured.
struct Subject {
    name: &'static str,
    address: std::net::SocketAddr,
    replays: bool,
}

/// The rounds of one subject under one disturbance.
#[derive(Default)]
struct Rounds {
    quiet: [Latencies; 3],
    disturbed: [Latencies; 3],
    ratios: [Vec<f64>; 3],
    wrong: u64,
    reasons: Vec<String>,
}

const CLASSES: [&str; 3] = ["reads", "operations", "all"];

#[tokio::main]
async fn main() -> ExitCode {
    conclude("isolation", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<bool> {
    let upstream = Upstream::start()?;
    let gateway = Gateway::start(&args.common, SETTINGS, &upstream.urls()).await?;
    let nginx =
        if args.without_nginx { None } else { Some(Nginx::start(Role::Streaming(upstream.http1[0])).await?) };
    let mut subjects = vec![Subject { name: "onceward", address: gateway.address, replays: true }];
    subjects.extend(nginx.iter().map(|it| Subject { name: "nginx", address: it.address, replays: false }));
    println!(
        "{} pairs of rounds of {} s, {} requests/s over {} connections; half reads, half operations; load average {}",
        args.pairs,
        args.seconds,
        args.rate,
        args.connections,
        load_average()
    );
    println!(
        "{:<16} {:<9} {:<10} {:>22} {:>22} {:>8}  {:<15}",
        "disturbance",
        "through",
        "class",
        "quiet p50 / p99 ms",
        "disturbed p50/p99 ms",
        "p99 ratio",
        "quartiles"
    );
    let (mut fine, mut run) = (true, 0);
    for what in Disturbance::EACH {
        if !args.only.is_empty() && !args.only.iter().any(|it| it == what.name()) {
            continue;
        }
        let mut rounds: Vec<Rounds> = subjects.iter().map(|_| Rounds::default()).collect();
        for pair in 0..args.pairs {
            for (subject, rounds) in subjects.iter().zip(&mut rounds) {
                run += 2;
                measure(&args, subject, what, &upstream, pair, run, rounds).await?;
            }
        }
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            let passes = print(what, subject, rounds, args.limit);
            // Of ours, all classes count; the noise floor and the bare proxy are only shown. An honest request
            // that failed counts whatever was measured.
            let only_shown = !subject.replays || what == Disturbance::Nothing;
            fine &= rounds.wrong == 0 && (passes || only_shown);
        }
    }
    let panics = gateway.panics()?;
    println!("panics in the log: {}; load average {}", panics.len(), load_average());
    gateway.stop().await?;
    Ok(fine && panics.is_empty())
}

/// One pair of rounds. Every other pair begins with the disturbed one, so that a drift cancels out.
async fn measure(
    args: &Args,
    subject: &Subject,
    what: Disturbance,
    upstream: &Upstream,
    pair: u32,
    run: u64,
    rounds: &mut Rounds,
) -> Result<()> {
    let mut p99 = [[0.0; 3]; 2];
    for step in 0..2 {
        let disturbed = (step == 1) != (pair % 2 == 1);
        let kind = if disturbed { what } else { Disturbance::Nothing };
        let neighbour = Neighbour::start(kind, subject.address, upstream, run + step).await?;
        let tally = caller::run(Plan {
            target: subject.address,
            connections: args.connections,
            rate: args.rate,
            length: Duration::from_secs(args.seconds) + WARM_UP,
            warm_up: WARM_UP,
            mix: Mix::Half,
            replays: subject.replays,
            fresh_every: 0,
            run: run + step,
        })
        .await?;
        neighbour.stop(upstream, subject.replays).await?;
        rounds.wrong += tally.wrong;
        rounds.reasons.extend(tally.reasons.iter().cloned());
        let into = if disturbed { &mut rounds.disturbed } else { &mut rounds.quiet };
        for (class, mut one) in
            [tally.reads.clone(), tally.operations.clone(), tally.all()].into_iter().enumerate()
        {
            p99[usize::from(disturbed)][class] = one.quantile(0.99).as_secs_f64();
            into[class].merge(&one);
        }
        // What the neighbour leaves behind in the kernel should not fall into the next round.
        sleep(Duration::from_millis(300)).await;
    }
    for (class, ratios) in rounds.ratios.iter_mut().enumerate() {
        ratios.push(p99[1][class] / p99[0][class]);
    }
    Ok(())
}

const WARM_UP: Duration = Duration::from_millis(500);

fn print(what: Disturbance, subject: &Subject, rounds: &mut Rounds, limit: f64) -> bool {
    let mut fine = true;
    for (class, name) in CLASSES.iter().enumerate() {
        let [quiet, disturbed] = [&mut rounds.quiet[class], &mut rounds.disturbed[class]].map(|it| {
            let [p50, p99] = [0.5, 0.99].map(|share| it.quantile(share).as_secs_f64() * 1e3);
            format!("{p50:.2} / {p99:.2}")
        });
        let mut ratios = rounds.ratios[class].clone();
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]);
        let middle = median(&ratios);
        fine &= middle < limit;
        let verdict =
            if middle < limit { format!("under {limit:.2}") } else { format!("NOT under {limit:.2}") };
        println!(
            "{:<16} {:<9} {name:<10} {quiet:>22} {disturbed:>22} {middle:>8.2}  {low:.2}–{high:.2}  {verdict}",
            what.name(),
            subject.name
        );
    }
    if rounds.wrong > 0 {
        let some = &rounds.reasons[..rounds.reasons.len().min(3)];
        println!(
            "{:<16} {:<9} {} HONEST REQUESTS FAILED: {some:#?}",
            what.name(),
            subject.name,
            rounds.wrong
        );
    }
    fine && rounds.wrong == 0
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
