//! Runs a setup and says what came of it.

use std::num::NonZero;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::promise::{Promise, Sight};
use crate::setup::Setup;

/// What came of exploring a setup.
#[derive(Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps that were tried.
    pub steps: usize,
    /// The longest way from the beginning, in steps.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The promises that were broken.
    pub broken: Vec<Promise>,
    /// What should have been seen and was not.
    pub unseen: Vec<Sight>,
}

/// Explores everything that `setup` allows, or until all of `until` are broken.
#[must_use]
pub fn explore(setup: &Setup, threads: NonZero<usize>, until: &[Promise]) -> Explored {
    let finish = if until.is_empty() {
        HasDiscoveries::AnyFailures
    } else {
        HasDiscoveries::AllOf(until.iter().map(|it| it.name()).collect())
    };
    #[expect(clippy::disallowed_methods, reason = "how long it took is printed and decides nothing")]
    let started = Instant::now();
    let checker = setup.clone().checker().threads(threads.get()).finish_when(finish).spawn_bfs().join();
    let took = started.elapsed();
    let found = checker.discoveries();
    let broken = setup.promises.iter().copied().filter(|it| found.contains_key(it.name()));
    let unseen = setup.sights.iter().copied().filter(|it| !found.contains_key(it.name()));
    Explored {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took,
        broken: broken.collect(),
        unseen: unseen.collect(),
    }
}
