//! Many at once: one runs, the others wait or are sent away, and nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::InFlight;
use onceward_core::store::memory::MemoryStore;
use onceward_http::{HttpPolicy, Routes, Told};
use onceward_testkit::{FaultyStore, HandClock, Op, eventually, within};
use tokio::task::JoinSet;

use crate::world::{Got, World, let_through, paid, paid_after, pay, pay_other, policy, turnstile};

const WAIT: InFlight = InFlight::Wait(Duration::from_secs(10));

/// Twenty callers at once, spread over `worlds`.
fn twenty(worlds: &[&World]) -> JoinSet<Got> {
    let mut callers = JoinSet::new();
    for nth in 0..20 {
        callers.spawn(worlds[nth % worlds.len()].send(pay("k")));
    }
    callers
}

async fn next(callers: &mut JoinSet<Got>) -> Got {
    within(callers.join_next()).await.expect("a caller is left").unwrap()
}

/// Two processes over one store.
fn two(policy: &HttpPolicy, gate: &Arc<tokio::sync::Semaphore>) -> (World, World) {
    let clock = HandClock::new();
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(clock.clone())))));
    let world = || {
        let routes = Routes::new(Vec::new(), policy.clone());
        World::over(clock.clone(), Arc::clone(&store), routes, paid_after(gate))
    };
    (world(), world())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_at_once_one_runs_and_nineteen_are_told_to_come_back() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let mut callers = twenty(&[&world]);
    for _ in 0..19 {
        let got = next(&mut callers).await;
        got.assert_problem(409, "in-progress");
        assert_eq!((got.told(), got.header("retry-after")), (Told::Busy, Some("1")));
    }
    let_through(&gate);
    next(&mut callers).await.assert_first(201);
    world.send(pay("k")).await.assert_replay(201);
    assert_eq!(world.effects(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_that_wait_one_runs_and_nineteen_get_its_answer() {
    let gate = turnstile();
    let world = World::under(policy(|it| it.in_flight = WAIT), paid_after(&gate));
    let mut callers = twenty(&[&world]);
    world.until_effects(1).await;
    // The renewal of the one, and the patience of the nineteen.
    world.clock.until_asleep(20).await;
    assert!(callers.try_join_next().is_none());
    let_through(&gate);
    let mut replays = 0;
    while let Some(got) = callers.join_next().await {
        let got = got.unwrap();
        assert_eq!((got.status.as_u16(), got.text()), (201, "paid"));
        replays += usize::from(got.is_replay());
    }
    assert_eq!((replays, world.effects()), (19, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_over_one_store_run_once_between_them() {
    let gate = turnstile();
    let (one, other) = two(&HttpPolicy::default(), &gate);
    let mut callers = twenty(&[&one, &other]);
    for _ in 0..19 {
        next(&mut callers).await.assert_problem(409, "in-progress");
    }
    let_through(&gate);
    next(&mut callers).await.assert_first(201);
    assert_eq!(one.effects() + other.effects(), 1);
    one.send(pay("k")).await.assert_replay(201);
    other.send(pay("k")).await.assert_replay(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiters_of_another_process_get_the_answer_too() {
    let gate = turnstile();
    let (one, other) = two(&policy(|it| it.in_flight = InFlight::Wait(Duration::from_secs(600))), &gate);
    let mut callers = twenty(&[&one, &other]);
    one.clock.until_asleep(20).await;
    let_through(&gate);
    let mut done = 0;
    one.pass_time_until(|| {
        while let Some(got) = callers.try_join_next() {
            assert_eq!(got.unwrap().status, 201);
            done += 1;
        }
        done == 20
    })
    .await;
    assert_eq!(one.effects() + other.effects(), 1);
}

#[tokio::test]
async fn a_waiter_whose_patience_ends_is_told_so_and_the_owner_goes_on() {
    let gate = turnstile();
    let world = World::under(policy(|it| it.in_flight = WAIT), paid_after(&gate));
    let first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    let got = world.pass_time_for(world.send_aside(pay("k"))).await;
    got.assert_problem(409, "in-progress");
    assert_eq!(got.header("retry-after"), Some("1"));
    let_through(&gate);
    first.got().await.assert_first(201);
    world.send(pay("k")).await.assert_replay(201);
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_waiter_that_leaves_disturbs_nobody() {
    let gate = turnstile();
    let world = World::under(policy(|it| it.in_flight = WAIT), paid_after(&gate));
    let first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    let before = world.clock.sleepers();
    let leaving = world.send_aside(pay("k"));
    world.clock.until_asleep(before + 1).await;
    let staying = world.send_aside(pay("k"));
    world.clock.until_asleep(before + 2).await;
    drop(leaving);
    let_through(&gate);
    first.got().await.assert_first(201);
    staying.got().await.assert_replay(201);
    world.engine.maintain().await.unwrap();
    world.send(pay("k")).await.assert_replay(201);
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_long_run_keeps_its_claim_by_renewing_its_lease() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let mut first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    // Nine leases long. Each renewal lands before time goes on.
    for _ in 0..27 {
        world.clock.until_asleep(1).await;
        world.store.forget();
        world.clock.advance(Duration::from_secs(10));
        eventually(async || world.store.ops().contains(&Op::Replace)).await;
        world.send(pay("k")).await.assert_problem(409, "in-progress");
    }
    assert!(first.is_answered().is_none());
    let_through(&gate);
    first.got().await.assert_first(201);
    assert_eq!(world.effects(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_requests_a_moment_after_expiry_run_exactly_once_more() {
    for swept in [false, true] {
        let gate = turnstile();
        let world = World::new(paid_after(&gate));
        let_through(&gate);
        world.send(pay("k")).await.assert_first(201);
        world.clock.advance(Duration::from_secs(8 * 24 * 3600));
        if swept {
            world.engine.maintain().await.unwrap();
        }
        let mut callers = JoinSet::new();
        for _ in 0..10 {
            callers.spawn(world.send(pay("k")));
        }
        for _ in 0..9 {
            next(&mut callers).await.assert_problem(409, "in-progress");
        }
        let_through(&gate);
        next(&mut callers).await.assert_first(201);
        assert_eq!(world.effects(), 2);
    }
}

#[tokio::test]
async fn the_losers_of_a_race_write_nothing() {
    let gate = turnstile();
    let world = World::new(paid_after(&gate));
    let first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    let before = world.records().await;
    for _ in 0..5 {
        world.send(pay("k")).await.assert_problem(409, "in-progress");
    }
    assert_eq!(world.records().await, before);
    let_through(&gate);
    first.got().await.assert_first(201);
}

#[tokio::test]
async fn a_first_run_costs_two_calls_to_the_store_however_many_keys_there_are() {
    let world = World::new(paid);
    world.engine.hasher().await.unwrap();
    for nth in 0..300 {
        world.store.forget();
        world.send(pay(&format!("k{nth}"))).await.assert_first(201);
        assert_eq!(world.store.ops(), [Op::Insert, Op::Replace]);
    }
    world.clock.advance(Duration::from_secs(3600));
    world.store.forget();
    world.send(pay("k7")).await.assert_replay(201);
    assert!(world.store.log().len() <= 1, "a replay costs one call at most");
    let elsewhere = World::over(
        world.clock.clone(),
        world.store.clone(),
        Routes::new(vec![], HttpPolicy::default()),
        paid,
    );
    elsewhere.engine.hasher().await.unwrap();
    world.store.forget();
    elsewhere.send(pay("k7")).await.assert_replay(201);
    assert_eq!(world.store.ops(), [Op::Insert]);
}

/// The first runs, others wait for it, and whoever asks for something else under its key hears so at once.
#[tokio::test]
async fn another_request_is_refused_at_once_while_others_wait() {
    let gate = turnstile();
    let world = World::under(policy(|it| it.in_flight = WAIT), paid_after(&gate));
    let first = world.send_aside(pay("k"));
    world.until_effects(1).await;
    let before = world.clock.sleepers();
    let waiting: Vec<_> = (0..100).map(|_| world.send_aside(pay("k"))).collect();
    world.clock.until_asleep(before + 100).await;
    assert_eq!(world.store.under_way(), 0, "they hold no call to the store");
    world.send(pay_other("k")).await.assert_problem(422, "key-reused");
    // One more of the same waits for nobody: its key holds as much memory as it may.
    let got = world.send(pay("k")).await;
    got.assert_problem(409, "in-progress");
    assert_eq!((got.told(), got.header("retry-after")), (Told::Busy, Some("1")));
    world.store.forget();
    let_through(&gate);
    // The clock stands still, and nobody asks the store: they are woken, they do not poll.
    first.got().await.assert_first(201);
    for waiter in waiting {
        waiter.got().await.assert_replay(201);
    }
    assert_eq!((world.store.ops(), world.effects()), (vec![Op::Replace], 1));
}
