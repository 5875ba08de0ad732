//! How many random runs a test makes: a few, always the same ones, unless the environment asks for more.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use onceward_core::{Clock as _, SystemClock};

const LONG: &str = "ONCEWARD_LONG";
const SEED: &str = "ONCEWARD_SEED";

/// Which seeds a random test runs. The environment chooses: `ONCEWARD_LONG=60` lets each random test go on for 60
/// seconds, with seeds that were not tried before; `ONCEWARD_SEED=7` runs that seed alone, which is how a failure is
/// seen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The seeds from 0 on, so many of them: the same in every run.
    Short(u64),
    /// Seeds from here on, until so much real time has passed.
    Long(u64, Duration),
    /// This seed alone.
    Replay(u64),
}

impl Lane {
    /// What the environment asks for, else the first `runs` seeds. No other place reads
    /// these variables.
    ///
    /// # Panics
    /// When one of them is no number.
    #[must_use]
    pub fn from_env(runs: u64) -> Self {
        match (number(SEED), number(LONG)) {
            (Some(seed), _) => Self::Replay(seed),
            // The date in milliseconds, so that no two long runs begin with the same seed.
            (None, Some(seconds)) => {
                Self::Long(SystemClock.wall().as_millis() << 20, Duration::from_secs(seconds))
            }
            (None, None) => Self::Short(runs),
        }
    }

    /// Calls `run` with each seed; gives how many there were. The first run that panics ends it, and its seed is
    /// printed with how to run it again.
    pub fn each(self, mut run: impl FnMut(u64)) -> u64 {
        let began = SystemClock.boot();
        let (first, goes_on): (u64, Box<dyn Fn(u64) -> bool>) = match self {
            Self::Short(runs) => (0, Box::new(move |done| done < runs)),
            Self::Long(first, time) => (first, Box::new(move |_| SystemClock.boot() - began < time)),
            Self::Replay(seed) => (seed, Box::new(|done| done < 1)),
        };
        let mut done = 0;
        while goes_on(done) {
            let seed = first + done;
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
                eprintln!("run {done} failed; the same again: {SEED}={seed} and the name of this test");
                resume_unwind(panic);
            }
            done += 1;
        }
        println!("{done} runs in {:?}, first seed {first}", SystemClock.boot() - began);
        done
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads what tests are told from outside"
)]
fn number(name: &str) -> Option<u64> {
    let wrong = |it: &dyn Display| panic!("{name} is to be a whole number, but it is {it}");
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| wrong(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_lane_runs_the_same_seeds_each_time_and_a_replay_runs_one() {
        for (lane, expected) in [(Lane::Short(3), vec![0, 1, 2]), (Lane::Replay(7), vec![7])] {
            let mut seeds = Vec::new();
            assert_eq!(lane.each(|it| seeds.push(it)), seeds.len() as u64);
            assert_eq!(seeds, expected);
        }
    }

    #[test]
    fn the_long_lane_ends_with_its_time() {
        assert!(Lane::Long(5, Duration::from_millis(1)).each(|_| {}) > 0);
    }

    #[test]
    fn a_run_that_panics_ends_the_lane() {
        let mut runs = 0;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            Lane::Short(9).each(|seed| {
                runs += 1;
                assert_ne!(seed, 4);
            })
        }));
        assert!(ended.is_err());
        assert_eq!(runs, 5);
    }
}
