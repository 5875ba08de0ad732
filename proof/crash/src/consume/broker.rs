//! The brokers that a run can have, each with one topic.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

#[cfg(feature = "brokers")]
use async_nats::jetstream::{self, stream};
use onceward::queue::Source;
use onceward::queue::source::open::open;
use onceward_testkit::server::{Ministack, NatsServer, RabbitServer, RedisServer, Tansu};
use tokio::runtime::Runtime;

use super::NAME;
use crate::Result;
use crate::time::{ms, until};

/// The stream, the subject or the queue.
pub(super) const TOPIC: &str = "orders";
const PARTITIONS: u32 = 4;
/// For how long a delivery is a consumer's, where the broker takes that from its consumers.
const VISIBLE_FOR: &str = "visible_for=2s";

/// Which source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A stream of Redis
    RedisStreams,
    /// NATS JetStream
    Nats,
    /// RabbitMQ
    Rabbitmq,
    /// Tansu, which speaks Kafka and keeps everything in memory: its connections are cut, it is not killed
    Kafka,
    /// Ministack, which speaks SQS and writes down what it has when it is told to stop: it is not killed
    Sqs,
}

impl Kind {
    /// How long a broker that was restarted is left alone: RabbitMQ takes 6 s to start.
    pub(super) fn rest(self) -> Duration {
        match self {
            Self::RedisStreams | Self::Nats | Self::Kafka | Self::Sqs => ms(12_000),
            Self::Rabbitmq => ms(30_000),
        }
    }
}

/// A server that runs.
#[derive(Debug)]
pub(super) enum Broker {
    Redis(RedisServer),
    Nats(NatsServer),
    Rabbit(RabbitServer),
    Kafka(Tansu),
    Sqs(Ministack),
}

impl Broker {
    /// Starts one, with its topic.
    pub(super) fn start(kind: Kind, runtime: &Runtime) -> Result<Self> {
        let broker = match kind {
            Kind::RedisStreams => Self::Redis(RedisServer::start()),
            Kind::Nats => {
                let server = NatsServer::start();
                runtime.block_on(make_stream(&server.url()))?;
                Self::Nats(server)
            }
            Kind::Rabbitmq => Self::Rabbit(RabbitServer::start()),
            Kind::Kafka => Self::Kafka(runtime.block_on(Tansu::start(TOPIC, PARTITIONS))),
            Kind::Sqs => {
                let server = Ministack::start();
                make_queue(&server.url())?;
                Self::Sqs(server)
            }
        };
        if let Self::Rabbit(server) = &broker {
            // Whoever consumes makes the queue. The server must know of it before it is killed for the first time.
            let source = open(&broker.url(), NAME)?;
            runtime.block_on(async {
                // Nothing is there to be received.
                let _ = tokio::time::timeout(ms(5_000), source.receive(1)).await;
                source.close().await;
            });
            until(ms(20_000), || server.messages(TOPIC)).ok_or("RabbitMQ has no queue")?;
            server.write_down_queues();
        }
        Ok(broker)
    }

    /// What consumers are given.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Redis(it) => format!("redis-streams://127.0.0.1:{}/{TOPIC}?{VISIBLE_FOR}", it.port()),
            Self::Nats(it) => format!("{}/{TOPIC}?{VISIBLE_FOR}", it.url()),
            Self::Rabbit(it) => format!("{}?queue={TOPIC}", it.url()),
            Self::Kafka(it) => {
                format!("kafka://{}/{TOPIC}?session=6s&fetch.wait.max.ms=50", it.bootstrap())
            }
            Self::Sqs(it) => {
                let host = it.url().replace("http://", "");
                format!(
                    "sqs+http://test:test@{host}/000000000000/{TOPIC}?region=us-east-1&wait=1s&{VISIBLE_FOR}"
                )
            }
        }
    }

    /// What producers are given: the same, for them.
    pub(super) fn producer(&self) -> Result<std::sync::Arc<dyn Source>> {
        Ok(open(&self.url(), "producer")?)
    }

    /// `kill -9`, and again on what its files have; or what comes closest.
    pub(super) fn restart(&mut self, away: Duration, runtime: &Runtime) {
        match self {
            Self::Redis(it) => it.kill(),
            Self::Nats(it) => it.kill(),
            Self::Rabbit(it) => it.kill(),
            Self::Kafka(it) => return runtime.block_on(it.cut_off(away)),
            Self::Sqs(it) => return it.stop_and_start_again(),
        }
        std::thread::sleep(away);
        match self {
            Self::Redis(it) => it.start_again(),
            Self::Nats(it) => it.start_again(),
            Self::Rabbit(it) => it.start_again(),
            Self::Kafka(_) | Self::Sqs(_) => {}
        }
    }

    /// Whether every message was acknowledged; `None` where the broker is not asked.
    pub(super) fn is_empty(&self, runtime: &Runtime) -> Option<bool> {
        Some(match self {
            Self::Kafka(_) | Self::Sqs(_) => return None,
            Self::Redis(it) => nothing_is_left(it, TOPIC, NAME),
            Self::Nats(it) => runtime.block_on(left_in_stream(&it.url())).is_ok_and(|it| it == 0),
            Self::Rabbit(it) => it.messages(TOPIC) == Some(0),
        })
    }
}

/// Whether a group has read a stream and acknowledged all of it. Who publishes has a group of its own, which reads nothing.
pub(crate) fn nothing_is_left(server: &RedisServer, stream: &str, group: &str) -> bool {
    let groups = server.cli(&["XINFO", "GROUPS", stream]);
    let fields: Vec<_> = groups.lines().skip_while(|it| *it != group).collect();
    let end = fields.iter().position(|it| *it == "name").unwrap_or(fields.len());
    let is_none = |name| fields[..end].windows(2).any(|it| it == [name, "0"]);
    is_none("pending") && is_none("lag")
}

#[cfg(feature = "brokers")]
async fn make_stream(url: &str) -> Result<()> {
    let jet = jetstream::new(async_nats::connect(url).await?);
    let config = stream::Config { name: TOPIC.into(), subjects: vec![TOPIC.into()], ..Default::default() };
    jet.create_stream(config).await?;
    Ok(())
}

#[cfg(feature = "brokers")]
async fn left_in_stream(url: &str) -> Result<u64> {
    let jet = jetstream::new(async_nats::connect(url).await?);
    let info = jet.get_stream(TOPIC).await?.consumer_info(NAME).await?;
    Ok(info.num_pending + info.num_ack_pending as u64)
}

fn make_queue(url: &str) -> Result<()> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://"))?;
    let form = format!("Action=CreateQueue&QueueName={TOPIC}&Version=2012-11-05");
    let head = format!(
        "POST / HTTP/1.1\r\nhost: it\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n",
        form.len()
    );
    stream.write_all(format!("{head}{form}").as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    if said.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("no queue: {said}").into()) }
}

#[cfg(not(feature = "brokers"))]
async fn make_stream(_url: &str) -> Result<()> {
    Err(NOT_BUILT.into())
}

#[cfg(not(feature = "brokers"))]
async fn left_in_stream(_url: &str) -> Result<u64> {
    Err(NOT_BUILT.into())
}

#[cfg(not(feature = "brokers"))]
const NOT_BUILT: &str = "this build reads streams of Redis only: `--features brokers` adds the others";
