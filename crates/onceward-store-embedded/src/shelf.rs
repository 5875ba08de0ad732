//! The stored records as they are on the disk, and reading one of them.
//!
//! A change is in the hot table or in the engine's tables only after the log that has it was synced. So a read beside
//! the committer sees nothing that a power cut could take back.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fjall::{Database, Keyspace, Readable as _, Snapshot};
use onceward_core::record::encode::decode;
use onceward_core::store::{Loaded, StoreTime};
use onceward_core::{Clock, ErrorKind, Record, RecordId, Result, Timestamp};

use crate::directory::{Directory, OpenError};
use crate::engine::Files;
use crate::fault;
use crate::hot::Hot;
use crate::log::Log;
use crate::opening::{open, open_to_read};
use crate::past::Span;
use crate::probe::Probe;
use crate::row::{self, AgendaKey};
use crate::settings::EmbeddedSettings;

/// How many unreadable records are remembered, so that each is logged once.
const UNREADABLE_MAX: usize = 10_000;

/// How far the store's time may be ahead of the wall clock at the opening before somebody should hear of it.
const AHEAD: Duration = Duration::from_secs(60);

/// What stays for as long as the store lives, however often its files are opened again.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) directory: Directory,
    /// Runs on over a reopening, so that it never goes back.
    pub(crate) time: StoreTime,
    /// Behind which row the next sweep begins to look, where the last one ended early.
    pub(crate) resume: Mutex<Option<AgendaKey>>,
    unreadable: Mutex<BTreeSet<RecordId>>,
}

/// The tables of one directory.
pub(crate) struct Shelf {
    pub(crate) database: Database,
    pub(crate) records: Keyspace,
    pub(crate) agenda: Keyspace,
    /// What is in the log and not in the tables.
    pub(crate) hot: Hot,
    /// None where nothing is written: a file is damaged that the engine would merge, or somebody only looks.
    pub(crate) log: Option<Arc<Log>>,
    failed: AtomicBool,
    /// What cannot be read, as far as calls have met it.
    pub(crate) spans: Mutex<Vec<Span>>,
    /// Last, so that the directory is unlocked after the engine is gone.
    pub(crate) base: Arc<Base>,
}

impl Shelf {
    /// Opens the tables in a directory that was just claimed, and begins the store's time. Blocks.
    pub(crate) fn first(
        directory: Directory,
        settings: &EmbeddedSettings,
        clock: Arc<dyn Clock>,
        probe: &dyn Probe,
    ) -> Result<(Self, Arc<Base>), OpenError> {
        let (files, log) = open(&directory, settings, probe)?;
        let wrong = |cause: String| OpenError::Files { path: directory.root().to_owned(), cause };
        let latest = match files.agenda.get(row::HIGH_WATER).map_err(|it| wrong(fault::describe(&it)))? {
            None => Timestamp::ZERO,
            Some(it) => row::time(&it).ok_or_else(|| wrong("the store's time cannot be read".to_owned()))?,
        };
        let latest = latest.max(log.as_ref().map_or(Timestamp::ZERO, |it| it.begun));
        let time = StoreTime::begin(clock, latest);
        if time.ahead() > AHEAD {
            tracing::warn!(
                ahead = ?time.ahead(),
                "the store's time is ahead of the wall clock: that clock was wrong when the store was \
                 written last, or it is wrong now. Times run on from the store's time: what is written from now \
                 on is kept as long as it should be, what was written under the right clock may end that much \
                 earlier"
            );
        }
        let base = Base::new(directory, time);
        Ok((Self { log: log.map(Arc::new), ..Self::of(files, &base) }, base))
    }

    /// Opens the tables again, from what is on the disk, if need be only to read. Blocks.
    pub(crate) fn again(
        base: &Arc<Base>,
        settings: &EmbeddedSettings,
        read_only: bool,
        probe: &dyn Probe,
    ) -> Result<Self, OpenError> {
        if read_only {
            return Ok(Self::of(open_to_read(&base.directory, settings)?, base));
        }
        let (files, log) = open(&base.directory, settings, probe)?;
        Ok(Self { log: log.map(Arc::new), ..Self::of(files, base) })
    }

