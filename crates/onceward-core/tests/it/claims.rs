//! Of many requests one runs; what a claim and a replay cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use onceward_core::store::{Insert, SETTLE};
use onceward_core::{Attempt, Begin, Engine, ErrorKind, State};
use onceward_testkit::faulty::Landed;
use onceward_testkit::{Fault, HandClock, Op, within};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use crate::world::{
    SECOND, World, answer, ask, assert_replay, begin, granted, pay, permit, rerunning, waiting, word,
};

/// Sends `count` equal requests at the same moment, spread over `engines`. Whoever gets a permit answers only
/// when everybody else has been told something, or is waiting when `in_flight` says so.
async fn storm(engines: &[Engine], attempt: &Attempt, count: usize) -> (usize, Vec<&'static str>) {
    let (runs, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let start = Arc::new(Barrier::new(count));
    let mut requests = JoinSet::new();
    for engine in engines.iter().cycle().take(count) {
        let (runs, told, start) = (Arc::clone(&runs), Arc::clone(&told), Arc::clone(&start));
        let (engine, attempt) = (engine.clone(), attempt.clone());
        requests.spawn(async move {
            start.wait().await;
            let begun = engine.begin(&attempt).await.unwrap();
            let word = word(&begun);
            if let Begin::Run(permit) = begun {
                runs.fetch_add(1, Ordering::SeqCst);
                let _others = told.acquire_many(u32::try_from(count - 1).unwrap()).await.unwrap();
                permit.complete(answer("paid")).await.unwrap();
            } else {
                told.add_permits(1);
            }
            word
        });
    }
    let words = within(requests.join_all()).await;
    (runs.load(Ordering::SeqCst), words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_concurrent_first_requests_run_once() {
    let world = World::new().await;
    for round in 0..10 {
        let attempt = ask(&world.engine, &format!("k-{round}"), "12.00 EUR").await;
        let (runs, words) = storm(std::slice::from_ref(&world.engine), &attempt, 20).await;
        assert_eq!(runs, 1);
        assert_eq!(words.iter().filter(|it| **it == "busy").count(), 19, "{words:?}");
        assert_replay(&begin(&world.engine, &attempt).await, "paid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_concurrent_first_requests_at_two_processes_run_once() {
    let world = World::shared().await;
    let other = world.another(2).await;
    for round in 0..10 {
        let attempt = ask(&world.engine, &format!("k-{round}"), "12.00 EUR").await;
        let (runs, words) = storm(&[world.engine.clone(), other.clone()], &attempt, 20).await;
        assert_eq!(runs, 1);
        assert_eq!(words.iter().filter(|it| **it == "busy").count(), 19, "{words:?}");
        assert_replay(&begin(&other, &attempt).await, "paid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_requests_after_expiry_run_exactly_once_more() {
    for sweeps in [false, true] {
        let world = World::shared().await;
        let other = world.another(2).await;
        let attempt = pay(&world.engine).await;
        granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
        world.clock.advance(attempt.policy.retention + attempt.policy.tombstone + SETTLE);
        if sweeps {
            world.engine.maintain().await.unwrap();
            world.engine.maintain().await.unwrap();
            assert_eq!(world.record(attempt.record_id()).await, None);
        }
        let (runs, words) = storm(&[world.engine, other], &attempt, 10).await;
        assert_eq!((runs, words.iter().filter(|it| **it == "busy").count()), (1, 9), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_released_key_then_ten_retries_run_exactly_once_more() {
    let world = World::shared().await;
    let other = world.another(2).await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.release().await.unwrap();
    let (runs, words) = storm(&[world.engine, other], &attempt, 10).await;
    assert_eq!((runs, words.iter().filter(|it| **it == "busy").count()), (1, 9), "{words:?}");
}

#[tokio::test]
async fn a_claim_is_one_round_trip_and_completion_one_more() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    assert_eq!(world.store.ops(), [Op::Insert]);
    permit.complete(answer("paid")).await.unwrap();
    assert_eq!(world.store.ops(), [Op::Insert, Op::Replace]);
}

#[tokio::test]
async fn a_replay_is_at_most_one_round_trip_and_none_from_the_cache() {
    let world = World::shared().await;
    let other = world.another(2).await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
    world.store.forget();
    assert_replay(&begin(&world.engine, &attempt).await, "paid");
    assert_eq!(world.store.ops(), [], "who completed it has it");
    assert_replay(&begin(&other, &attempt).await, "paid");
    assert_eq!(world.store.ops(), [Op::Insert]);
    assert_replay(&begin(&other, &attempt).await, "paid");
    assert_eq!(world.store.ops(), [Op::Insert], "who has seen it has it");
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused_whatever_became_of_the_first() {
    let world = World::new().await;
    let first = pay(&world.engine).await;
    let second = ask(&world.engine, "k-1", "13.00 EUR").await;
    let permit = granted(&world.engine, &first).await;
    assert_eq!(word(&begin(&world.engine, &second).await), "mismatch", "while it runs");
    world.clock.advance(31 * SECOND);
    assert_eq!(word(&begin(&world.engine, &second).await), "mismatch", "while it is unresolved");
    permit.complete(answer("paid")).await.unwrap();
    assert_eq!(word(&begin(&world.engine, &second).await), "mismatch", "when it is done");
    world.clock.advance(first.policy.retention);
    assert_eq!(word(&begin(&world.engine, &second).await), "mismatch", "when its answer is gone");
}

#[tokio::test]
async fn a_late_delayed_insert_claims_nothing() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let gate = world.store.gate_before(Op::Insert, 1);
    let mut begins = JoinSet::new();
    let (engine, asked) = (world.engine.clone(), attempt.clone());
    begins.spawn(async move { engine.begin(&asked).await });
    gate.reached().await;
    world.clock.advance(6 * SECOND);
    gate.open();
    let told = within(begins.join_next()).await.unwrap().unwrap();
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.record(attempt.record_id()).await, None);
}

#[tokio::test]
async fn a_late_copy_of_a_call_whose_caller_is_gone_claims_nothing() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    world.store.cue(Op::Insert, 1, Fault::Late);
    // The caller gets its permit by the second try, finishes, and the record goes in time.
    let permit = permit(world.drive(SECOND / 100, world.engine.begin(&attempt)).await.unwrap());
    permit.release().await.unwrap();
    world.clock.advance(SETTLE);
    assert_eq!(world.engine.maintain().await.unwrap().removed, 1);
    let landed = world.store.deliver_late().await.unwrap();
    assert!(matches!(landed[..], [Landed::Insert(Insert::Late(_))]), "{landed:?}");
    assert_eq!(world.record(attempt.record_id()).await, None);
}

#[tokio::test]
async fn a_call_that_is_late_once_is_sent_again_within_patience() {
    let leaping = HandClock::new();
    let world = World::with_store_clock(leaping.clone()).await;
    let attempt = pay(&world.engine).await;
    // The store's clock leaps: the first call comes with a limit that has passed.
    leaping.advance(60 * SECOND);
    let permit = granted(&world.engine, &attempt).await;
    assert_eq!(world.store.ops(), [Op::Insert, Op::Insert]);
    assert_eq!(permit.attempt(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_hash_key_is_made_once_by_racing_engines() {
    let world = World::yielding().await;
    let mut racers = JoinSet::new();
    // A world without a hash key: its own store, its own engines.
    let clock = world.clock.clone();
    let memory = onceward_core::store::memory::MemoryStore::new(Arc::new(clock.clone()));
    let store = Arc::new(onceward_testkit::FaultyStore::yielding(Arc::new(memory)));
    let start = Arc::new(Barrier::new(8));
    for seed in 100..108 {
        let (store, clock, start) = (Arc::clone(&store), clock.clone(), Arc::clone(&start));
        racers.spawn(async move {
            let engine = Engine::with(
                store,
                Default::default(),
                Arc::new(clock),
                Arc::new(onceward_testkit::SeededEntropy::new(seed)),
                Arc::new(onceward_core::NoObserver),
            );
            start.wait().await;
            engine.hasher().await.unwrap().fingerprint([b"12.00 EUR".as_slice()])
        });
    }
    let prints = within(racers.join_all()).await;
    assert!(prints.iter().all(|it| *it == prints[0]), "{prints:?}");
    let elsewhere = pay(&world.engine).await.fingerprint;
    assert_ne!(prints[0], elsewhere, "another store has another secret");
}

#[tokio::test]
async fn an_unfinished_claim_is_judged_by_the_stores_clock_alone() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let _permit = granted(&world.engine, &attempt).await;
    world.clock.jump_wall(-3_600_000);
    world.clock.advance(29 * SECOND);
    assert_eq!(word(&begin(&world.engine, &attempt).await), "busy", "a clock that went back frees nothing");
}

#[tokio::test]
async fn the_longest_waits_and_runs_are_no_panic() {
    let world = World::new().await;
    let mut attempt = pay(&world.engine).await;
    attempt.policy.run_max = Duration::MAX;
    attempt.policy.retention = Duration::MAX;
    attempt.policy.tombstone = Duration::MAX;
    let mut permit = granted(&world.engine, &attempt).await;
    permit.keep(async {}).await.unwrap();
    permit.complete(answer("paid")).await.unwrap();
    assert_replay(&begin(&world.engine, &attempt).await, "paid");
}

#[tokio::test]
async fn a_caller_may_wait_for_ever() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let mut begins = JoinSet::new();
    let (engine, asked) = (world.engine.clone(), waiting(&attempt, Duration::MAX));
    begins.spawn(async move { engine.begin(&asked).await.unwrap() });
    while world.clock.sleepers() == 0 {
        tokio::task::yield_now().await;
        assert!(begins.try_join_next().is_none(), "the waiter left");
    }
    permit.complete(answer("paid")).await.unwrap();
    assert_replay(&within(begins.join_next()).await.unwrap().unwrap(), "paid");
}

#[tokio::test]
async fn attempts_count_crashes_too() {
    let world = World::new().await;
    let attempt = rerunning(&pay(&world.engine).await);
    let mut fence = None;
    for number in 1..=4 {
        let permit = granted(&world.engine, &attempt).await;
        assert_eq!(permit.attempt(), number);
        assert!(fence.is_none_or(|it| permit.fence() > it), "fences grow");
        fence = Some(permit.fence());
        drop(permit);
        assert_eq!(
            word(&begin(&world.engine, &attempt).await),
            "busy",
            "a crash is seen when the lease ends"
        );
        world.clock.advance(30 * SECOND);
    }
    let record = world.record(attempt.record_id()).await.unwrap();
    assert_eq!((record.attempt, record.state), (4, State::Running));
}
