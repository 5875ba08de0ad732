//! Looking at many records: what is due, what is over, and listings.

use std::ops::RangeInclusive;
use std::sync::{Arc, MutexGuard, PoisonError};

use onceward_core::store::{Agenda, Cursor, DueCursor, DuePage, Expiry, Filter, Page};
use onceward_core::{ErrorKind, Record, RecordId, Result, Revision};

use crate::group::size;
use crate::past::next_key;
use crate::row::{self, AgendaKey};
use crate::shelf::Shelf;

/// How many rows one call may look at. A listing goes on from its cursor.
const LOOK_ROWS: usize = 10_000;
/// How many bytes of records one call may look at, so that big answers do not pile up in memory.
const LOOK_BYTES: usize = 32 << 20;

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
struct Look<T> {
    due: Vec<T>,
    /// The last row that it looked at.
    at: Option<AgendaKey>,
    ended: Ended,
}

/// Where a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// With as many as were asked for.
    Limit,
    /// At what one look may read.
    Bounds,
    /// Behind all that is due.
    Through,
}

impl Shelf {
    /// Records with a row of this kind that has passed. Unreadable ones are passed over.
    pub(crate) fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        let now = self.now();
        let what = from.due().into();
        let behind = from.behind().map(|(time, id)| row::key(what, time, id));
        let look = self.look(row::due(what, behind, now), limit, |it| Some(Arc::new(it)))?;
        let place = look.at.as_ref().and_then(row::place);
        let goes_on = place.map_or(from, |(time, id)| from.pass(time, id));
        Ok(DuePage { records: look.due, next: (look.ended != Ended::Through).then_some(goes_on), now })
    }

    /// What sweeping has something to do with, and whether there may be more. The records themselves, whose answers can be long, are
    /// let go. A look that ends at its bounds is gone on with by the next one, so that no number of unreadable records ends the work
    /// for good; at the end of what is due it begins at the front again.
    pub(crate) fn expired(&self, limit: usize) -> Result<(Vec<Over>, bool)> {
        let now = self.now();
        let behind = *self.resume();
        let look = self.look(row::due(Agenda::Expiry, behind, now), limit, |it| {
            let over = Over { id: it.id, revision: it.revision, bytes: size(&it) };
            (it.expiry(now) != Expiry::Keep).then_some(over)
        })?;
        match look.ended {
            Ended::Limit => {}
            Ended::Bounds => *self.resume() = look.at,
            Ended::Through => *self.resume() = None,
        }
        let more = look.ended != Ended::Through || look.due.len() == limit;
        Ok((look.due, more))
    }

    /// Goes through these rows until `limit` are picked.
    fn look<T>(
        &self,
        rows: Option<RangeInclusive<AgendaKey>>,
        limit: usize,
        mut pick: impl FnMut(Record) -> Option<T>,
    ) -> Result<Look<T>> {
        self.settle()?;
        let mut look = Look { due: Vec::new(), at: None, ended: Ended::Through };
        let Some((first, last)) = rows.map(RangeInclusive::into_inner) else { return Ok(look) };
        let (mut looked, mut bytes) = (0, 0);
        let snapshot = self.database.snapshot();
        for row in self.agenda_rows(&snapshot, first, last) {
            if look.due.len() == limit {
                look.ended = Ended::Limit;
                return Ok(look);
            }
            if looked >= LOOK_ROWS || bytes >= LOOK_BYTES {
                look.ended = Ended::Bounds;
                return Ok(look);
            }
            let (key, _) = row?;
            (looked, look.at) = (looked + 1, Some(key));
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
        Ok(look)
    }

    fn resume(&self) -> MutexGuard<'_, Option<AgendaKey>> {
        self.base.resume.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One page in the order of the ids.
    pub(crate) fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.settle()?;
        let now = self.now();
        let mut page = Page { records: Vec::new(), next: None, unreadable: Vec::new(), now };
        let snapshot = self.database.snapshot();
        let Some(start) = cursor.map_or(Some([0; 32]), |it| next_key(*it.0.as_bytes())) else {
            return Ok(page);
        };
        let (mut bytes, mut last) = (0, None);
        for (looked, row) in self.record_rows(&snapshot, start).enumerate() {
            if looked >= LOOK_ROWS || bytes >= LOOK_BYTES {
                page.next = last.map(Cursor);
                break;
            }
            let (key, stored) = row?;
            let id = RecordId::from_bytes(key);
            bytes += stored.len();
            match self.decode(id, &stored) {
                Ok(record) if !filter.matches(&record, now) => {}
                Ok(_) if page.records.len() >= limit => {
                    page.next = last.map(Cursor);
                    break;
                }
                Ok(record) => page.records.push(Arc::new(record)),
                Err(_) => page.unreadable.push(id),
            }
            last = Some(id);
        }
        Ok(page)
    }
}
