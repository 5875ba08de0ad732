//! The engine: its tables, how they are tuned, and not waiting for it for ever.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::{PartitioningPolicy, PinningPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::settings::EmbeddedSettings;

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

/// The engine's handles.
pub(crate) struct Files {
    pub(crate) database: Database,
    pub(crate) records: Keyspace,
    pub(crate) agenda: Keyspace,
    /// Whether the engine writes out and merges in the background.
    pub(crate) works: bool,
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
