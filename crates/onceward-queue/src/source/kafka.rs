//! Kafka: a consumer group of one or more topics, by librdkafka.
//!
//! A lane is a partition, `topic/partition`; its session is one assignment. What is done is committed without a gap: the offset
//! that is committed is that of the first message that is not done. A partition that is taken away is let go when what runs of
//! it has ended and is committed, or after [`revoke_max`](KafkaSettings::revoke_max).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::{Error, ErrorKind, Result};
use rdkafka::producer::FutureProducer;
use tokio::sync::watch;

use self::context::Outside;
use self::group::{End, Group};
use super::{Arrival, Capabilities, Source};
use crate::message::{Lane, Message, Receipt};
use crate::windows::Windows;

mod context;
mod error;
mod group;
mod hope;
mod look;
mod mock;
mod offsets;
mod publish;
mod settings;
mod worker;

pub use self::mock::MockKafka;
pub use self::settings::KafkaSettings;

/// How long [`close`](Source::close) waits until all is committed and the group was left. What was done and is not committed by
/// then comes to others again, and is known.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// A consumer of a group.
///
/// Dropped without [`close`](Source::close) it leaves the group without committing anything more.
pub struct Kafka {
    group: Arc<Group>,
    /// Whether the thread has ended, once it was started.
    thread: Mutex<Option<watch::Receiver<()>>>,
    producer: Mutex<Option<FutureProducer<Outside>>>,
    behind: Arc<look::Behind>,
}

impl Kafka {
    /// A consumer of its own in the group. Asks nobody yet.
    ///
    /// # Errors
    /// `Invalid`: the settings cannot be.
    pub fn new(settings: KafkaSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            group: Arc::new(Group::new(settings)),
            thread: Mutex::default(),
            producer: Mutex::default(),
            behind: Arc::default(),
        })
    }

    /// Starts the thread that talks to Kafka, if it is not started.
    fn start(&self) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (ends, ended) = watch::channel(());
            let group = Arc::clone(&self.group);
            let started = std::thread::Builder::new().name("onceward-kafka".into()).spawn(move || {
                worker::run(&group);
                drop(ends);
            });
            // `close` waits for it by what it drops at its end.
            drop(started.map_err(|it| {
                Error::new(ErrorKind::Unavailable, "start a thread for a Kafka consumer").caused_by(it)
            })?);
            *thread = Some(ended);
        }
        Ok(())
    }
}

#[async_trait]
impl Source for Kafka {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "kafka",
            ordered: true,
            visible_for: None,
            delays: Duration::ZERO,
            tells_redelivery: false,
            stable_position: true,
        }
    }

    async fn receive(&self, max: usize) -> Result<Vec<Arrival>> {
        self.start()?;
        loop {
            let arrived = self.group.arrived.notified();
            let taken = self.group.take(max)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            if self.group.state().ends.is_some() {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "receive from a Kafka consumer that was closed",
                ));
            }
            arrived.await;
        }
    }

    async fn revoked(&self) -> Vec<Arrival> {
        loop {
            let arrived = self.group.arrived.notified();
            let told: Vec<_> = self.group.state().told.drain(..).collect();
            if !told.is_empty() {
                return told;
            }
            arrived.await;
        }
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        Ok(self.group.lost(receipts))
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        self.group.acknowledge(receipts)
    }

    async fn give_back(&self, receipts: &[Receipt], _pause: Duration) -> Result<()> {
        self.group.give_back(receipts);
        Ok(())
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        publish::publish(&self.group.settings, &self.producer, message).await
    }

    async fn drained(&self, lane: &Lane) {
        if let Some(held) = self.group.state().lanes.get_mut(lane) {
            held.drained = held.leaves;
        }
    }

    async fn windows(&self) -> Result<Windows> {
        look::windows(&self.group.settings).await
    }

    async fn lag(&self) -> Result<Option<u64>> {
        let (behind, group) = (Arc::clone(&self.behind), Arc::clone(&self.group));
        let asked = tokio::task::spawn_blocking(move || behind.lag(&group.settings)).await;
        asked
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "ask how far a group is behind")))
            .map(Some)
    }

    async fn close(&self) {
        self.group.state().ends.get_or_insert(End::Close);
        self.group.arrived.notify_one();
        let behind = Arc::clone(&self.behind);
        let asker = tokio::task::spawn_blocking(move || behind.end());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let worker = async {
            if let Some(mut ended) = thread {
                // Nothing is ever sent: it fails when the thread is over. Where Kafka is away, that may take a session.
                let _ = ended.changed().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_MAX, async { tokio::join!(worker, asker) }).await;
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.group.state().ends.get_or_insert(End::Drop);
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("settings", &self.group.settings).finish_non_exhaustive()
    }
}
