//! Whole calls to the engine: callers with one key, in one process, interrupted at every call to the store.
//!
//! The engine here is the product's own, with its own locks, which loom does not see; no await is inside of them. What
//! loom sees are the calls to the store: each begins and ends where another thread may go on.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use loom::future::block_on;
use loom::thread;
use onceward_core::store::memory::MemoryStore;
use onceward_core::store::{Insert, Put, Replace};
use onceward_core::{
    Answer, Attempt, Begin, Clock, Engine, EngineSettings, InFlight, Key, NoObserver, Policy, Principal,
    Record, RecordId, Result, Revision, Scope, State, Store, Timestamp,
};
use onceward_testkit::{Lane, SeededEntropy, Wrapped, Wrapper};

use crate::every_interleaving;

/// A store at whose calls others may go on.
#[derive(Debug)]
struct Interrupted {
    store: Arc<dyn Store>,
    /// Claims by get-then-set, to see that this would be seen.
    get_then_set: bool,
    /// What all threads touch, so that loom tries every order.
    touched: loom::sync::atomic::AtomicUsize,
}

impl Interrupted {
    async fn stop(&self) {
        self.touched.fetch_add(1, SeqCst);
        pauses().await;
    }
}

#[async_trait]
impl Wrapper for Interrupted {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        self.stop().await;
        if self.get_then_set {
            let found = self.store.load(id).await?;
            if let Some(record) = found.record {
                return Ok(Insert::Found(record, found.now));
            }
            self.stop().await;
            if let Insert::Found(other, _) = self.store.insert(id, put).await?
                && let Replace::Kept(record) = self.store.replace(id, other.revision, put).await?
            {
                return Ok(Insert::Kept(record));
            }
            let stands = self.store.load(id).await?.record;
            return Ok(Insert::Kept(stands.expect("it was just set")));
        }
        let told = self.store.insert(id, put).await;
        self.stop().await;
        told
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        self.stop().await;
        let told = self.store.replace(id, seen, put).await;
        self.stop().await;
        told
    }
}

/// The longest that a waiter sleeps on a permit of its own process, and everything longer.
const ASLEEP: Duration = Duration::from_secs(1);

/// A clock on which only those get on who poll: whoever sleeps on a permit of this process sleeps until it is woken. So a
/// wake-up that is lost ends the model, instead of costing a second.
#[derive(Debug, Default)]
struct PollsOnly(AtomicU64);

impl Clock for PollsOnly {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000)
    }

    fn boot(&self) -> Duration {
        Duration::from_millis(self.0.load(SeqCst))
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        if pause >= ASLEEP {
            return Box::pin(std::future::pending());
        }
        self.0.fetch_add(u64::try_from(pause.as_millis()).unwrap(), SeqCst);
        thread::yield_now();
        Box::pin(std::future::ready(()))
    }
}

struct World {
    engine: Engine,
    store: Arc<MemoryStore>,
    attempt: Attempt,
    effects: Arc<AtomicUsize>,
}

impl World {
    fn new(get_then_set: bool) -> Arc<Self> {
        let clock = Arc::new(PollsOnly::default());
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let touched = loom::sync::atomic::AtomicUsize::new(0);
        let interrupted =
            Wrapped(Interrupted { store: Arc::clone(&store) as Arc<dyn Store>, get_then_set, touched });
        let settings = EngineSettings { cache_bytes: 0, ..EngineSettings::default() };
        let entropy = Arc::new(SeededEntropy::new(1));
        let engine = Engine::with(Arc::new(interrupted), settings, clock, entropy, Arc::new(NoObserver));
        let hasher = block_on(engine.hasher()).unwrap();
        let attempt = Attempt {
            scope: Scope {
                principal: Principal::ANONYMOUS,
                kind: "POST".into(),
                host: String::new(),
                path: "/payments".into(),
            },
            key: Key::parse("k").unwrap(),
            fingerprint: hasher.fingerprint([b"12.00 EUR".as_slice()]),
            policy: Policy { lease: Duration::from_millis(100), ..Policy::default() },
            in_flight: InFlight::Wait(Duration::from_secs(600)),
        };
        Arc::new(Self { engine, store, attempt, effects: Arc::default() })
    }

    fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        run: impl FnOnce(Arc<Self>) -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let world = Arc::clone(self);
        big(move || run(world))
    }

    /// Claims, pays, and stores the answer.
    async fn pay(&self) -> &'static str {
        match self.engine.begin(&self.attempt).await.unwrap() {
            Begin::Run(permit) => {
                self.effects.fetch_add(1, SeqCst);
                thread::yield_now();
                // Its lease can be over on this clock; under `hold` its answer stands all the same.
                let kept = permit.complete(Answer::new("test", "paid")).await;
                if kept.is_ok() { "run" } else { "lost" }
            }
            Begin::Replay(answer) => {
                assert_eq!(answer, Answer::new("test", "paid"));
                "replay"
            }
            Begin::Unresolved => "unresolved",
            other => panic!("{other:?}"),
        }
    }

    fn record(&self) -> Option<Record> {
        block_on(self.store.load(self.attempt.record_id())).unwrap().record.map(Arc::unwrap_or_clone)
    }
}

/// Loom's own stacks are too small for an engine.
const STACK_WORDS: usize = 128 << 10;

fn big<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().stack_size(STACK_WORDS).spawn(run).unwrap()
}

/// The long lane interrupts the threads twice, which takes half a minute.
fn interleaved(model: impl Fn() + Sync + Send + 'static) {
    let preemptions = if matches!(Lane::from_env(1), Lane::Long(..)) { 2 } else { 1 };
    let model = Arc::new(model);
    every_interleaving(preemptions, move || {
        let model = Arc::clone(&model);
        big(move || model()).join().unwrap();
    });
}

fn one_key(get_then_set: bool) {
    interleaved(move || {
        let world = World::new(get_then_set);
        let callers: Vec<_> = (0..2).map(|_| world.spawn(|it| block_on(it.pay()))).collect();
        let told: Vec<_> = callers.into_iter().map(|it| it.join().unwrap()).collect();
        assert_eq!(world.effects.load(SeqCst), 1, "{told:?}");
        assert_eq!(told.iter().filter(|it| **it == "run").count(), 1, "{told:?}");
        assert!(matches!(world.record().unwrap().state, State::Done(_)));
    });
}

#[test]
fn of_callers_with_one_key_one_runs_and_the_others_get_its_answer() {
    one_key(false);
}

#[test]
#[should_panic(expected = "left: 2")]
fn a_claim_by_get_then_set_would_be_seen() {
    one_key(true);
}

/// The first caller leaves at an await, whichever: at each the record is as a kill would leave it, and whoever waited
/// is woken.
#[test]
fn a_permit_that_is_dropped_anywhere_equals_a_kill_and_wakes_who_waits() {
    for polls in 0..12 {
        interleaved(move || {
            let world = World::new(false);
            let waits = world.spawn(|it| block_on(it.pay()));
            let mut left = polls;
            block_on(async {
                let mut first = pin!(async {
                    let Begin::Run(mut permit) = world.engine.begin(&world.attempt).await.unwrap() else {
                        return;
                    };
                    let _ = permit.keep(pauses()).await;
                    world.effects.fetch_add(1, SeqCst);
                    pauses().await;
                    let _ = permit.complete(Answer::new("test", "paid")).await;
                });
                std::future::poll_fn(|cx| {
                    if left == 0 {
                        return Poll::Ready(());
                    }
                    left -= 1;
                    first.as_mut().poll(cx)
                })
                .await;
            });
            let told = waits.join().unwrap();
            let effects = world.effects.load(SeqCst);
            assert!(effects <= 1, "{effects} effects, and the waiter was told {told}");
            match (told, world.record().map(|it| it.state)) {
                ("run" | "replay", Some(State::Done(_))) => assert_eq!(effects, 1),
                ("unresolved", Some(State::Running)) => {}
                // It was told so when the lease was over, and the first went on, as it may under `hold`.
                ("unresolved", Some(State::Done(_))) => assert_eq!(effects, 1),
                other => panic!("{other:?}"),
            }
        });
    }
}

/// Lets go once, and is woken at once.
async fn pauses() {
    let mut woken = false;
    std::future::poll_fn(|cx| {
        if woken {
            return Poll::Ready(());
        }
        woken = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
