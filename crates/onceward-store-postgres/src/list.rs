//! Listing, page by page in the order of the ids.

use onceward_core::store::{Cursor, Filter, Page};
use onceward_core::{Error, ErrorKind, RecordId, Result};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::puts::Values;
use crate::row::{self, Columns, length};
use crate::store::PostgresStore;

/// How many rows one statement looks at.
const LOOK: i64 = 5000;
/// How many bytes one statement brings, about.
const BYTES: i64 = 8 << 20;
/// How many statements one page takes. A page may then be short, and says where to go on.
const STATEMENTS: usize = 20;
/// How many columns stand before the record.
const BEFORE: usize = 4;

/// The server leaves out what cannot match; core's rule says what does.
pub(crate) async fn list(
    store: &PostgresStore,
    filter: &Filter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<Page> {
    let mut page = Page { records: Vec::new(), next: None, unreadable: Vec::new(), now: Default::default() };
    let mut after = cursor.map(|it| it.0.as_bytes().to_vec()).unwrap_or_default();
    let mut last_shown = cursor;
    for _ in 0..STATEMENTS {
        let wanted = i64::try_from(limit.saturating_sub(page.records.len()).saturating_add(1));
        let wanted = wanted.unwrap_or(i64::MAX);
        let rows = store.read(&store.sql.list, values(filter, &after, wanted)).await?;
        let look = rows.first().and_then(Look::read).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "list records: the server answered something else")
        })?;
        page.now = look.now;
        let mut shown = 0;
        for row in rows.iter().filter(|it| row::is_there(*it, BEFORE)) {
            shown += 1;
            let Some(id) = row::id(row, BEFORE) else { continue };
            match row::record(row, BEFORE) {
                Ok(Some(record)) if filter.matches(&record, look.now) => {
                    if page.records.len() == limit {
                        page.next = last_shown;
                        return Ok(page);
                    }
                    page.records.push(record);
                }
                Ok(_) => {}
                Err(_) => page.unreadable.push(id),
            }
            last_shown = Some(Cursor(id));
        }
        let goes_on = if shown < look.wanted {
            // There is more among those that it looked at.
            last_shown
        } else if look.looked == LOOK {
            look.last
        } else {
            page.next = None;
            return Ok(page);
        };
        after = goes_on.map(|it| it.0.as_bytes().to_vec()).unwrap_or_default();
        (last_shown, page.next) = (goes_on, goes_on);
    }
    Ok(page)
}

/// How far one statement looked.
struct Look {
    now: onceward_core::Timestamp,
    looked: i64,
    last: Option<Cursor>,
    wanted: i64,
}

impl Look {
    fn read(row: &Row) -> Option<Self> {
        let mut it = Columns::from(row, 0);
        let (now, looked) = (it.time()?, it.long()?);
        let last = it.bytes_or_null()?;
        let last = last.and_then(|it| it.try_into().ok()).map(|it| Cursor(RecordId::from_bytes(it)));
        Some(Self { now, looked, last, wanted: it.long()? })
    }
}

fn values(filter: &Filter, after: &[u8], limit: i64) -> Values<'static> {
    // No column has a NUL character in it, and no statement takes one: what asks for one is left to core's rule.
    let text = |it: &Option<String>| it.clone().filter(|it| !it.contains('\0'));
    vec![
        (Box::new(after.to_vec()), Type::BYTEA),
        (Box::new(LOOK), Type::INT8),
        (Box::new(limit), Type::INT8),
        (Box::new(BYTES), Type::INT8),
        (Box::new(filter.principal.map(|it| it.as_bytes().to_vec())), Type::BYTEA),
        (Box::new(text(&filter.kind)), Type::TEXT),
        (Box::new(text(&filter.path)), Type::TEXT),
        (Box::new(text(&filter.key)), Type::TEXT),
        (Box::new(filter.older_than.map(length)), Type::INT8),
    ]
}
