//! Pauses between tries, on a clock in the hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use onceward_core::store::Filter;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Clock, Engine, EngineSettings, NoObserver, State, Store};
use onceward_queue::source::memory::{MemoryBroker, MemorySettings};
use onceward_queue::{
    Consumer, ConsumerSettings, Failure, Handling, Identity, Letter, Message, Order, Reason, Retries,
};
use onceward_testkit::{HandClock, SeededEntropy, within};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const MINUTE: Duration = Duration::from_secs(60);

struct Place {
    clock: HandClock,
    store: Arc<dyn Store>,
    broker: MemoryBroker,
    /// When which attempt began.
    began: Arc<Mutex<Vec<(String, u32, Duration)>>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinSet<onceward_core::Result<()>>,
}

impl Place {
    fn new(settings: MemorySettings) -> Self {
        let clock = HandClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        Self {
            store: Arc::new(MemoryStore::new(Arc::clone(&shared))),
            broker: MemoryBroker::new(shared, settings),
            began: Arc::default(),
            clock,
        }
    }

    /// A consumer whose handler asks for another try three times.
    fn consume(&self, seed: u64) -> Running {
        let (began, clock) = (Arc::clone(&self.began), self.clock.clone());
        self.consume_with(seed, Identity::header("event-id"), move |it| {
            began.lock().unwrap().push((it.key.as_str().to_owned(), it.attempt, clock.boot()));
            async move { if it.attempt < 4 { Err(Failure::retry("not yet")) } else { Ok(()) } }
        })
    }

    fn consume_with<F>(
        &self,
        seed: u64,
        key: Identity,
        handler: impl Fn(Handling) -> F + Send + Sync + 'static,
    ) -> Running
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let engine = Engine::with(
            Arc::clone(&self.store),
            EngineSettings::default(),
            Arc::new(self.clock.clone()),
            Arc::new(SeededEntropy::new(seed)),
            Arc::new(NoObserver),
        );
        let settings = ConsumerSettings {
            retries: Retries { attempts_max: 5, pause: 4 * MINUTE, pause_max: 10 * MINUTE },
            order: Order::Free,
            ..ConsumerSettings::default()
        };
        let consumer = Consumer::new("billing", self.broker.source("orders"), engine)
            .key(key)
            .settings(settings)
            .handler(handler);
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(consumer.run(async {
            let _ = stopped.await;
        }));
        Running { stop, task }
    }

    /// Lets time pass until `condition` holds: a little whenever everybody waits.
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        within(async {
            while !condition(self) {
                self.clock.until_asleep(1).await;
                self.clock.advance(Duration::from_secs(5));
                // Whoever woke up gets on.
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
    }

    fn attempts(&self) -> usize {
        self.began.lock().unwrap().len()
    }

    /// Each pause between an attempt and the next, in minutes.
    fn pauses(&self) -> Vec<f64> {
        let began = self.began.lock().unwrap();
        began.windows(2).map(|it| (it[1].2 - it[0].2).as_secs_f64() / 60.0).collect()
    }
}

fn message() -> Message {
    Message {
        topic: "orders".into(),
        key: None,
        headers: vec![("event-id".into(), Bytes::from_static(b"m-1"))],
        body: Bytes::new(),
    }
}

#[tokio::test]
async fn a_pause_between_tries_outlives_the_consumer_who_began_it() {
    for delays in [Duration::ZERO, 15 * MINUTE] {
        let place = Place::new(MemorySettings { delays, ..MemorySettings::default() });
        place.broker.publish(message());
        for attempts in 1..4 {
            let mut running = place.consume(attempts);
            place.until(|it| it.attempts() == usize::try_from(attempts).unwrap()).await;
            // The note is written by then, or not: a pause that was not noted is one that nobody relied on.
            place.until(|it| it.clock.boot() - it.began.lock().unwrap().last().unwrap().2 >= MINUTE).await;
            running.task.shutdown().await;
            place.broker.deliver_again();
        }
        let mut running = place.consume(9);
        place.until(|it| it.broker.kept("orders").is_empty()).await;
        running.stop.send(()).unwrap();
        within(running.task.join_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(place.attempts(), 4);
        let pauses = place.pauses();
        for (pause, wanted) in pauses.iter().zip([4.0, 8.0, 10.0]) {
            assert!((wanted * 0.75..wanted + 0.6).contains(pause), "{pauses:?}");
        }
    }
}

/// What became of the only message, by the letter.
async fn letter(store: &Arc<dyn Store>) -> Letter {
    let filter = Filter { kind: Some(onceward_queue::DEAD_LETTER.into()), ..Filter::default() };
    let page = store.list(&filter, None, 10).await.unwrap();
    let [record] = &page.records[..] else { panic!("{} letters", page.records.len()) };
    let State::Done(answer) = &record.state else { panic!("{record:?}") };
    Letter::from_answer(answer).unwrap()
}

#[tokio::test]
async fn a_handler_that_never_ends_is_dropped_after_run_max() {
    let place = Place::new(MemorySettings::default());
    place.broker.publish(message());
    let began = place.clock.boot();
    let mut running = place.consume_with(1, Identity::header("event-id"), |_| std::future::pending());
    place.until(|it| it.broker.kept("orders").is_empty()).await;
    let took = place.clock.boot() - began;
    assert!((10 * MINUTE..11 * MINUTE).contains(&took), "{took:?}");
    running.stop.send(()).unwrap();
    within(running.task.join_next()).await.unwrap().unwrap().unwrap();
    let letter = letter(&place.store).await;
    assert_eq!(
        (letter.reason, &*letter.detail),
        (Reason::Unresolved, "the handler did not end within run_max")
    );
}

#[tokio::test]
async fn a_function_that_panics_over_a_message_stops_no_consumer() {
    let place = Place::new(MemorySettings::default());
    place.broker.publish(message());
    let find = Identity::by(|_| panic!("this panic is the test's, and meant"));
    let mut running = place.consume_with(1, find, |_| async { Ok(()) });
    place.until(|it| it.broker.kept("orders").is_empty()).await;
    running.stop.send(()).unwrap();
    within(running.task.join_next()).await.unwrap().unwrap().unwrap();
    let letter = letter(&place.store).await;
    assert_eq!(letter.reason, Reason::NoIdentity);
    assert!(letter.detail.contains("panicked"), "{}", letter.detail);
}
