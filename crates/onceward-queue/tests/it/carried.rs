//! Effects that answers carry: stored with them, and sent from there.

mod passing;
mod renewal;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use onceward_core::store::memory::MemoryStore;
use onceward_core::store::{Due, Filter};
use onceward_core::transition::carried;
use onceward_core::{
    Answer, Attempt, Begin, Clock, Engine, EngineSettings, InFlight, Key, NoObserver, Policy, Principal,
    Record, RecordId, Scope, Store, SystemEntropy,
};
use onceward_queue::outbox::{
    AnswerOutbox, AnswerRelay, CARRIED_BYTES_MAX, Effect, EffectId, Effects, NotAdded, Outgoing, RelayEvent,
    RelayObserver, RelaySettings, SendFailure, Sender,
};
use onceward_queue::source::memory::{MemoryBroker, MemorySettings};
use onceward_queue::{Consumer, Failure, Handling, Identity, Message, Retries};
use onceward_testkit::{Fault, FaultyStore, HandClock, Op, eventually, within};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(10);

struct Place {
    clock: HandClock,
    store: Arc<FaultyStore>,
    sent: Arc<Sent>,
    events: Arc<Events>,
}

/// What arrived at the far side, in order.
#[derive(Debug, Default)]
struct Sent(Mutex<Vec<(EffectId, String, u32)>>);

impl Sent {
    fn all(&self) -> Vec<(EffectId, String, u32)> {
        self.0.lock().unwrap().clone()
    }

    fn texts(&self) -> Vec<String> {
        self.all().into_iter().map(|it| it.1).collect()
    }
}

#[derive(Debug, Default)]
struct Events(Mutex<Vec<RelayEvent>>);

impl RelayObserver for Events {
    fn on(&self, event: &RelayEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Events {
    fn count(&self, wanted: &RelayEvent) -> usize {
        self.0.lock().unwrap().iter().filter(|it| *it == wanted).count()
    }
}

type Script = Arc<dyn Fn(Outgoing) -> BoxFuture<'static, Result<(), SendFailure>> + Send + Sync>;

/// Writes down what arrives, and then says what the script says.
struct Far(Arc<Sent>, Script);

impl std::fmt::Debug for Far {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Far")
    }
}

#[async_trait]
impl Sender for Far {
    async fn send(&self, effect: &Outgoing) -> Result<(), SendFailure> {
        let text = String::from_utf8(effect.body.to_vec()).unwrap();
        self.0.0.lock().unwrap().push((effect.id, text, effect.attempt));
        (self.1)(effect.clone()).await
    }
}

fn fine() -> Script {
    Arc::new(|_| Box::pin(async { Ok(()) }))
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinSet<onceward_core::Result<()>>,
}

impl Running {
    fn new(run: impl FnOnce(oneshot::Receiver<()>) -> BoxFuture<'static, onceward_core::Result<()>>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(run(stopped));
        Self { stop, task }
    }

    async fn kill(mut self) {
        self.task.shutdown().await;
    }