    pub(crate) fn of(files: Files, base: &Arc<Base>) -> Self {
        let Files { database, records, agenda, .. } = files;
        Self {
            database,
            records,
            agenda,
            hot: Hot::default(),
            log: None,
            failed: AtomicBool::new(false),
            spans: Mutex::default(),
            base: Arc::clone(base),
        }
    }

    /// The store's time: no jump of the wall clock moves it while the store is open.
    pub(crate) fn now(&self) -> Timestamp {
        self.base.time.now()
    }

    /// Time that never jumps, for pacing only.
    pub(crate) fn boot(&self) -> Duration {
        self.base.time.clock().boot()
    }

    /// The tables as they are now, for looks that take a while.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.database.snapshot()
    }

    /// Nothing is read from or written to these tables any more; nothing leads back.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.hot.wake();
    }

    /// `Unavailable` once they failed.
    pub(crate) fn usable(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) { Err(fault::away()) } else { Ok(()) }
    }

    /// Notes an orderly end, once everything is synced.
    pub(crate) fn leave(&self) {
        if let Err(error) = self.base.directory.leave() {
            tracing::warn!(%error, "the store could not note its orderly end; the next start checks more");
        }
    }

    /// Waits until the tables show everything that the disk has, for a look at many records.
    ///
    /// # Errors
    /// `Unavailable` once they failed.
    pub(crate) fn settle(&self) -> Result<()> {
        self.hot.settle(|| self.usable().is_ok());
        self.usable()
    }

    /// The record as the disk has it.
    pub(crate) fn read(&self, id: RecordId) -> Result<Option<Arc<Record>>> {
        match self.hot.find(id) {
            Some(hot) => Ok(hot),
            None => Ok(self.cold(id)?.map(Arc::new)),
        }
    }

    /// The record as the tables have it.
    fn cold(&self, id: RecordId) -> Result<Option<Record>> {
        match self.records.get(id.as_bytes()) {
            Ok(None) => Ok(None),
            Ok(Some(stored)) => self.decode(id, &stored).map(Some),
            Err(error) => Err(self.base.note(id, fault::reading(&error))),
        }
    }

    /// The time is taken after the look, so that it is never before the record's own times.
    pub(crate) fn load(&self, id: RecordId) -> Result<Loaded> {
        let record = self.read(id)?;
        Ok(Loaded { record, now: self.now() })
    }

    pub(crate) fn read_at(&self, snapshot: &Snapshot, id: RecordId) -> Result<Option<Record>> {
        match snapshot.get(&self.records, id.as_bytes()) {
            Ok(None) => Ok(None),
            Ok(Some(stored)) => self.decode(id, &stored).map(Some),
            Err(error) => Err(self.base.note(id, fault::reading(&error))),
        }
    }

    /// The bytes are copied: a record that shared them would keep a whole block of the file in memory.
    pub(crate) fn decode(&self, id: RecordId, stored: &[u8]) -> Result<Record> {
        decode(id, &Bytes::copy_from_slice(stored)).map_err(|it| self.base.note(id, it))
    }
}

impl Base {
    pub(crate) fn new(directory: Directory, time: StoreTime) -> Arc<Self> {
        Arc::new(Self { directory, time, resume: Mutex::default(), unreadable: Mutex::default() })
    }

    /// How many different records turned out to be unreadable since opening.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Hands `error` through and logs it once per record, when it says that the record cannot be read.
    fn note(&self, id: RecordId, error: onceward_core::Error) -> onceward_core::Error {
        if error.kind() == ErrorKind::Corrupt {
            let mut known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() < UNREADABLE_MAX && known.insert(id) {
                tracing::error!(record = id.prefix(), %error, "a stored record cannot be read; it is left as it is");
            }
        }
        error
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("failed", &self.failed).finish_non_exhaustive()
    }
}
