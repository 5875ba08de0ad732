//! What a measurement cost: processor time of all that takes part, and of everybody else.

use std::time::Duration;

use onceward_bench::Result;
use onceward_bench::cell::Sample;
use onceward_bench::cpu::{self, Machine};
use onceward_bench::latency::Latencies;
use onceward_bench::load::Seen;

/// Processor time so far: of this process and all its children, servers included; of one server; of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    all: u64,
    server: u64,
    machine: Machine,
}

impl Spent {
    /// Up to now. `server` is a process, where all the work of a server is done by one that stays.
    ///
    /// # Errors
    /// The server has ended.
    pub fn now(server: Option<u32>) -> Result<Self> {
        let server = server.map_or(Ok(0), cpu::of_tree)?;
        Ok(Self { all: cpu::of_all(std::process::id())?, server, machine: Machine::now()? })
    }

    /// A measurement that began at `before` and ends now, in which `seen` was seen.
    #[must_use]
    pub fn since(&self, before: &Self, seen: Seen) -> Sample {
        let of = |it: fn(&Self) -> u64| it(self).saturating_sub(it(before)) as f64;
        let cores = std::thread::available_parallelism().map_or(1.0, |it| it.get() as f64);
        let others = of(|it| it.machine.busy + it.machine.steal) - of(|it| it.all);
        Sample {
            seen,
            cpu_us: of(|it| it.all) / seen.requests as f64,
            upstream_us: of(|it| it.server) / seen.requests as f64,
            generator_us: 0.0,
            others: others.max(0.0) / (cores * seen.took_us as f64),
        }
    }
}

/// What these latencies say, over a time that all of them lie in.
///
/// # Errors
/// The time is longer than can be counted.
pub fn seen(mut took: Latencies, length: Duration) -> Result<Seen> {
    let [p50_us, p99_us] = [0.5, 0.99].map(|it| took.quantile(it).as_secs_f64() * 1e6);
    Ok(Seen { p50_us, p99_us, ..counted(took.count() as u64, length)? })
}

/// So many within this time, each of which nobody took the time of.
///
/// # Errors
/// The time is longer than can be counted.
pub fn counted(requests: u64, length: Duration) -> Result<Seen> {
    let took_us = u64::try_from(length.as_micros())?.max(1);
    Ok(Seen { requests, took_us, refused: 0, broken: 0, p50_us: 0.0, p99_us: 0.0 })
}
