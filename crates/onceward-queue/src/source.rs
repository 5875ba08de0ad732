//! Where messages come from. One file per broker; each passes the same suite of promises.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::Result;

use crate::message::{Delivery, Lane, Message, Receipt};
use crate::windows::Windows;

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
pub mod open;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis-streams")]
pub mod redis_streams;
#[cfg(feature = "sqs")]
pub mod sqs;
#[cfg(feature = "tls")]
mod tls;

/// A broker, as one consumer sees it.
///
/// A source holds no rule: what is run, acknowledged or parked is decided elsewhere. It never acknowledges anything by
/// itself, and what it was not asked to acknowledge comes again.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// What this broker can do.
    fn capabilities(&self) -> Capabilities;

    /// What happened next: up to `max` deliveries, at least one, or a lane that is taken away. Waits until there is
    /// something; only one call waits at a time.
    ///
    /// # Errors
    /// `Unavailable`: the broker cannot be asked now. `Invalid`: it refuses what it was asked for, and will again.
    ///
    /// # Cancel safety
    /// Messages that arrive in a dropped call come again, in the next call or once their time is over.
    async fn receive(&self, max: usize) -> Result<Vec<Arrival>>;

    /// Lanes that are taken away, for whoever does not [`receive`](Source::receive) now because it takes nothing more up. Waits
    /// until there is one; never called while `receive` waits. A broker that takes no lanes away waits for ever.
    ///
    /// # Cancel safety
    /// What a dropped call did not give back is told by the next, or by `receive`.
    async fn revoked(&self) -> Vec<Arrival> {
        std::future::pending().await
    }

    /// Tells the broker that these are still worked on. Gives back those that it no longer counts as this consumer's.
    ///
    /// # Errors
    /// `Unavailable`: nothing is known of any.
    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>>;

    /// Tells the broker that these are done. What belongs to an earlier session is left out. When this returns, the broker
    /// has been told, or will be at the lane's next commit: within a moment, once its earlier messages are done, too.
    ///
    /// # Errors
    /// Any: some may come again.
    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()>;

    /// Gives these back, to be delivered again to anybody: after `pause`, where the broker can wait
    /// ([`Capabilities::delays`]), else at once.
    ///
    /// # Errors
    /// Any: they come again once their time is over.
    async fn give_back(&self, receipts: &[Receipt], pause: Duration) -> Result<()>;

    /// Publishes a message to its `topic`, and returns when the broker has confirmed that it is kept.
    ///
    /// # Errors
    /// `Unavailable`: it was not published. `Uncertain`: it may be. `Invalid`: the broker does not take such a message,
    /// or has nowhere to put it.
    async fn publish(&self, message: &Message) -> Result<()>;

    /// Nothing of a lane that is taken away ([`Arrival::Revoked`]) is worked on any more, or its time is over.
    async fn drained(&self, lane: &Lane) {
        let _ = lane;
    }

    /// For how long messages can come again, as far as the broker says.
    ///
    /// # Errors
    /// Any: it could not be asked, or this user may not.
    async fn windows(&self) -> Result<Windows> {
        Ok(Windows::default())
    }

    /// How many messages wait for this consumer's group, those in hand included or not, as the broker counts; `None` where it does
    /// not say.
    ///
    /// # Errors
    /// Any: it could not be asked, or this user may not.
    async fn lag(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Leaves the broker: what was acknowledged is told, what was not comes to others at once where that can be.
    async fn close(&self);
}

#[async_trait]
impl<S: Source + ?Sized> Source for Arc<S> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    async fn receive(&self, max: usize) -> Result<Vec<Arrival>> {
        (**self).receive(max).await
    }

    async fn revoked(&self) -> Vec<Arrival> {
        (**self).revoked().await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        (**self).extend(receipts).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        (**self).acknowledge(receipts).await
    }

    async fn give_back(&self, receipts: &[Receipt], pause: Duration) -> Result<()> {
        (**self).give_back(receipts, pause).await
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        (**self).publish(message).await
    }

    async fn drained(&self, lane: &Lane) {
        (**self).drained(lane).await;
    }

    async fn windows(&self) -> Result<Windows> {
        (**self).windows().await
    }

    async fn lag(&self) -> Result<Option<u64>> {
        (**self).lag().await
    }

    async fn close(&self) {
        (**self).close().await;
    }
}

/// What a source tells.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A message.
    Delivered(Delivery),
    /// A lane goes to another consumer. What was not begun is forgotten; what runs has until then to be acknowledged.
    Revoked {
        /// Which.
        lane: Lane,
        /// Whether the broker already took it away: then nothing can be acknowledged any more.
        lost: bool,
    },
}

/// What a broker can do. What it cannot is said here, by name, and tested as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// One word: `memory`, `kafka`, `sqs`, …
    pub name: &'static str,
    /// Whether messages of a lane are delivered in the order in which they were published.
    pub ordered: bool,
    /// For how long a delivery is a consumer's before it must [`extend`](Source::extend) it; `None` where it lasts as long as
    /// the connection or the session.
    pub visible_for: Option<Duration>,
    /// The longest that the broker itself waits before it delivers again what was given back; zero where it cannot wait.
    pub delays: Duration,
    /// Whether the broker says that a message was delivered before.
    pub tells_redelivery: bool,
    /// Whether a message has the same [`position`](Delivery::position) on every delivery.
    pub stable_position: bool,
}
