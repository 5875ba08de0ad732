//! What a caller may choose about an operation, and the bounds of each choice.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// The choices that a claim stores in its record. A later attempt can only be stricter about `unresolved`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a permit is exclusive without renewal. 100 ms to 1 hour.
    pub lease: Duration,
    /// How long a permit renews itself, counted from its grant. At least `lease`.
    pub run_max: Duration,
    /// How long an answer is kept, counted from completion. At least 1 s.
    pub retention: Duration,
    /// How long a late retry is refused after retention. Zero turns tombstones off.
    pub tombstone: Duration,
    /// What becomes of a record whose work ended without a stored answer.
    pub unresolved: Unresolved,
}

/// What becomes of an operation whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// Refused until somebody resolves it: only the owner of the far side can know.
    Hold,
    /// Run again. Only for a far side that both returns its first outcome for a key it has seen and refuses
    /// a fence below the highest it saw for that key.
    Rerun,
}

impl Unresolved {
    /// The stricter of two choices: `Hold` wins.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Rerun, Self::Rerun) => Self::Rerun,
            (Self::Hold, _) | (_, Self::Hold) => Self::Hold,
        }
    }
}

/// What a duplicate does while the first attempt runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// Answer at once that the first is still running.
    Reject,
    /// Wait for the first attempt, at most this long, then answer like `Reject`.
    Wait(Duration),
}

impl Default for Policy {
    /// Lease 30 s, run 10 min, retention 24 h, tombstone 7 days, hold.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            run_max: Duration::from_secs(600),
            retention: Duration::from_secs(24 * 3600),
            tombstone: Duration::from_secs(7 * 24 * 3600),
            unresolved: Unresolved::Hold,
        }
    }
}

impl Policy {
    /// Checks the bounds that the fields document.
    ///
    /// # Errors
    /// `Invalid`, with the field and the remedy in the message.
    pub fn check(&self) -> Result<()> {
        let wrong = |what| Err(Error::new(ErrorKind::Invalid, what));
        if self.lease < Duration::from_millis(100) || self.lease > Duration::from_secs(3600) {
            return wrong("accept the policy: lease must be 100 ms to 1 h");
        }
        if self.run_max < self.lease {
            return wrong("accept the policy: run_max must be at least the lease");
        }
        if self.retention < Duration::from_secs(1) {
            return wrong("accept the policy: retention must be at least 1 s");
        }
        Ok(())
    }
}
