//! The door: calls go to the committer or to a reading thread, and their answers come back.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use onceward_core::mutant::{self, Mutant};
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Insert, Loaded, Page, Put, Replace, Store, Swept, Traits,
};
use onceward_core::{Clock, Error, ErrorKind, RecordId, Result, Revision};
use tokio::sync::{Semaphore, oneshot};

use crate::census;
use crate::commit::Committer;
use crate::directory::OpenError;
use crate::fault;
use crate::group::{Ask, Order};
use crate::line::Line;
use crate::look::Over;
use crate::probe::{NoProbe, Probe};
use crate::reply::{self, Caller, Reply};
use crate::seat::Seat;
use crate::settings::{Durability, EmbeddedSettings};
use crate::shelf::Shelf;
use crate::survey::Survey;

/// How many records one step of a sweep may change, so that no caller waits behind a long one.
const SWEEP_STEP: usize = 128;
/// How many bytes of records one step of a sweep may read, for the same reason; a longer one goes alone.
const SWEEP_BYTES: usize = 4 << 20;

/// Records in one directory that this process has to itself.
///
/// Reading calls need a tokio runtime; they run on its threads for blocking work.
pub struct EmbeddedStore {
    seat: Arc<Seat>,
    places: Arc<Semaphore>,
    durability: Durability,
    answer_together: bool,
    line: Arc<Line>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the directory, and makes it when it does not exist. Time begins at the wall time of `clock`, or at
    /// the latest time stored where that is later (a warning when by more than a minute), and then runs with
    /// its boot time.
    ///
    /// Blocks the thread: up to `lock_wait` while another process has the directory, and for as long as it
    /// takes to read the journal, which is at most a few hundred megabytes after a kill. In an async context
    /// use [`EmbeddedStore::open_async`].
    ///
    /// # Errors
    /// [`OpenError`]; no record was touched.
    pub fn open(settings: EmbeddedSettings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_with_probe(settings, clock, Arc::new(NoProbe))
    }

    /// Like [`EmbeddedStore::open`], on one of tokio's threads for blocking work.
    ///
    /// # Errors
    /// [`OpenError`]; no record was touched.
    ///
    /// # Cancel safety
    /// A dropped call still opens the directory and closes it at once.
    pub async fn open_async(settings: EmbeddedSettings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let path = settings.path.clone();
        let opened = tokio::task::spawn_blocking(move || Self::open(settings, clock)).await;
        opened.unwrap_or_else(|it| Err(OpenError::Files { path, cause: it.to_string() }))
    }

