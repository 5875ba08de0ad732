//! Places for requests in flight at one upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many requests are in flight.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Arc<AtomicUsize>);

/// One request in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<AtomicUsize>);

impl Slots {
    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A place, unless `max` are taken; zero is no limit.
    pub(super) fn take(&self, max: usize) -> Option<Slot> {
        let limit = if max == 0 { usize::MAX } else { max };
        let taken =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| (it < limit).then(|| it + 1));
        taken.ok().map(|_| Slot(Arc::clone(&self.0)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_upstream_has_no_place_until_one_is_left() {
        let slots = Slots::default();
        let first = slots.take(2).unwrap();
        let _second = slots.take(2).unwrap();
        assert!(slots.take(2).is_none() && slots.taken() == 2);
        drop(first);
        assert!(slots.take(2).is_some());
        assert!((0..5000).map(|_| slots.take(0)).all(|it| it.is_some()));
    }
}
