//! Time in few steps: the durations of a policy and of a call, all multiples of one tick.

use std::time::Duration;

use onceward_core::Timestamp;
use onceward_core::store::{CALL_BUDGET_MAX, SETTLE};

/// One tick is the longest budget of a call, so that the settle time of core is two of them. Whatever falls
/// between two ticks happens at the first: rules compare times and nothing else.
pub const TICK: Duration = CALL_BUDGET_MAX;

/// How long a call may take until it writes nothing any more.
pub const BUDGET: Duration = TICK;

/// How long a permit is exclusive.
pub const LEASE: Duration = TICK;

/// How long a permit may renew itself.
pub const RUN_MAX: Duration = Duration::from_secs(2 * TICK.as_secs());

/// How long an answer is kept.
pub const RETENTION: Duration = TICK;

const _: () = assert!(SETTLE.as_secs() == 2 * TICK.as_secs(), "ticks are made for this settle time");

/// The store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreClock {
    /// Ticks since the beginning.
    pub ticks: u8,
    /// A restart takes a millisecond at least, which matters to fences and revisions but to no lease.
    pub restarts: u8,
}

impl StoreClock {
    /// What the clock shows. It does not begin at zero, so that a number counted from one is behind every stamp.
    #[must_use]
    pub fn now(self) -> Timestamp {
        Timestamp::from_millis(u64::from(self.restarts)).after(TICK * (u32::from(self.ticks) + 1))
    }
}
