//! Time since the boot of the machine: the same in every process of a run, whatever the wall clock does.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn now() -> Duration {
    since_zero(ClockId::Boottime)
}

/// What strace prints before each call: time since the epoch.
pub(crate) fn wall() -> Duration {
    since_zero(ClockId::Realtime)
}

fn since_zero(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Waits until `found` finds something, for at most `patience`.
pub(crate) fn until<T>(patience: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let end = now() + patience;
    loop {
        if let Some(it) = found() {
            return Some(it);
        }
        if now() >= end {
            return None;
        }
        std::thread::sleep(ms(5));
    }
}
