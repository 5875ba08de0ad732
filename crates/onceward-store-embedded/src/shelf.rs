//! The stored records as they are on the disk: opening the files, and reading one record.
//!
//! A change is in the hot table or in the engine's tables only after the log that has it was synced. So a read beside
//! the committer sees nothing that a power cut could take back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::config::{PartitioningPolicy, PinningPolicy};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot,
};
use onceward_core::record::encode::decode;
use onceward_core::store::{Agenda, Loaded, StoreTime};
use onceward_core::{Clock, ErrorKind, Record, RecordId, Result, Timestamp};

use crate::contents::{self, Wrong};
use crate::directory::{Directory, OpenError, refused, sync_directory};
use crate::fault;
use crate::hot::Hot;
use crate::journal::{self, Left};
use crate::log::{self, Log, Read};
use crate::numbers::Numbers;
use crate::past::Span;
use crate::probe::{Point, Probe};
use crate::row::{self, AgendaKey};
use crate::settings::EmbeddedSettings;

/// How many unreadable records are remembered, so that each is logged once.
const UNREADABLE_MAX: usize = 10_000;

/// How far the store's time may be ahead of the wall clock at the opening before somebody should hear of it.
const AHEAD: Duration = Duration::from_secs(60);

/// Memtables of records hold as much as two segments of the log, within these bounds. Keys are hashes, so every table
/// file that is written out overlaps all others: the larger they are, the less often each record is merged again.
const MEMTABLE_BYTES_MIN: u64 = 2 << 20;
const MEMTABLE_BYTES_MAX: u64 = 32 << 20;
/// The agenda's are smaller by this: so are its rows.
const AGENDA_SHARE: u64 = 4;
/// So many new table files are merged at once, for the same reason.
const UNSORTED_MERGED: u8 = 8;
/// Three: one writes out memtables and never waits behind a merge. It is woken for every merge that waits, and with only
/// one other it would spin until that one is done.
pub(crate) const WORKERS: usize = 3;
const JOURNAL_BYTES: u64 = 128 << 20;
/// From 4 memtables that wait to be written out, and from 20 table files that are not merged yet, the engine itself holds
/// writers up.
const SEALED_MAX: usize = 2;
const UNSORTED_MAX: usize = 16;
const UNSORTED_HALT: usize = 30;
const FLUSH_POLL: Duration = Duration::from_millis(2);

/// What stays for as long as the store lives, however often its files are opened again.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) directory: Directory,
    /// Runs on over a reopening, so that it never goes back.
    pub(crate) time: StoreTime,
    /// Behind which row the next look at the agenda begins, where the last one ended early.
    pub(crate) resume: Mutex<BTreeMap<Agenda, AgendaKey>>,
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

/// The engine's handles.
pub(crate) struct Files {
    pub(crate) database: Database,
    pub(crate) records: Keyspace,
    pub(crate) agenda: Keyspace,
    /// Whether the engine writes out and merges in the background.
    pub(crate) works: bool,
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
    pub(crate) fn read(&self, id: RecordId) -> Result<Option<Record>> {
        self.current(id).map(|it| it.map(Arc::unwrap_or_clone))
    }

