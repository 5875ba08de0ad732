//! Until when what a relay has in hand is its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use onceward_core::Clock;

/// Until when something is this relay's, by its own clock.
#[derive(Debug)]
pub(in crate::outbox) struct Hold {
    until_us: AtomicU64,
    lost: AtomicBool,
}

impl Hold {
    pub(in crate::outbox) fn until(boot: Duration) -> Self {
        Self { until_us: AtomicU64::new(micros(boot)), lost: AtomicBool::new(false) }
    }

    /// How long it lasts; zero once it is over.
    pub(in crate::outbox) fn left(&self, clock: &dyn Clock) -> Duration {
        if self.lost.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        Duration::from_micros(self.until_us.load(Ordering::Acquire)).saturating_sub(clock.boot())
    }

    /// Completes when it is over. Whoever extends it meanwhile is heard.
    pub(in crate::outbox) async fn is_over(&self, clock: &dyn Clock) {
        loop {
            let left = self.left(clock);
            if left.is_zero() {
                return;
            }
            clock.sleep(left).await;
        }
    }

    pub(in crate::outbox) fn extend(&self, boot: Duration) {
        self.until_us.fetch_max(micros(boot), Ordering::AcqRel);
    }

    pub(in crate::outbox) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

/// Rounded down: nothing lasts longer by being written down.
fn micros(it: Duration) -> u64 {
    u64::try_from(it.as_micros()).unwrap_or(u64::MAX)
}
