//! Time and randomness, as parameters.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::record::Timestamp;

/// A source of time. Core never asks the machine; it asks the clock it was given.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock, for stores that have none of their own. It may jump; a store asks it once, when it
    /// opens, and keeps a high-water mark ([`StoreTime`](crate::store::StoreTime)).
    fn wall(&self) -> Timestamp;

    /// Time since an arbitrary start, time asleep included. It never goes back. Holders count leases with it.
    fn boot(&self) -> Duration;

    /// Completes once `pause` has passed on this clock. Dropping the future has no effect.
    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()>;
}

/// The clock of this machine; sleeping needs a tokio runtime with time enabled.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock that asks the machine")]
    fn wall(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn boot(&self) -> Duration {
        let it = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(it.tv_sec.unsigned_abs(), u32::try_from(it.tv_nsec).unwrap_or(0))
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }
}

/// A source of random bytes: owner tokens, the store's hash key, jitter.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with bytes nobody can foresee.
    ///
    /// # Errors
    /// The source failed; `bytes` must not be used.
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()>;
}

/// The operating system's random bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        getrandom::fill(bytes).map_err(std::io::Error::other)
    }
}
