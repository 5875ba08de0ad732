//! SQS, on ministack: a stand-in of the test's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName as Attribute};
use bytes::Bytes;
use onceward_core::ErrorKind;
use onceward_queue::source::Arrival;
use onceward_queue::source::sqs::{Sqs, SqsSettings};
use onceward_queue::{Delivery, Kept, Message, Receipt, Seen, Source};
use onceward_testkit::server::Ministack;
use onceward_testkit::{eventually, within};

use crate::fixture::Fixture;

#[derive(Debug)]
struct Queue {
    server: Mutex<Ministack>,
    client: Client,
    settings: SqsSettings,
    name: &'static str,
    sent: AtomicU64,
}

impl Queue {
    async fn start(name: &'static str) -> Self {
        let server = Ministack::start();
        let settings = SqsSettings {
            endpoint: Some(server.url()),
            access_key: Some(("test".into(), "test".into())),
            visible_for: Duration::from_secs(2),
            wait: Duration::from_secs(1),
            ..SqsSettings::new("", "eu-west-1")
        };
        let client = settings.client();
        let mut make = client.create_queue().queue_name(name);
        if name.ends_with(".fifo") {
            make = make.attributes(Attribute::FifoQueue, "true");
        }
        let queue = make.send().await.unwrap().queue_url().unwrap().to_owned();
        let settings = SqsSettings { queue, ..settings };
        Self { server: Mutex::new(server), client, settings, name, sent: AtomicU64::new(0) }
    }

    fn consumer(&self) -> Sqs {
        Sqs::new(self.settings.clone()).unwrap()
    }

    fn message(&self, id: &str) -> Message {
        let id = Bytes::copy_from_slice(id.as_bytes());
        let headers = vec![("event-id".into(), id.clone())];
        Message { topic: self.name.into(), key: Some(id.clone()), headers, body: id }
    }
}

#[async_trait]
impl Fixture for Queue {
    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.consumer())
    }

    fn topic(&self) -> &str {
        self.name
    }

    /// A producer that sends twice is not stopped by the queue: a FIFO queue takes each of these for another message.
    async fn publish(&self, messages: &[Message]) {
        for message in messages {
            let text = std::str::from_utf8(&message.body).unwrap();
            let mut call = self.client.send_message().queue_url(&self.settings.queue).message_body(text);
            for (name, value) in &message.headers {
                let value = MessageAttributeValue::builder()
                    .data_type("String")
                    .string_value(std::str::from_utf8(value).unwrap());
                call = call.message_attributes(name, value.build().unwrap());
            }
            if self.name.ends_with(".fifo") {
                let number = self.sent.fetch_add(1, Ordering::Relaxed);
                let key = message.key.as_deref().filter(|it| !it.is_empty()).unwrap_or(b"none");
                call = call
                    .message_group_id(std::str::from_utf8(key).unwrap())
                    .message_deduplication_id(number.to_string());
            }
            call.send().await.unwrap();
        }
    }

    async fn is_empty(&self) -> bool {
        let asked = self.client.get_queue_attributes().queue_url(&self.settings.queue);
        let Ok(told) = asked.attribute_names(Attribute::All).send().await else { return false };
        let attributes = told.attributes().unwrap();
        [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesNotVisible,
            Attribute::ApproximateNumberOfMessagesDelayed,
        ]
        .iter()
        .all(|it| attributes[it] == "0")
    }

    async fn crash(&self) -> Result<(), &'static str> {
        // It keeps what it has only when it may write it down.
        tokio::task::block_in_place(|| self.server.lock().unwrap().stop_and_start_again());
        Ok(())
    }
}

mod standard {
    crate::fixture::promises!(super::Queue::start("orders"));
}

mod fifo {
    crate::fixture::promises!(super::Queue::start("orders.fifo"));
}

