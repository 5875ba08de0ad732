//! A store in this process's memory, for tests and demos. Nothing survives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::clock::Clock;
use crate::error::Result;
use crate::key::RecordId;
use crate::record::{Record, Revision, Timestamp};
use crate::store::{
    Agenda, Cursor, DueCursor, DuePage, Expiry, Filter, Insert, Loaded, Page, Put, Replace, Store, StoreTime,
    Swept, Traits,
};

/// Records in a map behind one lock that no await crosses.
#[derive(Debug)]
pub struct MemoryStore {
    time: StoreTime,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    records: BTreeMap<RecordId, Arc<Record>>,
    /// (what, when, which), so that nothing scans.
    due: BTreeSet<(Agenda, Timestamp, RecordId)>,
}

impl MemoryStore {
    /// An empty store. Its time is the wall time of `clock` now and from then on runs with its boot time, so
    /// that no jump of the wall clock is felt; see [`StoreTime`].
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { time: StoreTime::begin(clock, Timestamp::ZERO), shelf: Mutex::default() }
    }

    /// The shelf at the store's time. A panic elsewhere cannot leave it half written: every change is whole.
    fn shelf(&self) -> (MutexGuard<'_, Shelf>, Timestamp) {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        (shelf, self.time.now())
    }
}

impl Shelf {
    fn keep(&mut self, record: Arc<Record>) {
        self.remove(record.id);
        self.due.extend(agenda(&record));
        self.records.insert(record.id, record);
    }

    fn remove(&mut self, id: RecordId) {
        if let Some(old) = self.records.remove(&id) {
            for it in agenda(&old) {
                self.due.remove(&it);
            }
        }
    }

    /// What has passed of this kind, all of it or what is behind a place.
    fn due(
        &self,
        what: Agenda,
        behind: Option<(Timestamp, RecordId)>,
        now: Timestamp,
    ) -> impl Iterator<Item = RecordId> + '_ {
        let first = match behind {
            None => Bound::Included((what, Timestamp::ZERO, RecordId::from_bytes([0; 32]))),
            Some((time, id)) => Bound::Excluded((what, time, id)),
        };
        let rows = self.due.range((first, Bound::Unbounded));
        rows.take_while(move |it| it.0 == what && it.1 <= now).map(|it| it.2)
    }
}

fn agenda(record: &Record) -> impl Iterator<Item = (Agenda, Timestamp, RecordId)> {
    let id = record.id;
    record.agenda().map(move |(what, when)| (what, when, id))
}

#[async_trait]
impl Store for MemoryStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        let (mut shelf, now) = self.shelf();
        let inserted = put.insert(id, shelf.records.get(&id), now);
        if let Insert::Kept(record) = &inserted {
            shelf.keep(Arc::clone(record));
        }
        Ok(inserted)
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        let (mut shelf, now) = self.shelf();
        let replaced = put.replace(id, shelf.records.get(&id), seen, now);
        if let Replace::Kept(record) = &replaced {
            shelf.keep(Arc::clone(record));
        }
        Ok(replaced)
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        let (shelf, now) = self.shelf();
        Ok(Loaded { record: shelf.records.get(&id).cloned(), now })
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        let (shelf, now) = self.shelf();
        let mut due =
            shelf.due(from.due().into(), from.behind(), now).filter_map(|id| shelf.records.get(&id).cloned());
        let records: Vec<_> = due.by_ref().take(limit).collect();
        let next = due.next().map(|_| records.last().map_or(from, |it| from.pass_record(it)));
        Ok(DuePage { records, next, now })
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let (shelf, now) = self.shelf();
        let start = cursor.map_or(Bound::Unbounded, |it| Bound::Excluded(it.0));
        let mut matching = shelf
            .records
            .range((start, Bound::Unbounded))
            .map(|it| it.1)
            .filter(|it| filter.matches(it, now));
        let records: Vec<_> = matching.by_ref().take(limit).cloned().collect();
        let next = matching.next().and(records.last()).map(|it| Cursor(it.id));
        Ok(Page { records, next, unreadable: Vec::new(), now })
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        let (mut shelf, now) = self.shelf();
        let ids: Vec<_> = shelf.due(Agenda::Expiry, None, now).take(limit).collect();
        let mut swept = Swept { more: ids.len() == limit, ..Swept::default() };
        for id in ids {
            let Some(record) = shelf.records.get(&id) else { continue };
            match record.expiry(now) {
                Expiry::Keep => {}
                Expiry::Tombstone(next) => {
                    shelf.keep(Arc::new(*next));
                    swept.tombstones += 1;
                }
                Expiry::Remove => {
                    shelf.remove(id);
                    swept.removed += 1;
                }
            }
        }
        Ok(swept)
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn traits(&self) -> Traits {
        Traits { name: "memory", durable: false, shared: false }
    }
}
