//! Waiters that never look by themselves: only a store's hints can make them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::{
    Answer, Attempt, Begin, Clock, Engine, EngineSettings, InFlight, NoObserver, Permit, Policy, Store,
    SystemClock, Timestamp,
};
use tokio::task::JoinSet;

use crate::{FaultyStore, Op, SeededEntropy, attempt, eventually, within};

const HOUR: Duration = Duration::from_secs(3600);
/// An engine pauses no longer than this between a hint and a look, and longer before every look of its own.
const MOMENT: Duration = Duration::from_millis(5);

/// The time of this machine, on which nobody wakes who sleeps for longer than a moment.
#[derive(Debug, Clone, Copy)]
struct Unhurried;

impl Clock for Unhurried {
    fn wall(&self) -> Timestamp {
        SystemClock.wall()
    }

    fn boot(&self) -> Duration {
        SystemClock.boot()
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        if pause < MOMENT { SystemClock.sleep(pause) } else { Box::pin(std::future::pending()) }
    }
}

/// A holder in one process, and waiters in another one that look only where a hint tells them to.
#[derive(Debug)]
pub struct Waiting {
    attempt: Attempt,
    permit: Option<Permit>,
    other: Engine,
    looks: Arc<FaultyStore>,
    waiters: JoinSet<Begin>,
}

impl Waiting {
    /// `holder` begins an operation under `key`, and `count` others wait for it over `other`.
    ///
    /// # Panics
    /// When a store does not do as it should.
    pub async fn begin(key: &str, holder: Arc<dyn Store>, other: Arc<dyn Store>, count: usize) -> Self {
        let looks = Arc::new(FaultyStore::new(other));
        let holder = Engine::new(holder);
        let settings = EngineSettings { waiters_max: count, ..EngineSettings::default() };
        let (store, entropy) = (Arc::<FaultyStore>::clone(&looks), Arc::new(SeededEntropy::new(3)));
        let other = Engine::with(store, settings, Arc::new(Unhurried), entropy, Arc::new(NoObserver));
        let hasher = holder.hasher().await.expect("the store has a hash key");
        other.hasher().await.expect("the store has a hash key");
        let policy = Policy { lease: HOUR, run_max: HOUR, ..attempt(key, hasher.fingerprint([])).policy };
        let attempt = Attempt { policy, ..attempt(key, hasher.fingerprint([])) };
        let Begin::Run(permit) = within(holder.begin(&attempt)).await.expect("the store takes it") else {
            panic!("{key} is new")
        };
        let attempt = Attempt { in_flight: InFlight::Wait(HOUR), ..attempt };
        let mut it = Self { attempt, permit: Some(permit), other, looks, waiters: JoinSet::new() };
        for _ in 0..count {
            it.wait();
        }
        it
    }

    fn wait(&mut self) {
        let (engine, attempt) = (self.other.clone(), self.attempt.clone());
        self.waiters.spawn(async move { engine.begin(&attempt).await.expect("the store is there") });
    }

    /// The record that they wait for.
    #[must_use]
    pub fn id(&self) -> onceward_core::RecordId {
        self.attempt.record_id()
    }

    /// Waits until they have looked so many times, and look no more.
    ///
    /// # Panics
    /// When they do not within 30 s.
    pub async fn looked(&self, times: usize) {
        let looks = || self.looks.ops().iter().filter(|it| **it == Op::Insert).count();
        eventually(async || looks() >= times && self.looks.under_way() == 0).await;
    }

    /// How often they have looked.
    #[must_use]
    pub fn looks(&self) -> usize {
        self.looks.ops().iter().filter(|it| **it == Op::Insert).count()
    }

    /// The holder finishes, and all who wait are told.
    ///
    /// # Panics
    /// When they are not within 30 s.
    pub async fn told(mut self) {
        let permit = self.permit.take().expect("it was not finished");
        permit.complete(Answer::new("text", "done")).await.expect("the store takes the answer");
        while let Some(told) = within(self.waiters.join_next()).await {
            let told = told.expect("no waiter fails");
            assert!(matches!(told, Begin::Replay(_)), "{told:?}");
        }
    }

    /// The holder releases the key, and one who waits runs.
    ///
    /// # Panics
    /// When none does within 30 s.
    pub async fn released(mut self) {
        let permit = self.permit.take().expect("it was not finished");
        permit.release().await.expect("the store takes it");
        let told = within(self.waiters.join_next()).await.expect("somebody waits").expect("no waiter fails");
        assert!(matches!(told, Begin::Run(_)), "{told:?}");
    }

    /// All who wait leave.
    pub async fn leave(&mut self) {
        self.waiters.shutdown().await;
    }
}
