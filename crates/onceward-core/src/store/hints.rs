//! Hints: a store may tell those who wait for a record that it is worth looking at.
//!
//! A hint says nothing of the record. One that is lost, late, doubled or false costs a look and some time: whoever waits
//! goes on to look by himself now and then, and decides by what he sees there alone.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{Notify, watch};

use crate::key::RecordId;

/// What somebody hears who waits for one record. Hints that he does not take are one.
///
/// The first one comes as soon as the store listens, or not at all: whatever ended before is seen by the look that it
/// leads to. It ends when the store listens no more; it can be asked for others then, after a pause. Dropping it ends the
/// listening.
pub type Hints = BoxStream<'static, ()>;

/// Who of this process waits for which records, for stores that give hints: however many wait for one record, the store
/// listens once.
///
/// Whoever does the listening for the store takes [`begin`](Self::begin) when it can, then [`changes`](Self::changes)
/// for as long as it can, and says [`deaf`](Self::deaf) when it cannot any more.
pub struct Listeners {
    max: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    records: HashMap<RecordId, Listened>,
    /// Records that somebody began or ceased to wait for since the last look; kept while somebody takes them.
    changed: HashSet<RecordId>,
    open: bool,
    closed: bool,
}

/// A record that somebody waits for.
struct Listened {
    bell: watch::Sender<()>,
    count: usize,
    /// Whether what ends from now on is heard.
    heard: bool,
}

impl Listeners {
    /// Nobody waits yet. At most `max` records are listened for at a time; who waits for one more hears nothing.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, state: Mutex::default(), changed: Notify::new() })
    }

    /// Waits for `id`; `None` when too many records are listened for, or it is closed.
    #[must_use]
    pub fn join(self: &Arc<Self>, id: RecordId) -> Option<Hints> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        if !state.records.contains_key(&id) {
            if state.records.len() >= self.max {
                return None;
            }
            let listened = Listened { bell: watch::Sender::new(()), count: 0, heard: false };
            state.records.insert(id, listened);
            state.note(id);
            self.changed.notify_one();
        }
        let listened = state.records.get_mut(&id).expect("it was just there");
        listened.count += 1;
        let mut heard = listened.bell.subscribe();
        if listened.heard {
            heard.mark_changed();
        }
        let place = Place { listeners: Arc::clone(self), id, bell: listened.bell.clone() };
        let next = |(mut heard, place): (watch::Receiver<()>, Place)| async {
            heard.changed().await.ok()?;
            place.is_listened_for().then_some(((), (heard, place)))
        };
        Some(stream::unfold((heard, place), next).boxed())
    }

    /// Completes when somebody waits.
    ///
    /// # Cancel safety
    /// Nothing is missed.
    pub async fn wanted(&self) {
        while self.is_empty() {
            self.changed.notified().await;
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state().records.is_empty()
    }

    /// Whether somebody waits for `id`.
    #[must_use]
    pub fn waits(&self, id: RecordId) -> bool {
        self.state().records.contains_key(&id)
    }

    /// All records that somebody waits for. Changes are kept from now on.
    #[must_use]
    pub fn begin(&self) -> Vec<RecordId> {
        let mut state = self.state();
        state.open = true;
        state.changed.clear();
        state.records.keys().copied().collect()
    }

    /// Records that somebody began or ceased to wait for since they were last asked for, each once, and whether somebody
    /// does now. Waits until there is one.
    ///
    /// # Cancel safety
    /// Nothing is missed.
    pub async fn changes(&self) -> Vec<(RecordId, bool)> {
        loop {
            {
                let mut state = self.state();
                if !state.changed.is_empty() {
                    let changed = std::mem::take(&mut state.changed);
                    return changed.into_iter().map(|id| (id, state.records.contains_key(&id))).collect();
                }
            }
            self.changed.notified().await;
        }
    }

    /// What ends from now on is heard of `id`: its first hint.
    pub fn heard(&self, id: RecordId) {
        if let Some(it) = self.state().records.get_mut(&id) {
            it.heard = true;
            it.bell.send_replace(());
        }
    }

    /// A hint for all who wait for `id`.
    pub fn hint(&self, id: RecordId) {
        if let Some(it) = self.state().records.get(&id) {
            it.bell.send_replace(());
        }
    }

    /// Nothing more will be heard of `id` here: its hints end.
    pub fn end(&self, id: RecordId) {
        let mut state = self.state();
        if let Some(it) = state.records.remove(&id) {
            state.note(id);
            it.bell.send_replace(());
        }
    }

    /// Nothing is heard until the next [`begin`](Self::begin). Those who wait go on to wait.
    pub fn deaf(&self) {
        let mut state = self.state();
        state.open = false;
        state.changed.clear();
        state.records.values_mut().for_each(|it| it.heard = false);
    }

    /// Nobody will listen any more: all hints end, and there are no others.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for (_, it) in state.records.drain() {
            it.bell.send_replace(());
        }
    }

    /// A panic elsewhere cannot leave it half written: every change is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.state().records.len();
        f.debug_struct("Listeners").field("max", &self.max).field("records", &records).finish_non_exhaustive()
    }
}

