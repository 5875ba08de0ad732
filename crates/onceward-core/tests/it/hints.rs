//! Waiters of another process, and a store that hints: rightly, wrongly, or all the time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use onceward_core::store::Hints;
use onceward_core::store::hints::Listeners;
use onceward_core::{Attempt, Begin, Clock, Engine, EngineSettings, NoObserver, Permit, RecordId, Store};
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

/// An operation that runs, and another process that can wait for it.
struct Scene {
    world: World,
    attempt: Attempt,
    permit: Option<Permit>,
    other: Engine,
    clock: HandClock,
    waiters: JoinSet<Begin>,
}

impl Scene {
    async fn begin(how: How) -> Self {
        let world = World::shared().await;
        let (other, clock) = hinted(&world, how).await;
        let attempt = pay(&world.engine).await;
        let permit = Some(granted(&world.engine, &attempt).await);
        Self { world, attempt, permit, other, clock, waiters: JoinSet::new() }
    }

    /// With one that waits, and polls rarely by now.
    async fn waited_for(how: How) -> Self {
        let mut it = Self::begin(how).await;
        it.wait(600 * SECOND);
        poll_for_a_while(&it.clock).await;
        it
    }

    fn wait(&mut self, max: Duration) {
        let (other, asks) = (self.other.clone(), waiting(&self.attempt, max));
        self.waiters.spawn(async move { other.begin(&asks).await.unwrap() });
    }

    /// The operation ends.
    async fn ends(&mut self) {
        self.permit.take().unwrap().complete(answer("paid")).await.unwrap();
    }

    fn looks(&self) -> usize {
        self.world.store.ops().iter().filter(|it| matches!(it, Op::Insert)).count()
    }

    /// The one that waits is told the answer. The clock stands still.
    async fn is_told(&mut self) {
        assert_replay(&within(self.waiters.join_next()).await.unwrap().unwrap(), "paid");
    }
}

#[tokio::test]
async fn a_waiter_in_another_process_looks_at_once_when_the_store_hints() {
    let listeners = Listeners::new(8);
    let mut scene = Scene::waited_for(How::Told(Arc::clone(&listeners))).await;
    // One that is false costs a look, and nothing else.
    let before = scene.looks();
    listeners.hint(scene.attempt.record_id());
    within(async {
        while scene.looks() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scene.clock.until_asleep(1).await;
    scene.clock.advance(Duration::from_millis(5));
    scene.ends().await;
    listeners.hint(scene.attempt.record_id());
    scene.is_told().await;
    assert!(listeners.is_empty(), "who waits no more listens no more");
}

#[tokio::test]
async fn what_ended_before_the_store_listened_is_seen_when_it_does() {
    let listeners = Listeners::new(8);
    let mut scene = Scene::waited_for(How::Told(Arc::clone(&listeners))).await;
    scene.ends().await;
    listeners.heard(scene.attempt.record_id());
    scene.is_told().await;
}

#[tokio::test]
async fn a_waiter_that_leaves_listens_no_more() {
    let listeners = Listeners::new(8);
    let mut scene = Scene::begin(How::Told(Arc::clone(&listeners))).await;
    for _ in 0..2 {
        scene.wait(600 * SECOND);
    }
    scene.clock.until_asleep(2).await;
    assert!(!listeners.is_empty());
    scene.waiters.shutdown().await;
    assert!(listeners.is_empty());
}

#[tokio::test]
async fn a_store_that_hints_all_the_time_is_not_asked_all_the_time() {
    let mut scene = Scene::begin(How::AllTheTime).await;
    let began = scene.clock.boot();
    scene.wait(SECOND);
    let told: Begin = within(async {
        loop {
            // It comes to rest before time goes on.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if let Some(told) = scene.waiters.try_join_next() {
                return told.unwrap();
            }
            scene.clock.advance(Duration::from_millis(1));
        }
    })
    .await;
    assert_eq!(word(&told), "busy");
    assert!(scene.clock.boot() - began >= SECOND);
    assert!((190..=202).contains(&scene.looks()), "{}", scene.looks());
}

#[tokio::test]
async fn hints_that_end_leave_the_polls() {
    let mut scene = Scene::waited_for(How::Ended).await;
    scene.ends().await;
    scene.clock.until_asleep(1).await;
    scene.clock.advance(2 * SECOND);
    scene.is_told().await;
}
