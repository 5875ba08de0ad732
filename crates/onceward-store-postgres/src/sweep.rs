//! Dropping what is over, in small steps that nobody waits behind.

use std::sync::Arc;

use onceward_core::store::{Expiry, Swept};
use onceward_core::{Record, RecordId, Result, Revision, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::due::Behind;
use crate::puts::Values;
use crate::row::{self, millis};
use crate::sql::Sweeping;
use crate::store::PostgresStore;

/// How many records one statement changes.
const STEP: usize = 128;
/// How many statements look further than `limit` where rows cannot be read.
const EXTRA_LOOKS: usize = 8;

/// Both tables, each with at least half of the looks, so that neither waits for the other to be done.
pub(crate) async fn sweep(store: &PostgresStore, limit: usize) -> Result<Swept> {
    let [records, operations] = &store.sql.sweeping;
    let (first, looked) = sweep_table(store, operations, limit.div_ceil(2)).await?;
    let (second, _) = sweep_table(store, records, limit - looked).await?;
    Ok(Swept {
        tombstones: first.tombstones + second.tombstones,
        removed: first.removed + second.removed,
        more: first.more || second.more,
    })
}

/// Core says what is over; two statements change it where it is still what was looked at. A row that cannot be read is
/// passed over, and one that somebody else works on is left to him. Gives at how many it looked, too.
async fn sweep_table(store: &PostgresStore, sql: &Sweeping, limit: usize) -> Result<(Swept, usize)> {
    let (mut swept, mut looked, mut behind) = (Swept::default(), 0, Behind::start());
    let mut extra = 0;
    while looked < limit {
        let step = (limit - looked).min(STEP);
        let rows = store.read(&sql.expired, behind.values(step)).await?;
        let (over, read) = judge(&rows, &mut behind);
        looked += read;
        swept.removed += change(store, &sql.remove, over.removals()).await?;
        swept.tombstones += change(store, &sql.tombstone, over.tombstones()).await?;
        if rows.len() < step {
            return Ok((swept, looked));
        }
        if read < rows.len() {
            extra += 1;
            if extra > EXTRA_LOOKS {
                return Ok((swept, looked));
            }
        }
    }
    swept.more = true;
    Ok((swept, looked))
}

/// What is to go, and what is to take its place.
#[derive(Default)]
struct Over {
    remove: Vec<(RecordId, Revision)>,
    entomb: Vec<(Revision, Record)>,
}

/// Judges each row by core's rule at the time that the statement saw. Gives how many could be read, too.
fn judge(rows: &[Row], behind: &mut Behind) -> (Over, usize) {
    let (mut over, mut read) = (Over::default(), 0);
    for row in rows {
        behind.pass(row, 2);
        let now = row.try_get::<_, i64>(1).ok().and_then(|it| u64::try_from(it).ok());
        let (Some(now), Ok(Some(record))) = (now, row::record(row, 2)) else { continue };
        read += 1;
        match record.expiry(Timestamp::from_millis(now)) {
            Expiry::Keep => {}
            Expiry::Remove => over.remove.push((record.id, record.revision)),
            Expiry::Tombstone(next) => over.entomb.push((record.revision, *next)),
        }
    }
    (over, read)
}

impl Over {
    fn removals(&self) -> Option<Values<'static>> {
        let ids: Vec<_> = self.remove.iter().map(|it| it.0.as_bytes().to_vec()).collect();
        let seen: Vec<_> = self.remove.iter().map(|it| number(it.1)).collect();
        let values: Values<'_> = vec![(Box::new(ids), Type::BYTEA_ARRAY), (Box::new(seen), Type::INT8_ARRAY)];
        (!self.remove.is_empty()).then_some(values)
    }

    fn tombstones(&self) -> Option<Values<'static>> {
        let of = |get: fn(&(Revision, Record)) -> i64| self.entomb.iter().map(get).collect::<Vec<_>>();
        let expires_at = |it: &(Revision, Record)| {
            let at = it.1.expires_at();
            (at < Timestamp::MAX).then(|| millis(at))
        };
        let ids: Vec<_> = self.entomb.iter().map(|it| it.1.id.as_bytes().to_vec()).collect();
        let expires_at: Vec<_> = self.entomb.iter().map(expires_at).collect();
        let values: Values<'_> = vec![
            (Box::new(ids), Type::BYTEA_ARRAY),
            (Box::new(of(|it| number(it.0))), Type::INT8_ARRAY),
            (Box::new(of(|it| number(it.1.revision))), Type::INT8_ARRAY),
            (Box::new(of(|it| millis(it.1.updated))), Type::INT8_ARRAY),
            (Box::new(expires_at), Type::INT8_ARRAY),
        ];
        (!self.entomb.is_empty()).then_some(values)
    }
}

fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

async fn change(store: &PostgresStore, text: &Arc<str>, values: Option<Values<'static>>) -> Result<u64> {
    match values {
        None => Ok(0),
        Some(values) => store.write(text, values).await.map(|it| it.len() as u64),
    }
}
