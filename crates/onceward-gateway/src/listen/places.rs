//! Places for connections, and who must leave when there is none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::counters::{Count, Counters, Open};
use super::line::Line;

/// How long to wait for a place before somebody else is asked to leave.
const AGAIN: Duration = Duration::from_millis(100);

/// A bounded number of connections.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By number, so that of two that rank alike the older one leaves.
    lines: BTreeMap<u64, Arc<Line>>,
}

/// The place of one connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    _open: Open,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(count: usize, counters: Counters) -> Self {
        let free = Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self { free, taken: Arc::default(), counters }
    }

    /// Takes a place for a connection. When there is none, whoever is without a request for longest leaves.
    ///
    /// # Cancel safety
    /// Dropping this takes no place; somebody may have left.
    pub(super) async fn take(&self, line: &Arc<Line>) -> Place {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.make_room().await,
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = taken.next;
        taken.next += 1;
        taken.lines.insert(number, Arc::clone(line));
        Place { places: self.clone(), number, _open: self.counters.open_one(), _permit: permit }
    }

    async fn make_room(&self) -> OwnedSemaphorePermit {
        let mut noted = false;
        loop {
            match self.idlest() {
                Some(line) => {
                    line.leave.cancel();
                    self.counters.note(Count::ClosedForRoom);
                }
                None if noted => {}
                None => {
                    noted = true;
                    self.counters.note(Count::Full);
                    tracing::warn!("every place for a connection is taken by a request: new ones wait");
                }
            }
            if let Ok(permit) = tokio::time::timeout(AGAIN, Arc::clone(&self.free).acquire_owned()).await {
                return permit.expect("the semaphore is never closed");
            }
        }
    }

    fn idlest(&self) -> Option<Arc<Line>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let staying = taken.lines.values().filter(|it| !it.leave.is_cancelled());
        let ranked = staying.filter_map(|it| it.rank().map(|rank| (rank, it)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, it)| Arc::clone(it))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.lines.remove(&self.number);
    }
}
