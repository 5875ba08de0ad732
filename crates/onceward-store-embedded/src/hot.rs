//! The hot table: what is in the log, synced, but not yet in the engine's tables.
//!
//! There are two generations: the one that the committer adds to, and one that is being drained. Who looks for a record
//! looks there, then in the engine's tables. A record that changes often while it is hot goes there once.

use std::collections::hash_map::Entry as Place;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onceward_core::{Record, RecordId};

use crate::by_id::ById;
use crate::group::size;
use crate::row::Times;

/// What one generation may come to, in bytes of records, before it is drained, and in how many records.
const GENERATION_BYTES: usize = 16 << 20;
/// The committer waits for the drain when the other generation has grown to this.
const GENERATION_BYTES_MAX: usize = 40 << 20;

/// A record that is hot.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What the rows say that the engine has once every earlier generation is drained.
    pub(crate) before: Times,
    /// `None` when it went.
    pub(crate) after: Option<Kept>,
}

/// A record with its encoded bytes: encoding hashes, so it is done once.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) record: Arc<Record>,
    pub(crate) bytes: Vec<u8>,
}

impl Kept {
    fn size(&self) -> usize {
        size(&self.record) + self.bytes.len()
    }
}

/// Records that changed in a stretch of the log.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    pub(crate) entries: ById<Entry>,
    bytes: usize,
    /// The sequence of the last group in it.
    pub(crate) last: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Hot {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    active: Generation,
    draining: Option<Arc<Generation>>,
    /// Up to which sequence the engine's tables show everything.
    applied: u64,
    /// Somebody waits for a complete view of the tables.
    asked: bool,
    ended: bool,
}

/// Why the drain wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// There is much to drain, or somebody waits for it, or a while has passed.
    Look,
    /// Nobody adds anything any more.
    Ended,
}

impl Hot {
    /// What is hot of `id`: `None` when the engine's tables have its state.
    pub(crate) fn find(&self, id: RecordId) -> Option<Option<Arc<Record>>> {
        let state = self.state();
        let entry = state.active.entries.get(&id);
        let entry = entry.or_else(|| state.draining.as_ref()?.entries.get(&id))?;
        Some(entry.after.as_ref().map(|it| Arc::clone(&it.record)))
    }

    /// Shows everybody the changes of the group `last`, which is on the disk.
    pub(crate) fn publish(&self, last: u64, changes: impl Iterator<Item = (RecordId, Entry)>) {
        let mut old = Vec::new();
        let mut state = self.state();
        let active = &mut state.active;
        for (id, entry) in changes {
            active.bytes += entry.after.as_ref().map_or(0, Kept::size) + size_of::<(RecordId, Entry)>();
            match active.entries.entry(id) {
                Place::Occupied(mut it) => {
                    let it = it.get_mut();
                    active.bytes -= it.after.as_ref().map_or(0, Kept::size) + size_of::<(RecordId, Entry)>();
                    old.push(std::mem::replace(&mut it.after, entry.after));
                }
                Place::Vacant(it) => drop(it.insert(entry)),
            }
        }
        active.last = last;
        if active.bytes >= GENERATION_BYTES && state.draining.is_none() {
            self.moved.notify_all();
        }
        drop(state);
        // Outside of the lock: records are many small pieces of memory.
        drop(old);
    }

    /// Waits while there is too much to take more. `is_usable` ends that.
    pub(crate) fn wait_for_room(&self, is_usable: impl Fn() -> bool) {
        let mut state = self.state();
        while state.active.bytes >= GENERATION_BYTES_MAX && is_usable() {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the engine's tables show all that was published before this call. `is_usable` ends that.
    pub(crate) fn settle(&self, is_usable: impl Fn() -> bool) {
        let mut state = self.state();
        let last = state.active.last;
        let is_hot = |it: &State| it.draining.is_some() || !it.active.entries.is_empty();
        while state.applied < last && is_hot(&state) && is_usable() {
            state.asked = true;
            self.moved.notify_all();
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until there is something to drain at once, or for a while.
    pub(crate) fn wait(&self, pause: Duration) -> Wake {
        let is_calm = |it: &mut State| !it.ended && !it.asked && it.active.bytes < GENERATION_BYTES;
        let state = self.state();
        let waited = self.moved.wait_timeout_while(state, pause, is_calm);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.asked = false;
        if state.ended { Wake::Ended } else { Wake::Look }
    }

    /// Begins to drain what is hot. `None` when nothing is. One at a time.
    pub(crate) fn freeze(&self) -> Option<Arc<Generation>> {
        let mut state = self.state();
        if state.active.entries.is_empty() {
            return None;
        }
        let last = state.active.last;
        let fresh = Generation { last, ..Generation::default() };
        let frozen = Arc::new(std::mem::replace(&mut state.active, fresh));
        state.draining = Some(Arc::clone(&frozen));
        // The committer may have waited for this.
        self.moved.notify_all();
        Some(frozen)
    }

    /// The engine's tables show the frozen generation.
    pub(crate) fn thaw(&self) {
        let mut state = self.state();
        let drained = state.draining.take();
        state.applied = drained.as_ref().map_or(state.applied, |it| it.last);
        self.moved.notify_all();
        drop(state);
        drop(drained);
    }

    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.draining.is_none() && state.active.entries.is_empty()
    }

    /// Up to which sequence the engine's tables show everything.
    pub(crate) fn applied(&self) -> u64 {
        self.state().applied
    }

    /// Nobody adds anything any more.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.moved.notify_all();
    }

    /// Lets everybody who waits look anew whether there is anything to wait for.
    pub(crate) fn wake(&self) {
        // Whoever is about to wait holds the lock from his look on.
        drop(self.state());
        self.moved.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
