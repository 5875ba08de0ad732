//! How late somebody is told who waits in another process.
//!
//! `cargo run --release -p onceward --features postgres,redis --example waiting -- URL`; compare with `hints=off`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use onceward::{
    Answer, Attempt, Begin, Clock as _, Engine, InFlight, Key, Policy, Principal, Scope, SystemClock,
};
use tokio::task::JoinSet;

/// How many operations run at once, each with somebody who waits for it.
const OPERATIONS: u64 = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("name the URL of a shared store")?;
    let (holder, other) =
        (Engine::new(onceward::open(&url).await?), Arc::new(Engine::new(onceward::open(&url).await?)));
    let run = SystemClock.wall().as_millis();
    for run_ms in [50, 500, 3000] {
        let mut late = measured(&holder, &other, run, run_ms).await?;
        late.sort_unstable();
        let at = |share: usize| late[(late.len() - 1) * share / 100];
        println!("runs of {run_ms} ms: told {:?} late in the middle, {:?} at most", at(50), at(100));
    }
    Ok(())
}

/// By how much each of those who wait is told later than its holder.
async fn measured(
    holder: &Engine,
    other: &Arc<Engine>,
    run: u64,
    run_ms: u64,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let (mut holders, mut waiters) = (JoinSet::new(), JoinSet::new());
    for number in 0..OPERATIONS {
        let attempt = Attempt {
            scope: Scope {
                principal: Principal::ANONYMOUS,
                kind: "measure".into(),
                host: String::new(),
                path: "/".into(),
            },
            key: Key::parse(&format!("{run}-{run_ms}-{number}"))?,
            fingerprint: holder.hasher().await?.fingerprint([]),
            policy: Policy::default(),
            in_flight: InFlight::Wait(Duration::from_secs(60)),
        };
        let Begin::Run(permit) = holder.begin(&attempt).await? else { return Err("it is new".into()) };
        let pause = Duration::from_millis(run_ms + number * 7 % 50);
        holders.spawn(async move {
            tokio::time::sleep(pause).await;
            permit.complete(Answer::new("text", "done")).await.map(|_| (number, SystemClock.boot()))
        });
        let other = Arc::clone(other);
        waiters.spawn(async move { other.begin(&attempt).await.map(|_| (number, SystemClock.boot())) });
    }
    let mut told = vec![(Duration::ZERO, Duration::ZERO); usize::try_from(OPERATIONS)?];
    for ended in holders.join_all().await {
        let (number, at) = ended.map_err(|it| format!("{it:?}"))?;
        told[usize::try_from(number)?].0 = at;
    }
    for ended in waiters.join_all().await {
        let (number, at) = ended?;
        told[usize::try_from(number)?].1 = at;
    }
    Ok(told.into_iter().map(|(ended, told)| told.saturating_sub(ended)).collect())
}
