//! What a relay passes by: what is somebody else's, what it cannot read, and what it could not claim.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicI64;

use onceward_core::store::{DueCursor, DuePage, Put};
use onceward_testkit::{Wrapped, Wrapper, claim, inserted};

use super::*;

/// Notes what the store shows, walk by walk.
#[derive(Debug)]
struct Watched {
    inside: Arc<dyn Store>,
    walks: Arc<Mutex<Vec<Vec<RecordId>>>>,
}

#[async_trait]
impl Wrapper for Watched {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.inside
    }

    async fn due(&self, from: DueCursor, limit: usize) -> onceward_core::Result<DuePage> {
        let page = self.inside.due(from, limit).await?;
        let mut walks = self.walks.lock().unwrap();
        if from == Due::Wake.start() {
            walks.push(Vec::new());
        }
        walks.last_mut().unwrap().extend(page.records.iter().map(|it| it.id));
        Ok(page)
    }
}

#[tokio::test]
async fn however_many_others_are_due_they_hide_nothing_and_no_walk_reads_one_twice() {
    const OTHERS: u16 = 6000;
    let mut place = Place::new();
    for number in 0..OTHERS {
        // To be woken for something else, all of them at the same time.
        let put = Put { wake_after: Some(Duration::ZERO), ..claim(1) };
        let [high, low] = number.to_be_bytes();
        let mut id = [7; 32];
        (id[0], id[31]) = (low, high);
        inserted(&*place.store, RecordId::from_bytes(id), &put).await;
    }
    for number in 0..5 {
        place.done(&format!("mail-{number}"), "mail", &["mail"]).await;
    }
    place.clock.advance(SECOND);
    for number in 0..10 {
        place.done(&format!("order-{number}"), "log", &["log"]).await;
    }
    let walks = Arc::<Mutex<Vec<_>>>::default();
    let watched = Watched { inside: Arc::<FaultyStore>::clone(&place.store), walks: Arc::clone(&walks) };
    place.store = Arc::new(FaultyStore::new(Arc::new(Wrapped(watched))).shared());
    let relay = place.relay_of("log", fine(), RelaySettings { parallel: 4, ..settings() });
    place.until(async || place.sent.all().len() == 10).await;
    place.until(async || walks.lock().unwrap().len() > 3).await;
    relay.stop().await;
    let walks = walks.lock().unwrap();
    for walk in walks.iter() {
        // What is for it may be read and not be taken up for want of room, and is read again.
        let others: Vec<_> = walk.iter().filter(|it| it.as_bytes()[1..31] == [7; 30]).collect();
        assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len(), "read twice");
    }
    assert!(walks.iter().any(|it| it.len() >= usize::from(OTHERS) + 15), "no walk went through all");
}

#[tokio::test]
async fn what_could_not_be_claimed_has_its_turn_though_there_is_always_something_new() {
    let place = Arc::new(Place::new());
    place.done("first", "log", &["first"]).await;
    let left = Arc::new(AtomicI64::new(2000));
    // For each that is sent there are two more, so that what is due has no end.
    let (shop, count) = (Arc::clone(&place), Arc::clone(&left));
    let more: Script = Arc::new(move |it| {
        let (shop, count) = (Arc::clone(&shop), Arc::clone(&count));
        Box::pin(async move {
            if it.body != "first" && count.fetch_sub(1, Ordering::Relaxed) > 0 {
                for half in ["a", "b"] {
                    shop.clock.advance(Duration::from_millis(1));
                    let name = format!("{}-{half}", it.id);
                    shop.done(&name, "log", &["more"]).await;
                }
            }
            Ok(())
        })
    });
    for number in 0..10 {
        place.clock.advance(Duration::from_millis(1));
        place.done(&format!("begin-{number}"), "log", &["more"]).await;
    }
    place.store.cue(Op::Replace, 1, Fault::Refused);
    let relay = place.relay_of("log", more, RelaySettings { parallel: 2, ..settings() });
    place.until(async || place.sent.texts().contains(&"first".to_owned())).await;
    let left = left.load(Ordering::Relaxed);
    assert!(left > 1000, "it had its turn only when {left} were left");
    relay.kill().await;
}

#[tokio::test]
async fn what_a_relay_cannot_read_is_left_as_it_is_and_told_once() {
    let place = Place::new();
    let newer = [r#"{"form":2,"things":[]}"#, r#"{"form":3}"#];
    let damaged = ["half a", r#"{"form":1}"#];
    let mut before = Vec::new();
    for (number, bytes) in newer.into_iter().chain(damaged).enumerate() {
        before.push(place.carries(&format!("unread-{number}"), bytes.into()).await);
    }
    place.clock.advance(SECOND);
    place.done("order", "log", &["log"]).await;
    let relay = place.relay_of("log", fine(), RelaySettings { parallel: 1, ..settings() });
    place.until(async || place.sent.texts() == ["log"]).await;
    // A newer build's relay need not wait for this one: they are due all the time.
    for _ in 0..100 {
        place.clock.advance(SECOND);
        tokio::task::yield_now().await;
        let due = place.store.due(Due::Wake.start(), 10).await.unwrap().records;
        assert!(before.iter().all(|it| due.contains(it)), "nothing was written to them");
    }
    relay.stop().await;
    let told = [true, false].map(|newer| place.events.count(&RelayEvent::Unreadable { newer }));
    assert_eq!(told, [1, 2], "once of newer ones, and of each that is damaged");
}

#[tokio::test]
async fn what_is_added_after_a_handler_has_ended_is_refused() {
    let place = Place::new();
    let broker = MemoryBroker::new(Arc::new(place.clock.clone()), MemorySettings::default());
    for id in ["fine", "bad"] {
        let headers = vec![("event-id".into(), Bytes::from(id))];
        broker.publish(Message { topic: "orders".into(), key: None, headers, body: Bytes::new() });
    }
    let kept: Arc<Mutex<Vec<Effects>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let consumer = Consumer::new("shop", broker.source("orders"), place.engine())
        .key(Identity::header("event-id"))
        .handler(move |it: Handling| {
            let keep = Arc::clone(&keep);
            async move {
                keep.lock().unwrap().push(it.effects.clone());
                if it.key.as_str() == "bad" { Err(Failure::park("no such order")) } else { Ok(()) }
            }
        });
    let consuming = Running::new(|stopped| {
        Box::pin(consumer.run(async {
            let _ = stopped.await;
        }))
    });
    place.until(async || broker.kept("orders").is_empty()).await;
    consuming.stop().await;
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 2);
    for effects in kept.iter() {
        assert!(matches!(effects.add(effect("log", "late")), Err(NotAdded::Sealed)));
        assert!(effects.carried().is_none());
    }
}
