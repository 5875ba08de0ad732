//! Processes that know the old store only, processes that know both, and processes that know the new one: callers repeat,
//! replies are lost, processes die. Each effect happens once and each caller hears of the same one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use onceward::store::memory::MemoryStore;
use onceward::store::{Insert, Put, Replace};
use onceward::{
    Answer, Attempt, Begin, Clock as _, Engine, EngineSettings, Error, ErrorKind, Moved, MovingStore,
    NoObserver, OpenError, Policy, RecordId, Result, Revision, Store, moving,
};
use onceward_testkit::{FaultyStore, HandClock, Lane, SeededEntropy, Wrapped, Wrapper, within};
use tokio::task::JoinSet;

const KEYS: u64 = 12;
const CALLERS: u64 = 24;

/// Chance from a seed. Whoever asks next gets the next number: the order is that of the one thread.
#[derive(Debug)]
struct Dice(Mutex<u64>);

impl Dice {
    fn roll(&self, sides: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % sides
    }
}

/// A store at the end of a bad line.
#[derive(Debug)]
struct Shaky {
    inside: Arc<dyn Store>,
    dice: Arc<Dice>,
}

impl Shaky {
    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let lost = || Error::new(ErrorKind::Uncertain, "hear of the store");
        for _ in 0..self.dice.roll(4) {
            tokio::task::yield_now().await;
        }
        match self.dice.roll(40) {
            0 => return Err(Error::new(ErrorKind::Unavailable, "reach the store")),
            1 => return Err(lost()),
            _ => {}
        }
        let told = call.await;
        for _ in 0..self.dice.roll(4) {
            tokio::task::yield_now().await;
        }
        if self.dice.roll(40) == 0 { Err(lost()) } else { told }
    }
}

#[async_trait]
impl Wrapper for Shaky {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.inside
    }

    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        self.call(self.inside.insert(id, put)).await
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        self.call(self.inside.replace(id, seen, put)).await
    }
}

#[derive(Debug, Default)]
struct Ledger {
    effects: Mutex<BTreeMap<u64, Vec<u64>>>,
    told: Mutex<BTreeMap<u64, Vec<u64>>>,
    next: AtomicU64,
}

struct World {
    clock: HandClock,
    dice: Arc<Dice>,
    from: Arc<dyn Store>,
    to: Arc<dyn Store>,
    ledger: Ledger,
    seeds: AtomicU64,
}

impl World {
    fn engine(&self, store: Arc<dyn Store>) -> Engine {
        let settings = EngineSettings { cache_bytes: 0, ..EngineSettings::default() };
        let entropy = Arc::new(SeededEntropy::new(self.seeds.fetch_add(1, Ordering::Relaxed)));
        Engine::with(store, settings, Arc::new(self.clock.clone()), entropy, Arc::new(NoObserver))
    }

