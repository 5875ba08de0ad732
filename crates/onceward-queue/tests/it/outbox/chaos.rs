//! Four relays that are killed and paused, senders that fail, and transactions that commit in any order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Engine, SystemClock};
use onceward_queue::outbox::{
    Effect, EffectId, Outbox, Outgoing, Publish, Relay, RelaySettings, SendFailure, Sender,
};
use onceward_queue::source::memory::{MemoryBroker, MemorySettings, MemorySource};
use onceward_queue::{Consumer, ConsumerSettings, Failure, Handling, Identity, Retries};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::place::Place;

const ROWS: usize = 10_000;
const KEYS: usize = 100;
const RELAYS: usize = 4;
const ADDERS: usize = 32;
/// How many effects a relay has in hand at most: what may go out twice when it ends.
const IN_HAND: usize = 100;
const LEASE: Duration = Duration::from_secs(1);

/// What the far side saw, in the order in which it did.
#[derive(Debug, Clone)]
enum Seen {
    Arrived(EffectId, String),
    Confirmed(String),
}

#[derive(Debug, Default)]
struct FarSide {
    seen: Mutex<Vec<Seen>>,
    /// How often it took an effect and said that it failed, and how often its sender's whole process stood still.
    said_failed: AtomicUsize,
    stood_still: AtomicUsize,
}

/// Sends to a broker, and fails as networks do.
#[derive(Debug)]
struct Unsteady {
    far_side: Arc<FarSide>,
    broker: Publish<MemorySource>,
}

#[async_trait]
impl Sender for Unsteady {
    async fn send(&self, effect: &Outgoing) -> Result<(), SendFailure> {
        let label = String::from_utf8(effect.body.to_vec()).unwrap();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..5))).await;
        if fastrand::u32(..100) < 3 {
            return Err(SendFailure::Retry { reason: "no way through".into(), after: Some(LEASE / 100) });
        }
        let pauses = fastrand::u32(..1500) == 0;
        if pauses && fastrand::bool() {
            self.stand_still();
        }
        self.far_side.seen.lock().unwrap().push(Seen::Arrived(effect.id, label.clone()));
        self.broker.send(effect).await?;
        if pauses {
            self.stand_still();
        }
        if fastrand::u32(..100) < 2 {
            self.far_side.said_failed.fetch_add(1, Ordering::SeqCst);
            return Err(SendFailure::Retry { reason: "no answer".into(), after: Some(LEASE / 100) });
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..5))).await;
        self.far_side.seen.lock().unwrap().push(Seen::Confirmed(label));
        Ok(())
    }
}

impl Unsteady {
    /// The whole relay stands still, as one that got `SIGSTOP`, until its lease is over.
    fn stand_still(&self) {
        self.far_side.stood_still.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(LEASE.mul_f64(1.2));
    }
}

/// What is to arrive: of each key its labels in the order of commits. Those without a key are under no key, in any order.
type Committed = Mutex<HashMap<Option<usize>, Vec<String>>>;

/// Adds effects in transactions that commit or not, sooner or later.
async fn add(pool: PgPool, outbox: Outbox, committed: Arc<Committed>, left: Arc<AtomicUsize>, adder: usize) {
    for number in 0.. {
        let count = fastrand::usize(1..=4);
        let commits = fastrand::u32(..5) > 0;
        if commits
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(count)).is_err()
        {
            return;
        }
        let effects: Vec<_> = (0..count)
            .map(|nth| {
                let key = (fastrand::u32(..5) > 0).then(|| fastrand::usize(..KEYS));
                let label = format!("{adder}/{number}/{nth}{}", if commits { "" } else { " undone" });
                (key, label)
            })
            .collect();
        let rows: Vec<_> = effects
            .iter()
            .map(|(key, label)| Effect {
                kind: "queue".into(),
                destination: "effects".into(),
                key: key.map(|it| Bytes::from(it.to_string())),
                headers: Vec::new(),
                body: Bytes::copy_from_slice(label.as_bytes()),
            })
            .collect();
        let mut transaction = pool.begin().await.unwrap();
        outbox.add_all(&mut transaction, &rows).await.unwrap();
        let open = if fastrand::u32(..50) == 0 { 300 } else { fastrand::u64(0..10) };
        tokio::time::sleep(Duration::from_millis(open)).await;
        if commits {
            // Whoever adds to these keys waits for this commit.
            note(&committed, effects);
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
    }
}

fn note(committed: &Committed, effects: Vec<(Option<usize>, String)>) {
    let mut all = committed.lock().unwrap();
    for (key, label) in effects {
        all.entry(key).or_default().push(label);
    }
}

