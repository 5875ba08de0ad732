//! Every interleaving of a few threads, by loom: of those that wait for a permit and of the one that ends it, and of
//! whole calls to the engine.
//!
//! `flight.rs` is built here a second time, over loom's locks, by the module `sync` of this test. So the locks of the
//! product carry no switch, and no build of everything with `--cfg loom` is needed.
#![expect(clippy::unwrap_used, reason = "these are tests: a step that fails ends them")]

mod bell;
mod engine;
#[path = "../../src/flight.rs"]
mod flight;
mod flights;

/// What `flight.rs` asks for, as the product has it.
mod key {
    pub(crate) use onceward_core::RecordId;
}

/// What `flight.rs` asks for, watched by loom.
mod sync {
    pub(crate) use crate::bell::{Bell as Notify, Ring as OwnedNotified};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    pub(crate) fn model(run: impl Fn() + Sync + Send + 'static) {
        crate::every_interleaving(0, run);
    }
}

/// Runs `model` once for every way in which its threads can be interrupted, at most `preemptions` times each.
fn every_interleaving(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let tried = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&tried);
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!("{} interleavings", tried.load(std::sync::atomic::Ordering::Relaxed));
}
