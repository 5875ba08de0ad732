//! A broker, a store, and consumers that a test can kill.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use onceward_core::store::memory::MemoryStore;
use onceward_core::store::{Cursor, Filter};
use onceward_core::{
    Engine, EngineSettings, NoObserver, Policy, Record, Status, SystemClock, SystemEntropy, Unresolved,
};
use onceward_queue::{
    Consumer, ConsumerSettings, Event, Failure, Handling, Identity, Letter, Message, Observer, Order, Retries,
};
use onceward_testkit::FaultyStore;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::fixture::Fixture;

/// What every consumer of a test shares.
pub(crate) struct Scene {
    pub(crate) fixture: Arc<dyn Fixture>,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) events: Arc<Events>,
}

/// What had an effect, without any key that could hide a second one.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    effects: Mutex<Vec<String>>,
}

impl Ledger {
    pub(crate) fn note(&self, id: &str) {
        self.effects.lock().unwrap().push(id.to_owned());
    }

    pub(crate) fn effects(&self) -> Vec<String> {
        self.effects.lock().unwrap().clone()
    }

    pub(crate) fn count_of(&self, id: &str) -> usize {
        self.effects().iter().filter(|it| *it == id).count()
    }

    /// Each effect and how often it happened.
    pub(crate) fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for effect in self.effects() {
            *counts.entry(effect).or_default() += 1;
        }
        counts
    }
}

/// Everything that consumers told.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Vec<Event>>);

impl Observer for Events {
    fn on(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Events {
    pub(crate) fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|it| wanted(it)).count()
    }
}

/// A consumer that runs.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinSet<onceward_core::Result<()>>,
}

impl Running {
    /// As `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.task.shutdown().await;
    }

    /// As `SIGTERM` does.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        onceward_testkit::within(self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}

/// A policy with a short lease.
pub(crate) fn settings(unresolved: Unresolved) -> ConsumerSettings {
    let defaults = ConsumerSettings::default();
    ConsumerSettings {
        policy: Policy { lease: Duration::from_millis(400), unresolved, ..defaults.policy },
        retries: Retries {
            attempts_max: 3,
            pause: Duration::from_millis(50),
            pause_max: Duration::from_millis(100),
        },
        order: Order::Free,
        drain: Duration::from_secs(20),
        // A mock cluster is silent where it is asked for windows: nobody waits for that.
        short_windows: true,
        ..defaults
    }
}

impl Scene {
    pub(crate) fn new(fixture: Arc<dyn Fixture>) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(SystemClock)))).shared());
        Self { fixture, store, ledger: Arc::default(), events: Arc::default() }
    }

    /// An engine as another process has it.
    pub(crate) fn engine(&self) -> Engine {
        Engine::with(
            Arc::<FaultyStore>::clone(&self.store),
            EngineSettings { begin_patience: Duration::from_millis(200), ..EngineSettings::default() },
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
            Arc::new(NoObserver),
        )
    }

    /// Another consumer called `billing`.
    pub(crate) async fn consume<F>(
        &self,
        settings: ConsumerSettings,
        handler: impl Fn(Handling) -> F + Send + Sync + 'static,
    ) -> Running
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let consumer = Consumer::new("billing", self.fixture.source().await, self.engine())
            .key(Identity::header("event-id"))
            .settings(settings)
            .observer(Arc::<Events>::clone(&self.events))
            .handler(handler);
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(consumer.run(async {
            let _ = stopped.await;
        }));
        Running { stop: Some(stop), task }
    }

    /// Another consumer whose handler only notes its effect.
    pub(crate) async fn consume_plainly(&self, settings: ConsumerSettings) -> Running {
        let ledger = Arc::clone(&self.ledger);
        self.consume(settings, move |it| {
            let ledger = Arc::clone(&ledger);
            async move {
                ledger.note(it.key.as_str());
                Ok(())
            }
        })
        .await
    }

    pub(crate) fn message(&self, id: &str, body: &str) -> Message {
        Message {
            topic: self.fixture.topic().into(),
            key: Some(Bytes::copy_from_slice(id.as_bytes())),
            headers: vec![("event-id".into(), Bytes::copy_from_slice(id.as_bytes()))],
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    pub(crate) async fn publish(&self, ids: &[&str]) {
        let messages: Vec<_> = ids.iter().map(|it| self.message(it, "{}")).collect();
        self.fixture.publish(&messages).await;
    }

    /// The dead letters.
    pub(crate) async fn letters(&self) -> Vec<Letter> {
        // One that is still being written is none yet.
        let kind = Some(onceward_queue::DEAD_LETTER.into());
        let filter = Filter { kind, status: Some(Status::Done), ..Filter::default() };
        let (mut letters, mut cursor) = (Vec::new(), None::<Cursor>);
        loop {
            let page = self.engine().list(&filter, cursor, 100).await.unwrap();
            letters.extend(page.records.iter().filter_map(|it| letter(it)));
            cursor = page.next;
            if cursor.is_none() {
                return letters;
            }
        }
    }

    pub(crate) async fn is_empty(&self) -> bool {
        self.fixture.is_empty().await
    }
}

/// A letter, once it is written.
fn letter(record: &Record) -> Option<Letter> {
    match &record.state {
        onceward_core::State::Done(answer) => Some(Letter::from_answer(answer).unwrap()),
        onceward_core::State::Running => None,
        other => panic!("a letter that is {other:?}"),
    }
}