async fn take(source: &Sqs, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        for arrival in within(source.receive(count - taken.len())).await.unwrap() {
            let Arrival::Delivered(delivery) = arrival else { panic!("{arrival:?}") };
            taken.push(delivery);
        }
    }
    taken
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|it| it.receipt.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_consumer_leaves_is_seen_by_others_at_once_and_counted() {
    let queue = Queue::start("orders").await;
    // Long enough that nothing comes again by itself.
    let settings = SqsSettings { visible_for: Duration::from_secs(600), ..queue.settings.clone() };
    let (first, second) = (Sqs::new(settings.clone()).unwrap(), Sqs::new(settings).unwrap());
    let ids: Vec<_> = (0..25).map(|it| queue.message(&format!("m-{it}"))).collect();
    queue.publish(&ids).await;
    let had = take(&first, 25).await;
    assert!(had.iter().all(|it| it.seen == Seen::Perhaps));
    first.acknowledge(&receipts(&had[..12])).await.unwrap();
    first.give_back(&receipts(&had[12..14]), Duration::ZERO).await.unwrap();
    first.close().await;
    let again = take(&second, 13).await;
    assert!(again.iter().all(|it| it.seen == Seen::Before(Some(2))), "{again:?}");
    let mut before: Vec<_> = had[12..].iter().map(|it| it.position.clone()).collect();
    let mut after: Vec<_> = again.iter().map(|it| it.position.clone()).collect();
    before.sort();
    after.sort();
    assert_eq!(before, after, "a position stays the same");
    second.acknowledge(&receipts(&again)).await.unwrap();
    assert!(queue.is_empty().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_with_a_pause_waits_in_the_queue() {
    let queue = Queue::start("orders").await;
    let source = queue.consumer();
    queue.publish(&[queue.message("later"), queue.message("now")]).await;
    let had = take(&source, 2).await;
    let (later, now): (Vec<_>, Vec<_>) = had.into_iter().partition(|it| it.message.body == "later");
    source.give_back(&receipts(&later), Duration::from_secs(600)).await.unwrap();
    source.give_back(&receipts(&now), Duration::ZERO).await.unwrap();
    let again = take(&source, 1).await;
    assert_eq!(again[0].message.body, "now");
    // Longer than a delivery lasts: had it not been told to wait, it would be there.
    let more = tokio::time::timeout(Duration::from_secs(3), take(&source, 2)).await;
    assert!(more.is_err() || more.unwrap().iter().all(|it| it.message.body == "now"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_whose_time_is_over_is_lost_and_its_acknowledgement_is_told() {
    let queue = Queue::start("orders.fifo").await;
    let settings = SqsSettings { visible_for: Duration::from_secs(1), ..queue.settings.clone() };
    let source = Sqs::new(settings).unwrap();
    queue.publish(&[queue.message("m-1")]).await;
    let had = take(&source, 1).await;
    let again = take(&source, 1).await;
    assert_eq!(again[0].seen, Seen::Before(Some(2)));
    assert_eq!(source.extend(&receipts(&had)).await.unwrap(), receipts(&had));
    assert_eq!(source.acknowledge(&receipts(&had)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(!queue.is_empty().await, "the other delivery counts");
    // In one batch with another, only the old one is refused.
    queue.publish(&[queue.message("m-2")]).await;
    let last: Vec<_> = take(&source, 1).await;
    let both = [receipts(&had), receipts(&last)].concat();
    assert_eq!(source.extend(&both).await.unwrap(), receipts(&had));
    source.acknowledge(&both).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_missing_ends_the_consumer_with_what_to_do() {
    let queue = Queue::start("orders").await;
    let missing = queue.settings.queue.replace("orders", "nothing");
    let source = Sqs::new(SqsSettings { queue: missing, ..queue.settings.clone() }).unwrap();
    let error = within(source.receive(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("create it"), "{error}");
    let lost = Message { topic: "nowhere".into(), ..queue.message("m-1") };
    let error = within(queue.consumer().publish(&lost)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_queue_keeps_a_message_that_is_published_twice_once() {
    let queue = Queue::start("orders.fifo").await;
    let source = queue.consumer();
    for _ in 0..2 {
        source.publish(&queue.message("m-1")).await.unwrap();
    }
    source.publish(&queue.message("m-2")).await.unwrap();
    let had = take(&source, 2).await;
    source.acknowledge(&receipts(&had)).await.unwrap();
    eventually(async || queue.is_empty().await).await;
}

#[tokio::test]
async fn the_windows_of_a_queue_are_its_own_and_those_of_its_dead_letters() {
    let queue = Queue::start("orders").await;
    let day = 24 * 3600;
    let dead = queue.client.create_queue().queue_name("dead");
    let dead = dead.attributes(Attribute::MessageRetentionPeriod, (day * 14).to_string());
    let dead = dead.send().await.unwrap().queue_url().unwrap().to_owned();
    let asked = queue.client.get_queue_attributes().queue_url(&dead).attribute_names(Attribute::QueueArn);
    let arn = asked.send().await.unwrap().attributes().unwrap()[&Attribute::QueueArn].clone();
    let source = queue.consumer();
    let four_days = Some(Kept::For(Duration::from_secs(day * 4)));
    let alone = source.windows().await.unwrap();
    assert_eq!((alone.kept, alone.dead_letters_kept, alone.deliveries_max), (four_days, None, None));
    assert_eq!(alone.held_max, Some(Duration::from_secs(12 * 3600)));
    let policy = format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":\"5\"}}");
    let set = queue.client.set_queue_attributes().queue_url(&queue.settings.queue);
    set.attributes(Attribute::RedrivePolicy, policy).send().await.unwrap();
    let both = source.windows().await.unwrap();
    // The time of a message goes on in the queue of dead letters.
    assert_eq!((both.kept, both.horizon()), (four_days, Some(Duration::from_secs(day * 14))));
    assert_eq!(both.deliveries_max, Some(5));
    queue.publish(&["1", "2"].map(|it| queue.message(it))).await;
    eventually(async || source.lag().await.unwrap() == Some(2)).await;
}
