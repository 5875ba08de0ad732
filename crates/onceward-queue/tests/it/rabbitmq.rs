//! RabbitMQ, on servers of the tests' own. One takes seconds to start: each shows several promises, on queues of their own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use onceward_core::ErrorKind;
use onceward_queue::source::Arrival;
use onceward_queue::source::rabbitmq::{OrderBy, RabbitMq, RabbitSettings};
use onceward_queue::{Message, Seen, Source, Windows};
use onceward_testkit::server::RabbitServer;
use onceward_testkit::{eventually, within};
use tokio::task::JoinSet;

use crate::arrived::{is, next};
use crate::fixture::Fixture;

#[derive(Debug, Clone)]
struct Queue {
    server: Arc<Mutex<RabbitServer>>,
    url: String,
    name: String,
}

impl Queue {
    fn on(server: &Arc<Mutex<RabbitServer>>, name: &str) -> Self {
        let url = server.lock().unwrap().url();
        Self { server: Arc::clone(server), url, name: name.to_owned() }
    }

    fn settings(&self) -> RabbitSettings {
        RabbitSettings::new(&self.url, &self.name)
    }

    fn consumer(&self) -> RabbitMq {
        RabbitMq::new(self.settings()).unwrap()
    }

    async fn asking(&self) -> Connection {
        Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap()
    }

    /// Makes the queue as consumers do, if there is none.
    async fn make(&self) {
        let source = Arc::new(self.consumer());
        let receiving = Arc::clone(&source);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { receiving.receive(1).await.map(drop) });
        while !self.is_there() {
            let tried = tokio::time::timeout(Duration::from_millis(5), tasks.join_next()).await;
            assert!(tried.is_err(), "{tried:?}");
        }
        tasks.shutdown().await;
        source.close().await;
    }

    fn is_there(&self) -> bool {
        self.server.lock().unwrap().messages(&self.name).is_some()
    }

    async fn send(&self, id: &'static str) {
        let body = Bytes::from_static(id.as_bytes());
        self.publish(&[Message { topic: self.name.as_str().into(), key: None, headers: Vec::new(), body }])
            .await;
    }
}

#[async_trait]
impl Fixture for Queue {
    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.consumer())
    }

    fn topic(&self) -> &str {
        &self.name
    }

    async fn publish(&self, messages: &[Message]) {
        let producer = self.consumer();
        for message in messages {
            // As a producer does that knows of no confirmation: what it sends twice has one id.
            while let Err(error) = producer.publish(message).await {
                println!("{error:?}");
                match error.kind() {
                    // Whoever publishes first finds no queue.
                    ErrorKind::Invalid => self.make().await,
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
        producer.close().await;
    }

    async fn is_empty(&self) -> bool {
        self.server.lock().unwrap().messages(&self.name) == Some(0)
    }

    async fn crash(&self) -> Result<(), &'static str> {
        let mut server = self.server.lock().unwrap();
        // As of a queue that has been there for a while.
        server.write_down_queues();
        server.kill();
        server.start_again();
        Ok(())
    }
}

fn start() -> Arc<Mutex<RabbitServer>> {
    Arc::new(Mutex::new(RabbitServer::start()))
}

async fn made(server: &Arc<Mutex<RabbitServer>>, name: &str) -> Queue {
    let queue = Queue::on(server, name);
    queue.make().await;
    queue
}

crate::fixture::promises!(in turn start(), made);

/// What RabbitMQ keeps of its own, each by a queue of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_rabbitmq_has_is_kept() {
    let server = start();
    what_will_not_go_by_waiting_is_refused_and_what_will_is_not(&Queue::on(&server, "refused")).await;
    what_no_queue_takes_is_seen(&Queue::on(&server, "unroutable")).await;
    whoever_leaves_or_gives_back_lets_others_have_at_once_what_it_has(&Queue::on(&server, "left")).await;
    only_a_quorum_queue_says_what_comes_for_the_first_time(&Queue::on(&server, "first")).await;
    a_queue_that_goes_is_made_again(&Queue::on(&server, "gone")).await;
    a_receipt_of_an_earlier_channel_acknowledges_nothing(&Queue::on(&server, "session")).await;
}

async fn what_will_not_go_by_waiting_is_refused_and_what_will_is_not(queue: &Queue) {
    let refused = async |settings: RabbitSettings| {
        let source = RabbitMq::new(settings).unwrap();
        assert!(!format!("{source:?}").contains("guest"));
        within(source.receive(1)).await.unwrap_err()
    };
    let with = |url: String| RabbitSettings { url, ..queue.settings() };
    let wrong = refused(with(queue.url.replace("guest:guest", "guest:wrong"))).await;
    assert_eq!(wrong.kind(), ErrorKind::Invalid, "{wrong:?}");
    let nowhere = refused(with(queue.url.replace("%2f", "nowhere"))).await;
    assert_eq!(nowhere.kind(), ErrorKind::Invalid, "{nowhere:?}");
    let missing = refused(RabbitSettings { make: false, ..queue.settings() }).await;
    assert_eq!((missing.kind(), missing.to_string().contains("make it")), (ErrorKind::Invalid, true));
    let away = refused(with(format!("amqp://127.0.0.1:{}", onceward_testkit::server::free_port()))).await;
    assert_eq!(away.kind(), ErrorKind::Unavailable, "{away:?}");
}

