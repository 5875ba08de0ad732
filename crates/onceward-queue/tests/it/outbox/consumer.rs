//! From a handler's transaction through a relay to a consumer behind a broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Engine, SystemClock};
use onceward_queue::outbox::{Publish, Relay};
use onceward_queue::source::memory::{MemoryBroker, MemorySettings};
use onceward_queue::{Consumer, ConsumerSettings, Failure, Handling, Identity, Message, Retries};
use onceward_store_postgres::operations::Operations;
use onceward_store_postgres::{PostgresSettings, PostgresStore};
use onceward_testkit::{eventually, within};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::place::{Place, Running, effect};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_added_goes_out_with_its_effect_and_is_consumed_once() {
    let place = Place::new().await;
    let broker = MemoryBroker::new(Arc::new(SystemClock), MemorySettings::default());
    for id in ["m-1", "m-2", "m-2", "m-3"] {
        broker.publish(Message {
            topic: "orders".into(),
            key: None,
            headers: vec![("event-id".into(), Bytes::from_static(id.as_bytes()))],
            body: Bytes::new(),
        });
    }
    let store = PostgresStore::open(PostgresSettings::from_url(&place.url).unwrap()).await.unwrap();
    let outbox = place.outbox.clone();
    let retries = Retries { pause: Duration::from_millis(10), ..Retries::default() };
    let orders = Consumer::new("billing", broker.source("orders"), Engine::new(Arc::new(store)))
        .key(Identity::header("event-id"))
        .settings(ConsumerSettings { retries, ..ConsumerSettings::default() })
        .in_transaction(place.pool.clone(), Operations::default(), move |it, connection| {
            let outbox = outbox.clone();
            Box::pin(async move {
                let paid = format!("{} try {}", it.key.as_str(), it.attempt);
                let mut paid = effect(Some(it.key.as_str()), &paid);
                paid.destination = "paid".into();
                outbox.add(connection, &paid).await?;
                match (it.key.as_str(), it.attempt) {
                    ("m-3", 1) => Err(Failure::retry("once more")),
                    _ => Ok(()),
                }
            })
        });
    let (ship, mut shipped) = tokio::sync::mpsc::unbounded_channel();
    let memory = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
    let paid = Consumer::new("shipping", broker.source("paid"), memory)
        .key(Identity::header("event-id"))
        .handler(move |it: Handling| {
            let ship = ship.clone();
            async move { ship.send(it.message.body.clone()).map_err(Failure::retry) }
        });
    let relay = Running::new(
        Relay::new(place.pool.clone(), place.outbox.clone())
            .sender("log", Publish::new(broker.source("paid")))
            .settings(place.settings.clone()),
    );
    let mut tasks = JoinSet::new();
    let stops = [orders, paid].map(|it| {
        let (stop, stopped) = oneshot::channel::<()>();
        tasks.spawn(it.run(async {
            let _ = stopped.await;
        }));
        stop
    });
    eventually(async || broker.kept("orders").is_empty()).await;
    place.until_all_is_sent().await;
    eventually(async || broker.kept("paid").is_empty()).await;
    relay.stop().await;
    drop(stops);
    within(tasks.join_all()).await;
    let mut all = Vec::new();
    while let Some(it) = shipped.recv().await {
        all.push(String::from_utf8(it.to_vec()).unwrap());
    }
    all.sort();
    assert_eq!(all, ["m-1 try 1", "m-2 try 1", "m-3 try 2"]);
}
