//! What is due, earliest first.

use onceward_core::store::{Due, DueCursor, DuePage};
use onceward_core::{Error, ErrorKind, RecordId, Result, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::puts::Values;
use crate::row::{self, millis};
use crate::store::PostgresStore;

/// How many rows one statement brings: each may have a checkpoint and an answer.
const STEP: usize = 128;
/// How many columns stand before the record.
const BEFORE: usize = 2;

/// Where the next look begins: behind this time and this id.
pub(crate) struct Behind {
    time: i64,
    id: Vec<u8>,
}

impl Behind {
    /// Before all rows.
    pub(crate) fn start() -> Self {
        Self { time: -1, id: Vec::new() }
    }

    /// Where `cursor` is.
    fn of(cursor: DueCursor) -> Self {
        let behind = |(time, id): (_, RecordId)| Self { time: millis(time), id: id.as_bytes().to_vec() };
        cursor.behind().map_or_else(Self::start, behind)
    }

    /// The cursor of a look that has come here from `from`.
    fn cursor(&self, from: DueCursor) -> DueCursor {
        let place = (u64::try_from(self.time), self.id.as_slice().try_into());
        let (Ok(time), Ok(id)) = place else { return from };
        from.pass(Timestamp::from_millis(time), RecordId::from_bytes(id))
    }

    /// The values of a statement that looks at up to `limit` rows from here.
    pub(crate) fn values(&self, limit: usize) -> Values<'static> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        vec![
            (Box::new(self.time), Type::INT8),
            (Box::new(self.id.clone()), Type::BYTEA),
            (Box::new(limit), Type::INT8),
        ]
    }

    /// Goes on behind a row whose first column is its time and whose id is in the column `at`. Gives the id.
    pub(crate) fn pass(&mut self, row: &Row, at: usize) -> Option<RecordId> {
        self.time = row.try_get(0).unwrap_or(self.time);
        let id = row::id(row, at);
        self.id = id.map(|it| it.as_bytes().to_vec()).unwrap_or_default();
        id
    }
}

/// Rows that cannot be read are passed over: they stop nobody else.
pub(crate) async fn due(store: &PostgresStore, from: DueCursor, limit: usize) -> Result<DuePage> {
    let text = match from.due() {
        Due::Lease => &store.sql.due_lease,
        Due::Wake => &store.sql.due_wake,
    };
    let mut page = DuePage { records: Vec::new(), next: Some(from), now: Timestamp::MAX };
    let mut behind = Behind::of(from);
    loop {
        let step = (limit - page.records.len()).min(STEP);
        let rows = store.read(text, behind.values(step)).await?;
        // What is due by the first time is so by all of them.
        page.now = page.now.min(rows.first().and_then(now).ok_or_else(unread)?);
        let mut shown = 0;
        for row in rows.iter().filter(|it| row::is_there(*it, BEFORE)) {
            shown += 1;
            behind.pass(row, BEFORE);
            page.records.extend(row::record(row, BEFORE).ok().flatten());
        }
        page.next = (shown == step).then(|| behind.cursor(from));
        if shown < step || page.records.len() == limit {
            return Ok(page);
        }
    }
}

/// What the server says the time is.
fn now(row: &Row) -> Option<Timestamp> {
    row::Columns::from(row, 1).time()
}

fn unread() -> Error {
    Error::new(ErrorKind::Unavailable, "find what is due: the server answered something else")
}
