//! The time of a store that has no clock of its own but the machine's.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::record::Timestamp;

/// A store's time: it begins where the wall clock is, or at the store's high-water mark where that is later,
/// and then runs with the boot clock.
///
/// The wall clock is asked once. So nothing that is set wrong while the store is open ends an answer early or
/// makes time stand still; a wrong wall clock counts until the store is opened again, and its high-water mark
/// beyond that.
#[derive(Debug, Clone)]
pub struct StoreTime {
    clock: Arc<dyn Clock>,
    start: Timestamp,
    booted: Duration,
    ahead: Duration,
}

impl StoreTime {
    /// Begins now. `high_water` is the latest time that the store has stamped, [`Timestamp::ZERO`] if none.
    #[must_use]
    pub fn begin(clock: Arc<dyn Clock>, high_water: Timestamp) -> Self {
        let (wall, booted) = (clock.wall(), clock.boot());
        Self { clock, start: wall.max(high_water), booted, ahead: wall.until(high_water) }
    }

    /// The store's time. It never goes back, never jumps and never stands still.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.start.after(self.clock.boot().saturating_sub(self.booted))
    }

    /// How far the high-water mark was ahead of the wall clock at the beginning; zero when it was not.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        self.ahead
    }

    /// The clock below: for pacing, which wants no date.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}
