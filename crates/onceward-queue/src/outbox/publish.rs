//! A broker, as what sends effects.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::ErrorKind;

use super::{Outgoing, SendFailure, Sender};
use crate::message::Message;
use crate::source::Source;

/// The header that carries the id of an effect.
pub const EVENT_ID: &str = "event-id";

/// Publishes effects to the topic that is their destination, through a [`Source`], and waits until the broker has confirmed. The id
/// is in the header `event-id`, where a consumer finds it with `Identity::header("event-id")`.
pub struct Publish<S>(S);

impl<S: Source> Publish<S> {
    /// Through this one.
    pub fn new(source: S) -> Self {
        Self(source)
    }
}

impl<S: fmt::Debug> fmt::Debug for Publish<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publish").field(&self.0).finish()
    }
}

#[async_trait]
impl<S: Source> Sender for Publish<S> {
    async fn send(&self, effect: &Outgoing) -> Result<(), SendFailure> {
        // One header, or a consumer could not say which is meant.
        let others = effect.headers.iter().filter(|it| !it.0.eq_ignore_ascii_case(EVENT_ID)).cloned();
        let id = Bytes::from(effect.id.to_string());
        let message = Message {
            topic: effect.destination.as_str().into(),
            key: effect.key.clone(),
            headers: others.chain([(EVENT_ID.to_owned(), id)]).collect(),
            body: effect.body.clone(),
        };
        self.0.publish(&message).await.map_err(|error| {
            let reason = in_words(&error);
            match error.kind() {
                ErrorKind::Invalid => SendFailure::Park { reason },
                _ => SendFailure::Retry { reason, after: None },
            }
        })
    }
}

/// An error and its causes.
pub(super) fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(it) = source {
        text = format!("{text}: {it}");
        source = it.source();
    }
    text
}