    /// Like [`EmbeddedStore::open`], with somebody who watches the committer.
    ///
    /// # Errors
    /// [`OpenError`]; no record was touched.
    pub fn open_with_probe(
        settings: EmbeddedSettings,
        clock: Arc<dyn Clock>,
        probe: Arc<dyn Probe>,
    ) -> Result<Self, OpenError> {
        let settings = settings.bounded();
        let (durability, answer_together) = (settings.durability, settings.answer_together);
        let seat = Arc::new(Seat::open(&settings, clock, Arc::clone(&probe))?);
        let line = Arc::new(Line::default());
        let committer = Committer {
            seat: Arc::clone(&seat),
            line: Arc::clone(&line),
            probe,
            durability,
            calls_max: settings.max_group,
        };
        let committer = std::thread::Builder::new()
            .name("onceward-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|source| OpenError::Refused {
                doing: "start a thread for",
                path: settings.path.clone(),
                source,
            })?;
        let (places, committer) = (Arc::new(Semaphore::new(settings.max_queue)), Mutex::new(Some(committer)));
        Ok(Self { seat, places, durability, answer_together, line, committer })
    }

    /// Carries out what waits, syncs, and takes no more calls. Blocks for that long. Dropping the store does
    /// the same; the directory is free for others once the store is dropped. May be called twice.
    pub fn close(&self) {
        self.line.close();
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer {
            // A committer that panicked has taken the store out of order; there is nothing to add.
            let _ = committer.join();
        }
    }

    /// How many different records turned out to be unreadable since opening. They are left as they are.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.seat.base().unreadable()
    }

    /// Looks at the store while it is open: what `onceward doctor` asks a running gateway for. It reads every
    /// record, up to a million; it does not check files that are in use.
    ///
    /// # Errors
    /// `Unavailable`: the reading thread broke down. Damage, and files that are out of order, are no error but stand in the
    /// survey.
    pub async fn survey(&self) -> Result<Survey> {
        let (seat, durability) = (Arc::clone(&self.seat), self.durability);
        let looking = tokio::task::spawn_blocking(move || {
            let base = seat.base();
            let mut survey = Survey::of(base.directory.root());
            (survey.open, survey.durability, survey.reopened) = (true, Some(durability), seat.reopened());
            survey.time_ahead = base.time.clock().wall().until(base.time.now());
            match seat.shelf().and_then(|it| census::take(&it)) {
                Ok(it) => survey.census = Some(it),
                Err(it) => survey.not_opened = Some(fault::chain(&it)),
            }
            survey
        });
        looking.await.map_err(|it| Error::new(ErrorKind::Unavailable, "look at the store").caused_by(it))
    }

    /// How many damaged places of its files the store has met since it opened them: each may hold many records,
    /// which are refused and passed over. 0 while the store is out of order.
    #[must_use]
    pub fn damaged(&self) -> usize {
        self.seat.damaged()
    }

    /// How often the files were opened again after a fault, since this store was opened.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.seat.reopened()
    }

    /// Sends an order and waits for its answer. A full queue is waited for.
    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(it) => it,
            Err(_) => {
                self.seat.shelf()?;
                Arc::clone(&self.places).acquire_owned().await.map_err(|_| fault::closed())?
            }
        };
        let home = if self.answer_together { reply::home() } else { None };
        let (reply, answer) = oneshot::channel();
        self.send(Order { ask: ask(reply), caller: Caller { place, home } })?;
        answer.await.unwrap_or_else(|_| Err(fault::unanswered()))
    }

    fn send(&self, order: Order) -> Result<()> {
        // After the wait for a place: who would only be refused by the committer is told now.
        self.seat.shelf()?;
        self.line.push(order).map_err(|_| self.seat.shelf().err().unwrap_or_else(fault::closed))
    }

    /// Reads beside the committer. The health is looked at after the read: once somebody was told that a write
    /// may have landed, nobody is shown a state without it.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shelf) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let seat = Arc::clone(&self.seat);
        let reading = tokio::task::spawn_blocking(move || {
            let shelf = seat.shelf()?;
            let found = read(&shelf);
            shelf.usable().and(found)
        });
        reading.await.unwrap_or_else(|it| Err(Error::new(ErrorKind::Unavailable, "read").caused_by(it)))
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        if mutant::is(Mutant::GetThenSet)
            && let Loaded { record: Some(found), now } = self.load(id).await?
        {
            return Ok(Insert::Found(found, now));
        }
        self.ask(|reply| Ask::Insert { id, put: Box::new(put.clone()), reply }).await
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        self.ask(|reply| Ask::Replace { id, seen, put: Box::new(put.clone()), reply }).await
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        // What is hot is in memory: it needs no other thread.
        let shelf = self.seat.shelf()?;
        if let Some(hot) = shelf.hot.find(id) {
            let loaded = Loaded { record: hot, now: shelf.now() };
            return shelf.usable().map(|()| loaded);
        }
        drop(shelf);
        self.read(move |shelf| shelf.load(id)).await
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.read(move |shelf| shelf.due(from, limit)).await
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let filter = filter.clone();
        self.read(move |shelf| shelf.list(&filter, cursor, limit)).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        let (over, more) = self.read(move |shelf| shelf.expired(limit)).await?;
        let mut swept = Swept { more, ..Swept::default() };
        for step in steps(&over) {
            let looked_at = step.iter().map(|it| (it.id, it.revision)).collect();
            let it = self.ask(|reply| Ask::Expire { looked_at, reply }).await?;
            swept.tombstones += it.tombstones;
            swept.removed += it.removed;
        }
        Ok(swept)
    }

    async fn check(&self) -> Result<()> {
        self.ask(|reply| Ask::Check { reply }).await
    }

    fn traits(&self) -> Traits {
        Traits { name: "embedded", durable: self.durability == Durability::Durable, shared: false }
    }
}

/// Cuts what is over into steps of at most [`SWEEP_STEP`] records and, but for single ones, [`SWEEP_BYTES`].
fn steps(mut over: &[Over]) -> impl Iterator<Item = &[Over]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |it: &&Over| {
            bytes += it.bytes;
            bytes <= SWEEP_BYTES
        };
        let count = over.iter().take(SWEEP_STEP).take_while(fits).count();
        let step;
        (step, over) = over.split_at(count.max(1).min(over.len()));
        (!step.is_empty()).then_some(step)
    })
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("durability", &self.durability)
            .field("seat", &self.seat)
            .finish_non_exhaustive()
    }
}
