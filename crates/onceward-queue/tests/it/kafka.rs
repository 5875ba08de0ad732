//! Kafka: on the mock cluster of librdkafka, on tansu, and on the cluster that `KAFKA_BOOTSTRAP` names.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::{Entropy as _, SystemEntropy};
use onceward_queue::source::Arrival;
use onceward_queue::source::kafka::{Kafka, KafkaSettings};
use onceward_queue::{Delivery, Lane, Message, Receipt, Source};
use onceward_testkit::server::Tansu;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::future_producer::FutureProducerContext;
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::fixture::Fixture;

mod assignment;
mod refusals;

const PARTITIONS: i32 = 4;
const GROUP: &str = "billing";

/// What every cluster has in common.
struct Cluster {
    bootstrap: String,
    topic: String,
    group: String,
    /// How partitions are shared out.
    strategy: &'static str,
    /// Asks what is committed. It is no member of the group.
    probe: BaseConsumer,
    producer: Kafka,
    server: Server,
    partitions: i32,
}

/// Who serves it.
enum Server {
    /// The mock cluster belongs to a client.
    Mock(FutureProducer),
    Tansu(Tansu),
    /// Somebody else.
    Real,
}

impl Cluster {
    fn new(bootstrap: String, topic: String, strategy: &'static str, server: Server) -> Self {
        Self::of_group(bootstrap, topic, GROUP.to_owned(), strategy, server)
    }

    fn of_group(
        bootstrap: String,
        topic: String,
        group: String,
        strategy: &'static str,
        server: Server,
    ) -> Self {
        let probe = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("group.id", &group)
            .create()
            .unwrap();
        let producer = Kafka::new(KafkaSettings::new(&bootstrap, &topic, &group)).unwrap();
        Self { bootstrap, topic, group, strategy, probe, producer, server, partitions: PARTITIONS }
    }

    /// The mock cluster of librdkafka, in this process.
    fn mock(strategy: &'static str) -> Self {
        Self::mock_of(1, PARTITIONS, strategy)
    }

    fn mock_of(brokers: u32, partitions: i32, strategy: &'static str) -> Self {
        let owner: FutureProducer =
            ClientConfig::new().set("test.mock.num.brokers", brokers.to_string()).create().unwrap();
        let cluster = owner.client().mock_cluster().unwrap();
        cluster.create_topic("orders", partitions, 1).unwrap();
        let bootstrap = cluster.bootstrap_servers();
        drop(cluster);
        Self { partitions, ..Self::new(bootstrap, "orders".into(), strategy, Server::Mock(owner)) }
    }

    /// The mock cluster, to tell it what to do.
    fn mock_cluster(&self) -> MockCluster<'_, FutureProducerContext<DefaultClientContext>> {
        let Server::Mock(owner) = &self.server else { panic!("{self:?} is no mock cluster") };
        owner.client().mock_cluster().unwrap()
    }

    /// A message for a partition that its key names.
    fn message(&self, id: &str) -> Message {
        let id = Bytes::copy_from_slice(id.as_bytes());
        let headers = vec![("event-id".into(), id.clone())];
        Message { topic: self.topic().into(), key: Some(id.clone()), headers, body: id }
    }

    async fn publish_ids(&self, ids: &[&str]) {
        let messages: Vec<_> = ids.iter().map(|it| self.message(it)).collect();
        self.publish(&messages).await;
    }

    /// The cluster that `KAFKA_BOOTSTRAP` names, with a topic and a group of the test's own; else the mock cluster.
    async fn real_or_mock(strategy: &'static str) -> Self {
        let Some(bootstrap) = std::env::var_os("KAFKA_BOOTSTRAP") else { return Self::mock(strategy) };
        let bootstrap = bootstrap.into_string().unwrap();
        let name = own_name();
        let admin: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", &bootstrap).create().unwrap();
        let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        for made in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            made.unwrap();
        }
        Self::of_group(bootstrap, name.clone(), name, strategy, Server::Real)
    }

    /// Tansu, in memory.
    async fn tansu() -> Self {
        let server = Tansu::start("orders", PARTITIONS.unsigned_abs()).await;
        Self::new(server.bootstrap(), "orders".into(), "cooperative-sticky", Server::Tansu(server))
    }

    fn settings(&self) -> KafkaSettings {
        let mut settings = KafkaSettings::new(&self.bootstrap, &self.topic, &self.group)
            .with("partition.assignment.strategy", self.strategy);
        if let Server::Tansu(_) = self.server {
            // Its end of a partition counts batches, and `is_empty` asks for the end.
            settings = settings.with("batch.num.messages", "1");
        }
        KafkaSettings {
            session: Duration::from_secs(6),
            commit_every: Duration::from_millis(10),
            // Longer than anything is awaited here: what waits for this fails.
            revoke_max: Duration::from_secs(100),
            ..settings
        }
    }

    fn consumer(&self) -> Kafka {
        Kafka::new(self.settings()).unwrap()
    }

    /// What is committed of each partition, and where it ends.
    fn committed(&self) -> Vec<(i64, i64)> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        let patience = Duration::from_secs(5);
        let Ok(committed) = self.probe.committed_offsets(list, patience) else { return vec![(0, 1)] };
        let of = |partition| {
            let (low, high) = self.probe.fetch_watermarks(&self.topic, partition, patience).unwrap_or((0, 1));
            let found = committed.find_partition(&self.topic, partition).unwrap();
            (if let Offset::Offset(it) = found.offset() { it } else { low }, high)
        };
        (0..self.partitions).map(of).collect()
    }
}

