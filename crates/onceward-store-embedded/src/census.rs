//! Counting: what is stored, and what of it cannot be read.

use std::collections::BTreeSet;
use std::time::Duration;

use onceward_core::moving::{self, Place};
use onceward_core::store::Filter;
use onceward_core::{RecordId, Result, Status, Timestamp};

use crate::row;
use crate::shelf::Shelf;

/// How many records one count looks at.
pub(crate) const CENSUS_MAX: u64 = 1_000_000;
/// How many unreadable records are named.
const NAMED_MAX: usize = 1000;

/// The stored records, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Each status with the number of its records, in the order of a record's life.
    pub by_status: [(Status, u64); 6],
    /// The unresolved record that changed last the longest ago, and how long ago that is.
    pub oldest_unresolved: Option<(RecordId, Duration)>,
    /// How many records are there and cannot be read.
    pub unreadable: u64,
    /// Their ids, at most 1000.
    pub unreadable_ids: Vec<RecordId>,
    /// How many places in the files are damaged; each may hold many records, which are counted nowhere.
    pub damaged_places: usize,
    /// `false` when the count ended at a million records.
    pub complete: bool,
    /// Where the records are, as far as the store says.
    pub place: Place,
    /// The store's time.
    pub now: Timestamp,
}

impl Census {
    /// How many records have this status.
    #[must_use]
    pub fn count(&self, status: Status) -> u64 {
        self.by_status.iter().find(|it| it.0 == status).map_or(0, |it| it.1)
    }
}

/// Counts the records, and reads the agenda too, for what is damaged there.
pub(crate) fn take(shelf: &Shelf) -> Result<Census> {
    shelf.settle()?;
    let now = shelf.now();
    let mut census = Census {
        by_status: Status::ALL.map(|it| (it, 0)),
        oldest_unresolved: None,
        unreadable: 0,
        unreadable_ids: Vec::new(),
        damaged_places: 0,
        complete: true,
        place: Place::Here,
        now,
    };
    let (everybody, snapshot) = (Filter::default(), shelf.snapshot());
    if let Ok(note) = shelf.read_at(&snapshot, RecordId::reserved(moving::NOTE)) {
        census.place = moving::place(note.as_ref());
    }
    let (mut looked, mut seen) = (0, BTreeSet::new());
    for row in shelf.record_rows(&snapshot, [0; 32]) {
        let (key, stored) = row?;
        looked += 1;
        if looked > CENSUS_MAX {
            census.complete = false;
            break;
        }
        let id = RecordId::from_bytes(key);
        match shelf.decode(id, &stored) {
            Ok(record) if everybody.matches(&record, now) => {
                let status = record.status_at(now);
                for (of, count) in &mut census.by_status {
                    *count += u64::from(*of == status);
                }
                let age = record.updated.until(now);
                let older = census.oldest_unresolved.is_none_or(|it| it.1 < age);
                if status == Status::Unresolved && older {
                    census.oldest_unresolved = Some((id, age));
                }
            }
            Ok(_) => {}
            Err(_) => census.unread(id, &mut seen),
        }
    }
    let all = (row::FIRST, row::LAST);
    for row in shelf.agenda_rows(&snapshot, all.0, all.1).take(usize::try_from(CENSUS_MAX).unwrap_or(0)) {
        let (key, _) = row?;
        // A record in a damaged block is known only from here.
        if let Some(id) = row::record_id(&key)
            && shelf.damaged() > 0
            && shelf.read_at(&snapshot, id).is_err()
        {
            census.unread(id, &mut seen);
        }
    }
    census.damaged_places = shelf.damaged();
    Ok(census)
}

impl Census {
    fn unread(&mut self, id: RecordId, seen: &mut BTreeSet<RecordId>) {
        if seen.insert(id) {
            self.unreadable += 1;
            if self.unreadable_ids.len() < NAMED_MAX {
                self.unreadable_ids.push(id);
            }
        }
    }
}
