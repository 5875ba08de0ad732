//! The stores and records of these tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::record::encode::FORMAT;
use onceward_core::store::Put;
use onceward_core::{Clock, Record, RecordId, SystemClock};
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore, OpenError};
pub(crate) use onceward_testkit::{inserted, stored, swapped};
use xxhash_rust::xxh3::xxh3_64;

/// Another test's process may still be on its way out, but nobody should hold these directories for long.
pub(crate) fn settings(path: &Path) -> EmbeddedSettings {
    // Short segments, so that tests get to their ends; and with them go the sizes of the engine's tables.
    let segment_bytes = 4 << 20;
    // Most tests run on one thread, so they are answered as in a gateway.
    let answer_together = true;
    let lock_wait = Duration::from_secs(20);
    EmbeddedSettings { lock_wait, segment_bytes, answer_together, ..EmbeddedSettings::new(path) }
}

/// The stored bytes of a record as if the next format had them.
pub(crate) fn of_newer_version(id: RecordId, stored: &[u8]) -> Vec<u8> {
    let mut bytes = stored[..stored.len() - 8].to_vec();
    bytes[0] = FORMAT + 1;
    let check = xxh3_64(&bytes) ^ xxh3_64(id.as_bytes());
    bytes.extend(check.to_be_bytes());
    bytes
}

pub(crate) fn try_open(path: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(settings(path), Arc::new(SystemClock))
}

pub(crate) fn open(path: &Path) -> EmbeddedStore {
    open_at(path, SystemClock)
}

pub(crate) fn open_at(path: &Path, clock: impl Clock) -> EmbeddedStore {
    EmbeddedStore::open(settings(path), Arc::new(clock)).expect("the store opens")
}

pub(crate) fn id(number: u16) -> RecordId {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn claim() -> Put {
    onceward_testkit::claim(1)
}

pub(crate) fn completion(record: &Record) -> Put {
    onceward_testkit::completion(record, b"42")
}

/// The engine's own view of a closed store's directory.
pub(crate) struct Raw {
    pub(crate) records: fjall::Keyspace,
    pub(crate) agenda: fjall::Keyspace,
    _database: fjall::Database,
}

impl Raw {
    pub(crate) fn open(path: &Path) -> Self {
        let database = fjall::Database::builder(path.join("db")).open().expect("the files open");
        let table = |name| database.keyspace(name, || panic!("there is no table {name}")).expect("opens");
        Self { records: table("records"), agenda: table("agenda"), _database: database }
    }

    /// Moves everything into table files on the deepest level.
    pub(crate) fn sink(path: &Path) {
        let raw = Self::open(path);
        for table in [&raw.records, &raw.agenda] {
            table.rotate_memtable_and_wait().expect("the memtable is written out");
            table.major_compact().expect("the tables are compacted");
        }
    }
}
