//! Duplicates that wait for a running first attempt.

use onceward_core::{Attempt, Begin, Engine};
use onceward_testkit::{Op, within};
use tokio::task::JoinSet;

use crate::world::{SECOND, World, answer, ask, assert_replay, begin, granted, pay, permit, waiting, word};

fn spawn(tasks: &mut JoinSet<Begin>, engine: &Engine, attempt: &Attempt) -> tokio::task::AbortHandle {
    let (engine, attempt) = (engine.clone(), attempt.clone());
    tasks.spawn(async move { engine.begin(&attempt).await.unwrap() })
}

async fn next(tasks: &mut JoinSet<Begin>) -> Begin {
    within(tasks.join_next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_waiter_gets_the_answer() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    for _ in 0..20 {
        spawn(&mut waiters, &world.engine, &waiting(&attempt, 10 * SECOND));
    }
    world.clock.until_asleep(20).await;
    world.store.forget();
    permit.complete(answer("paid")).await.unwrap();
    // The clock stands still: they are woken by the end of the permit, and need no store.
    for _ in 0..20 {
        assert_replay(&next(&mut waiters).await, "paid");
    }
    assert_eq!(world.store.ops(), [Op::Replace]);
}

#[tokio::test]
async fn a_released_permit_lets_one_of_its_waiters_run() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let first = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    for _ in 0..5 {
        spawn(&mut waiters, &world.engine, &waiting(&attempt, 10 * SECOND));
    }
    world.clock.until_asleep(5).await;
    first.release().await.unwrap();
    let second = permit(next(&mut waiters).await);
    assert_eq!(second.attempt(), 2);
    world.clock.until_asleep(4).await;
    second.complete(answer("paid")).await.unwrap();
    for _ in 0..4 {
        assert_replay(&next(&mut waiters).await, "paid");
    }
}

#[tokio::test]
async fn a_waiter_in_another_process_gets_the_answer_by_asking_again() {
    let world = World::shared().await;
    let other = world.another(2).await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    spawn(&mut waiters, &other, &waiting(&attempt, 10 * SECOND));
    world.clock.until_asleep(1).await;
    permit.complete(answer("paid")).await.unwrap();
    world.clock.advance(SECOND);
    assert_replay(&next(&mut waiters).await, "paid");
}

#[tokio::test]
async fn a_waiter_that_times_out_leaves_the_owner_alone() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let before = world.record(attempt.record_id()).await;
    let told = world.drive(SECOND / 4, world.engine.begin(&waiting(&attempt, 5 * SECOND))).await.unwrap();
    assert_eq!(word(&told), "busy");
    assert_eq!(world.record(attempt.record_id()).await, before, "nothing was written");
    world.engine.maintain().await.unwrap();
    assert_eq!(world.record(attempt.record_id()).await, before, "nor is it found to be a stray claim");
    permit.complete(answer("paid")).await.unwrap();
}

#[tokio::test]
async fn a_waiter_waits_no_longer_than_it_said() {
    let world = World::shared().await;
    let other = world.another(2).await;
    let attempt = pay(&world.engine).await;
    let _permit = granted(&world.engine, &attempt).await;
    for engine in [&world.engine, &other] {
        let start = onceward_core::Clock::boot(&world.clock);
        let step = SECOND / 100;
        let told = world.drive(step, engine.begin(&waiting(&attempt, 2 * SECOND))).await.unwrap();
        assert_eq!(word(&told), "busy");
        let waited = onceward_core::Clock::boot(&world.clock) - start;
        assert!(waited >= 2 * SECOND && waited <= 2 * SECOND + 2 * step, "{waited:?}");
    }
}

#[tokio::test]
async fn a_dropped_waiter_disturbs_nobody() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    let leaves = spawn(&mut waiters, &world.engine, &waiting(&attempt, 10 * SECOND));
    world.clock.until_asleep(1).await;
    spawn(&mut waiters, &world.engine, &waiting(&attempt, 10 * SECOND));
    world.clock.until_asleep(2).await;
    leaves.abort();
    assert!(within(waiters.join_next()).await.unwrap().unwrap_err().is_cancelled());
    let before = world.record(attempt.record_id()).await;
    world.engine.maintain().await.unwrap();
    assert_eq!(world.record(attempt.record_id()).await, before, "the owner's claim stays");
    permit.complete(answer("paid")).await.unwrap();
    assert_replay(&next(&mut waiters).await, "paid");
}

#[tokio::test]
async fn a_waiter_with_another_fingerprint_is_refused_at_once() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let _permit = granted(&world.engine, &attempt).await;
    let other = waiting(&ask(&world.engine, "k-1", "13.00 EUR").await, 10 * SECOND);
    assert_eq!(word(&begin(&world.engine, &other).await), "mismatch");
    assert_eq!(world.clock.sleepers(), 0);
}

#[tokio::test]
async fn a_waiter_whose_owner_crashed_is_told_when_the_lease_is_over() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    spawn(&mut waiters, &world.engine, &waiting(&attempt, 60 * SECOND));
    world.clock.until_asleep(1).await;
    drop(permit);
    let told = world.drive(SECOND, next(&mut waiters)).await;
    assert_eq!(word(&told), "unresolved");
}
