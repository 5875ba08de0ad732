//! One group: calls judged in order against the records as they are, then written as one batch.
//!
//! Every rule comes from core. Here is only who goes first, and that a record which is changed twice in a
//! group is written once.

use std::collections::hash_map::Entry as Place;
use std::io;
use std::sync::Arc;

use onceward_core::mutant::{self, Mutant};
use onceward_core::record::encode::encode;
use onceward_core::store::{Expiry, Insert, Put, Replace, Swept};
use onceward_core::{Record, RecordId, Result, Revision, State, Timestamp};

use crate::by_id::ById;
use crate::fault::Fault;
use crate::hot::{Entry, Kept};
use crate::log::{Change as Logged, Log};
use crate::probe::{Point, Probe};
use crate::reply::{Caller, Promise, Reply, Told, tell};
use crate::row::Times;
use crate::settings::Durability;
use crate::shelf::Shelf;

/// How many bytes of records one group may read and gather before it is written.
const GROUP_BYTES: usize = 8 << 20;

/// A call on its way to the committer.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) ask: Ask,
    pub(crate) caller: Caller,
}

#[derive(Debug)]
pub(crate) enum Ask {
    Insert { id: RecordId, put: Box<Put>, reply: Reply<Insert> },
    Replace { id: RecordId, seen: Revision, put: Box<Put>, reply: Reply<Replace> },
    Expire { looked_at: Vec<(RecordId, Revision)>, reply: Reply<Swept> },
    Check { reply: Reply<()> },
}

pub(crate) struct Group<'a> {
    shelf: &'a Shelf,
    now: Timestamp,
    changes: ById<Change>,
    bytes: usize,
    promises: Vec<Promise>,
}

/// What a group does to one record: from what the disk has to what it shall have. Of the former only the rows
/// that may have to go are kept: its answer can be long.
struct Change {
    before: Times,
    after: Option<Arc<Record>>,
    /// The revision of what was found last: of what goes, if it goes.
    seen: Revision,
}

impl<'a> Group<'a> {
    /// An empty group at the store's time.
    pub(crate) fn new(shelf: &'a Shelf) -> Self {
        Self { shelf, now: shelf.now(), changes: ById::default(), bytes: 0, promises: Vec::new() }
    }

    pub(crate) fn is_full(&self, calls_max: usize) -> bool {
        self.promises.len() >= calls_max || self.bytes >= GROUP_BYTES
    }

    /// Judges one call. Nobody is told yet. A caller that left is not served.
    pub(crate) fn take(&mut self, Order { ask, caller }: Order) {
        let told = match ask {
            Ask::Insert { reply, .. } if reply.is_closed() => return,
            Ask::Replace { reply, .. } if reply.is_closed() => return,
            Ask::Expire { reply, .. } if reply.is_closed() => return,
            Ask::Insert { id, put, reply } => Told::Insert(self.insert(id, &put), reply),
            Ask::Replace { id, seen, put, reply } => Told::Replace(self.replace(id, seen, &put), reply),
            Ask::Expire { looked_at, reply } => Told::Expire(self.expire(&looked_at), reply),
            Ask::Check { reply } => Told::Check(self.check(), reply),
        };
        self.promises.push(Promise { told, caller });
    }

    fn insert(&mut self, id: RecordId, put: &Put) -> Result<Insert> {
        let found = self.current(id)?.filter(|_| !mutant::is(Mutant::GetThenSet));
        let result = put.insert(id, found.as_ref(), self.now);
        if let Insert::Kept(record) = &result {
            self.change(None, id, Some(Arc::clone(record)));
        }
        Ok(result)
    }

    fn replace(&mut self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        let found = self.current(id)?;
        let result = put.replace(id, found.as_ref(), seen, self.now);
        if let Replace::Kept(record) = &result {
            self.change(found.as_deref(), id, Some(Arc::clone(record)));
        }
        Ok(result)
    }

