//! What a broker keeps for longer than a consumer remembers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Clock, Engine, ErrorKind, Result, SystemClock};
use onceward_queue::source::memory::{MemoryBroker, MemorySettings};
use onceward_queue::{Consumer, ConsumerSettings, Event, Identity, Kept, Message, Observer, Windows};
use onceward_testkit::{eventually, within};
use tokio::sync::oneshot;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Event>>);

impl Observer for Seen {
    fn on(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

fn broker(kept: Duration) -> MemoryBroker {
    let windows = Windows { kept: Some(Kept::For(kept)), ..Windows::default() };
    let broker =
        MemoryBroker::new(Arc::new(SystemClock), MemorySettings { windows, ..MemorySettings::default() });
    broker.publish(Message {
        topic: "orders".into(),
        key: None,
        headers: vec![("event-id".into(), Bytes::from_static(b"paid-1"))],
        body: Bytes::new(),
    });
    broker
}

/// Consumes until the one message is done, if it ever is.
async fn consume(broker: &MemoryBroker, settings: ConsumerSettings) -> (Result<()>, Vec<Event>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine = Engine::new(Arc::new(MemoryStore::new(clock)));
    let seen = Arc::new(Seen::default());
    let (done, stop) = oneshot::channel();
    let done = Mutex::new(Some(done));
    let ended = Consumer::new("billing", broker.source("orders"), engine)
        .key(Identity::header("event-id"))
        .settings(settings)
        .observer(Arc::clone(&seen) as Arc<dyn Observer>)
        .handler(move |_| {
            let done = done.lock().unwrap().take();
            async move {
                done.map(|it| it.send(()));
                Ok(())
            }
        })
        .run(async { drop(stop.await) });
    let ended = within(ended).await;
    let seen = seen.0.lock().unwrap().clone();
    (ended, seen)
}

#[tokio::test]
async fn a_consumer_that_would_forget_too_early_does_not_start() {
    let broker = broker(DAY * 15);
    let (ended, seen) = consume(&broker, ConsumerSettings::default()).await;
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("for 15days") && why.contains("remembered for 14days"), "{why}");
    assert_eq!(seen, [Event::Headroom(-24 * 3600)], "nothing was taken up");
}

#[tokio::test]
async fn a_consumer_starts_that_was_told_to_or_remembers_for_long_enough() {
    for (kept, short_windows, headroom) in [(15, true, -1), (14, false, 0), (13, false, 1)] {
        let broker = broker(DAY * kept);
        let (ended, seen) =
            consume(&broker, ConsumerSettings { short_windows, ..ConsumerSettings::default() }).await;
        ended.unwrap();
        assert!(seen.contains(&Event::Headroom(headroom * 24 * 3600)), "{seen:?}");
        assert!(seen.contains(&Event::Done), "{seen:?}");
    }
}

#[tokio::test]
async fn a_broker_that_does_not_say_holds_nobody_up() {
    let broker = broker(DAY * 15);
    broker.set_away(true);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (stop, stopped) = oneshot::channel::<()>();
    let (done, is_done) = oneshot::channel::<()>();
    let done = Mutex::new(Some(done));
    let seen = Arc::new(Seen::default());
    let running =
        Consumer::new("billing", broker.source("orders"), Engine::new(Arc::new(MemoryStore::new(clock))))
            .key(Identity::header("event-id"))
            .observer(Arc::clone(&seen) as Arc<dyn Observer>)
            .handler(move |_| {
                let done = done.lock().unwrap().take();
                async move {
                    done.map(|it| it.send(()));
                    Ok(())
                }
            })
            .run(async { drop(stopped.await) });
    let playing = async {
        // It is past the check when it waits for messages.
        eventually(async || seen.0.lock().unwrap().contains(&Event::BrokerFailed)).await;
        broker.set_away(false);
        within(is_done).await.unwrap();
        stop.send(()).unwrap();
    };
    let (ended, ()) = within(async { tokio::join!(running, playing) }).await;
    ended.unwrap();
}
