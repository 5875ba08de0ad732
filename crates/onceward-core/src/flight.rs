//! Duplicates that wait in the process in which the first attempt runs.
//!
//! A flight stands for a permit that is out. Waiters register before they sleep and are all woken when the
//! permit ends, however it ends; each then decides again from the record. A lost wake-up only costs time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::key::RecordId;

#[derive(Debug, Default)]
pub(crate) struct Flights {
    out: Mutex<HashMap<RecordId, Arc<Notify>>>,
}

impl Flights {
    fn out(&self) -> MutexGuard<'_, HashMap<RecordId, Arc<Notify>>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
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
