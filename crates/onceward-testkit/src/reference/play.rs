//! Carries out steps against a store and lets the reference judge what comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Due, Filter, Insert, Put, Replace};
use onceward_core::{Clock as _, Record, RecordId, Revision, Store, Timestamp};

use super::laws::{Reference, Verdict};
use super::step::{Seen, Step, Which};
use crate::conformance::Fixture;

/// How long a store whose clock is its own is waited for where a run lets time pass.
const MOMENT: Duration = Duration::from_millis(2);
/// No listing of so few records has more pages.
const PAGES_MAX: usize = 100;

pub(crate) struct Play<'a, F> {
    fixture: &'a F,
    /// Away only while it is opened again: who opens a store needs its last handle.
    store: Option<Arc<dyn Store>>,
    reference: Reference,
    /// Every write that was sent, oldest first.
    writes: Vec<Write>,
    /// Every revision that was told, oldest first.
    revisions: BTreeMap<RecordId, Vec<Revision>>,
}

#[derive(Clone)]
struct Write {
    id: RecordId,
    /// `None` for an insert.
    seen: Option<Revision>,
    put: Put,
}

impl<'a, F: Fixture> Play<'a, F> {
    pub(crate) async fn begin(fixture: &'a F) -> Self {
        let store = fixture.open().await;
        let now = now(&store).await.expect("a store that was just opened tells its time");
        let reference = Reference::new(now, fixture.clock().is_some());
        Self { fixture, store: Some(store), reference, writes: Vec::new(), revisions: BTreeMap::new() }
    }

    pub(crate) async fn step(&mut self, step: &Step) -> Verdict {
        match step {
            Step::Insert(which, sketch) => {
                let put = sketch.put(self.reference.now());
                self.write(Write { id: which.id(), seen: None, put }).await?;
            }
            Step::Replace(which, seen, sketch) => {
                let put = sketch.put(self.reference.now());
                let seen = Some(self.seen(which.id(), *seen));
                self.write(Write { id: which.id(), seen, put }).await?;
            }
            Step::Again(back) => {
                let again = self.writes.iter().rev().nth(*back).cloned();
                if let Some(write) = again {
                    self.write(write).await?;
                }
            }
            Step::Load(which) => {
                let loaded = self.store().load(which.id()).await.map_err(|it| it.to_string())?;
                self.reference.time(loaded.now)?;
                self.reference.is(which.id(), loaded.record.as_deref())?;
            }
            Step::Due(due, limit) => {
                self.due(*due, *limit).await?;
                // So that a page ends between any two, those of one time, too.
                self.due(*due, 1).await?;
            }
            Step::List(filter, limit) => self.list(filter, *limit).await?,
            Step::Sweep(limit) => {
                let from = self.look().await?;
                let swept = self.store().sweep(*limit).await.map_err(|it| it.to_string())?;
                self.look().await?;
                let left = records(self.store()).await?;
                self.reference.sweep(*limit, swept, from, &left)?;
            }
            Step::Pass(pause) => self.pass(*pause).await,
            Step::JumpWall(millis) => {
                if let Some(clock) = self.fixture.clock() {
                    clock.jump_wall(*millis);
                }
            }
            Step::Reopen => self.open_again(false).await?,
            Step::Crash => self.open_again(true).await?,
        }
        for (id, record) in records(self.store()).await? {
            self.reference.is(id, record.as_deref()).map_err(|it| format!("from then on, {it}"))?;
        }
        Ok(())
    }

    async fn write(&mut self, write: Write) -> Verdict {
        let Write { id, seen, put } = &write;
        let kept = match seen {
            None => {
                let told = self.store().insert(*id, put).await.map_err(|it| it.to_string())?;
                self.reference.insert(*id, put, &told)?;
                if let Insert::Kept(it) = told { Some(it) } else { None }
            }
            Some(seen) => {
                let told = self.store().replace(*id, *seen, put).await.map_err(|it| it.to_string())?;
                self.reference.replace(*id, *seen, put, &told)?;
                if let Replace::Kept(it) = told { Some(it) } else { None }
            }
        };
        self.revisions.entry(*id).or_default().extend(kept.map(|it| it.revision));
        self.writes.push(write);
        Ok(())
    }

    fn seen(&self, id: RecordId, seen: Seen) -> Revision {
        let mut told = self.revisions.get(&id).into_iter().flatten().rev().copied();
        let newest = told.next().unwrap_or(Revision(0));
        match seen {
            Seen::Newest => newest,
            Seen::Stale(back) => told.nth(back - 1).unwrap_or(Revision(0)),
            Seen::Ahead => Revision(newest.0 + 1),
        }
    }

    async fn due(&mut self, due: Due, limit: usize) -> Verdict {
        let from = self.look().await?;
        let (mut pages, mut cursor) = (Vec::new(), due.start());
        while pages.len() < PAGES_MAX {
            let page = self.store().due(cursor, limit).await.map_err(|it| it.to_string())?;
            let next = page.next;
            pages.push(page);
            match next {
                // A page of nothing is followed by another one.
                Some(next) if limit > 0 => cursor = next,
                _ => {
                    self.look().await?;
                    return self.reference.due(due, limit, from, &pages);
                }
            }
        }
        Err("a look at what is due has no end".to_owned())
    }

    async fn list(&mut self, filter: &Filter, limit: usize) -> Verdict {
        let (mut pages, mut cursor) = (Vec::new(), None);
        while pages.len() < PAGES_MAX {
            let page = self.store().list(filter, cursor, limit).await.map_err(|it| it.to_string())?;
            if page.records.len() > limit || !page.unreadable.is_empty() {
                return Err(format!("a page of {limit}: {page:?}"));
            }
            cursor = page.next;
            pages.push(page);
            if cursor.is_none() {
                return self.reference.list(filter, &pages);
            }
        }
        Err("a listing has no end".to_owned())
    }

    async fn pass(&mut self, pause: Duration) {
        match self.fixture.clock() {
            Some(clock) => {
                clock.advance(pause);
                self.reference.pass(pause);
            }
            None => tokio::time::sleep(pause.min(MOMENT)).await,
        }
    }

    async fn open_again(&mut self, crash: bool) -> Verdict {
        let durable = self.store().traits().durable;
        let store = self.store.take().expect("a store is open between steps");
        let store = if crash { self.fixture.crash(store).await } else { self.fixture.reopen(store).await };
        let wall = self.fixture.clock().map(|it| it.wall());
        let (now, shown) = (now(&store).await?, records(&store).await?);
        self.store = Some(store);
        self.reference.reopened(durable, wall, now, &shown)
    }

    async fn look(&mut self) -> Result<Timestamp, String> {
        self.reference.time(now(self.store()).await?)?;
        Ok(self.reference.now())
    }

    fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("a store is open between steps")
    }
}

async fn now(store: &Arc<dyn Store>) -> Result<Timestamp, String> {
    let nobody = RecordId::from_bytes([0xff; 32]);
    store.load(nobody).await.map(|it| it.now).map_err(|it| it.to_string())
}

/// What the store has under every id of a run.
async fn records(store: &Arc<dyn Store>) -> Result<BTreeMap<RecordId, Option<Arc<Record>>>, String> {
    let mut records = BTreeMap::new();
    for id in Which::all().map(Which::id) {
        let loaded = store.load(id).await.map_err(|it| it.to_string())?;
        records.insert(id, loaded.record);
    }
    Ok(records)
}