    /// The same, shared with whoever else looks at it.
    pub(crate) fn current(&self, id: RecordId) -> Result<Option<Arc<Record>>> {
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

/// Opens the engine over `directory`, after a look at what the engine takes on trust, brings into it what the log
/// holds, and begins a new log.
fn open(
    directory: &Directory,
    settings: &EmbeddedSettings,
    probe: &dyn Probe,
) -> Result<(Files, Option<Log>), OpenError> {
    let wrong = |cause: String| OpenError::Files { path: directory.root().to_owned(), cause };
    let engine = |it: fjall::Error| wrong(fault::describe(&it));
    let reached = |it| probe.reached(it).map_err(|it| wrong(it.to_string()));
    let (left, old) = check(directory)?;
    if left == Left::InOrder {
        // Only now: damage that was refused must not look like the remains of a crash at the next try.
        directory.settle(settings.durability)?;
    }
    let files = recover(directory, settings, left, WORKERS)?;
    let numbers = Numbers::of(&files).ok_or_else(|| wrong("the engine made a lost table anew".to_owned()))?;
    reached(Point::BeforeReplay)?;
    let moved = log::replay(&old, &files).and_then(|replayed| {
        let is_settled = left == Left::InOrder && replayed == 0;
        if is_settled { Ok(true) } else { write_out(&files).map(|()| false) }
    });
    match moved {
        Ok(true) => {}
        Ok(false) => directory.settle(settings.durability)?,
        Err(error) => {
            drop((files, old));
            // A background task that fails at once: the engine cannot merge a damaged file.
            let damaged = contents::damaged(&directory.database()).unwrap_or_default();
            if damaged.is_empty() {
                return Err(engine(error));
            }
            only_to_read(&damaged);
            return Ok((open_to_read(directory, settings)?, None));
        }
    }
    reached(Point::BeforeBegin)?;
    let folder = directory.log();
    let log = log::begin(&folder, settings.segment_bytes, old.newest + 1, old.last, old.now)
        .map_err(refused("begin", &folder))?;
    // From these on there must be a log; it is there.
    directory.bear(numbers)?;
    directory.has_log()?;
    reached(Point::BeforeRemove)?;
    log.remove_older().map_err(refused("remove old segments from", &folder))?;
    Ok((files, Some(log)))
}

/// Says why nothing is written from now on.
pub(crate) fn only_to_read(damaged: &[PathBuf]) {
    for file in damaged {
        tracing::error!(
            file = %file.display(),
            "a file of the store is damaged and cannot be merged: stored answers are still replayed, but \
             nothing is written. Stop the gateway and see what `onceward doctor --repair` would do"
        );
    }
}

/// The same for reading only: the engine does nothing in the background, and the log stays as it is.
fn open_to_read(directory: &Directory, settings: &EmbeddedSettings) -> Result<Files, OpenError> {
    let wrong = |it: fjall::Error| OpenError::Files {
        path: directory.root().to_owned(),
        cause: fault::describe(&it),
    };
    let (left, log) = check(directory)?;
    let files = recover(directory, settings, left, 0)?;
    log::replay(&log, &files).map_err(wrong)?;
    // What is read from the log now must still be there after a power cut.
    files.database.persist(PersistMode::SyncAll).map_err(wrong)?;
    Ok(files)
}

/// Looks at everything that is taken on trust later, and gives what the log holds.
fn check(directory: &Directory) -> Result<(Left, Read), OpenError> {
    let path = directory.database();
    let wrong = |cause: String| OpenError::Files { path: directory.root().to_owned(), cause };
    let named = |it: Wrong| wrong(format!("{}: {}", it.file.display(), it.what));
    contents::check(&path, directory.born()?).map_err(named)?;
    let left = directory.left()?;
    let mut log = log::read(&directory.log(), left, directory.needs()?).map_err(named)?;
    if !log.damages.is_empty() {
        return Err(named(log.damages.swap_remove(0)));
    }
    journal::check(&path, left).map_err(wrong)?;
    Ok((left, log))
}

/// Opens the engine's files after [`check`].
fn recover(
    directory: &Directory,
    settings: &EmbeddedSettings,
    left: Left,
    workers: usize,
) -> Result<Files, OpenError> {
    let path = directory.database();
    let wrong = |cause: String| OpenError::Files { path: directory.root().to_owned(), cause };
    directory.give_back_room()?;
    if left != Left::InOrder {
        journal::seal(&path).map_err(|it| wrong(format!("a new journal cannot be made: {it}")))?;
    }
    // It asserts what it could have said. A panic of it ends this opening, not the thread.
    let files = match catch_unwind(AssertUnwindSafe(|| files(&path, settings, workers))) {
        Ok(Ok(files)) => files,
        Ok(Err(it)) => return Err(wrong(blamed(&path, fault::describe(&it)))),
        Err(_) => return Err(wrong(blamed(&path, "the engine panicked over them".to_owned()))),
    };
    // The engine syncs what is in a new table's directory, not its name. Without that a power cut could take the whole
    // table, with all that was told since.
    sync_directory(&path.join("keyspaces"))
        .map_err(|it| wrong(format!("the tables cannot be synced: {it}")))?;
    Ok(files)
}

/// The engine says that something is damaged, but not where.
fn blamed(database: &Path, cause: String) -> String {
    let files = contents::damaged(database).unwrap_or_default();
    files.iter().fold(cause, |text, it| format!("{text}; the file {} is damaged", it.display()))
}

pub(crate) fn files(path: &Path, settings: &EmbeddedSettings, workers: usize) -> fjall::Result<Files> {
    let database = Database::builder(path)
        .journal_compression(CompressionType::None)
        .cache_size(settings.cache_bytes)
        .worker_threads_unchecked(workers)
        .max_journaling_size(JOURNAL_BYTES)
        .open()?;
    // All of these are taken when a table is made, and kept with it.
    let table = |name, bytes| {
        let options = KeyspaceCreateOptions::default()
            .max_memtable_size(bytes)
            .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(UNSORTED_MERGED)))
            // A claim asks every level for a key that is not there: 1.3 MB of filters for each million records.
            .filter_block_pinning_policy(PinningPolicy::all(true))
            // The index of a long table file would take half of the cache.
            .index_block_partitioning_policy(PartitioningPolicy::new([false, true]));
        database.keyspace(name, || options)
    };
    let bytes = (settings.segment_bytes * 2).clamp(MEMTABLE_BYTES_MIN, MEMTABLE_BYTES_MAX);
    let records = table("records", bytes)?;
    let agenda = table("agenda", bytes / AGENDA_SHARE)?;
    Ok(Files { database, records, agenda, works: workers > 0 })
}

