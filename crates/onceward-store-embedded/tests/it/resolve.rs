//! A record that a repair had to give up is refused until an operator decides; then its key works again.

use std::path::Path;
use std::sync::Arc;

use onceward_core::{Answer, Attempt, Begin, Engine, Fingerprint, Operated, Policy, Unresolved, Verdict};
use onceward_store_embedded::repair;
use onceward_testkit::HandClock;

use crate::sample::{Raw, open_at, settings};

/// A caller who says that it may run again: nobody can tell whether it asks for the same.
fn attempt(asked: u8) -> Attempt {
    let policy = Policy { unresolved: Unresolved::Rerun, ..Policy::default() };
    Attempt { policy, ..onceward_testkit::attempt("k", Fingerprint::from_bytes([asked; 32])) }
}

fn answer(text: &'static str) -> Answer {
    Answer::new("text", text.as_bytes())
}

fn engine(folder: &Path, clock: &HandClock) -> Engine {
    Engine::new(Arc::new(open_at(folder, clock.clone())))
}

async fn run(engine: &Engine, asked: u8) {
    let Begin::Run(permit) = engine.begin(&attempt(asked)).await.unwrap() else { panic!("it is to run") };
    permit.complete(answer("done")).await.unwrap();
}

/// An operation was done, its record was damaged, and the store was repaired.
async fn given_up(folder: &Path, clock: &HandClock) -> Engine {
    run(&engine(folder, clock), 1).await;
    Raw::open(folder).records.insert(attempt(1).record_id().as_bytes(), b"no record").unwrap();
    let repair = repair(&settings(folder), Arc::new(clock.clone()), false).unwrap();
    assert_eq!(repair.unresolved, [attempt(1).record_id()], "{repair}");
    engine(folder, clock)
}

async fn resolved(engine: &Engine, verdict: &Verdict) {
    let id = attempt(1).record_id();
    let shown = engine.show(id).await.unwrap().record.unwrap();
    let done = engine.verdict(id, shown.revision, verdict, false).await.unwrap();
    assert!(matches!(done, Operated::Done(_)), "{done:?}");
}

#[tokio::test]
async fn a_record_that_was_given_up_is_unresolved_whatever_is_asked_and_works_once_it_may_run_again() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let it = given_up(folder.path(), &clock).await;
    for asked in [1, 2] {
        let told = it.begin(&attempt(asked)).await.unwrap();
        assert!(matches!(told, Begin::Unresolved), "{asked}: {told:?}");
    }
    resolved(&it, &Verdict::Rerun).await;
    run(&it, 2).await;
    assert!(matches!(it.begin(&attempt(2)).await.unwrap(), Begin::Replay(it) if it == answer("done")));
    assert!(matches!(it.begin(&attempt(1)).await.unwrap(), Begin::Mismatch), "what was asked is known now");
}

#[tokio::test]
async fn an_operators_answer_to_a_record_that_was_given_up_is_replayed() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let it = given_up(folder.path(), &clock).await;
    resolved(&it, &Verdict::Answer(answer("it was done"))).await;
    for asked in [1, 2, 1] {
        let told = it.begin(&attempt(asked)).await.unwrap();
        assert!(matches!(&told, Begin::Replay(it) if *it == answer("it was done")), "{told:?}");
    }
    clock.advance(Policy::default().retention);
    assert!(matches!(it.begin(&attempt(1)).await.unwrap(), Begin::Gone));
    clock.advance(Policy::default().tombstone);
    run(&it, 2).await;
}
