//! Looking at many records: what is due, what is over, and listings.

use std::sync::{Arc, PoisonError};

use onceward_core::store::{Agenda, Cursor, Expiry, Filter, Page};
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
pub(crate) struct Look<T> {
    pub(crate) due: Vec<T>,
    /// Whether there may be more: it ended at its limit or at its bounds, not at the end of what is due.
    pub(crate) more: bool,
}

impl Shelf {
    /// Records with a row of `what` that has passed.
    pub(crate) fn due(&self, what: Agenda, limit: usize) -> Result<Vec<Arc<Record>>> {
        Ok(self.look(what, limit, |it| Some(Arc::new(it)))?.due)
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
        self.settle()?;
        let mut look = Look { due: Vec::new(), more: true };
        let (first, last) = row::due(what, self.now()).into_inner();
        let first = self.resume_at(what).and_then(next_key).unwrap_or(first);
        let (mut rows, mut bytes, mut at) = (0, 0, None);
        let snapshot = self.database.snapshot();
        for row in self.agenda_rows(&snapshot, first, last) {
            if look.due.len() == limit {
                return Ok(look);
            }
            if rows >= LOOK_ROWS || bytes >= LOOK_BYTES {
                self.set_resume(what, at);
                return Ok(look);
            }
            let (key, _) = row?;
            (rows, at) = (rows + 1, Some(key));
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
        self.base.resume.lock().unwrap_or_else(PoisonError::into_inner).get(&what).copied()
    }

    fn set_resume(&self, what: Agenda, at: Option<AgendaKey>) {
        let mut resume = self.base.resume.lock().unwrap_or_else(PoisonError::into_inner);
        match at {
            Some(at) => resume.insert(what, at),
            None => resume.remove(&what),
        };
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
