//! What is due, earliest first.

use std::sync::Arc;

use onceward_core::store::Due;
use onceward_core::{Record, RecordId, Result};
use tokio_postgres::types::Type;

use crate::puts::Values;
use crate::row;
use crate::store::PostgresStore;

/// How many rows one statement brings: each may have a checkpoint and an answer.
const STEP: usize = 128;

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
    pub(crate) fn pass(&mut self, row: &tokio_postgres::Row, at: usize) -> Option<RecordId> {
        self.time = row.try_get(0).unwrap_or(self.time);
        let id = row::id(row, at);
        self.id = id.map(|it| it.as_bytes().to_vec()).unwrap_or_default();
        id
    }
}

/// Rows that cannot be read are passed over: they stop nobody else.
pub(crate) async fn due(store: &PostgresStore, due: Due, limit: usize) -> Result<Vec<Arc<Record>>> {
    let text = match due {
        Due::Lease => &store.sql.due_lease,
        Due::Wake => &store.sql.due_wake,
    };
    let (mut records, mut behind) = (Vec::new(), Behind::start());
    while records.len() < limit {
        let step = (limit - records.len()).min(STEP);
        let rows = store.read(text, behind.values(step)).await?;
        for row in &rows {
            behind.pass(row, 1);
            records.extend(row::record(row, 1).ok().flatten());
        }
        if rows.len() < step {
            break;
        }
    }
    Ok(records)
}
