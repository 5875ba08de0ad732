//! What sends effects of one kind.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::{Fence, Timestamp};

use super::EffectId;

/// Sends effects of one kind.
#[async_trait]
pub trait Sender: fmt::Debug + Send + Sync + 'static {
    /// Sends an effect, with its id, and returns once the far side has confirmed it. What may have arrived is sent again: the far
    /// side knows it by its id.
    ///
    /// # Errors
    /// [`SendFailure`] says whether to try again. A panic counts as [`SendFailure::Retry`].
    ///
    /// # Cancel safety
    /// The relay drops the call when its time is over, or its lease is, and counts the effect as not sent.
    async fn send(&self, effect: &Outgoing) -> Result<(), SendFailure>;
}

/// An effect that goes out now.
#[derive(Clone)]
pub struct Outgoing {
    /// Its name, the same on every try.
    pub id: EffectId,
    /// What sends it.
    pub kind: String,
    /// Where it goes.
    pub destination: String,
    /// What it is kept in order with.
    pub key: Option<Bytes>,
    /// Headers in their order.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub body: Bytes,
    /// 1 for the first try.
    pub attempt: u32,
    /// A number that grows whenever another relay, or the same once more, takes the effect up.
    pub fence: Fence,
    /// When it was added, by the database's clock.
    pub created: Timestamp,
}

impl fmt::Debug for Outgoing {
    /// Destinations, keys, headers and bodies stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Why an effect was not sent, or may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendFailure {
    /// Try again.
    Retry {
        /// For logs and operators.
        reason: String,
        /// Not before this, and at most a day. Without it the pause grows with the tries.
        after: Option<Duration>,
    },
    /// It cannot be sent, now or later: park it until somebody has looked at it.
    Park {
        /// For logs and operators.
        reason: String,
    },
}

impl SendFailure {
    /// Try again after a pause that grows with the tries.
    #[must_use]
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry { reason: reason.to_string(), after: None }
    }

    /// It cannot be sent, now or later.
    #[must_use]
    pub fn park(reason: impl fmt::Display) -> Self {
        Self::Park { reason: reason.to_string() }
    }
}
