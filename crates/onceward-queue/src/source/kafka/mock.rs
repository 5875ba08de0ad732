//! A cluster in this process, for tests of handlers.

use std::fmt;

use onceward_core::{Error, ErrorKind, Result};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};

/// The mock cluster of librdkafka: one broker on a port of 127.0.0.1, which keeps messages in memory and has groups. It takes no
/// transactions, says nothing of its settings, and is gone with this.
pub struct MockKafka {
    owner: FutureProducer,
}

impl MockKafka {
    /// Starts one that has a topic.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be started.
    pub fn start(topic: &str, partitions: i32) -> Result<Self> {
        let failed = |it: KafkaError| {
            Error::new(ErrorKind::Unavailable, "start a mock cluster of Kafka").caused_by(it)
        };
        let owner: FutureProducer =
            ClientConfig::new().set("test.mock.num.brokers", "1").create().map_err(failed)?;
        let cluster = owner.client().mock_cluster();
        let cluster =
            cluster.ok_or_else(|| Error::new(ErrorKind::Unavailable, "find the mock cluster of Kafka"))?;
        cluster.create_topic(topic, partitions, 1).map_err(failed)?;
        drop(cluster);
        Ok(Self { owner })
    }

    /// Where it listens: `host:port`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.owner.client().mock_cluster().map_or_else(String::new, |it| it.bootstrap_servers())
    }
}

impl fmt::Debug for MockKafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockKafka").finish_non_exhaustive()
    }
}