impl State {
    fn note(&mut self, id: RecordId) {
        if self.open {
            self.changed.insert(id);
        }
    }
}

/// A place among those who wait. Dropping it gives it back.
struct Place {
    listeners: Arc<Listeners>,
    id: RecordId,
    bell: watch::Sender<()>,
}

impl Place {
    /// Whether it is for those whom the store listens for now, and not for some before them.
    fn is_among(&self, state: &State) -> bool {
        state.records.get(&self.id).is_some_and(|it| it.bell.same_channel(&self.bell))
    }

    fn is_listened_for(&self) -> bool {
        self.is_among(&self.listeners.state())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.listeners.state();
        if !self.is_among(&state) {
            return;
        }
        let listened = state.records.get_mut(&self.id).expect("it is among them");
        listened.count -= 1;
        if listened.count == 0 {
            state.records.remove(&self.id);
            state.note(self.id);
            self.listeners.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const ONE: RecordId = RecordId::from_bytes([1; 32]);
    const OTHER: RecordId = RecordId::from_bytes([2; 32]);

    /// What is there to be heard now: a hint, the end, or nothing yet.
    fn now(hints: &mut Hints) -> Option<Option<()>> {
        hints.next().now_or_never()
    }

    #[test]
    fn a_thousand_who_wait_for_a_record_are_one_change_and_the_last_who_leaves_another() {
        let listeners = Listeners::new(1);
        assert_eq!(listeners.begin(), []);
        let mut hints: Vec<_> = (0..1000).map(|_| listeners.join(ONE).unwrap()).collect();
        assert!(listeners.join(OTHER).is_none(), "there is room for one record");
        assert_eq!(listeners.changes().now_or_never(), Some(vec![(ONE, true)]));
        assert!(hints.iter_mut().all(|it| now(it).is_none()), "nothing is heard yet");
        listeners.heard(ONE);
        assert!(hints.iter_mut().all(|it| now(it) == Some(Some(()))));
        listeners.hint(ONE);
        listeners.hint(ONE);
        for it in &mut hints {
            assert_eq!((now(it), now(it)), (Some(Some(())), None), "two that nobody took are one");
        }
        hints.truncate(1);
        assert_eq!(listeners.changes().now_or_never(), None);
        hints.clear();
        assert_eq!(listeners.changes().now_or_never(), Some(vec![(ONE, false)]));
        assert!(listeners.is_empty() && listeners.join(OTHER).is_some());
    }

    #[test]
    fn whoever_comes_while_the_store_listens_looks_once_more_at_once() {
        let listeners = Listeners::new(8);
        let _first = listeners.join(ONE).unwrap();
        assert_eq!(listeners.begin(), [ONE]);
        listeners.heard(ONE);
        assert_eq!(now(&mut listeners.join(ONE).unwrap()), Some(Some(())));
        // Where it listens no more, that look is made when it listens again.
        listeners.deaf();
        let mut late = listeners.join(ONE).unwrap();
        assert_eq!(now(&mut late), None);
        assert_eq!(listeners.begin(), [ONE]);
        listeners.heard(ONE);
        assert_eq!(now(&mut late), Some(Some(())));
    }

    #[test]
    fn what_is_not_heard_any_more_ends_for_all_and_can_be_asked_for_again() {
        let listeners = Listeners::new(8);
        let mut before = listeners.join(ONE).unwrap();
        let _ = listeners.begin();
        listeners.end(ONE);
        assert_eq!(now(&mut before), Some(None));
        let mut after = listeners.join(ONE).unwrap();
        drop(before);
        listeners.heard(ONE);
        assert_eq!(now(&mut after), Some(Some(())), "who left before does not take the place of others");
        listeners.close();
        assert_eq!(now(&mut after), Some(None));
        assert!(listeners.join(ONE).is_none() && listeners.is_empty());
    }

    #[test]
    fn while_nobody_listens_who_comes_and_goes_leaves_nothing() {
        let listeners = Listeners::new(8);
        for _ in 0..3 {
            drop(listeners.join(ONE));
        }
        assert!(listeners.state().changed.is_empty() && listeners.is_empty());
        let _hints = listeners.join(OTHER);
        assert!(listeners.wanted().now_or_never().is_some());
    }
}