    /// Drops what is over, each only at the revision that was looked at. Unreadable records stay.
    fn expire(&mut self, looked_at: &[(RecordId, Revision)]) -> Result<Swept> {
        let mut swept = Swept::default();
        for &(id, seen) in looked_at {
            let Ok(Some(found)) = self.current(id) else { continue };
            if found.revision != seen {
                continue;
            }
            match found.expiry(self.now) {
                Expiry::Keep => {}
                Expiry::Tombstone(next) => {
                    self.change(Some(&found), id, Some(Arc::new(*next)));
                    swept.tombstones += 1;
                }
                Expiry::Remove => {
                    self.change(Some(&found), id, None);
                    swept.removed += 1;
                }
            }
        }
        Ok(swept)
    }

    /// Whether a write would be taken. Writes nothing. Whether a background task of the engine has failed is looked at
    /// by the drain, for the engine answers only when it does not sync.
    fn check(&self) -> Result<()> {
        if self.shelf.log.is_none() { Err(Fault::read_only().error()) } else { self.shelf.usable() }
    }

    /// The record as the calls before this one leave it. It counts towards the group's bytes: whoever finds it
    /// there is shown it once the group is written.
    fn current(&mut self, id: RecordId) -> Result<Option<Arc<Record>>> {
        let found = match self.changes.get(&id) {
            Some(change) => change.after.clone(),
            None => self.shelf.read(id)?,
        };
        self.bytes += found.as_deref().map_or(0, size);
        Ok(found)
    }

    /// What is there now counts only where the group has not changed it before.
    fn change(&mut self, found: Option<&Record>, id: RecordId, after: Option<Arc<Record>>) {
        self.bytes += after.as_deref().map_or(0, size);
        let seen = found.map_or(Revision(0), |it| it.revision);
        match self.changes.entry(id) {
            Place::Occupied(mut it) => (it.get_mut().after, it.get_mut().seen) = (after, seen),
            Place::Vacant(it) => {
                let before = found.map_or_else(Times::default, Times::of);
                it.insert(Change { before, after, seen });
            }
        }
    }

    /// Writes the group, then tells everybody: also a call that changed nothing may have been shown a record
    /// of this very group. Says whether anything was written.
    pub(crate) fn settle(mut self, durability: Durability, probe: &Arc<dyn Probe>) -> bool {
        let promises = std::mem::take(&mut self.promises);
        // Ends before the promises do: whoever hears from a broken promise that his write may have landed
        // must not be shown a state without it.
        let shelf = self.shelf;
        let _fuse = Fuse(shelf);
        let wrote = !self.changes.is_empty();
        let fault = if wrote { self.write(durability, probe, promises.len()).err() } else { None };
        // That nothing is written any more was said once.
        if let Some(fault) = fault.as_ref().filter(|_| shelf.log.is_some()) {
            tracing::error!(cause = ?fault, calls = promises.len(), "a group of writes failed");
        }
        tell(promises, fault.as_ref());
        wrote
    }

    fn write(self, durability: Durability, probe: &Arc<dyn Probe>, calls: usize) -> Result<(), Fault> {
        let (shelf, changes) = (self.shelf, self.changes.len());
        let Some(log) = &shelf.log else { return Err(Fault::read_only()) };
        shelf.usable().map_err(|_| Fault::away())?;
        probe.reached(Point::BeforeWrite { calls, changes }).map_err(|it| Fault::unwritten(&it))?;
        self.log(log, durability, probe).map_err(|it| {
            // Before anybody hears of it: whoever was told "it may have landed" must not be shown a state in
            // which it has not.
            shelf.fail();
            Fault::unsynced(&it)
        })
    }

    /// Writes the group to the log, syncs it, and shows it to everybody.
    fn log(self, log: &Log, durability: Durability, probe: &Arc<dyn Probe>) -> io::Result<()> {
        let Self { shelf, now, changes, .. } = self;
        let keep = |record: Arc<Record>| Kept { bytes: encode(&record), record };
        let entries: Vec<_> = changes
            .into_iter()
            .map(|(id, it)| (id, it.seen, Entry { before: it.before, after: it.after.map(keep) }))
            .collect();
        let logged = entries.iter().map(|(id, seen, entry)| match &entry.after {
            Some(it) => Logged { id: *id, revision: it.record.revision, bytes: Some(&it.bytes) },
            None => Logged { id: *id, revision: *seen, bytes: None },
        });
        let sequence = log.write(now, logged)?;
        probe.reached(Point::BeforeSync)?;
        if durability == Durability::Durable && !mutant::is(Mutant::ToldBeforeSynced) {
            log.sync()?;
        }
        shelf.hot.publish(sequence, entries.into_iter().map(|(id, _, entry)| (id, entry)));
        probe.reached(Point::AfterWrite)
    }
}

