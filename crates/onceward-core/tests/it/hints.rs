//! Waiters of another process, and a store that hints: rightly, wrongly, or all the time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use onceward_core::store::Hints;
use onceward_core::store::hints::Listeners;
use onceward_core::{Begin, Clock, Engine, EngineSettings, NoObserver, RecordId, Store};
use onceward_testkit::{HandClock, Op, SeededEntropy, Wrapped, Wrapper, within};
use tokio::task::JoinSet;

use crate::world::{SECOND, World, answer, assert_replay, granted, pay, waiting, word};

/// The store of a world, and hints from the hand.
#[derive(Debug)]
struct Hinting {
    store: Arc<dyn Store>,
    how: How,
}

#[derive(Debug)]
enum How {
    Told(Arc<Listeners>),
    AllTheTime,
    Ended,
}

impl Wrapper for Hinting {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn hints(&self, id: RecordId) -> Option<Hints> {
        match &self.how {
            How::Told(listeners) => listeners.join(id),
            How::AllTheTime => Some(stream::repeat(()).boxed()),
            How::Ended => Some(stream::empty().boxed()),
        }
    }
}

/// Another process over the store of `world`, which hints, with a clock of its own.
async fn hinted(world: &World, how: How) -> (Engine, HandClock) {
    let store: Arc<dyn Store> = Arc::<onceward_testkit::FaultyStore>::clone(&world.store);
    let clock = HandClock::new();
    let engine = Engine::with(
        Arc::new(Wrapped(Hinting { store, how })),
        EngineSettings::default(),
        Arc::new(clock.clone()),
        Arc::new(SeededEntropy::new(7)),
        Arc::new(NoObserver),
    );
    engine.hasher().await.unwrap();
    world.store.forget();
    (engine, clock)
}

/// Lets polls go by until the next one is far away, and as much time after the last that a hint is followed at once.
async fn poll_for_a_while(clock: &HandClock) {
    for _ in 0..10 {
        clock.until_asleep(1).await;
        clock.advance(2 * SECOND);
    }
    clock.until_asleep(1).await;
    clock.advance(Duration::from_millis(5));
}

fn looks(world: &World) -> usize {
    world.store.ops().iter().filter(|it| matches!(it, Op::Insert)).count()
}

#[tokio::test]
async fn a_waiter_in_another_process_looks_at_once_when_the_store_hints() {
    let world = World::shared().await;
    let listeners = Listeners::new(8);
    let (other, clock) = hinted(&world, How::Told(Arc::clone(&listeners))).await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    let asks = waiting(&attempt, 600 * SECOND);
    waiters.spawn(async move { other.begin(&asks).await.unwrap() });
    poll_for_a_while(&clock).await;
    // One that is false costs a look, and nothing else.
    let before = looks(&world);
    listeners.hint(attempt.record_id());
    within(async {
        while looks(&world) == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    clock.until_asleep(1).await;
    clock.advance(Duration::from_millis(5));
    permit.complete(answer("paid")).await.unwrap();
    listeners.hint(attempt.record_id());
    // The clock stands still.
    assert_replay(&within(waiters.join_next()).await.unwrap().unwrap(), "paid");
    assert!(listeners.is_empty(), "who waits no more listens no more");
}

#[tokio::test]
async fn what_ended_before_the_store_listened_is_seen_when_it_does() {
    let world = World::shared().await;
    let listeners = Listeners::new(8);
    let (other, clock) = hinted(&world, How::Told(Arc::clone(&listeners))).await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    let asks = waiting(&attempt, 600 * SECOND);
    waiters.spawn(async move { other.begin(&asks).await.unwrap() });
    poll_for_a_while(&clock).await;
    permit.complete(answer("paid")).await.unwrap();
    listeners.heard(attempt.record_id());
    assert_replay(&within(waiters.join_next()).await.unwrap().unwrap(), "paid");
}

#[tokio::test]
async fn a_waiter_that_leaves_listens_no_more() {
    let world = World::shared().await;
    let listeners = Listeners::new(8);
    let (other, clock) = hinted(&world, How::Told(Arc::clone(&listeners))).await;
    let attempt = pay(&world.engine).await;
    let _permit = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    for _ in 0..2 {
        let (other, asks) = (other.clone(), waiting(&attempt, 600 * SECOND));
        waiters.spawn(async move { other.begin(&asks).await.unwrap() });
    }
    clock.until_asleep(2).await;
    assert!(!listeners.is_empty());
    waiters.shutdown().await;
    assert!(listeners.is_empty());
}

#[tokio::test]
async fn a_store_that_hints_all_the_time_is_not_asked_all_the_time() {
    let world = World::shared().await;
    let (other, clock) = hinted(&world, How::AllTheTime).await;
    let attempt = pay(&world.engine).await;
    let _permit = granted(&world.engine, &attempt).await;
    let asks = waiting(&attempt, SECOND);
    let began = clock.boot();
    let mut waiters = JoinSet::new();
    waiters.spawn(async move { other.begin(&asks).await.unwrap() });
    let told: Begin = within(async {
        loop {
            // It comes to rest before time goes on.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if let Some(told) = waiters.try_join_next() {
                return told.unwrap();
            }
            clock.advance(Duration::from_millis(1));
        }
    })
    .await;
    assert_eq!(word(&told), "busy");
    assert!(clock.boot() - began >= SECOND);
    assert!((190..=202).contains(&looks(&world)), "{}", looks(&world));
}

#[tokio::test]
async fn hints_that_end_leave_the_polls() {
    let world = World::shared().await;
    let (other, clock) = hinted(&world, How::Ended).await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let mut waiters = JoinSet::new();
    let asks = waiting(&attempt, 600 * SECOND);
    waiters.spawn(async move { other.begin(&asks).await.unwrap() });
    poll_for_a_while(&clock).await;
    permit.complete(answer("paid")).await.unwrap();
    clock.until_asleep(1).await;
    clock.advance(2 * SECOND);
    assert_replay(&within(waiters.join_next()).await.unwrap().unwrap(), "paid");
}
