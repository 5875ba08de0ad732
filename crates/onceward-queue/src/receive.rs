//! Webhooks that are handed to a broker before their sender is answered, so that the answer comes at once and the handler takes
//! its time.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use onceward_core::{Error, Key, Timestamp};
use onceward_webhook::{BadSignature, Verifier};

use crate::identity::{Identity, NoIdentity};
use crate::message::Message;
use crate::source::Source;

/// The header of a message that has the id of its event.
pub const EVENT_ID: &str = "event-id";

/// Takes webhooks in: verifies each, finds its id, and publishes it. A repeat is published again, under the same id: what has its
/// effect once is the [`Consumer`](crate::Consumer) behind, by `Identity::header(`[`EVENT_ID`]`)`.
pub struct Receiver {
    source: Arc<dyn Source>,
    topic: Arc<str>,
    identity: Identity,
    verifier: Option<Verifier>,
    carried: Vec<HeaderName>,
}

/// Why a webhook was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// It is not signed as it should be. Nothing was published.
    #[error("{0}")]
    Signature(#[from] BadSignature),
    /// It has no id. Nothing was published.
    #[error("{0}")]
    Identity(#[from] NoIdentity),
    /// The broker did not confirm it: it may have it or not, and a repeat does no harm.
    #[error(transparent)]
    Broker(#[from] Error),
}

impl Receiver {
    /// Publishes to `topic`. The id is looked for in the headers and the body of the request.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, topic: &str, identity: Identity) -> Self {
        let carried = vec![http::header::CONTENT_TYPE];
        Self { source, topic: topic.into(), identity, verifier: None, carried }
    }

    /// Takes only what was signed.
    #[must_use]
    pub fn verified_by(self, verifier: Verifier) -> Self {
        Self { verifier: Some(verifier), ..self }
    }

    /// Has a header of the request go along with the message, beside `Content-Type`. Brokers bound how many there may be.
    #[must_use]
    pub fn carrying(mut self, name: HeaderName) -> Self {
        self.carried.push(name);
        self
    }

    /// Takes a request whose body came whole, and returns when the broker has confirmed it.
    ///
    /// # Errors
    /// [`NotTaken`]: its sender must not be told that it was taken.
    ///
    /// # Cancel safety
    /// Dropped, it may have been published or not.
    pub async fn take(&self, headers: &HeaderMap, body: Bytes, now: Timestamp) -> Result<Key, NotTaken> {
        if let Some(verifier) = &self.verifier {
            verifier.verify(headers, &body, now)?;
        }
        let every = |(name, value): (&HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))
        };
        let headers = headers.iter().map(every).collect();
        let mut message = Message { topic: Arc::clone(&self.topic), key: None, headers, body };
        let id = self.identity.of_message(&message)?;
        message.headers.retain(|it| self.carried.iter().any(|name| *name == *it.0) && it.0 != EVENT_ID);
        message.headers.push((EVENT_ID.to_owned(), Bytes::copy_from_slice(id.as_str().as_bytes())));
        self.source.publish(&message).await?;
        Ok(id)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("topic", &self.topic)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
