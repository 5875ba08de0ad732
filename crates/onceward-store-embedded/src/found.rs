//! What a repair finds in the old files: which records can be kept, and which are lost though their ids are known.
//!
//! Records and their rows in the agenda are written together, so each tells of the other. Where a file of records is
//! gone, an older version of a record may come to light, of a time when its key was free; but its rows do not fit.
//! Such a record counts as lost.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use onceward_core::record::encode::is_newer;
use onceward_core::{Record, RecordId, Result, State, Timestamp};

use crate::directory::{Directory, OpenError};
use crate::journal::{self, Left};
use crate::row;
use crate::salvage::Unusable;
use crate::shelf::Shelf;

/// Which tables have lost files, so that older rows may have come to light.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn {
    records: bool,
    agenda: bool,
}

impl Torn {
    /// What is known before the rows are read.
    pub(crate) fn by(
        database: &Path,
        directory: &Directory,
        left: Left,
        unusable: &Unusable,
    ) -> std::result::Result<Self, OpenError> {
        let [records, agenda] = directory.numbers()?.both().map(|it| {
            let folder = database.join("keyspaces").join(it.to_string());
            unusable.files.iter().any(|it| it.starts_with(&folder))
        });
        // A batch behind the damage may be in the table files of one of the two.
        let journals = journal::damages(database, left).unwrap_or_default().iter().any(|it| !it.unfinished);
        Ok(Self { records: records || journals, agenda: agenda || journals })
    }
}

/// What is in the old files.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kept: u64,
    /// Readable by their ids, but passed over in order: they lie beside damage of another file.
    pub(crate) beside: BTreeSet<RecordId>,
    /// Known ids without a readable record, or with an older one only.
    pub(crate) lost: BTreeSet<RecordId>,
    /// The hash key is there and cannot be read.
    pub(crate) secret_is_bad: bool,
    /// No hash key was found.
    pub(crate) secret_is_gone: bool,
    pub(crate) latest: Timestamp,
    /// Records that a newer build wrote.
    pub(crate) newer: usize,
}

impl Found {
    pub(crate) fn scan(shelf: &Shelf, mut torn: Torn) -> Result<Self> {
        let secret = RecordId::reserved("hash key");
        let mut found = Self {
            kept: 0,
            beside: BTreeSet::new(),
            lost: BTreeSet::new(),
            secret_is_bad: false,
            secret_is_gone: true,
            latest: Timestamp::ZERO,
            newer: 0,
        };
        let snapshot = shelf.snapshot();
        if let Ok(Some(it)) = shelf.agenda.get(row::HIGH_WATER) {
            found.latest = row::time(&it).unwrap_or(Timestamp::ZERO);
        }
        let mut in_order = HashSet::new();
        for row in shelf.record_rows(&snapshot, [0; 32]) {
            let (key, stored) = row?;
            let id = RecordId::from_bytes(key);
            match shelf.decode(id, &stored) {
                Ok(record) => {
                    in_order.insert(id);
                    found.latest = found.latest.max(record.updated);
                }
                Err(_) if is_newer(id, &stored) => found.newer += 1,
                Err(_) if id == secret => found.secret_is_bad = true,
                Err(_) => drop(found.lost.insert(id)),
            }
        }
        // Every damage of the records was met by now.
        torn.records |= shelf.damaged() > 0;
        let damaged = shelf.damaged();
        if !in_order.contains(&secret) && matches!(shelf.read_at(&snapshot, secret), Ok(Some(_))) {
            found.beside.insert(secret);
        }
        found.secret_is_gone = !in_order.contains(&secret) && !found.beside.contains(&secret);
        let mut doubtful = Vec::new();
        for row in shelf.agenda_rows(&snapshot, row::FIRST, row::LAST) {
            let (key, _) = row?;
            let Some(id) = row::record_id(&key) else { continue };
            match shelf.read_at(&snapshot, id) {
                Ok(Some(record)) => {
                    if torn.records && row::agenda(&record).all(|it| it != key) {
                        doubtful.push((id, is_done(&record)));
                    } else if !in_order.contains(&id) {
                        found.latest = found.latest.max(record.updated);
                        found.beside.insert(id);
                    }
                }
                // Rows of the agenda and records are written together: a row without its record lost it.
                Ok(None) | Err(_) => drop(found.lost.insert(id)),
            }
        }
        torn.agenda |= shelf.damaged() > damaged;
        if torn.records {
            for row in shelf.record_rows(&snapshot, [0; 32]) {
                let (key, stored) = row?;
                let id = RecordId::from_bytes(key);
                let Ok(record) = shelf.decode(id, &stored) else { continue };
                let has = |it: row::AgendaKey| {
                    matches!(fjall::Readable::get(&snapshot, &shelf.agenda, it), Ok(Some(_)))
                };
                if id != secret && !row::agenda(&record).all(has) {
                    doubtful.push((id, is_done(&record)));
                }
            }
        }
        // Where the agenda has lost rows, too, it proves nothing against an answer.
        let stale = doubtful.into_iter().filter(|(_, is_done)| !(torn.agenda && *is_done));
        found.lost.extend(stale.map(|(id, _)| id));
        found.beside.retain(|it| !found.lost.contains(it));
        let kept = in_order.iter().filter(|it| !found.lost.contains(it)).count() + found.beside.len();
        found.kept = kept as u64;
        Ok(found)
    }
}

fn is_done(record: &Record) -> bool {
    matches!(record.state, State::Done(_))
}
