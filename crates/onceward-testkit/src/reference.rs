//! Random calls to a store, one at a time, each compared with a reference: a sequential model of the laws.
//!
//! The model (`laws`) is written from what a store promises and calls none of core's code that stores call, so
//! that it can disagree with them. A run is a list of steps out of one seed; every step is possible at any
//! time, so that whatever is left of a failing list is a list again, and the shortest one that still fails is what
//! a test shows. That is why plain `proptest` does: `proptest-state-machine` would add preconditions, which these
//! steps do not have.
//!
//! ```
//! # use onceward_testkit::conformance::Memory;
//! onceward_testkit::store_reference!(Memory::default(), runs = 100);
//! # fn main() {}
//! ```

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::collection::vec;
use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::conformance::Fixture;

#[cfg(test)]
mod broken;
mod laws;
mod play;
mod shown;
mod step;

use self::play::Play;
use self::step::{Step, step};

/// How many steps a run has at most.
const STEPS_MAX: usize = 80;

/// Makes one test: random calls to the stores of a fixture agree with the reference. The fixture expression is
/// evaluated once per run. `runs` is how many the short lane makes, see [`Lane`](crate::Lane).
#[macro_export]
macro_rules! store_reference {
    ($fixture:expr, runs = $runs:expr $(,)?) => {
        #[test]
        fn random_calls_agree_with_the_reference() {
            $crate::Lane::from_env($runs).each(|seed| $crate::reference::run(seed, || $fixture));
        }
    };
}

/// Plays the run of `seed` against stores of `fixture`, which is called once, and again for every shorter run that
/// is tried after a failure.
///
/// # Panics
/// When a store disagrees with the reference: with the shortest list of steps that still fails.
pub fn run<F: Fixture>(seed: u64, fixture: impl Fn() -> F) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { max_shrink_iters: 4096, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let tree = vec(step(), 1..=STEPS_MAX).new_tree(&mut runner).expect("no step is ever rejected");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    // How many steps the shortest run has that failed: what it has behind the one that failed does not count.
    let reached = Cell::new(0);
    let ended = runner.run_one(tree, |steps| {
        let counted = Cell::new(0);
        let played = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(crate::within(play(&fixture(), &steps, &counted)))
        }));
        let disagreed = match played {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(disagreed)) => disagreed,
            Err(panic) => format!("the store panicked: {:?}", panic.downcast_ref::<String>()),
        };
        reached.set(counted.get());
        Err(TestCaseError::fail(disagreed))
    });
    match ended {
        Ok(_) => {}
        Err(TestError::Fail(reason, steps)) => {
            let steps = &steps[..reached.get().min(steps.len())];
            panic!("the last step: {reason}\n{}", list(steps))
        }
        Err(TestError::Abort(reason)) => panic!("the run was given up: {reason}"),
    }
}

async fn play<F: Fixture>(fixture: &F, steps: &[Step], counted: &Cell<usize>) -> Result<(), String> {
    let mut play = Play::begin(fixture).await;
    for step in steps {
        counted.set(counted.get() + 1);
        play.step(step).await?;
    }
    Ok(())
}

fn list(steps: &[Step]) -> String {
    let lines = steps.iter().enumerate().map(|(number, step)| format!("  {}. {step:?}\n", number + 1));
    lines.collect()
}
