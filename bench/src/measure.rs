//! One measurement under load from wrk: what came back, what it cost, and whether it was what it should be.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::task::spawn_blocking;

use crate::cell::Sample;
use crate::cpu::{self, Machine};
use crate::gateway::Gateway;
use crate::load::{self, Requests, Seen, Strength};
use crate::{Result, client};

/// Who is sent the requests.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The API itself.
    Upstream(SocketAddr),
    /// Another process before the API.
    Other(SocketAddr, u32),
    /// The gateway, and the outcome that it must count for each request.
    Gateway(&'a Gateway, &'static str),
}

impl Target<'_> {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Upstream(address) | Self::Other(address, _) => *address,
            Self::Gateway(gateway, _) => gateway.address,
        }
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Upstream(_) => None,
            Self::Other(_, pid) => Some(*pid),
            Self::Gateway(gateway, _) => Some(gateway.pid()),
        }
    }
}

/// Sends requests to `target`, behind which the process `upstream` answers. The inner error says why there is no
/// figure.
///
/// # Errors
/// The load generator is missing, or a process has ended.
pub async fn measure(
    target: Target<'_>,
    upstream: u32,
    requests: Requests,
    strength: Strength,
) -> Result<std::result::Result<Sample, String>> {
    let counted = outcomes(target).await?;
    let (address, before) = (target.address(), Spent::now(target.pid(), Some(upstream))?);
    let seen = spawn_blocking(move || load::run(address, &requests, strength)).await??;
    let after = Spent::now(target.pid(), Some(upstream))?;
    let Seen { requests, refused, broken, .. } = seen;
    if requests == 0 || refused + broken > 0 {
        return Ok(Err(format!("{refused} refused and {broken} broken beside {requests} answered")));
    }
    if let Target::Gateway(_, wanted) = target
        && let Some(why) = strange(&counted, &outcomes(target).await?, wanted, requests)
    {
        return Ok(Err(why));
    }
    Ok(Ok(after.since(before, seen)))
}

/// Processor time that was spent so far, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    subject: u64,
    upstream: u64,
    generator: u64,
    machine: Machine,
}

impl Spent {
    /// Of what is measured, of the API, of the load generators that have ended, of the machine.
    ///
    /// # Errors
    /// A process has ended.
    pub fn now(subject: Option<u32>, upstream: Option<u32>) -> Result<Self> {
        Ok(Self {
            subject: subject.map_or(Ok(0), cpu::of_tree)?,
            upstream: upstream.map_or(Ok(0), cpu::of_tree)?,
            generator: cpu::of_reaped()?,
            machine: Machine::now()?,
        })
    }

    /// What the requests that were seen since `before` took.
    pub fn since(self, before: Self, seen: Seen) -> Sample {
        let of = |it: fn(&Self) -> u64| it(&self).saturating_sub(it(&before));
        let per = |it: fn(&Self) -> u64| of(it) as f64 / seen.requests as f64;
        let ours = of(|it| it.subject + it.upstream + it.generator);
        let others = of(|it| it.machine.busy + it.machine.steal).saturating_sub(ours);
        let cores = std::thread::available_parallelism().map_or(1.0, |it| it.get() as f64);
        Sample {
            seen,
            cpu_us: per(|it| it.subject),
            upstream_us: per(|it| it.upstream),
            generator_us: per(|it| it.generator),
            others: others as f64 / (cores * seen.took_us as f64),
        }
    }
}

/// How many requests had each outcome so far, with the class of their status.
async fn outcomes(target: Target<'_>) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    let Target::Gateway(gateway, _) = target else { return Ok(counts) };
    let page = client::get(gateway.admin, "/metrics").await?;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    for line in text.lines().filter_map(|it| it.strip_prefix("onceward_requests_total{")) {
        let label = |name: &str| {
            let rest = line.split_once(&format!("{name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let (Some(outcome), Some(class)) = (label("outcome"), label("status_class")) else { continue };
        let count: u64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
        *counts.entry(format!("{outcome} {class}")).or_default() += count;
    }
    Ok(counts)
}

/// What else the gateway counted than `requests` times the outcome that was wanted.
fn strange(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    wanted: &str,
    requests: u64,
) -> Option<String> {
    let wanted = format!("{wanted} 2xx");
    let grown = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    if let Some(other) = after.keys().find(|it| **it != wanted && grown(it) > 0) {
        return Some(format!("the gateway counted {} times {other}", grown(other)));
    }
    let count = grown(&wanted);
    (count < requests).then(|| format!("the gateway counted {count} times {wanted} for {requests} answers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_was_not_wanted_or_a_missing_one_is_strange() {
        let counts = |first: u64, busy: u64| {
            BTreeMap::from([("first_run 2xx".to_owned(), first), ("busy 4xx".to_owned(), busy)])
        };
        let say = |after| strange(&counts(5, 1), &after, "first_run", 10);
        assert_eq!(say(counts(15, 1)), None);
        assert_eq!(say(counts(17, 1)), None, "what was under way at the end may be counted");
        assert!(say(counts(15, 2)).is_some_and(|it| it.contains("1 times busy")));
        assert!(say(counts(14, 1)).is_some_and(|it| it.contains("9 times first_run")));
    }
}
