//! Where the messages come from, and how many of them were acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_bench::Result;
use onceward_core::Result as Told;
use onceward_queue::source::redis_streams::{RedisStreams, RedisStreamsSettings};
use onceward_queue::source::{Arrival, Capabilities};
use onceward_queue::{Delivery, Lane, Message, Receipt, Seen, Source, Windows};
use onceward_testkit::server::RedisServer;

/// The header that has the id of a message.
pub(crate) const EVENT_ID: &str = "event-id";

const TOPIC: &str = "orders";

/// What a message says besides its number.
const BODY: &str =
    r#""customer":"8f14e45fceea167a","cents":1200,"currency":"EUR","note":"twice if asked twice""#;

/// Messages without end, made up when they are asked for: a broker that costs nothing.
#[derive(Debug)]
pub(crate) struct Endless {
    run: u64,
    keys: u64,
    next: AtomicU64,
    topic: Arc<str>,
    token: Arc<str>,
}

impl Endless {
    /// Messages that nobody had before, of so many keys in turn.
    pub(crate) fn new(keys: u32) -> Self {
        let [topic, token] = [TOPIC, ""].map(Into::into);
        Self { run: fastrand::u64(..), keys: u64::from(keys), next: AtomicU64::new(0), topic, token }
    }

    fn arrival(&self) -> Arrival {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let message = Message {
            topic: Arc::clone(&self.topic),
            key: Some(Bytes::from((number % self.keys).to_string())),
            headers: vec![(EVENT_ID.to_owned(), Bytes::from(format!("{:016x}-{number}", self.run)))],
            body: Bytes::from(format!(r#"{{"order":{number},{BODY}}}"#)),
        };
        let lane = Lane(Arc::clone(&self.topic));
        Arrival::Delivered(Delivery {
            message: Arc::new(message),
            receipt: Receipt { lane, session: 0, number, token: Arc::clone(&self.token) },
            position: None,
            seen: Seen::First,
        })
    }
}

#[async_trait]
impl Source for Endless {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "memory",
            ordered: true,
            visible_for: None,
            delays: Duration::ZERO,
            tells_redelivery: true,
            stable_position: false,
        }
    }

    async fn receive(&self, max: usize) -> Told<Vec<Arrival>> {
        Ok((0..max).map(|_| self.arrival()).collect())
    }

    async fn extend(&self, _receipts: &[Receipt]) -> Told<Vec<Receipt>> {
        Ok(Vec::new())
    }

    async fn acknowledge(&self, _receipts: &[Receipt]) -> Told<()> {
        Ok(())
    }

    async fn give_back(&self, _receipts: &[Receipt], _pause: Duration) -> Told<()> {
        Ok(())
    }

    async fn publish(&self, _message: &Message) -> Told<()> {
        Ok(())
    }

    async fn close(&self) {}
}

/// A consumer of a Redis stream with so many new messages, of so many keys in turn. What was there before is gone.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn stream(server: &RedisServer, messages: u64, keys: u32) -> Result<RedisStreams> {
    const FILL: &str = "
        redis.call('DEL', KEYS[1])
        for i = 0, ARGV[1] - 1 do
            redis.call('XADD', KEYS[1], '*', 'key', i % ARGV[2], ARGV[3], ARGV[4] .. '-' .. i,
                'body', '{\"order\":' .. i .. ',' .. ARGV[5] .. '}')
        end";
    let mut connection = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
    connection.set_response_timeout(Duration::from_secs(30));
    let mut fill = redis::cmd("EVAL");
    fill.arg(FILL).arg(1).arg(TOPIC).arg(messages).arg(keys);
    fill.arg(EVENT_ID).arg(format!("{:016x}", fastrand::u64(..))).arg(BODY);
    let () = fill.query_async(&mut connection).await?;
    Ok(RedisStreams::new(RedisStreamsSettings::new(&server.url(), TOPIC, "bench"))?)
}

/// A source, and how many of its messages were acknowledged.
#[derive(Debug)]
pub(crate) struct Counted {
    source: Box<dyn Source>,
    acknowledged: AtomicU64,
}

impl Counted {
    pub(crate) fn new(source: impl Source) -> Self {
        Self { source: Box::new(source), acknowledged: AtomicU64::new(0) }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Source for Counted {
    fn capabilities(&self) -> Capabilities {
        self.source.capabilities()
    }

    async fn receive(&self, max: usize) -> Told<Vec<Arrival>> {
        self.source.receive(max).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Told<Vec<Receipt>> {
        self.source.extend(receipts).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Told<()> {
        self.source.acknowledge(receipts).await?;
        self.acknowledged.fetch_add(receipts.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn give_back(&self, receipts: &[Receipt], pause: Duration) -> Told<()> {
        self.source.give_back(receipts, pause).await
    }

    async fn publish(&self, message: &Message) -> Told<()> {
        self.source.publish(message).await
    }

    async fn windows(&self) -> Told<Windows> {
        self.source.windows().await
    }

    async fn lag(&self) -> Told<Option<u64>> {
        self.source.lag().await
    }

    async fn close(&self) {
        self.source.close().await;
    }
}
