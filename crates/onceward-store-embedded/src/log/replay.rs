//! Bringing what a log holds into the engine's tables.
//!
//! It may be there already, all of it or a part. So of each record the last state counts, and only where it is newer
//! than what the tables have: revisions grow, also from one life of a record to the next.

use std::collections::HashMap;

use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode};
use onceward_core::RecordId;
use onceward_core::record::encode::{decode, is_newer};

use crate::engine::{self, Files};
use crate::log::frame::{Change, changes};
use crate::log::read::Read;
use crate::row::{self, Times};

const BATCH: usize = 500;

/// How many of the writes in `log` are of a newer build: what they mean for the tables is not known here.
pub(crate) fn newer(log: &Read) -> usize {
    let changes = log.groups().into_iter().flat_map(changes);
    changes.filter(|it| it.bytes.is_some_and(|bytes| is_newer(it.id, bytes))).count()
}

/// Brings `log` into the tables. Gives the number of records that were changed.
pub(crate) fn replay(log: &Read, files: &Files) -> fjall::Result<usize> {
    let mut last = HashMap::new();
    for change in log.groups().into_iter().flat_map(changes) {
        last.insert(change.id, change);
    }
    // In the order of the tables, which takes less time.
    let mut last: Vec<_> = last.into_values().collect();
    last.sort_unstable_by_key(|it| it.id);
    let mut written = 0;
    for step in last.chunks(BATCH) {
        let mut batch = OwnedWriteBatch::with_capacity(files.database.clone(), BATCH * 3);
        for change in step {
            written += usize::from(add(&mut batch, files, *change)?);
        }
        engine::pace(&files.database, [&files.records, &files.agenda], files.works)?;
        // Synced for the same reason as in the drain.
        batch.durability(Some(PersistMode::SyncData)).commit()?;
    }
    Ok(written)
}

/// Says whether the tables have to change.
fn add(batch: &mut OwnedWriteBatch, files: &Files, change: Change<'_>) -> fjall::Result<bool> {
    let Change { id, revision, bytes } = change;
    // A record in a damaged block is replaced; rows of it that stay behind are passed over.
    let found = files.records.get(id.as_bytes()).ok().flatten();
    let found = found.and_then(|it| read(id, &it));
    let replaces = match (&found, bytes) {
        (None, Some(_)) => true,
        (None, None) => false,
        (Some((_, had)), Some(_)) => *had < revision.0,
        (Some((_, had)), None) => *had <= revision.0,
    };
    if replaces {
        let before = found.map_or_else(Times::default, |it| it.0);
        // Bytes that cannot be decoded stay what they are, and are refused like any such record.
        let after = bytes.map(|it| (read(id, it).map_or_else(Times::default, |it| it.0), it));
        row::change(batch, (&files.records, &files.agenda), id, before, after);
    }
    Ok(replaces)
}

fn read(id: RecordId, stored: &[u8]) -> Option<(Times, u64)> {
    let record = decode(id, &Bytes::copy_from_slice(stored)).ok()?;
    Some((Times::of(&record), record.revision.0))
}
