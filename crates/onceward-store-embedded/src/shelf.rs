//! The stored records as they are on the disk: opening, and every call that only reads.
//!
//! The engine makes a batch visible to readers only after it was written to the journal and, where asked,
//! synced (`WriteBatch::commit` of fjall 3.1 holds the journal for all of it: write, `fdatasync`, then the
//! memtables). So a read beside the committer sees nothing that a power cut could take back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot,
};
use onceward_core::record::encode::decode;
use onceward_core::store::{Agenda, Cursor, Expiry, Filter, Loaded, Page, StoreTime};
use onceward_core::{Clock, ErrorKind, Record, RecordId, Result, Revision, Timestamp};

use crate::directory::{Directory, OpenError};
use crate::fault;
use crate::group::size;
use crate::journal::{self, Left};
use crate::row::{self, AgendaKey};
use crate::settings::EmbeddedSettings;

/// How many rows one call may look at. A listing goes on from its cursor.
const LOOK_ROWS: usize = 10_000;
/// How many bytes of records one call may look at, so that big answers do not pile up in memory.
const LOOK_BYTES: usize = 32 << 20;
/// How many unreadable records are remembered, so that each is logged once.
const UNREADABLE_MAX: usize = 10_000;

/// How far the store's time may be ahead of the wall clock at the opening before somebody should hear of it.
const AHEAD: Duration = Duration::from_secs(60);

const RECORDS_MEMTABLE_BYTES: u64 = 8 << 20;
const AGENDA_MEMTABLE_BYTES: u64 = 4 << 20;
/// Two, so that writing out a memtable never waits behind a long compaction.
const WORKERS: usize = 2;
const JOURNAL_BYTES: u64 = 128 << 20;
const FLUSH_POLL: Duration = Duration::from_millis(2);

/// The tables of one directory, with the directory's lock.
pub(crate) struct Shelf {
    pub(crate) database: Database,
    pub(crate) records: Keyspace,
    pub(crate) agenda: Keyspace,
    time: StoreTime,
    /// Behind which row the next look at the agenda begins, where the last one ended early.
    resume: Mutex<BTreeMap<Agenda, AgendaKey>>,
    health: AtomicU8,
    unreadable: Mutex<BTreeSet<RecordId>>,
    /// Last, so that the directory is unlocked after the engine is gone.
    directory: Directory,
}

/// A record that sweeping has something to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) id: RecordId,
    /// The revision that was looked at.
    pub(crate) revision: Revision,
    /// About how much memory the record takes.
    pub(crate) bytes: usize,
}

/// What a look at the agenda found, earliest first.
#[derive(Debug)]
pub(crate) struct Look<T> {
    pub(crate) due: Vec<T>,
    /// Whether there may be more: it ended at its limit or at its bounds, not at the end of what is due.
    pub(crate) more: bool,
}

/// Whether the shelf takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Health {
    Open = 0,
    Closed = 1,
    Failed = 2,
}