async fn what_no_queue_takes_is_seen(queue: &Queue) {
    queue.make().await;
    let source = queue.consumer();
    let message = |topic: &str| Message {
        topic: topic.into(),
        key: None,
        headers: Vec::new(),
        body: Bytes::from_static(b"{}"),
    };
    // Among others that are taken, side by side.
    let publish = async |it: usize| {
        let topic = if it.is_multiple_of(3) { "no-such-queue" } else { &queue.name };
        source.publish(&message(topic)).await.map_err(|it| it.kind())
    };
    let outcomes = within(futures_util::future::join_all((0..30).map(publish))).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let wanted = if number.is_multiple_of(3) { Err(ErrorKind::Invalid) } else { Ok(()) };
        assert_eq!(outcome, wanted, "{number}");
    }
    assert_eq!(queue.server.lock().unwrap().messages(&queue.name), Some(20));
    let elsewhere = RabbitSettings { exchange: "no-such-exchange".into(), ..queue.settings() };
    let error = within(RabbitMq::new(elsewhere).unwrap().publish(&message(&queue.name))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    source.close().await;
}

async fn whoever_leaves_or_gives_back_lets_others_have_at_once_what_it_has(queue: &Queue) {
    let (one, two) = (queue.consumer(), queue.consumer());
    for id in ["m-1", "m-2", "m-3"] {
        queue.send(id).await;
    }
    // It has one in hand, and the others were sent ahead.
    let first = next(&one).await;
    assert!(is(&first, "m-1", Seen::First));
    within(one.give_back(&[first.receipt], Duration::ZERO)).await.unwrap();
    let mut got = Vec::new();
    for _ in 0..3 {
        let delivery = next(&two).await;
        assert_eq!(delivery.seen, Seen::Before(Some(2)));
        got.push(delivery.message.body.clone());
    }
    got.sort();
    assert_eq!(got, ["m-1", "m-2", "m-3"]);
    within(two.close()).await;
    // Whoever gave back receives again.
    for _ in 0..3 {
        let delivery = next(&one).await;
        assert_eq!(delivery.seen, Seen::Before(Some(3)));
        within(one.acknowledge(&[delivery.receipt])).await.unwrap();
    }
    eventually(async || queue.is_empty().await).await;
    one.close().await;
}

async fn only_a_quorum_queue_says_what_comes_for_the_first_time(queue: &Queue) {
    let asking = queue.asking().await;
    let channel = asking.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.name.as_str().into(), options, FieldTable::default()).await.unwrap();
    let by_routing_key = RabbitSettings { order_by: OrderBy::RoutingKey, ..queue.settings() };
    let source = RabbitMq::new(by_routing_key).unwrap();
    let properties = BasicProperties::default().with_message_id("id-1".into());
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), queue.name.as_str().into(), options, b"m-1", properties);
    sent.await.unwrap().await.unwrap();
    let first = next(&source).await;
    assert!(is(&first, "m-1", Seen::Perhaps));
    assert_eq!(first.message.key.as_deref(), Some(queue.name.as_bytes()));
    assert_eq!(first.message.header("message-id").unwrap(), Some(&Bytes::from_static(b"id-1")));
    within(source.give_back(&[first.receipt], Duration::ZERO)).await.unwrap();
    assert!(is(&next(&source).await, "m-1", Seen::Before(None)));
    source.close().await;
}

async fn a_queue_that_goes_is_made_again(queue: &Queue) {
    let source = queue.consumer();
    queue.send("m-1").await;
    let first = next(&source).await;
    within(source.acknowledge(&[first.receipt])).await.unwrap();
    let channel = queue.asking().await.create_channel().await.unwrap();
    channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let error = within(source.receive(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    queue.send("m-2").await;
    assert!(is(&next(&source).await, "m-2", Seen::First));
    source.close().await;
}

async fn a_receipt_of_an_earlier_channel_acknowledges_nothing(queue: &Queue) {
    let source = queue.consumer();
    queue.send("m-1").await;
    let old = next(&source).await;
    queue.server.lock().unwrap().ctl(&["close_all_connections", "a test"]);
    let mut arrived = within(source.receive(1)).await;
    while let Err(error) = arrived {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        arrived = within(source.receive(1)).await;
    }
    let Some(Arrival::Delivered(new)) = arrived.unwrap().pop() else { panic!("it comes again") };
    assert!(is(&new, "m-1", Seen::Before(Some(2))));
    assert_eq!(old.receipt.number, new.receipt.number, "it has the same number on its channel");
    within(source.acknowledge(std::slice::from_ref(&old.receipt))).await.unwrap();
    assert_eq!(within(source.extend(std::slice::from_ref(&old.receipt))).await.unwrap(), [old.receipt]);
    // What is told twice would end the channel.
    queue.send("m-2").await;
    let last = next(&source).await;
    assert_eq!(queue.server.lock().unwrap().messages(&queue.name), Some(2));
    for _ in 0..2 {
        within(source.acknowledge(&[new.receipt.clone(), last.receipt.clone()])).await.unwrap();
    }
    eventually(async || queue.is_empty().await).await;
    queue.send("m-3").await;
    assert!(is(&next(&source).await, "m-3", Seen::First));
    source.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_counted() {
    let server = start();
    let fixture = made(&server, "what_waits_is_counted").await;
    let source = fixture.source().await;
    let message = |id: &str| Message {
        topic: fixture.topic().into(),
        key: None,
        headers: vec![("event-id".into(), Bytes::copy_from_slice(id.as_bytes()))],
        body: Bytes::new(),
    };
    // The queue is made by who reads it.
    assert_eq!(source.lag().await.unwrap(), Some(0));
    fixture.publish(&["1", "2", "3"].map(message)).await;
    eventually(async || source.lag().await.unwrap() == Some(3)).await;
    assert_eq!(source.windows().await.unwrap(), Windows::default());
}