    fn shaky(&self, inside: &Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Wrapped(Shaky { inside: Arc::clone(inside), dice: Arc::clone(&self.dice) }))
    }

    async fn mover(&self) -> Arc<dyn Store> {
        loop {
            match MovingStore::begin(self.shaky(&self.from), self.shaky(&self.to)).await {
                Ok(both) => return Arc::new(both),
                Err(onceward::MoveError::Store(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// What a process has that knows only the old store.
    async fn old(&self) -> Arc<dyn Store> {
        loop {
            match onceward::alone(self.shaky(&self.from), Arc::new(self.clock.clone())).await {
                Ok(old) => return old,
                Err(OpenError::Asked(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// One caller of one process, which may be killed at any await.
    async fn call(&self, engine: &Engine, key: u64) -> Result<()> {
        let attempt = attempt(engine, key).await?;
        match engine.begin(&attempt).await? {
            Begin::Run(mut permit) => {
                let slow = Duration::from_millis(self.dice.roll(8) * 700);
                let kept = permit.keep(async {
                    self.clock.sleep(slow / 2).await;
                    let effect = self.ledger.next.fetch_add(1, Ordering::Relaxed);
                    self.ledger.effects.lock().unwrap().entry(key).or_default().push(effect);
                    self.clock.sleep(slow / 2).await;
                    effect
                });
                let Ok(effect) = kept.await else { return Ok(()) };
                let answer = permit.complete(Answer::new("text", effect.to_string())).await?;
                self.hear(key, &answer);
            }
            Begin::Replay(answer) => self.hear(key, &answer),
            Begin::Mismatch => panic!("everybody asks the same"),
            Begin::Gone => panic!("answers are kept for a day"),
            Begin::Busy { .. } | Begin::Unresolved => {}
        }
        Ok(())
    }

    fn hear(&self, key: u64, answer: &Answer) {
        let told = String::from_utf8(answer.bytes().unwrap().to_vec()).unwrap().parse().unwrap();
        self.ledger.told.lock().unwrap().entry(key).or_default().push(told);
    }

    /// Lets callers loose on a process each, kills some of them and lets time pass meanwhile.
    async fn phase(self: &Arc<Self>, stores: &[Arc<dyn Store>], keys: u64) {
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let store = &stores[usize::try_from(caller).unwrap() % stores.len()];
            let (world, engine) = (Arc::clone(self), self.engine(Arc::clone(store)));
            callers.spawn(async move {
                for _ in 0..3 {
                    let key = world.dice.roll(keys);
                    // An error is no answer: the caller comes again, or another one does.
                    let _ = world.call(&engine, key).await;
                    let _ = engine.maintain().await;
                }
            });
        }
        within(async {
            while !callers.is_empty() {
                for _ in 0..1 + self.dice.roll(30) {
                    tokio::task::yield_now().await;
                }
                match self.dice.roll(60) {
                    0 => callers.abort_all(),
                    1 | 2 => self.clock.advance(Duration::from_millis(self.dice.roll(2_000))),
                    _ => self.clock.advance(Duration::from_millis(self.dice.roll(100))),
                }
                while callers.try_join_next().is_some() {}
            }
        })
        .await;
    }
}

async fn attempt(engine: &Engine, key: u64) -> Result<Attempt> {
    let asked = engine.hasher().await?.fingerprint([b"12.00 EUR".as_slice()]);
    let policy = Policy { lease: Duration::from_secs(1), ..Policy::default() };
    Ok(Attempt { policy, ..onceward_testkit::attempt(&format!("key-{key}"), asked) })
}

/// Gives how many effects, answers and keys there were that were only resolved after the move.
async fn run(seed: u64) -> (usize, usize) {
    let clock = HandClock::new();
    let memory = || -> Arc<dyn Store> { Arc::new(MemoryStore::new(Arc::new(clock.clone()))) };
    let dice = Arc::new(Dice(Mutex::new(seed)));
    let world = Arc::new(World {
        clock: clock.clone(),
        dice,
        from: Arc::new(FaultyStore::new(memory()).shared()),
        to: memory(),
        ledger: Ledger::default(),
        seeds: AtomicU64::new(seed.wrapping_mul(1_000_000)),
    });
    Engine::new(Arc::clone(&world.from)).hasher().await.unwrap();
    let old = world.old().await;
    world.phase(&[Arc::clone(&old)], KEYS).await;
    let first = world.mover().await;
    world.phase(&[Arc::clone(&old), Arc::clone(&first)], KEYS).await;
    let second = world.mover().await;
    world.phase(&[Arc::clone(&old), world.old().await, first, Arc::clone(&second)], KEYS).await;
    // All know both now, or sleep. Leases end, and what is left is moved.
    world.clock.advance(moving::QUIET);
    let both = MovingStore::begin(Arc::clone(&world.from), Arc::clone(&world.to)).await.unwrap();
    let mut walked = None;
    for _ in 0..2 {
        loop {
            (_, walked) = both.step(5).await.unwrap();
            if walked.is_some() {
                break;
            }
        }
    }
    assert_eq!((walked, both.has_left()), (Some(Moved::default()), true), "seed {seed}");
    // One that slept goes on, and finds out.
    world.phase(&[Arc::clone(&world.to), second, old], 2 * KEYS).await;
    let ledger = &world.ledger;
    let (effects, told) = (ledger.effects.lock().unwrap().clone(), ledger.told.lock().unwrap().clone());
    for (key, happened) in &effects {
        assert_eq!(happened.len(), 1, "seed {seed}: key {key} took effect {happened:?}");
    }
    for (key, answers) in &told {
        let same = answers.iter().all(|it| effects[key] == [*it]);
        assert!(same, "seed {seed}: key {key} had effect {:?}, callers heard {answers:?}", effects[key]);
    }
    // Whoever was told an answer is told it again, by the new store alone.
    let engine = world.engine(Arc::clone(&world.to));
    for (key, answers) in &told {
        let attempt = attempt(&engine, *key).await.unwrap();
        match engine.begin(&attempt).await.unwrap() {
            Begin::Replay(answer) => assert_eq!(answer.bytes().unwrap(), answers[0].to_string().as_bytes()),
            other => panic!("seed {seed}: key {key} was answered, and now {other:?}"),
        }
    }
    (effects.len(), told.len())
}

#[test]
fn every_effect_happens_once_while_records_move_under_load() {
    let (mut effects, mut told) = (0, 0);
    Lane::from_env(150).each(|seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ran = runtime.block_on(run(seed));
        effects += ran.0;
        told += ran.1;
    });
    println!("{effects} effects, {told} keys answered");
    assert!(effects > 0 && told > effects / 2, "{effects} effects, {told} keys answered");
}
