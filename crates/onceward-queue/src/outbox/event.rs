//! What relays tell.

use std::fmt;
use std::time::Duration;

/// Something happened in a relay. No event carries an id, a destination or a body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayEvent {
    /// So many effects were taken up.
    Claimed(usize),
    /// A try ended, however, after this long.
    Tried(Duration),
    /// So many effects are noted as sent.
    Sent(usize),
    /// An effect is to be tried again after this pause.
    Retried(Duration),
    /// An effect was parked.
    Parked,
    /// So many effects had another owner by the time that this relay said how they went, or kept them.
    Fenced(usize),
    /// The lease of an effect was over before it was sent.
    LeaseLost,
    /// So many effects that were sent long ago were removed.
    Removed(u64),
    /// This relay cannot read the effects that an answer carries, and leaves them as they are. Told once of each answer, and once
    /// altogether of those that are of a newer build, whose relays read them.
    Unreadable {
        /// Whether they are of a newer build. Otherwise they are damaged.
        newer: bool,
    },
    /// The database could not be asked.
    DatabaseFailed,
}

/// Takes note of events. Called inline: it must be quick and must not block.
pub trait RelayObserver: fmt::Debug + Send + Sync + 'static {
    /// Takes note of `event`.
    fn on(&self, event: &RelayEvent);
}

/// Takes note of nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRelayObserver;

impl RelayObserver for NoRelayObserver {
    fn on(&self, _event: &RelayEvent) {}
}