impl Shelf {
    /// Opens the directory and makes sure that everything readable in it is on the disk. Blocks.
    pub(crate) fn open(settings: &EmbeddedSettings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let directory = Directory::claim(&settings.path, settings.lock_wait)?;
        let left = directory.enter(settings.durability)?;
        let wrong = |it: fjall::Error| OpenError::Files {
            path: directory.root().to_owned(),
            cause: fault::describe(&it),
        };
        journal::check(&directory.database(), left)
            .map_err(|cause| OpenError::Files { path: directory.root().to_owned(), cause })?;
        let database = Database::builder(directory.database())
            .journal_compression(CompressionType::None)
            .cache_size(settings.cache_bytes)
            .worker_threads(WORKERS)
            .max_journaling_size(JOURNAL_BYTES)
            .open()
            .map_err(wrong)?;
        let table = |name, bytes| {
            database
                .keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(bytes))
                .map_err(wrong)
        };
        let records = table("records", RECORDS_MEMTABLE_BYTES)?;
        let agenda = table("agenda", AGENDA_MEMTABLE_BYTES)?;
        if left != Left::InOrder {
            write_out(&database, [&records, &agenda]).map_err(wrong)?;
            directory.settle(settings.durability)?;
        }
        let latest = match agenda.get(row::HIGH_WATER).map_err(wrong)? {
            None => Timestamp::ZERO,
            Some(it) => row::time(&it).ok_or_else(|| wrong(fjall::Error::Unrecoverable))?,
        };
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
        Ok(Self {
            database,
            records,
            agenda,
            time,
            resume: Mutex::default(),
            health: AtomicU8::new(Health::Open as u8),
            unreadable: Mutex::default(),
            directory,
        })
    }

    /// The store's time: no jump of the wall clock moves it while the store is open.
    pub(crate) fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// Time that never jumps, for pacing only.
    pub(crate) fn boot(&self) -> Duration {
        self.time.clock().boot()
    }

    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::SeqCst) {
            0 => Health::Open,
            1 => Health::Closed,
            _ => Health::Failed,
        }
    }

    /// Moves to a worse state; nothing leads back.
    pub(crate) fn worsen(&self, health: Health) {
        self.health.fetch_max(health as u8, Ordering::SeqCst);
    }

    /// `Unavailable` once the store is closed or out of order.
    pub(crate) fn usable(&self) -> Result<()> {
        match self.health() {
            Health::Open => Ok(()),
            Health::Closed => Err(fault::closed()),
            Health::Failed => Err(fault::out_of_order()),
        }
    }

    /// Notes an orderly end, once everything is synced.
    pub(crate) fn leave(&self) {
        if let Err(error) = self.directory.leave() {
            tracing::warn!(%error, "the store could not note its orderly end; the next start checks more");
        }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.directory.root()
    }

    /// How many different records turned out to be unreadable since opening.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The record as the disk has it.
    pub(crate) fn read(&self, id: RecordId) -> Result<Option<Record>> {
        match self.records.get(id.as_bytes()) {
            Ok(None) => Ok(None),
            Ok(Some(stored)) => self.decode(id, &stored).map(Some),
            Err(error) => Err(self.unreadable_at(id, fault::reading(&error))),
        }
    }

    /// The time is taken after the look, so that it is never before the record's own times.
    pub(crate) fn load(&self, id: RecordId) -> Result<Loaded> {
        let record = self.read(id)?;
        Ok(Loaded { record, now: self.now() })
    }

    /// Records with a row of `what` that has passed.
    pub(crate) fn due(&self, what: Agenda, limit: usize) -> Result<Vec<Record>> {
        Ok(self.look(what, limit, Some)?.due)
    }

    /// What sweeping has something to do with. The records themselves, whose answers can be long, are let go.
    pub(crate) fn expired(&self, limit: usize) -> Result<Look<Over>> {
        let now = self.now();
        self.look(Agenda::Expiry, limit, |it| {
            let over = Over { id: it.id, revision: it.revision, bytes: size(&it) };
            (it.expiry(now) != Expiry::Keep).then_some(over)
        })
    }

    /// Goes through the rows of `what` that have passed until `limit` are picked. Unreadable records are passed
    /// over. A look that ends at its bounds before that is gone on with by the next one, so that no number of
    /// unreadable records ends the work for good; at the end of what is due it begins at the front again.
    fn look<T>(
        &self,
        what: Agenda,
        limit: usize,
        mut pick: impl FnMut(Record) -> Option<T>,
    ) -> Result<Look<T>> {
        let mut look = Look { due: Vec::new(), more: true };
        let (first, last) = row::due(what, self.now()).into_inner();
        let start = self.resume_at(what).map_or(Bound::Included(first), Bound::Excluded);
        let (mut rows, mut bytes, mut at) = (0, 0, None);
        let snapshot = self.database.snapshot();
        for guard in snapshot.range(&self.agenda, (start, Bound::Included(last))) {
            if look.due.len() == limit {
                return Ok(look);
            }
            if rows >= LOOK_ROWS || bytes >= LOOK_BYTES {
                self.set_resume(what, at);
                return Ok(look);
            }
            let key = guard.key().map_err(|it| fault::reading(&it))?;
            (rows, at) = (rows + 1, key[..].try_into().ok().or(at));
            let Some(id) = row::record_id(&key) else { continue };
            match self.read_at(&snapshot, id) {
                Ok(Some(record)) if row::agenda(&record).any(|it| it[..] == key[..]) => {
                    bytes += size(&record);
                    look.due.extend(pick(record));
                }
                Ok(_) => tracing::warn!(record = id.prefix(), "the agenda has a row without its record"),
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        self.set_resume(what, None);
        look.more = look.due.len() == limit;
        Ok(look)
    }

    fn resume_at(&self, what: Agenda) -> Option<AgendaKey> {
        self.resume.lock().unwrap_or_else(PoisonError::into_inner).get(&what).copied()
    }

    fn set_resume(&self, what: Agenda, at: Option<AgendaKey>) {
        let mut resume = self.resume.lock().unwrap_or_else(PoisonError::into_inner);
        match at {
            Some(at) => resume.insert(what, at),
            None => resume.remove(&what),
        };
    }

    /// One page in the order of the ids.
    pub(crate) fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let now = self.now();
        let mut page = Page { records: Vec::new(), next: None, unreadable: Vec::new(), now };
        let snapshot = self.database.snapshot();
        let start = cursor.as_ref().map_or(Bound::Unbounded, |it| Bound::Excluded(*it.0.as_bytes()));
        let rest: (Bound<[u8; 32]>, Bound<[u8; 32]>) = (start, Bound::Unbounded);
        let (mut bytes, mut last) = (0, None);
        for (looked, guard) in snapshot.range(&self.records, rest).enumerate() {
            if looked >= LOOK_ROWS || bytes >= LOOK_BYTES {
                page.next = last.map(Cursor);
                break;
            }
            let (key, stored) = guard.into_inner().map_err(|it| fault::reading(&it))?;
            let Some(id) = row::record_id(&key) else { continue };
            bytes += stored.len();
            match self.decode(id, &stored) {
                Ok(record) if !filter.matches(&record, now) => {}
                Ok(_) if page.records.len() >= limit => {
                    page.next = last.map(Cursor);
                    break;
                }
                Ok(record) => page.records.push(record),
                Err(_) => page.unreadable.push(id),
            }
            last = Some(id);
        }
        Ok(page)
    }

    fn read_at(&self, snapshot: &Snapshot, id: RecordId) -> Result<Option<Record>> {
        match snapshot.get(&self.records, id.as_bytes()) {
            Ok(None) => Ok(None),
            Ok(Some(stored)) => self.decode(id, &stored).map(Some),
            Err(error) => Err(self.unreadable_at(id, fault::reading(&error))),
        }
    }

    /// The bytes are copied: a record that shared them would keep a whole block of the file in memory.
    fn decode(&self, id: RecordId, stored: &[u8]) -> Result<Record> {
        decode(id, &Bytes::copy_from_slice(stored)).map_err(|it| self.unreadable_at(id, it))
    }

    fn unreadable_at(&self, id: RecordId, error: onceward_core::Error) -> onceward_core::Error {
        if error.kind() == ErrorKind::Corrupt {
            let mut known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() < UNREADABLE_MAX && known.insert(id) {
                tracing::error!(record = id.prefix(), %error, "a stored record cannot be read; it is left as it is");
            }
        }
        error
    }
}

/// Writes every recovered record into table files of its own.
///
/// After a kill, the journal may hold a batch that was written but never synced, and after a failed sync the
/// system may take its pages for clean although the disk never got them; reading them back proves nothing.
/// What is written anew into table files is synced by the engine before it counts.
fn write_out(database: &Database, tables: [&Keyspace; 2]) -> fjall::Result<()> {
    database.persist(PersistMode::SyncAll)?;
    for table in tables {
        table.rotate_memtable()?;
    }
    while tables.iter().any(|it| it.sealed_memtable_count() > 0) {
        // Fails once a background task has failed; waiting on would be for ever.
        database.persist(PersistMode::Buffer)?;
        std::thread::sleep(FLUSH_POLL);
    }
    Ok(())
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("path", &self.path())
            .field("health", &self.health())
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}
