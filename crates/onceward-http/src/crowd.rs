//! How many operations one principal has in flight, and the bound on that.
//!
//! A place is taken once the caller is known and before its body is read, and is given back when the operation
//! ends, however it ends: so it counts uploads, waiting duplicates and work whose caller has left.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::Principal;

/// The operations in flight, by principal. A principal without one is not remembered.
#[derive(Debug)]
pub(crate) struct Crowd {
    places_max: AtomicUsize,
    taken: Mutex<HashMap<Principal, usize>>,
}

impl Crowd {
    /// At most `places_max` operations of one principal; 0 sets no bound.
    pub(crate) fn new(places_max: usize) -> Self {
        Self { places_max: AtomicUsize::new(places_max), taken: Mutex::default() }
    }

    pub(crate) fn set_places_max(&self, places_max: usize) {
        self.places_max.store(places_max, Ordering::Relaxed);
    }

    /// A place for one operation of `principal`; `None` when it has as many as it may. The anonymous principal
    /// stands for everybody without a credential: one of them must not use up the places of all.
    pub(crate) fn enter(self: &Arc<Self>, principal: Principal) -> Option<Place> {
        let places_max = self.places_max.load(Ordering::Relaxed);
        if places_max == 0 || principal == Principal::ANONYMOUS {
            return Some(Place(None));
        }
        let mut taken = self.taken();
        let count = taken.get(&principal).copied().unwrap_or(0);
        if count >= places_max {
            return None;
        }
        taken.insert(principal, count + 1);
        Some(Place(Some((Arc::clone(self), principal))))
    }

    /// How many principals have an operation in flight that counts.
    pub(crate) fn principals(&self) -> usize {
        self.taken().len()
    }

    fn leave(&self, principal: Principal) {
        let mut taken = self.taken();
        match taken.get_mut(&principal) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                taken.remove(&principal);
            }
            None => {}
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Principal, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the operations of a principal. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place(Option<(Arc<Crowd>, Principal)>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((crowd, principal)) = self.0.take() {
            crowd.leave(principal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(byte: u8) -> Principal {
        Principal::from_bytes([byte; 16])
    }

    #[test]
    fn a_principal_gets_so_many_places_and_others_have_their_own() {
        let crowd = Arc::new(Crowd::new(2));
        let first = crowd.enter(principal(1)).unwrap();
        let _second = crowd.enter(principal(1)).unwrap();
        assert!(crowd.enter(principal(1)).is_none());
        let other = crowd.enter(principal(2)).unwrap();
        drop(first);
        let _third = crowd.enter(principal(1)).unwrap();
        assert!(crowd.enter(principal(1)).is_none());
        drop(other);
        assert_eq!(crowd.principals(), 1);
    }

    #[test]
    fn who_has_nothing_in_flight_is_not_remembered() {
        let crowd = Arc::new(Crowd::new(1));
        for nth in 1..=200 {
            drop(crowd.enter(principal(nth)).unwrap());
        }
        assert_eq!(crowd.principals(), 0);
    }

    #[test]
    fn nobody_in_particular_and_no_bound_mean_no_end() {
        let bounded = Arc::new(Crowd::new(1));
        let unbounded = Arc::new(Crowd::new(0));
        let places: Vec<_> = (0..100)
            .flat_map(|_| [bounded.enter(Principal::ANONYMOUS), unbounded.enter(principal(1))])
            .map(Option::unwrap)
            .collect();
        assert_eq!((bounded.principals(), unbounded.principals()), (0, 0));
        drop(places);
    }

    #[test]
    fn a_changed_bound_holds_for_who_comes_next() {
        let crowd = Arc::new(Crowd::new(3));
        let mut places: Vec<_> = (0..3).map(|_| crowd.enter(principal(1)).unwrap()).collect();
        crowd.set_places_max(1);
        assert!(crowd.enter(principal(1)).is_none());
        // A bound that was off meanwhile takes nobody's place away twice.
        crowd.set_places_max(0);
        places.push(crowd.enter(principal(1)).unwrap());
        crowd.set_places_max(1);
        places.clear();
        assert_eq!(crowd.principals(), 0);
    }
}
