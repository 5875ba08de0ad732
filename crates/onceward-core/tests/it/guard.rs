//! The function guard.

use std::cell::Cell;
use std::fmt::Debug;

use onceward_core::{Attempt, Engine, ErrorKind, Failure, RunError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::world::{SECOND, World, ask, granted, pay, rerunning};

/// Runs `value` twice under one key: the second time the stored one comes back.
async fn check<T: Serialize + DeserializeOwned + PartialEq + Debug + Clone>(
    engine: &Engine,
    key: &str,
    value: T,
) {
    let attempt = ask(engine, key, "x").await;
    let runs = Cell::new(0);
    for _ in 0..3 {
        let told = engine
            .run(&attempt, async |_| {
                runs.set(runs.get() + 1);
                Ok::<_, Failure<()>>(value.clone())
            })
            .await;
        assert_eq!(told.unwrap(), value);
    }
    assert_eq!(runs.get(), 1, "{value:?}");
}

#[tokio::test]
async fn the_function_guard_replays_falsy_values() {
    let world = World::new().await;
    check(&world.engine, "zero", 0).await;
    check(&world.engine, "text", String::new()).await;
    check(&world.engine, "list", Vec::<u8>::new()).await;
    check(&world.engine, "false", false).await;
    check(&world.engine, "null", None::<u8>).await;
    check(&world.engine, "unit", ()).await;
}

async fn fail(engine: &Engine, attempt: &Attempt, failure: Failure<&'static str>) -> RunError<&'static str> {
    engine.run(attempt, async |_| Err::<u8, _>(failure)).await.unwrap_err()
}

async fn run(engine: &Engine, attempt: &Attempt) -> Result<u8, RunError<&'static str>> {
    engine.run(attempt, async |run| Ok(u8::try_from(run.attempt).unwrap())).await
}

#[tokio::test]
async fn a_guarded_function_that_fails_is_unresolved_unless_it_says_nothing_happened() {
    let world = World::new().await;
    let free = ask(&world.engine, "free", "x").await;
    let told = fail(&world.engine, &free, Failure::NothingHappened("refused")).await;
    assert!(matches!(told, RunError::Work("refused")), "{told:?}");
    assert_eq!(run(&world.engine, &free).await.unwrap(), 2, "the key was free again");

    let unknown = ask(&world.engine, "unknown", "x").await;
    let told = fail(&world.engine, &unknown, "broke".into()).await;
    assert!(matches!(told, RunError::Work("broke")), "{told:?}");
    assert!(matches!(run(&world.engine, &unknown).await, Err(RunError::Unresolved)), "at once");
}

#[tokio::test]
async fn a_guarded_function_is_told_of_its_attempt_fence_and_checkpoint() {
    let world = World::new().await;
    let attempt = rerunning(&pay(&world.engine).await);
    let mut first = granted(&world.engine, &attempt).await;
    first.save("half way".into()).await.unwrap();
    let fence = first.fence();
    drop(first);
    world.clock.advance(30 * SECOND);
    let told = world
        .engine
        .run(&attempt, async |run| {
            assert!(run.fence > fence && run.attempt == 2);
            Ok::<_, Failure<()>>(run.checkpoint.map(|it| it.to_vec()))
        })
        .await;
    assert_eq!(told.unwrap().as_deref(), Some(&b"half way"[..]));
}

#[tokio::test]
async fn a_guarded_function_is_refused_by_name() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    assert!(matches!(run(&world.engine, &attempt).await, Err(RunError::Busy { .. })));
    let other = ask(&world.engine, "k-1", "other").await;
    assert!(matches!(run(&world.engine, &other).await, Err(RunError::Mismatch)));
    permit.abandon("x").await.unwrap();
    assert!(matches!(run(&world.engine, &attempt).await, Err(RunError::Unresolved)));

    let done = ask(&world.engine, "k-2", "x").await;
    assert_eq!(run(&world.engine, &done).await.unwrap(), 1);
    let told = world.engine.run(&done, async |_| Ok::<Vec<String>, Failure<()>>(Vec::new())).await;
    let Err(RunError::Engine(error)) = told else { panic!("a number is no list: {told:?}") };
    assert_eq!(error.kind(), ErrorKind::Invalid);
    world.clock.advance(done.policy.retention);
    assert!(matches!(run(&world.engine, &done).await, Err(RunError::Gone)));
}

#[tokio::test]
async fn a_result_that_cannot_be_written_leaves_the_record_unresolved() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let map = std::collections::BTreeMap::from([((1, 2), 3)]);
    let told = world.engine.run(&attempt, async |_| Ok::<_, Failure<()>>(map)).await;
    assert!(matches!(told, Err(RunError::Engine(it)) if it.kind() == ErrorKind::Invalid));
    assert!(matches!(run(&world.engine, &attempt).await, Err(RunError::Unresolved)));
}
