//! RabbitMQ 3.10 or later: a queue, best a quorum queue.
//!
//! The queue is the topic. Properties that name a message (`message-id`, `type`, …) are headers of that name.

mod open;
mod properties;
mod publisher;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery as Delivered;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions};
use lapin::types::FieldTable;
use onceward_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use self::open::Session;
use self::publisher::Publisher;
pub use self::settings::{OrderBy, RabbitSettings};
use super::{Arrival, Capabilities, Source};
use crate::message::{Delivery, Lane, Message, Receipt, Seen};

/// How long leaving may take.
const LEAVING: Duration = Duration::from_secs(5);

/// A consumer of a queue.
pub struct RabbitMq {
    settings: RabbitSettings,
    session: Mutex<Option<Arc<Session>>>,
    sessions: AtomicU64,
    publisher: Publisher,
    lane: Lane,
    topic: Arc<str>,
}

impl RabbitMq {
    /// A consumer. Asks nobody yet.
    ///
    /// # Errors
    /// `Invalid`: the settings cannot be.
    pub fn new(settings: RabbitSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            session: Mutex::default(),
            sessions: AtomicU64::new(0),
            publisher: Publisher::new(settings.clone()),
            lane: Lane(settings.queue.as_str().into()),
            topic: settings.queue.as_str().into(),
            settings,
        })
    }

    /// The session that lives, or a new one.
    async fn session(&self) -> Result<Arc<Session>> {
        let mut kept = self.session.lock().await;
        if let Some(session) = kept.as_ref().filter(|it| it.lives()) {
            return Ok(Arc::clone(session));
        }
        // Before a new one is there the old one has ended: what it had is anybody's.
        *kept = None;
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let session = Session::open(&self.settings, number).await?;
        Ok(Arc::clone(kept.insert(Arc::new(session))))
    }

    /// The session of these receipts, if it lives, and their numbers on its channel: each is told about once.
    async fn told(&self, receipts: &[Receipt]) -> Option<(Arc<Session>, Vec<u64>)> {
        let session = self.session.lock().await.as_ref().filter(|it| it.lives()).map(Arc::clone)?;
        let mut unsettled = session.unsettled();
        let mine = receipts.iter().filter(|it| it.session == session.number && unsettled.remove(&it.number));
        let numbers = mine.map(|it| it.number).collect();
        drop(unsettled);
        Some((session, numbers))
    }

    fn arrival(&self, session: &Session, delivered: Delivered) -> Arrival {
        let count = properties::delivery_count(&delivered.properties);
        let seen = match (count, delivered.redelivered) {
            (Some(count), _) if count > 0 => Seen::Before(Some(count.saturating_add(1))),
            (_, true) => Seen::Before(None),
            (_, false) if session.quorum => Seen::First,
            // Other queues may have forgotten it with the broker.
            (_, false) => Seen::Perhaps,
        };
        session.unsettled().insert(delivered.delivery_tag);
        let (key, headers) =
            properties::read(&delivered.properties, &self.settings.order_by, delivered.routing_key.as_str());
        Arrival::Delivered(Delivery {
            message: Arc::new(Message {
                topic: Arc::clone(&self.topic),
                key,
                headers,
                body: delivered.data.into(),
            }),
            receipt: Receipt {
                lane: self.lane.clone(),
                session: session.number,
                number: delivered.delivery_tag,
                token: "".into(),
            },
            position: None,
            seen,
        })
    }
}

#[async_trait]
impl Source for RabbitMq {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "rabbitmq",
            // What one consumer has does not hold up what another gets, and what is given back is overtaken.
            ordered: false,
            visible_for: None,
            delays: Duration::ZERO,
            tells_redelivery: true,
            stable_position: false,
        }
    }

    async fn receive(&self, max: usize) -> Result<Vec<Arrival>> {
        let doing = "receive messages";
        let session = self.session().await?;
        let mut subscription = session.subscription.lock().await;
        let consumer = match &mut *subscription {
            Some(consumer) => consumer,
            none => {
                let queue = open::short(&self.settings.queue)?;
                let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
                let consumer = session.channel.basic_consume(queue, "".into(), options, arguments).await;
                none.insert(consumer.map_err(|it| open::translate(doing, it, ErrorKind::Unavailable))?)
            }
        };
        let mut arrivals = Vec::new();
        let mut next = consumer.next().await;
        loop {
            match next {
                Some(Ok(delivered)) => arrivals.push(self.arrival(&session, delivered)),
                // The connection broke, or the broker cancelled: its queue went, or moves. Whether it is there is seen next time.
                broken => {
                    session.end();
                    if !arrivals.is_empty() {
                        return Ok(arrivals);
                    }
                    let error = Error::new(ErrorKind::Unavailable, doing);
                    return Err(match broken {
                        Some(Err(cause)) => error.caused_by(cause),
                        Some(Ok(_)) | None => error.caused_by("the broker cancelled the consumer"),
                    });
                }
            }
            if arrivals.len() >= max {
                return Ok(arrivals);
            }
            next = match consumer.next().now_or_never() {
                Some(next) => next,
                None => return Ok(arrivals),
            };
        }
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        // They last as long as the session.
        let kept = self.session.lock().await;
        let number = kept.as_ref().filter(|it| it.lives()).map(|it| it.number);
        Ok(receipts.iter().filter(|it| Some(it.session) != number).cloned().collect())
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        let Some((session, numbers)) = self.told(receipts).await else { return Ok(()) };
        for number in numbers {
            let told = session.channel.basic_ack(number, BasicAckOptions::default()).await;
            told.map_err(|it| open::translate("acknowledge deliveries", it, ErrorKind::Uncertain))?;
        }
        Ok(())
    }

    async fn give_back(&self, receipts: &[Receipt], _pause: Duration) -> Result<()> {
        let doing = "give deliveries back";
        let Some((session, mut numbers)) = self.told(receipts).await else { return Ok(()) };
        // Whoever gives back and does not receive shall not be the one who gets it again, nor keep what it did not look at.
        if let Ok(mut subscription) = session.subscription.try_lock()
            && let Some(mut consumer) = subscription.take()
        {
            let cancelled = session.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await;
            cancelled.map_err(|it| open::translate(doing, it, ErrorKind::Uncertain))?;
            while let Some(Some(Ok(delivered))) = consumer.next().now_or_never() {
                numbers.push(delivered.delivery_tag);
            }
        }
        for number in numbers {
            let options = BasicNackOptions { multiple: false, requeue: true };
            let told = session.channel.basic_nack(number, options).await;
            told.map_err(|it| open::translate(doing, it, ErrorKind::Uncertain))?;
        }
        Ok(())
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        self.publisher.publish(message).await
    }

    async fn lag(&self) -> Result<Option<u64>> {
        self.session().await?.waiting(&self.settings.queue).await.map(Some)
    }

    async fn close(&self) {
        let session = self.session.lock().await.take();
        let leaving = async {
            if let Some(session) = session {
                session.close().await;
            }
            self.publisher.close().await;
        };
        // What cannot be told now is found out by the broker.
        let _ = tokio::time::timeout(LEAVING, leaving).await;
    }
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq").field("settings", &self.settings).finish_non_exhaustive()
    }
}