/// Relays, one after the other, each killed after a while, in a thread of their own. Gives how many were killed.
fn relays(url: &str, far_side: &Arc<FarSide>, broker: &MemoryBroker, over: &AtomicBool) -> usize {
    let mut kills = 0;
    while !over.load(Ordering::SeqCst) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pool = PgPoolOptions::new().max_connections(4).connect(url).await.unwrap();
            let settings = RelaySettings {
                lease: LEASE,
                poll: Duration::from_millis(20),
                parallel: 32,
                in_hand_max: IN_HAND,
                line_max: 10,
                retries: Retries { attempts_max: 1000, ..Retries::default() },
                ..RelaySettings::default()
            };
            let sender =
                Unsteady { far_side: Arc::clone(far_side), broker: Publish::new(broker.source("effects")) };
            let relay = Relay::new(pool, Outbox::default()).sender("queue", sender).settings(settings);
            let lives = Duration::from_millis(fastrand::u64(100..3000));
            tokio::select! {
                told = relay.run(std::future::pending()) => told.unwrap(),
                () = tokio::time::sleep(lives) => {}
            }
        });
        // Whatever runs is dropped where it stands.
        drop(runtime);
        kills += 1;
    }
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_that_are_killed_and_paused_lose_nothing_invent_nothing_and_keep_every_key_in_order() {
    let place = Place::new().await;
    let broker = MemoryBroker::new(Arc::new(SystemClock), MemorySettings::default());
    let (far_side, over) = (Arc::<FarSide>::default(), Arc::new(AtomicBool::new(false)));
    let threads: Vec<_> = (0..RELAYS)
        .map(|_| {
            let (url, far_side, broker) = (place.url.clone(), Arc::clone(&far_side), broker.clone());
            let over = Arc::clone(&over);
            std::thread::spawn(move || relays(&url, &far_side, &broker, &over))
        })
        .collect();
    let (committed, left) = (Arc::<Committed>::default(), Arc::new(AtomicUsize::new(ROWS)));
    let mut adders = JoinSet::new();
    for adder in 0..ADDERS {
        let (committed, left) = (Arc::clone(&committed), Arc::clone(&left));
        adders.spawn(add(place.pool.clone(), place.outbox.clone(), committed, left, adder));
    }
    let consumed = Arc::new(Mutex::new(Vec::new()));
    let consumer = consume(&broker, Arc::clone(&consumed));
    let limit = Duration::from_secs(120);
    let whole = async {
        adders.join_all().await;
        while place.stats().await.unsent > 0 || !broker.kept("effects").is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(limit, whole).await.expect("all is sent and consumed in time");
    over.store(true, Ordering::SeqCst);
    let kills: usize = threads.into_iter().map(|it| it.join().unwrap()).sum();
    consumer.stop().await;

    let committed = std::mem::take(&mut *committed.lock().unwrap());
    let seen = std::mem::take(&mut *far_side.seen.lock().unwrap());
    let (mut ids, mut firsts, mut confirmed) = (HashMap::new(), HashMap::new(), HashSet::new());
    let mut arrivals = 0;
    let before: HashMap<_, _> = (committed.iter().filter(|it| it.0.is_some()))
        .flat_map(|it| it.1.windows(2))
        .map(|it| (it[1].clone(), it[0].clone()))
        .collect();
    for (at, it) in seen.iter().enumerate() {
        match it {
            Seen::Confirmed(label) => _ = confirmed.insert(label.clone()),
            Seen::Arrived(id, label) => {
                arrivals += 1;
                assert_eq!(ids.entry(label.clone()).or_insert(*id), id, "{label} has one id");
                firsts.entry(label.clone()).or_insert(at);
                if let Some(before) = before.get(label) {
                    assert!(confirmed.contains(before), "{label} goes out after {before} is confirmed");
                }
            }
        }
    }
    for (key, labels) in &committed {
        let order: Vec<_> = labels.iter().map(|it| firsts.get(it)).collect();
        assert!(order.iter().all(Option::is_some), "each that was committed arrived");
        assert!(key.is_none() || order.is_sorted(), "in the order of {key:?}");
    }
    let count: usize = committed.values().map(Vec::len).sum();
    assert_eq!(ids.len(), count, "none that was rolled back");
    assert_eq!(ids.values().collect::<HashSet<_>>().len(), count, "each has another id");
    let (failed, stood) =
        (far_side.said_failed.load(Ordering::SeqCst), far_side.stood_still.load(Ordering::SeqCst));
    let twice = arrivals - count;
    println!(
        "{count} effects arrived {arrivals} times: {failed} failed afterwards, {kills} relays killed, {stood} pauses"
    );
    assert!(twice <= failed + (kills + stood) * IN_HAND, "what was in hand goes out twice, nothing else");
    let mut consumed = std::mem::take(&mut *consumed.lock().unwrap());
    let mut wanted: Vec<_> = committed.into_values().flatten().collect();
    consumed.sort();
    wanted.sort();
    assert_eq!(consumed, wanted, "the consumer behind it sees each once");
}

struct Consuming {
    stop: oneshot::Sender<()>,
    task: JoinSet<onceward_core::Result<()>>,
}

impl Consuming {
    async fn stop(mut self) {
        self.stop.send(()).unwrap();
        onceward_testkit::within(self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}

fn consume(broker: &MemoryBroker, consumed: Arc<Mutex<Vec<String>>>) -> Consuming {
    let engine = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
    let consumer = Consumer::new("books", broker.source("effects"), engine)
        .key(Identity::header("event-id"))
        .settings(ConsumerSettings { parallel: 64, ..ConsumerSettings::default() })
        .handler(move |it: Handling| {
            let consumed = Arc::clone(&consumed);
            async move {
                consumed.lock().unwrap().push(String::from_utf8(it.message.body.to_vec()).unwrap());
                Ok::<_, Failure>(())
            }
        });
    let (stop, stopped) = oneshot::channel::<()>();
    let mut task = JoinSet::new();
    task.spawn(consumer.run(async {
        let _ = stopped.await;
    }));
    Consuming { stop, task }
}