#[async_trait]
impl Fixture for Cluster {
    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.consumer())
    }

    fn topic(&self) -> &str {
        &self.topic
    }

    async fn publish(&self, messages: &[Message]) {
        for message in messages {
            self.producer.publish(message).await.unwrap();
        }
    }

    async fn is_empty(&self) -> bool {
        tokio::task::block_in_place(|| self.committed()).iter().all(|it| it.0 == it.1)
    }

    async fn crash(&self) -> Result<(), &'static str> {
        match &self.server {
            Server::Mock(_) => {
                let cluster = self.mock_cluster();
                cluster.broker_down(-1).unwrap();
                cluster.broker_up(-1).unwrap();
                Ok(())
            }
            // It would forget everything: only its connections are killed.
            Server::Tansu(server) => {
                server.cut_off(Duration::from_millis(500)).await;
                Ok(())
            }
            Server::Real => Err("it is somebody's"),
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kafka at {}", self.bootstrap)
    }
}

mod cooperative {
    use super::Cluster;
    crate::fixture::promises!(Cluster::real_or_mock("cooperative-sticky"));
}

mod eager {
    use super::Cluster;
    crate::fixture::promises!(Cluster::real_or_mock("range"));
}

mod tansu {
    use super::Cluster;
    crate::fixture::promises! { Cluster::tansu();
        [
            a_message_is_handled_once_and_acknowledged
            a_message_that_comes_five_times_to_two_consumers_has_its_effect_once
            a_handler_that_asks_for_it_runs_again_and_blocks_no_other_key
            an_effect_that_may_have_happened_is_held_and_parked
            the_same_id_with_another_payload_is_parked
            a_message_without_an_id_is_parked_with_what_is_missing
            while_the_store_is_away_nothing_is_lost_run_or_asked_in_a_hot_loop
            messages_of_one_key_run_in_their_order
            a_consumer_that_stops_ends_what_runs_and_gives_the_rest_back
            a_handler_may_take_longer_than_a_delivery_lasts
            what_is_published_arrives_as_it_was
            a_broker_that_is_killed_loses_and_doubles_nothing
            a_dead_letter_that_is_sent_again_runs_once_and_its_first_message_stays_dead
        ]
        not shown ("when the leader of a group leaves or dies while another joins, tansu 0.6.0 goes on to name it the leader, and the \
            group never gets an assignment again") [
            a_repeat_of_a_running_message_is_not_acknowledged_and_takes_over_when_its_holder_dies
            a_handler_that_takes_the_process_with_it_is_parked_after_as_many_attempts_as_there_may_be
            a_consumer_that_joins_or_leaves_loses_and_doubles_nothing
            what_a_killed_consumer_had_done_is_not_run_again
        ]
    }
}

/// A name that nobody else has.
fn own_name() -> String {
    let mut random = [0; 8];
    SystemEntropy.fill(&mut random).unwrap();
    format!("onceward-{:016x}", u64::from_le_bytes(random))
}

/// The messages among arrivals, and which lanes are taken away.
fn sorted(arrivals: Vec<Arrival>) -> (Vec<Delivery>, Vec<(Lane, bool)>) {
    let (mut deliveries, mut revoked) = (Vec::new(), Vec::new());
    for arrival in arrivals {
        match arrival {
            Arrival::Delivered(it) => deliveries.push(it),
            Arrival::Revoked { lane, lost } => revoked.push((lane, lost)),
        }
    }
    (deliveries, revoked)
}

/// The next so many messages.
async fn take(source: &Kafka, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let left = count - taken.len();
        let arrivals = onceward_testkit::within(source.receive(left)).await;
        taken.extend(arrivals.map(|it| sorted(it).0).unwrap_or_default());
    }
    taken
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|it| it.receipt.clone()).collect()
}

fn id(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).unwrap()
}
