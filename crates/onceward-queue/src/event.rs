//! What a consumer tells whoever counts.

use std::fmt;
use std::time::Duration;

use crate::verdict::Reason;

/// Something happened to a message. No event carries an id, a body or a header.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message was delivered.
    Received {
        /// Whether the broker says that it delivered it before.
        redelivered: bool,
    },
    /// A handler is about to run.
    Begun {
        /// 1 for the first attempt.
        attempt: u32,
        /// Whether nobody knows what the attempt before it did.
        took_over: bool,
    },
    /// A handler ended, however, after this long.
    Handled(Duration),
    /// A message had its effect, and that is stored.
    Done,
    /// A message came again whose effect is stored. It is acknowledged.
    DuplicateOfDone,
    /// A message came again while it is worked on. It is not acknowledged.
    DuplicateOfRunning,
    /// A message is to be tried again after this pause.
    Retried(Duration),
    /// A message was put among the dead letters.
    Parked(Reason),
    /// A handler ended, but another holder or an operator had its record.
    Fenced,
    /// The broker no longer counts a delivery as this consumer's.
    LeaseLost,
    /// A lane was taken away.
    Revoked,
    /// The store cannot be reached; nothing new is taken up.
    Paused,
    /// The store is there again.
    Resumed,
    /// So many messages wait, as the broker counts.
    Lag(u64),
    /// What was done is remembered for so many seconds longer than it can come again; fewer than none: it is forgotten too early.
    Headroom(i64),
    /// The broker could not be asked.
    BrokerFailed,
}

/// Takes note of events. Called inline: it must be quick and must not block.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// Takes note of `event`.
    fn on(&self, event: &Event);
}

/// Takes note of nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn on(&self, _event: &Event) {}
}