/// A write that panics takes the store out of order: nobody knows how far it came.
struct Fuse<'a>(&'a Shelf);

impl Drop for Fuse<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
    }
}

/// About how many bytes a record takes.
pub(crate) fn size(record: &Record) -> usize {
    let answer = match &record.state {
        State::Done(answer) => answer.stored_len(),
        State::Running | State::Abandoned { .. } | State::Released | State::Tombstone => 0,
    };
    512 + answer + record.checkpoint.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain;
    use crate::probe::NoProbe;
    use crate::row;
    use crate::seat::Seat;
    use crate::settings::EmbeddedSettings;
    use onceward_core::store::SETTLE;
    use onceward_core::{Answer, Policy};
    use onceward_testkit::HandClock;

    const ID: RecordId = RecordId::from_bytes([4; 32]);

    fn claim() -> Put {
        onceward_testkit::claim(1)
    }

    fn shelf(path: &std::path::Path, clock: HandClock) -> Arc<Shelf> {
        Seat::open(&EmbeddedSettings::new(path), Arc::new(clock), Arc::new(NoProbe)).unwrap().shelf().unwrap()
    }

    fn settle(group: Group<'_>) {
        let (shelf, probe): (_, Arc<dyn Probe>) = (group.shelf, Arc::new(NoProbe));
        assert!(group.settle(Durability::Durable, &probe));
        drain::apply(shelf, &shelf.hot.freeze().unwrap()).unwrap();
        shelf.hot.thaw();
    }

    #[test]
    fn expiry_is_a_swap_on_the_revision_that_was_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let clock = HandClock::new();
        let shelf = shelf(folder.path(), clock.clone());
        let mut group = Group::new(&shelf);
        let Ok(Insert::Kept(claimed)) = group.insert(ID, &claim()) else { panic!() };
        let done =
            Put { state: State::Done(Answer::new("test", "42")), ..Put::keep(&claimed, Timestamp::MAX) };
        let Ok(Replace::Kept(done)) = group.replace(ID, claimed.revision, &done) else { panic!() };
        settle(group);
        clock.advance(Policy::default().retention + Policy::default().tombstone + SETTLE);
        let due: Vec<_> = shelf.expired(9).unwrap().0.iter().map(|it| (it.id, it.revision)).collect();
        assert_eq!(due, [(ID, done.revision)]);

        let mut group = Group::new(&shelf);
        assert_eq!(group.expire(&[(ID, claimed.revision)]).unwrap(), Swept::default(), "a stale look");
        let Ok(Replace::Kept(taken)) = group.replace(ID, done.revision, &claim()) else { panic!() };
        assert_eq!(
            group.expire(&[(ID, done.revision)]).unwrap(),
            Swept::default(),
            "taken in this very group"
        );
        assert_eq!(group.expire(&[(ID, taken.revision)]).unwrap(), Swept::default(), "it is running");
        settle(group);
        assert_eq!(shelf.read(ID).unwrap(), Some(taken));
        assert_eq!(shelf.expired(9).unwrap().0, []);
    }

    #[test]
    fn a_record_that_changes_twice_in_a_group_leaves_one_set_of_rows() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path(), HandClock::new());
        let mut group = Group::new(&shelf);
        let Ok(Insert::Kept(first)) = group.insert(ID, &claim()) else { panic!() };
        let Ok(Insert::Found(found, _)) = group.insert(ID, &claim()) else { panic!() };
        assert_eq!(found, first, "the second call sees what the first left");
        let longer = Put {
            policy: Policy { lease: 2 * Policy::default().lease, ..Policy::default() },
            wake_after: Some(Policy::default().lease),
            ..Put::keep(&first, Timestamp::MAX)
        };
        let Ok(Replace::Kept(last)) = group.replace(ID, first.revision, &longer) else { panic!() };
        settle(group);
        let rows: Vec<_> = shelf.agenda.iter().map(|it| it.key().unwrap().to_vec()).collect();
        assert_eq!(rows, row::agenda(&last).map(|it| it.to_vec()).collect::<Vec<_>>());
    }
}
