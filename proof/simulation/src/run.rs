//! Runs one seed, alone in its process.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::breaks::Break;
use crate::plan::Plan;
use crate::simulation::{Simulation, memory};
use crate::world::{Event, Violation, World};

/// How a seed is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What is broken on purpose.
    pub broken: Option<Break>,
    /// Whether the trace is kept.
    pub tracing: bool,
}

/// What a seed came to.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Everything that happened, in order; empty unless it was asked for.
    pub events: Vec<Event>,
    /// The promises that were broken; the run ends with the first.
    pub violations: Vec<(Violation, String)>,
    /// How often what happened.
    pub counts: BTreeMap<String, u64>,
    /// How much time was simulated.
    pub simulated: Duration,
}

/// Runs one seed. The same seed gives the same report, event for event.
///
/// One at a time in a process, whoever calls: tokio numbers the tasks of the whole process.
#[must_use]
pub fn run(seed: u64, options: Options) -> Report {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    watch_panics();
    align_tasks();
    PANICS.set(Some(Vec::new()));
    let plan = Plan::of(seed);
    let store = memory(plan.store_pace, options);
    let world = World::new(plan, store, options.tracing);
    let simulated = Cell::new(Duration::ZERO);
    let ran = catch_unwind(AssertUnwindSafe(|| Simulation::new(&world, options).run(&simulated)));
    let panics = PANICS.take().unwrap_or_default();
    if ran.is_err() || !panics.is_empty() {
        world.violated(Violation::Panicked, panics.join("; "));
    }
    world.report(simulated.get())
}

/// Lets every run begin at a task number of the same remainder.
///
/// Tokio numbers the tasks of the whole process and keeps those of a runtime in a few lists by that number. A
/// host that is killed drops its tasks list by list, so the numbers decide whose connection ends first.
fn align_tasks() {
    /// A multiple of every number of lists.
    const ROUND: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let number = |it: tokio::task::Id| it.to_string().parse::<u64>().expect("task ids are numbers");
        while !number(tasks.spawn(async {}).id()).is_multiple_of(ROUND) {}
        while tasks.join_next().await.is_some() {}
    });
}

thread_local! {
    /// The panics of the simulation that runs on this thread; none while there is none.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Notes panics also where a runtime catches them.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let noted = PANICS.with_borrow_mut(|it| it.as_mut().map(|it| it.push(info.to_string())));
            if noted.is_none() {
                usual(info);
            }
        }));
    });
}
