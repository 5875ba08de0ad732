//! `hostile`: attackers beside honest callers.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use onceward_bench::caller::{self, Mix, Plan};
use onceward_bench::gateway::{Gateway, SETTINGS};
use onceward_bench::hostile::verdict::{self, Observed};
use onceward_bench::hostile::{self, Attack, smuggle};
use onceward_bench::upstream::Upstream;
use onceward_bench::usage::{Usage, mib};
use onceward_bench::{Result, args::Common, client, conclude};
use tokio::time::{Instant, sleep};

/// Do honest callers notice an attack, and does the gateway come back to what it was?
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// How long the attack lasts
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What the attackers' choices come from; a random one is printed when absent
    #[arg(long)]
    seed: Option<u64>,
    /// How many attackers there are at a time
    #[arg(long, default_value_t = 48)]
    attackers: u64,
    /// Only these attacks, by name
    #[arg(long, value_delimiter = ',')]
    only: Vec<Attack>,
    /// Requests a second of the honest callers
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// How much more memory, in MiB, the gateway may hold afterwards
    #[arg(long, default_value_t = 32)]
    growth: u64,
    /// How much more memory, in MiB, the gateway may hold at any moment of the attack
    #[arg(long, default_value_t = 256)]
    peak: u64,
}

/// How long the honest callers go on alone, before the attack and after it.
const ALONE: Duration = Duration::from_secs(10);
/// How long connections of attackers may linger on the gateway's side: its header time-out and a little.
const SETTLED: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let ended = run(Args::parse()).await;
    if let Ok(true) = ended {
        println!("all held");
    }
    conclude("hostile", ended)
}

async fn run(args: Args) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!(
        "seed {seed}; {} s, {} attackers, {} honest requests/s",
        args.seconds, args.attackers, args.rate
    );
    let upstream = Upstream::start()?;
    let gateway = Gateway::start(&args.common, SETTINGS, &upstream.urls()).await?;
    let length = Duration::from_secs(args.seconds);
    send_vectors(&gateway, &upstream).await?;

    let plan = |length: Duration, run: u64| Plan {
        target: gateway.address,
        connections: 16,
        rate: args.rate,
        length,
        warm_up: Duration::ZERO,
        mix: Mix::Half,
        replays: true,
        fresh_every: 20,
        run,
    };
    let alone = caller::run(plan(ALONE, 1)).await?;
    let before = gateway.usage()?;
    show("before the attack", before);
    let sampling = async {
        let begun = Instant::now();
        let mut most = before;
        let mut next = Duration::from_secs(10);
        while begun.elapsed() < length {
            sleep(Duration::from_millis(200)).await;
            let now = gateway.usage()?;
            most.rss = most.rss.max(now.rss);
            most.descriptors = most.descriptors.max(now.descriptors);
            if begun.elapsed() >= next {
                show(&format!("after {} s", next.as_secs()), now);
                next += Duration::from_secs(10);
            }
        }
        Ok::<_, onceward_bench::Trouble>(most)
    };
    let attack = hostile::attack(hostile::Plan {
        target: gateway.address,
        admin: gateway.admin,
        attackers: args.attackers,
        length,
        seed,
        attacks: if args.only.is_empty() { Attack::EACH.to_vec() } else { args.only.clone() },
    });
    let (count, tally, most) = tokio::join!(attack, caller::run(plan(length, 2)), sampling);
    let (tally, most) = (tally?, most?);
    show("most during it", most);
    let after = caller::run(plan(ALONE, 3)).await?;
    let begun = Instant::now();
    let mut end = gateway.usage()?;
    while begun.elapsed() < SETTLED && !verdict::is_back(before, end, args.growth) {
        sleep(Duration::from_millis(500)).await;
        end = gateway.usage()?;
    }
    show(&format!("after it, {:.0} s of rest", begun.elapsed().as_secs_f64()), end);

    println!("attacks:");
    for (attack, (all, refused)) in &count {
        println!("  {:<20} {all:>6} ({refused} could not connect afterwards)", format!("{attack:?}"));
    }
    for (when, one) in [("before", &alone), ("during", &tally), ("after", &after)] {
        let [p50, p99] = [0.5, 0.99].map(|share| one.all().quantile(share).as_secs_f64() * 1e3);
        println!(
            "honest callers {when}: {} of {} right, {} replays, {} found their connection closed, p50 {p50:.2} ms, p99 {p99:.2} ms",
            one.right,
            one.right + one.wrong,
            one.replayed,
            one.reconnects
        );
    }
    let answers = client::get(gateway.address, "/fast").await.is_ok_and(|it| it.status == 200);
    let seen = Observed {
        before,
        end,
        most,
        growth_mib: args.growth,
        peak_mib: args.peak,
        honest: [("before", &alone), ("during", &tally), ("after", &after)],
        strange: upstream.strange(),
        panics: gateway.panics()?,
        answers: answers && gateway.is_ready().await,
    };
    println!("panics in the log: {}; still answering: {}", seen.panics.len(), seen.answers);
    let mut failures = verdict::failures(&seen);
    if let Err(error) = gateway.stop().await {
        failures.push(format!("it did not stop well: {error}"));
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    Ok(failures.is_empty())
}

/// Sends each ambiguous request once, alone, so that what reaches the upstream has a name.
async fn send_vectors(gateway: &Gateway, upstream: &Upstream) -> Result<()> {
    println!("ambiguous requests, none may reach the upstream:");
    for vector in smuggle::VECTORS {
        let said = vector.send(gateway.address).await?;
        let mut passed = upstream.strange();
        passed.retain(|it| it.ends_with(&format!("/{}", vector.name)));
        let said = if said.is_empty() { "closed" } else { &said };
        let verdict = if passed.is_empty() { String::new() } else { format!("  REACHED IT: {passed:?}") };
        println!("  {:<20} {said}{verdict}", vector.name);
    }
    Ok(())
}

fn show(when: &str, it: Usage) {
    println!("{when:<28} {:>10}, {:>5} descriptors, {} threads", mib(it.rss), it.descriptors, it.threads);
}
