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

#[tokio::test]
async fn waiters_have_no_call_to_the_store_under_way() {
    for world in [World::new().await, World::shared().await] {
        let attempt = pay(&world.engine).await;
        let other = world.another(2).await;
        let permit = granted(&world.engine, &attempt).await;
        let mut waiters = JoinSet::new();
        for nth in 0..100 {
            // Half of them in the process of the permit, half in one that must poll.
            let engine = if nth % 2 == 0 { &world.engine } else { &other };
            spawn(&mut waiters, engine, &waiting(&attempt, 10 * SECOND));
        }
        world.clock.until_asleep(100).await;
        assert_eq!(world.store.under_way(), 0);
        // A call that is under way is counted: the owner's own, held up.
        let gate = world.store.gate_before(Op::Replace, 1);
        let mut owner = JoinSet::new();
        owner.spawn(permit.complete(answer("paid")));
        gate.reached().await;
        assert_eq!(world.store.under_way(), 1);
        gate.open();
        within(owner.join_next()).await.unwrap().unwrap().unwrap();
        for _ in 0..50 {
            assert_replay(&next(&mut waiters).await, "paid");
        }
        world.clock.advance(SECOND);
        for _ in 0..50 {
            assert_replay(&next(&mut waiters).await, "paid");
        }
        assert_eq!(world.store.under_way(), 0);
    }
}

#[tokio::test]
async fn a_hundred_waiters_that_leave_disturb_nobody() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let before = world.record(attempt.record_id()).await;
    let mut waiters = JoinSet::new();
    for _ in 0..100 {
        spawn(&mut waiters, &world.engine, &waiting(&attempt, 10 * SECOND));
    }
    world.clock.until_asleep(100).await;
    waiters.shutdown().await;
    assert_eq!(world.clock.sleepers(), 0, "nothing of them is left");
    world.engine.maintain().await.unwrap();
    assert_eq!(world.record(attempt.record_id()).await, before, "the owner's claim stays");
    // Their places are free again.
    for _ in 0..100 {
        spawn(&mut waiters, &world.engine, &waiting(&attempt, 10 * SECOND));
    }
    world.clock.until_asleep(100).await;
    permit.complete(answer("paid")).await.unwrap();
    for _ in 0..100 {
        assert_replay(&next(&mut waiters).await, "paid");
    }
}

#[tokio::test]
async fn one_waiter_too_many_is_told_at_once_and_others_go_on() {
    let world = World::new().await;
    let settings = onceward_core::EngineSettings { waiters_max: 2, ..Default::default() };
    let engine = world.another_with(2, settings).await;
    let (attempt, second) = (pay(&engine).await, ask(&engine, "k-2", "12.00 EUR").await);
    let permit = granted(&engine, &attempt).await;
    let _other_permit = granted(&engine, &second).await;
    let mut waiters = JoinSet::new();
    for _ in 0..2 {
        spawn(&mut waiters, &engine, &waiting(&attempt, 10 * SECOND));
    }
    world.clock.until_asleep(2).await;
    assert_eq!(word(&begin(&engine, &waiting(&attempt, 10 * SECOND)).await), "busy");
    // A misuse is told as one, whoever waits.
    let misuse = waiting(&ask(&engine, "k-1", "13.00 EUR").await, 10 * SECOND);
    assert_eq!(word(&begin(&engine, &misuse).await), "mismatch");
    // Another key has places of its own.
    let elsewhere = spawn(&mut waiters, &engine, &waiting(&second, 10 * SECOND));
    world.clock.until_asleep(3).await;
    elsewhere.abort();
    permit.complete(answer("paid")).await.unwrap();
    let mut replays = 0;
    while let Some(told) = within(waiters.join_next()).await {
        match told {
            Ok(told) => {
                assert_replay(&told, "paid");
                replays += 1;
            }
            Err(error) => assert!(error.is_cancelled()),
        }
    }
    assert_eq!(replays, 2);
}

#[tokio::test]
async fn a_waiter_that_was_woken_keeps_its_place_until_it_is_told() {
    let world = World::new().await;
    let settings = onceward_core::EngineSettings { waiters_max: 1, ..Default::default() };
    let engine = world.another_with(2, settings).await;
    let attempt = pay(&engine).await;
    let first = granted(&engine, &attempt).await;
    let mut waiters = JoinSet::new();
    spawn(&mut waiters, &engine, &waiting(&attempt, 10 * SECOND));
    world.clock.until_asleep(1).await;
    // It wakes by itself every second and waits on.
    world.clock.advance(SECOND);
    world.clock.until_asleep(1).await;
    assert_eq!(word(&begin(&engine, &waiting(&attempt, 10 * SECOND)).await), "busy");
    first.release().await.unwrap();
    let second = permit(next(&mut waiters).await);
    // It waits no longer, and somebody else may.
    spawn(&mut waiters, &engine, &waiting(&attempt, 10 * SECOND));
    world.clock.until_asleep(1).await;
    second.complete(answer("paid")).await.unwrap();
    assert_replay(&next(&mut waiters).await, "paid");
}
