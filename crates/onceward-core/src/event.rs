//! What the engine tells whoever counts: one event type for metrics, traces and logs.

use std::fmt;
use std::time::Duration;

/// Something happened to an operation. No event carries a key, a body or a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A permit was granted; `attempt` counts from 1.
    Granted {
        /// How many permits this life of the record has seen.
        attempt: u32,
    },
    /// A stored answer was handed out.
    Replayed {
        /// Whether it came from the local cache.
        cached: bool,
    },
    /// A duplicate met a running first attempt and was sent away.
    Busy,
    /// A duplicate waited this long for a running first attempt.
    Waited(Duration),
    /// A key was used for another request.
    Mismatch,
    /// A duplicate met a record whose outcome is unknown.
    Unresolved,
    /// A duplicate came after retention.
    Gone,
    /// An answer of this many bytes was stored.
    Completed {
        /// The answer's length.
        answer_bytes: usize,
    },
    /// A permit was given back: nothing happened.
    Released,
    /// A permit was given up: it may have happened.
    Abandoned,
    /// A permit found that another holder or an operator has its record.
    LeaseLost,
    /// Writing the end of an operation failed and is being repeated.
    FinishRetried,
    /// An operator changed a record.
    Verdict,
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
