//! What a handler is given, and what it says.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use onceward_core::{Fence, Key};

use crate::message::Message;
use crate::outbox::Effects;

/// A message that is to have its effect now.
#[derive(Clone)]
pub struct Handling {
    /// What was sent.
    pub message: Arc<Message>,
    /// What it is known by. Hand it on as the idempotency key of whatever the handler calls.
    pub key: Key,
    /// A number that grows with every attempt at this message. Hand it to the effect, so that the far side can refuse an
    /// old holder. `None` where the effect is in the transaction itself: there no old holder can commit.
    pub fence: Option<Fence>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// What an earlier attempt saved, if anything.
    pub checkpoint: Option<Bytes>,
    /// What is to go out because of this message: it is stored in one swap with its outcome, and an
    /// [`AnswerRelay`](crate::outbox::AnswerRelay) sends it. Nothing of it goes out where the handler fails, and once the handler
    /// has ended nothing can be added. Where the effect is in a transaction, an [`Outbox`](crate::outbox) of that database is the
    /// place, and this refuses.
    pub effects: Effects,
}

impl fmt::Debug for Handling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handling")
            .field("message", &self.message)
            .field("fence", &self.fence)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Why a handler did not do what the message asks for, and what that says about its effect.
///
/// `?` makes [`Unknown`](Self::Unknown) of any error: only the handler can know that nothing happened.
#[derive(Debug, Clone)]
pub enum Failure {
    /// Nothing happened: try again.
    Retry {
        /// For logs and dead letters.
        reason: String,
        /// Not before this. Without it the pause grows with the attempts.
        after: Option<Duration>,
    },
    /// It cannot be done, now or later: put the message among the dead letters.
    Park {
        /// For logs and dead letters.
        reason: String,
    },
    /// The effect may have happened.
    Unknown {
        /// For logs and dead letters.
        reason: String,
        /// What `?` made it of.
        cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
}

impl Failure {
    /// Nothing happened: try again after a pause that grows with the attempts.
    #[must_use]
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry { reason: reason.to_string(), after: None }
    }

    /// It cannot be done, now or later.
    #[must_use]
    pub fn park(reason: impl fmt::Display) -> Self {
        Self::Park { reason: reason.to_string() }
    }

    /// The effect may have happened.
    #[must_use]
    pub fn unknown(reason: impl fmt::Display) -> Self {
        Self::Unknown { reason: reason.to_string(), cause: None }
    }

    /// What it says.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. } | Self::Park { reason } | Self::Unknown { reason, .. } => reason,
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Unknown { reason: with_causes(&error), cause: Some(Arc::new(error)) }
    }
}

/// An error and whatever caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A handler, whatever its type.
pub(crate) type Handler = Arc<dyn Fn(Handling) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

pub(crate) fn boxed<F>(handler: impl Fn(Handling) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    Arc::new(move |it| Box::pin(handler(it)))
}