/// Writes every recovered record into table files of its own.
///
/// After a kill, the journal may hold a batch that was written but never synced, and after a failed sync the
/// system may take its pages for clean although the disk never got them; reading them back proves nothing.
/// What is written anew into table files is synced by the engine before it counts.
pub(crate) fn write_out(files: &Files) -> fjall::Result<()> {
    let tables = [&files.records, &files.agenda];
    files.database.persist(PersistMode::SyncAll)?;
    for table in tables {
        table.rotate_memtable()?;
    }
    pause_while(&files.database, || tables.iter().any(|it| it.sealed_memtable_count() > 0))
}

/// Waits until the engine's background tasks have caught up so far that it takes a batch without halting: inside of
/// that halt it would wait for ever once a background task has failed.
///
/// # Errors
/// A background task has failed; or there is none and would have to be.
pub(crate) fn pace(database: &Database, tables: [&Keyspace; 2], works: bool) -> fjall::Result<()> {
    if !works {
        let is_halted = tables.iter().any(|it| it.l0_table_count() >= UNSORTED_HALT);
        return if is_halted { Err(fjall::Error::Poisoned) } else { Ok(()) };
    }
    let is_behind =
        |it: &&Keyspace| it.sealed_memtable_count() > SEALED_MAX || it.l0_table_count() > UNSORTED_MAX;
    pause_while(database, || tables.iter().any(is_behind))
}

/// # Errors
/// A background task has failed.
fn pause_while(database: &Database, waits: impl Fn() -> bool) -> fjall::Result<()> {
    while waits() {
        database.persist(PersistMode::Buffer)?;
        std::thread::sleep(FLUSH_POLL);
    }
    Ok(())
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("failed", &self.failed).finish_non_exhaustive()
    }
}
