//! Waiting for what must happen, never for time to pass.

use std::thread::sleep;
use std::time::Duration;

/// How long a single read or write of a socket may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const STEP: Duration = Duration::from_millis(5);

/// Looks again and again until there is something to see.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if let Some(seen) = look() {
            return seen;
        }
        sleep(STEP);
    }
    panic!("this did not happen in time: {what}");
}

/// Waits until `claim` holds.
pub(crate) fn until_true(what: &str, mut claim: impl FnMut() -> bool) {
    until(what, || claim().then_some(()));
}
