//! What the caller's driver, sqlx, calls rows, values and errors.

use std::error::Error as StdError;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgDatabaseError, PgRow, PgSeverity};
use sqlx::{Arguments as _, Row as _};

use crate::fault::{self, Cause, Fault};
use crate::puts::Column;
use crate::row::Cells;

impl Cells for PgRow {
    fn int2(&self, at: usize) -> Option<Option<i16>> {
        self.try_get(at).ok()
    }
    fn int4(&self, at: usize) -> Option<Option<i32>> {
        self.try_get(at).ok()
    }
    fn int8(&self, at: usize) -> Option<Option<i64>> {
        self.try_get(at).ok()
    }
    fn text(&self, at: usize) -> Option<Option<&str>> {
        self.try_get(at).ok()
    }
    fn bytes(&self, at: usize) -> Option<Option<&[u8]>> {
        self.try_get(at).ok()
    }
}

/// Puts columns behind the values that are there.
pub(super) fn add(to: &mut PgArguments, columns: Vec<Column<'_>>) -> Result<(), Fault> {
    for column in columns {
        let added = match column {
            Column::Bytes(it) => to.add(it),
            Column::Texts(it) => to.add(it),
            Column::Int4s(it) => to.add(it),
            Column::Int8s(it) => to.add(it),
            Column::Flags(it) => to.add(it),
        };
        added.map_err(|it| Fault::Unsent(Cause(it.to_string())))?;
    }
    Ok(())
}

impl Fault {
    /// From sqlx's error on a statement that was sent, or could not be.
    pub(crate) fn of_sqlx(error: &sqlx::Error) -> Self {
        if let Some(it) = said(error) {
            let cause = Cause(format!("the server said {}: {}{}", it.code(), it.message(), hint(it.code())));
            return Self::said(it.code(), it.severity() == PgSeverity::Error, cause);
        }
        let cause = Cause(error.to_string());
        match error {
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Configuration(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::InvalidSavePointStatement => Self::Unsent(cause),
            _ => Self::Lost(cause),
        }
    }
}

/// What to do about what the server said, where that is known.
fn hint(code: &str) -> &'static str {
    match code {
        // No such function, table or schema.
        "42883" | "42P01" | "3F000" => {
            " (are the tables made, in this schema? `onceward store migrate URL` makes them)"
        }
        "42501" => " (the user needs the right to use the schema, its tables and its functions)",
        _ => "",
    }
}

/// What the server said, if this error or one that it wraps is its.
fn said<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a PgDatabaseError> {
    let mut next = Some(error);
    while let Some(it) = next {
        if let Some(sqlx::Error::Database(said)) = it.downcast_ref() {
            return said.try_downcast_ref();
        }
        if let Some(said) = it.downcast_ref::<Box<dyn DatabaseError>>() {
            return said.try_downcast_ref();
        }
        if let Some(said) = it.downcast_ref() {
            return Some(said);
        }
        next = it.source();
    }
    None
}

/// Whether the server wants the whole transaction again: it met another one, and one of the two had to give way
/// (`serialization_failure`, `deadlock_detected`). The error may wrap sqlx's.
///
/// [`Operations::run`](super::Operations::run) begins again by itself; who calls
/// [`Operations::run_in`](super::Operations::run_in) rolls his transaction back and begins it again.
#[must_use]
pub fn is_conflict(error: &(dyn StdError + 'static)) -> bool {
    said(error).is_some_and(|it| fault::is_conflict(it.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Wrapped {
        #[error("the shelf is empty")]
        Empty,
        #[error("the database")]
        Named(#[from] sqlx::Error),
    }

    #[test]
    fn what_was_sent_is_told_from_what_was_not() {
        let timed_out = sqlx::Error::PoolTimedOut;
        assert!(matches!(Fault::of_sqlx(&timed_out), Fault::Unsent(_)));
        let cut = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(Fault::of_sqlx(&cut), Fault::Lost(_)));
        assert!(!is_conflict(&Wrapped::Empty) && !is_conflict(&Wrapped::Named(cut)));
    }
}
