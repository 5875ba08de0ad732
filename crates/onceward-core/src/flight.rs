//! Duplicates that wait in the process in which the first attempt runs.
//!
//! A flight stands for a permit that is out. Waiters register before they sleep and are all woken when the
//! permit ends, however it ends; each then decides again from the record. A lost wake-up only costs time.
//!
//! The waiters of a record are counted, those for a permit of another process too: each holds on to what it asks,
//! so that without a bound one key could hold any amount of memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use crate::key::RecordId;
use crate::sync::{Mutex, MutexGuard, Notify, OwnedNotified};

#[derive(Debug, Default)]
pub(crate) struct Flights {
    out: Mutex<HashMap<RecordId, Arc<Notify>>>,
    /// How many wait for each record that somebody waits for.
    waiters: Mutex<HashMap<RecordId, usize>>,
}

impl Flights {
    fn out(&self) -> MutexGuard<'_, HashMap<RecordId, Arc<Notify>>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiters(&self) -> MutexGuard<'_, HashMap<RecordId, usize>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who wait for `id`; `None` when `max` wait already.
    pub(crate) fn wait(self: &Arc<Self>, id: RecordId, max: usize) -> Option<Waiter> {
        let mut waiters = self.waiters();
        let count = waiters.get(&id).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        waiters.insert(id, count + 1);
        Some(Waiter { flights: Arc::clone(self), id })
    }

    /// Announces a permit. Dropping the guard wakes everybody who waits for it.
    pub(crate) fn take_off(self: &Arc<Self>, id: RecordId) -> Flight {
        let landed = Arc::new(Notify::new());
        self.out().insert(id, Arc::clone(&landed));
        Flight { flights: Arc::clone(self), id, landed }
    }

    /// A future that completes when the permit that is out for `id` ends; `None` when none is out here.
    /// It counts from this call: an end between the call and the first poll is not missed.
    pub(crate) fn landing(&self, id: RecordId) -> Option<OwnedNotified> {
        self.out().get(&id).map(|it| Arc::clone(it).notified_owned())
    }
}

/// A permit that is out.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    id: RecordId,
    landed: Arc<Notify>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut out = self.flights.out();
        // A successor (after a take-over in this process) has its own entry; leave it.
        if out.get(&self.id).is_some_and(|it| Arc::ptr_eq(it, &self.landed)) {
            out.remove(&self.id);
        }
        drop(out);
        self.landed.notify_waiters();
    }
}

/// A place among those who wait for a record. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Waiter {
    flights: Arc<Flights>,
    id: RecordId,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.flights.waiters();
        match waiters.get_mut(&self.id) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                waiters.remove(&self.id);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_so_many_waiters_and_one_without_is_not_remembered() {
        // This test is built over other locks, too (`tests/interleavings/`), which want to be told.
        crate::sync::model(|| {
            let flights = Arc::new(Flights::default());
            let (one, other) = (RecordId::from_bytes([1; 32]), RecordId::from_bytes([2; 32]));
            let mut waiters: Vec<_> = (0..3).map(|_| flights.wait(one, 3).unwrap()).collect();
            assert!(flights.wait(one, 3).is_none());
            let _others = flights.wait(other, 1).unwrap();
            waiters.pop();
            waiters.push(flights.wait(one, 3).unwrap());
            assert!(flights.wait(one, 3).is_none());
            waiters.clear();
            assert_eq!(flights.waiters().keys().collect::<Vec<_>>(), [&other]);
        });
    }
}
