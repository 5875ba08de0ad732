//! Many seeds, on several processes: a simulation wants its process to itself.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::breaks::Break;
use crate::run::{Options, Report, run};

/// Which seeds one process runs: those of the range that leave this remainder.
#[derive(Debug, Clone)]
pub struct Share {
    /// The range.
    pub seeds: Range<u64>,
    /// The remainder.
    pub part: u64,
    /// Of a division by this.
    pub parts: u64,
}

/// What many seeds came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sum {
    /// How many were run.
    pub seeds: u64,
    /// How much time was simulated.
    pub simulated: Duration,
    /// How often what happened.
    pub counts: BTreeMap<String, u64>,
    /// The first that failed.
    pub failed: Option<u64>,
}

impl Share {
    /// Runs these seeds in this process, up to the first that fails.
    #[must_use]
    pub fn run(&self, broken: Option<Break>) -> Sum {
        let mut sum = Sum::default();
        for seed in self.seeds.clone().filter(|it| it % self.parts == self.part) {
            sum.add(run(seed, Options { broken, tracing: false }));
            if sum.failed.is_some() {
                break;
            }
        }
        sum
    }
}

/// Runs `seeds` on so many processes, each of which is this command again.
///
/// # Errors
/// A process could not be started, or said nothing that can be read.
pub fn run_many(seeds: &Range<u64>, processes: u64, broken: Option<&str>) -> io::Result<Sum> {
    let myself = std::env::current_exe()?;
    let mut children = Vec::new();
    for part in 0..processes {
        let mut child = Command::new(&myself);
        child.arg("--seeds").arg(format!("{}..{}", seeds.start, seeds.end));
        child.arg("--share").arg(format!("{part}/{processes}"));
        if let Some(broken) = broken {
            child.arg("--broken").arg(broken);
        }
        children.push(child.stdout(Stdio::piped()).spawn()?);
    }
    let mut sum = Sum::default();
    for child in children {
        let output = child.wait_with_output()?;
        let said = Sum::read(&String::from_utf8_lossy(&output.stdout));
        sum.merge(said.ok_or_else(|| io::Error::other("a process of the simulation died"))?);
    }
    Ok(sum)
}

impl Sum {
    fn add(&mut self, report: Report) {
        let failed = (!report.violations.is_empty()).then_some(report.seed);
        self.merge(Self { seeds: 1, simulated: report.simulated, counts: report.counts, failed });
    }

    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        self.failed = self.failed.into_iter().chain(other.failed).min();
    }

    /// What [`read`](Self::read) reads: a line for each number, and one that says that it is whole.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = format!("seeds {}\nsimulated {}\n", self.seeds, self.simulated.as_millis());
        if let Some(seed) = self.failed {
            text += &format!("failed {seed}\n");
        }
        for (what, count) in &self.counts {
            text += &format!("count {count} {what}\n");
        }
        text + "whole 1\n"
    }

    /// Reads what another process wrote; `None` when it is not whole.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (mut sum, mut whole) = (Self::default(), false);
        for line in text.lines() {
            let (word, rest) = line.split_once(' ')?;
            let (number, what) = rest.split_once(' ').unwrap_or((rest, ""));
            let number: u64 = number.parse().ok()?;
            match word {
                "seeds" => sum.seeds = number,
                "simulated" => sum.simulated = Duration::from_millis(number),
                "failed" => sum.failed = Some(number),
                "count" => drop(sum.counts.insert(what.to_owned(), number)),
                "whole" => whole = true,
                _ => return None,
            }
        }
        whole.then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_reads_back_and_half_of_one_does_not() {
        let counts = [("told: 409 in-progress".to_owned(), 3), ("effects".to_owned(), 7)].into();
        let sum = Sum { seeds: 5, simulated: Duration::from_millis(1234), counts, failed: Some(2) };
        let text = sum.write();
        assert_eq!(Sum::read(&text), Some(sum));
        assert_eq!(Sum::read(&text[..text.len() - "whole 1\n".len()]), None);
        assert_eq!(Sum::read(""), None);
    }
}
