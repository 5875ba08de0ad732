//! Simulated time and seeded randomness, as core wants them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::{Clock, Entropy, Timestamp};

/// 2026-01-01T00:00:00Z: any date will do that is not the epoch.
const START_MS: u64 = 1_767_225_600_000;

/// The clock of one simulated host: the simulation's time, from a start of its own and at a pace of its own.
#[derive(Debug)]
pub(crate) struct SimClock {
    /// What the boot clock showed when the simulation began.
    began: Duration,
    /// How fast it runs, in thousandths.
    pace: u32,
    /// The latest time that was seen, for whoever asks while its host is being torn down.
    seen_us: AtomicU64,
}

impl SimClock {
    pub(crate) fn new(began: Duration, pace: u32) -> Self {
        Self { began, pace, seen_us: AtomicU64::new(0) }
    }

    fn elapsed(&self) -> Duration {
        // Outside of a runtime tokio would ask the machine.
        let now = tokio::runtime::Handle::try_current().ok().and_then(|_| turmoil::sim_elapsed());
        let now_us = now.map_or(0, |it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX));
        let seen_us = self.seen_us.fetch_max(now_us, Ordering::Relaxed).max(now_us);
        Duration::from_micros(seen_us) * self.pace / 1000
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(START_MS).after(self.elapsed())
    }

    fn boot(&self) -> Duration {
        self.began + self.elapsed()
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }
}

/// Random bytes that repeat themselves with the seed.
#[derive(Debug)]
pub(crate) struct SimEntropy(Mutex<fastrand::Rng>);

impl SimEntropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
        Ok(())
    }
}
