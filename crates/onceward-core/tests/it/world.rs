//! An engine whose clock, randomness and store a test holds in its hand.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::memory::MemoryStore;
use onceward_core::{
    Answer, Attempt, Begin, Engine, EngineSettings, InFlight, NoObserver, Permit, Policy, Record, RecordId,
    Store, Unresolved,
};
use onceward_testkit::{FaultyStore, HandClock, SeededEntropy, attempt, within};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct World {
    pub(crate) clock: HandClock,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) engine: Engine,
}

impl World {
    /// One engine; its hasher and its time anchor are warm and the log is empty.
    pub(crate) async fn new() -> Self {
        Self::over(FaultyStore::new).await
    }

    /// As `new`, over a store that other processes may write, too.
    pub(crate) async fn shared() -> Self {
        Self::over(|it| FaultyStore::new(it).shared()).await
    }

    /// As `new`, but a caller can be dropped before and after every call to the store.
    pub(crate) async fn yielding() -> Self {
        Self::over(FaultyStore::yielding).await
    }

    /// As `new`, over a store with a clock of its own.
    pub(crate) async fn with_store_clock(clock: HandClock) -> Self {
        Self::on(HandClock::new(), clock, FaultyStore::new).await
    }

    async fn over(wrap: impl FnOnce(Arc<dyn Store>) -> FaultyStore) -> Self {
        let clock = HandClock::new();
        Self::on(clock.clone(), clock, wrap).await
    }

    async fn on(
        clock: HandClock,
        of_the_store: HandClock,
        wrap: impl FnOnce(Arc<dyn Store>) -> FaultyStore,
    ) -> Self {
        let store = Arc::new(wrap(Arc::new(MemoryStore::new(Arc::new(of_the_store)))));
        let engine = engine(&store, &clock, 1, EngineSettings::default());
        engine.hasher().await.unwrap();
        store.forget();
        Self { clock, store, engine }
    }

    /// Another process over the same store, as warm as the first. Every engine of a test needs its own seed.
    pub(crate) async fn another(&self, seed: u64) -> Engine {
        self.another_with(seed, EngineSettings::default()).await
    }

    pub(crate) async fn another_with(&self, seed: u64, settings: EngineSettings) -> Engine {
        let engine = engine(&self.store, &self.clock, seed, settings);
        engine.hasher().await.unwrap();
        self.store.forget();
        engine
    }

    /// Polls `future`, and moves the clock by `step` whenever somebody sleeps on it.
    pub(crate) async fn drive<T>(&self, step: Duration, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        within(async {
            loop {
                tokio::select! {
                    biased;
                    output = &mut future => return output,
                    () = self.clock.until_asleep(1) => self.clock.advance(step),
                }
            }
        })
        .await
    }

    /// What is stored now; asked past all faults and not in the log.
    pub(crate) async fn record(&self, id: RecordId) -> Option<Record> {
        self.store.beneath().load(id).await.unwrap().record.map(Arc::unwrap_or_clone)
    }
}

fn engine(store: &Arc<FaultyStore>, clock: &HandClock, seed: u64, settings: EngineSettings) -> Engine {
    let store: Arc<dyn Store> = Arc::<FaultyStore>::clone(store);
    let entropy = Arc::new(SeededEntropy::new(seed));
    Engine::with(store, settings, Arc::new(clock.clone()), entropy, Arc::new(NoObserver))
}

/// Asks for `body` under `key`: lease 30 s, run 10 min, retention 24 h, tombstone 7 days, hold, reject.
pub(crate) async fn ask(engine: &Engine, key: &str, body: &str) -> Attempt {
    attempt(key, engine.hasher().await.unwrap().fingerprint([body.as_bytes()]))
}

pub(crate) async fn pay(engine: &Engine) -> Attempt {
    ask(engine, "k-1", "12.00 EUR").await
}

pub(crate) fn waiting(attempt: &Attempt, max: Duration) -> Attempt {
    Attempt { in_flight: InFlight::Wait(max), ..attempt.clone() }
}

pub(crate) fn rerunning(attempt: &Attempt) -> Attempt {
    let policy = Policy { unresolved: Unresolved::Rerun, ..attempt.policy };
    Attempt { policy, ..attempt.clone() }
}

pub(crate) fn answer(text: &'static str) -> Answer {
    Answer::new("text", text.as_bytes())
}

pub(crate) async fn begin(engine: &Engine, attempt: &Attempt) -> Begin {
    within(engine.begin(attempt)).await.unwrap()
}

/// A permit, which must be granted at once.
pub(crate) async fn granted(engine: &Engine, attempt: &Attempt) -> Permit {
    permit(begin(engine, attempt).await)
}

#[track_caller]
pub(crate) fn permit(begun: Begin) -> Permit {
    match begun {
        Begin::Run(permit) => permit,
        other => panic!("a permit is due, but begin said {}", word(&other)),
    }
}

/// Asserts that `begun` replays `text`.
#[track_caller]
pub(crate) fn assert_replay(begun: &Begin, text: &'static str) {
    match begun {
        Begin::Replay(it) => assert_eq!(*it, answer(text)),
        other => panic!("a replay is due, but begin said {}", word(other)),
    }
}

/// One word per outcome, for comparisons that read well.
pub(crate) fn word(begun: &Begin) -> &'static str {
    match begun {
        Begin::Run(_) => "run",
        Begin::Replay(_) => "replay",
        Begin::Busy { .. } => "busy",
        Begin::Mismatch => "mismatch",
        Begin::Unresolved => "unresolved",
        Begin::Gone => "gone",
    }
}