    async fn stop(mut self) {
        let _ = self.stop.send(());
        within(self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}

fn effect(kind: &str, text: &str) -> Effect {
    Effect {
        kind: kind.into(),
        destination: "far".into(),
        key: None,
        headers: Vec::new(),
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn settings() -> RelaySettings {
    RelaySettings {
        lease: LEASE,
        poll: Duration::from_millis(100),
        retries: Retries { attempts_max: 3, pause: SECOND, pause_max: 4 * SECOND },
        ..RelaySettings::default()
    }
}

impl Place {
    fn new() -> Self {
        let clock = HandClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(shared))).shared());
        Self { clock, store, sent: Arc::default(), events: Arc::default() }
    }

    fn engine(&self) -> Engine {
        Engine::with(
            Arc::<FaultyStore>::clone(&self.store),
            EngineSettings::default(),
            Arc::new(self.clock.clone()),
            Arc::new(SystemEntropy),
            Arc::new(NoObserver),
        )
    }

    /// Completes an operation that carries effects of one kind, one for each text.
    async fn done(&self, name: &str, kind: &str, texts: &[&str]) -> RecordId {
        let effects = Effects::default();
        for text in texts {
            effects.add(effect(kind, text)).unwrap();
        }
        self.carries(name, effects.carried().unwrap()).await.id
    }

    /// Completes an operation that carries these bytes.
    async fn carries(&self, name: &str, bytes: Bytes) -> Arc<Record> {
        let engine = self.engine();
        let attempt = Attempt {
            scope: Scope {
                principal: Principal::ANONYMOUS,
                kind: "POST".into(),
                host: String::new(),
                path: "/orders".into(),
            },
            key: Key::parse(name).unwrap(),
            fingerprint: engine.hasher().await.unwrap().fingerprint([name.as_bytes()]),
            policy: Policy { retention: SECOND, tombstone: SECOND, ..Policy::default() },
            in_flight: InFlight::Reject,
        };
        let Begin::Run(permit) = engine.begin(&attempt).await.unwrap() else { panic!("{name} is new") };
        permit.complete_with(Answer::new("test", "done"), bytes).await.unwrap();
        self.store.load(attempt.record_id()).await.unwrap().record.unwrap()
    }

    fn relay(&self, script: Script) -> Running {
        self.relay_of("log", script, settings())
    }

    fn relay_of(&self, kind: &str, script: Script, settings: RelaySettings) -> Running {
        let relay = AnswerRelay::new(self.engine())
            .sender(kind, Far(Arc::clone(&self.sent), script))
            .settings(settings)
            .observer(Arc::<Events>::clone(&self.events));
        Running::new(|stopped| {
            Box::pin(relay.run(async {
                let _ = stopped.await;
            }))
        })
    }

    /// Lets time pass, little by little, until it is so.
    async fn until(&self, mut is_so: impl AsyncFnMut() -> bool) {
        eventually(async || {
            self.clock.advance(Duration::from_millis(50));
            tokio::task::yield_now().await;
            is_so().await
        })
        .await;
    }

    async fn nothing_is_carried(&self) {
        let page = self.store.list(&Filter::default(), None, 1000).await.unwrap();
        assert!(page.records.iter().all(|it| carried(it).is_none()));
    }
}

#[tokio::test]
async fn effects_of_a_handler_go_out_once_its_message_is_done_and_never_if_it_failed() {
    let place = Place::new();
    let broker = MemoryBroker::new(Arc::new(place.clock.clone()), MemorySettings::default());
    let message = |id: &str| Message {
        topic: "orders".into(),
        key: None,
        headers: vec![("event-id".into(), Bytes::copy_from_slice(id.as_bytes()))],
        body: Bytes::copy_from_slice(id.as_bytes()),
    };
    for id in ["a", "bad", "a", "b", "a"] {
        broker.publish(message(id));
    }
    let consumer = Consumer::new("shop", broker.source("orders"), place.engine())
        .key(Identity::header("event-id"))
        .handler(|it: Handling| async move {
            let name = it.key.as_str().to_owned();
            it.effects.add(effect("log", &format!("{name}: first")))?;
            it.effects.add(effect("log", &format!("{name}: second")))?;
            if name == "bad" { Err(Failure::park("no such order")) } else { Ok(()) }
        });
    let consuming = Running::new(|stopped| {
        Box::pin(consumer.run(async {
            let _ = stopped.await;
        }))
    });
    place.until(async || broker.kept("orders").is_empty()).await;
    assert_eq!(
        place.store.due(Due::Wake.start(), 10).await.unwrap().records.len(),
        2,
        "both are there before any relay is"
    );
    let relay = place.relay(fine());
    place.until(async || place.sent.all().len() >= 4).await;
    place.until(async || place.store.due(Due::Wake.start(), 10).await.unwrap().records.is_empty()).await;
    let texts = place.sent.texts();
    for name in ["a", "b"] {
        let mine: Vec<_> = texts.iter().filter(|it| it.starts_with(name)).collect();
        assert_eq!(mine, [&format!("{name}: first"), &format!("{name}: second")], "{texts:?}");
    }
    assert_eq!(texts.len(), 4);
    place.nothing_is_carried().await;
    consuming.stop().await;
    relay.stop().await;
    assert_eq!(place.events.count(&RelayEvent::Sent(1)), 4);
}

#[tokio::test]
async fn what_a_relay_had_in_hand_that_died_goes_out_again_under_its_id_once_its_lease_is_over() {
    let place = Place::new();
    place.done("order", "log", &["one", "two"]).await;
    let begun = Arc::new(Notify::new());
    let signal = Arc::clone(&begun);
    let first = place.relay(Arc::new(move |it| {
        let signal = Arc::clone(&signal);
        Box::pin(async move {
            if it.body == "two" {
                signal.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }));
    within(begun.notified()).await;
    first.kill().await;
    let second = place.relay(fine());
    place.clock.advance(LEASE / 2);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(place.sent.texts(), ["one", "two"], "its lease is not over");
    place.until(async || place.sent.all().len() == 3).await;
    let all = place.sent.all();
    assert_eq!((&all[2].0, &*all[2].1, all[2].2), (&all[1].0, "two", 2), "the same one, and only that");
    place.until(async || place.store.due(Due::Wake.start(), 10).await.unwrap().records.is_empty()).await;
    second.stop().await;
    place.nothing_is_carried().await;
}

#[tokio::test]
async fn a_long_try_keeps_its_lease_and_two_relays_send_nothing_twice() {
    let place = Place::new();
    for number in 0..20 {
        place.done(&format!("order-{number}"), "log", &[&format!("{number}")]).await;
    }
    let clock = place.clock.clone();
    let slow: Script = Arc::new(move |_| {
        let clock = clock.clone();
        Box::pin(async move {
            clock.sleep(LEASE * 2).await;
            Ok(())
        })
    });
    let relays = [place.relay(Arc::clone(&slow)), place.relay(slow)];
    let left = async || place.store.list(&Filter::default(), None, 100).await.unwrap().records;
    place.until(async || left().await.iter().all(|it| carried(it).is_none())).await;
    for relay in relays {
        relay.stop().await;
    }
    let mut texts: Vec<u32> = place.sent.texts().iter().map(|it| it.parse().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_fails_is_tried_again_then_parked_and_holds_up_only_its_own_answer() {
    let place = Place::new();
    let kept = place.done("bad", "log", &["poison", "behind it"]).await;
    place.done("good", "log", &["good"]).await;
    let script: Script = Arc::new(|it| {
        Box::pin(async move { if it.body == "poison" { Err(SendFailure::retry("busy")) } else { Ok(()) } })
    });
    let relay = place.relay(Arc::clone(&script));
    place.until(async || place.events.count(&RelayEvent::Parked) == 1).await;
    let texts = place.sent.texts();
    assert_eq!(texts.iter().filter(|it| *it == "poison").count(), 3, "{texts:?}");
    assert!(texts.contains(&"good".into()) && !texts.contains(&"behind it".into()), "{texts:?}");
    // However long nobody looks, it is not lost.
    place.clock.advance(1000 * 24 * 3600 * SECOND);
    place.store.sweep(100).await.unwrap();
    let outbox = AnswerOutbox::new(place.engine());
    let stats = outbox.stats().await.unwrap();
    assert_eq!((stats.unsent, stats.parked, stats.owned, stats.attempts), (2, 1, 0, 3));
    let (parked, next) = outbox.parked(None).await.unwrap();
    assert!(next.is_none());
    assert_eq!((parked.len(), &*parked[0].reason), (1, "failed 3 times: busy"));
    let id = parked[0].effect.id;
    assert_eq!(outbox.redrive(&[EffectId::from_bytes([0; 16])]).await.unwrap(), []);

    assert_eq!(outbox.redrive(&[id]).await.unwrap(), [id]);
    assert_eq!(outbox.redrive(&[id]).await.unwrap(), [], "it is not parked any more");
    place.until(async || place.events.count(&RelayEvent::Parked) == 2).await;
    let all = place.sent.all();
    let poison: Vec<_> = all.iter().filter(|it| it.1 == "poison").map(|it| (it.0, it.2)).collect();
    assert_eq!(poison, [(id, 1), (id, 2), (id, 3), (id, 1), (id, 2), (id, 3)]);

    assert_eq!(outbox.drop_parked(&[id]).await.unwrap(), [id]);
    place.until(async || place.sent.texts().contains(&"behind it".into())).await;
    place.until(async || place.store.due(Due::Wake.start(), 10).await.unwrap().records.is_empty()).await;
    relay.stop().await;
    place.nothing_is_carried().await;
    // Its retention begins now.
    let record = place.store.load(kept).await.unwrap().record.unwrap();
    assert_eq!(record.updated.until(record.answer_until), SECOND);
    assert_eq!(outbox.stats().await.unwrap(), onceward_queue::outbox::Stats::default());
}

#[tokio::test]
async fn effects_that_a_relay_has_no_sender_for_are_left_and_stand_in_nobodys_way() {
    let place = Place::new();
    for number in 0..50 {
        place.done(&format!("mail-{number}"), "mail", &["mail"]).await;
    }
    place.clock.advance(SECOND);
    place.done("order", "log", &["log"]).await;
    let relay = place.relay_of("log", fine(), RelaySettings { parallel: 4, ..settings() });
    place.until(async || place.sent.texts() == ["log"]).await;
    place.until(async || place.store.due(Due::Wake.start(), 100).await.unwrap().records.len() == 50).await;
    relay.stop().await;
    let due = place.store.due(Due::Wake.start(), 100).await.unwrap().records;
    assert!(due.iter().all(|it| it.updated < it.created.after(SECOND)), "nobody touched them");
}

#[tokio::test]
async fn a_store_that_does_not_answer_once_loses_and_doubles_nothing() {
    for fault in [Fault::Refused, Fault::CallLost, Fault::ReplyLost, Fault::Repeated, Fault::Hangs] {
        // The claim, the claim of the second together with the note of the first, and the last note.
        for nth in 1..=3 {
            let place = Place::new();
            place.done("order", "log", &["one", "two"]).await;
            place.store.cue(Op::Replace, nth, fault.clone());
            let relay = place.relay(fine());
            let left = async || place.store.list(&Filter::default(), None, 100).await.unwrap().records;
            place.until(async || left().await.iter().all(|it| carried(it).is_none())).await;
            // It may be about to ask once more how its last note went.
            let Running { stop, mut task } = relay;
            stop.send(()).unwrap();
            place.until(async || task.try_join_next().is_some()).await;
            let texts = place.sent.texts();
            assert_eq!(texts, ["one", "two"], "{fault:?} {nth}");
        }
    }
}

#[tokio::test]
async fn a_relay_that_is_stopped_notes_what_it_has_sent_and_begins_nothing_more() {
    let place = Place::new();
    place.done("order", "log", &["one", "two", "three"]).await;
    let (begun, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, gate) = (Arc::clone(&begun), Arc::clone(&goes_on));
    let relay = place.relay(Arc::new(move |_| {
        let (signal, gate) = (Arc::clone(&signal), Arc::clone(&gate));
        Box::pin(async move {
            signal.notify_one();
            gate.notified().await;
            Ok(())
        })
    }));
    within(begun.notified()).await;
    let Running { stop, mut task } = relay;
    stop.send(()).unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    goes_on.notify_one();
    within(task.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(place.sent.texts(), ["one"]);
    // It is due at once: nobody has to wait for a lease.
    let relay = place.relay(fine());
    eventually(async || place.sent.texts() == ["one", "two", "three"]).await;
    relay.stop().await;
}

#[tokio::test]
async fn relays_that_are_killed_at_random_send_everything_in_order_and_repeat_only_what_they_had_in_hand() {
    let place = Place::new();
    const ANSWERS: usize = 60;
    for number in 0..ANSWERS {
        let texts: Vec<_> = (0..3).map(|it| format!("{number}/{it}")).collect();
        let texts: Vec<_> = texts.iter().map(|it| &**it).collect();
        place.done(&format!("order-{number}"), "log", &texts).await;
    }
    let mut random = fastrand::Rng::with_seed(7);
    let parallel = 2;
    let kills = Arc::new(AtomicU64::new(0));
    let clock = place.clock.clone();
    let slow: Script = Arc::new(move |_| {
        let clock = clock.clone();
        Box::pin(async move {
            clock.sleep(Duration::from_millis(fastrand::u64(0..400))).await;
            Ok(())
        })
    });
    let settings = RelaySettings {
        parallel,
        retries: Retries { attempts_max: 1000, ..settings().retries },
        ..settings()
    };
    let start = || place.relay_of("log", Arc::clone(&slow), settings.clone());
    let mut relays = vec![start(), start(), start()];
    let left = async || place.store.list(&Filter::default(), None, 1000).await.unwrap().records;
    place
        .until(async || {
            if random.u8(..) < 8 {
                let killed = relays.swap_remove(random.usize(..relays.len()));
                killed.kill().await;
                kills.fetch_add(1, Ordering::Relaxed);
                relays.push(start());
            }
            left().await.iter().all(|it| carried(it).is_none())
        })
        .await;
    for relay in relays {
        relay.stop().await;
    }
    let (all, kills) = (place.sent.all(), kills.load(Ordering::Relaxed));
    let mut last = HashMap::new();
    let mut ids = HashMap::new();
    for (id, text, _) in &all {
        let (order, number) = text.split_once('/').unwrap();
        let number: i32 = number.parse().unwrap();
        let before = last.insert(order.to_owned(), number).unwrap_or(-1);
        assert!(number == before || number == before + 1, "{order}: {number} after {before}");
        assert_eq!(ids.entry(text.clone()).or_insert(*id), id, "the same id on every try");
    }
    assert_eq!(ids.len(), ANSWERS * 3, "nothing is lost");
    let repeats = all.len() - ids.len();
    assert!(kills > 3, "{kills} kills");
    assert!(repeats as u64 <= kills * parallel as u64, "{repeats} repeats of {kills} kills");
}

#[test]
fn what_cannot_be_added_is_refused_and_leaves_the_rest() {
    let effects = Effects::default();
    effects.add(effect("log", "fine")).unwrap();
    assert!(matches!(effects.add(effect("", "no kind")), Err(NotAdded::Invalid(_))));
    let big = "x".repeat(CARRIED_BYTES_MAX);
    assert!(matches!(effects.add(effect("log", &big)), Err(NotAdded::TooMuch)));
    let carried = effects.carried().unwrap();
    assert!(matches!(effects.clone().add(effect("log", "late")), Err(NotAdded::Sealed)));
    assert_eq!(effects.carried().unwrap(), carried);
    let none = Effects::default();
    assert!(none.carried().is_none());
    assert!(matches!(none.add(effect("log", "late")), Err(NotAdded::Sealed)));
}
