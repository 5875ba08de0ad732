//! What a statement that claims or finishes says about one call.

use std::sync::Arc;

use onceward_core::store::Put;
use onceward_core::{Error, ErrorKind, Record, RecordId, Result, Timestamp};

use crate::fault::Cause;
use crate::row::{self, Cells, Columns};

/// What was kept, or what is there.
pub(crate) struct Told {
    pub(crate) now: Timestamp,
    pub(crate) kept: Option<Arc<Record>>,
    /// What is there where nothing was kept.
    pub(crate) found: Option<Arc<Record>>,
}

/// Reads a row whose columns are the call's place, the server's time, the stamps and the record that was found.
pub(crate) fn told(row: &impl Cells, id: RecordId, put: &Put) -> Result<Told> {
    let now = now(row).ok_or_else(|| strange("read the server's clock"))?;
    match row::stamps(row, 2) {
        Some(stamps) => Ok(Told { now, kept: Some(Arc::new(stamps.on(id, put))), found: None }),
        None => Ok(Told { now, kept: None, found: row::record(row, 2 + row::STAMPS)? }),
    }
}

/// The server's time.
pub(crate) fn now(row: &impl Cells) -> Option<Timestamp> {
    Columns::from(row, 1).time()
}

/// An answer that no statement of ours gives.
pub(crate) fn strange(doing: &'static str) -> Error {
    let cause = Cause("the server answered something else than it was asked".to_owned());
    Error::new(ErrorKind::Uncertain, doing).caused_by(cause)
}
