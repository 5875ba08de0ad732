//! What is asked for, as the arrays that one statement takes.

use onceward_core::store::Put;
use onceward_core::{Answer, Error, ErrorKind, RecordId, Result, Revision, State, Unresolved};
use tokio_postgres::types::{ToSql, Type};

use crate::row::{length, millis};

/// Values behind the numbers of a statement, with their types, so that nobody has to ask the server for them.
pub(crate) type Values<'a> = Vec<(Box<dyn ToSql + Sync + Send + 'a>, Type)>;

/// More than this the server takes in no statement.
const BYTES_MAX: usize = 512 << 20;

/// Refuses what no column can hold, before it is put beside the calls of others.
///
/// # Errors
/// `Invalid`: a text has a NUL character in it, or all of it is longer than 512 MiB.
pub(crate) fn check(put: &Put) -> Result<()> {
    let listing = &put.listing;
    let of_state = match &put.state {
        State::Abandoned { reason } => reason.as_str(),
        State::Done(answer) => &answer.kind,
        State::Running | State::Released | State::Tombstone => "",
    };
    let texts = [&listing.kind, &listing.host, &listing.path, &listing.key].map(String::as_str);
    if texts.into_iter().chain([of_state]).any(|it| it.contains('\0')) {
        return Err(Error::new(ErrorKind::Invalid, "keep a text with a NUL character in PostgreSQL"));
    }
    if bytes(put) > BYTES_MAX {
        return Err(Error::new(ErrorKind::Invalid, "keep so many bytes in PostgreSQL"));
    }
    Ok(())
}

/// About how many bytes a put takes in a statement.
pub(crate) fn bytes(put: &Put) -> usize {
    let listing = &put.listing;
    let answer = if let State::Done(answer) = &put.state { answer.stored_len() } else { 0 };
    let texts = [&listing.kind, &listing.host, &listing.path, &listing.key].map(String::len);
    300 + answer + put.checkpoint.as_ref().map_or(0, bytes::Bytes::len) + texts.iter().sum::<usize>()
}

/// The values of one column, a row each: whatever driver sends them.
#[derive(Debug)]
pub(crate) enum Column<'a> {
    Bytes(Vec<Option<&'a [u8]>>),
    Texts(Vec<Option<&'a str>>),
    Int4s(Vec<i32>),
    Int8s(Vec<Option<i64>>),
    Flags(Vec<bool>),
}

impl<'a> Column<'a> {
    fn value(self) -> (Box<dyn ToSql + Sync + Send + 'a>, Type) {
        match self {
            Self::Bytes(it) => (Box::new(it), Type::BYTEA_ARRAY),
            Self::Texts(it) => (Box::new(it), Type::TEXT_ARRAY),
            Self::Int4s(it) => (Box::new(it), Type::INT4_ARRAY),
            Self::Int8s(it) => (Box::new(it), Type::INT8_ARRAY),
            Self::Flags(it) => (Box::new(it), Type::BOOL_ARRAY),
        }
    }
}

/// The columns as the store's own driver takes them.
pub(crate) fn values(columns: Vec<Column<'_>>) -> Values<'_> {
    columns.into_iter().map(Column::value).collect()
}

/// The 22 columns that `insert.sql` takes and `replace.sql` begins with.
pub(crate) fn inserts<'a>(puts: &[(RecordId, &'a Put)], ids: &'a [RecordId]) -> Vec<Column<'a>> {
    let bytes =
        |get: fn(&'a Put) -> Option<&'a [u8]>| Column::Bytes(puts.iter().map(|it| get(it.1)).collect());
    let texts =
        |get: fn(&'a Put) -> Option<&'a str>| Column::Texts(puts.iter().map(|it| get(it.1)).collect());
    let int8s = |get: fn(&'a Put) -> Option<i64>| Column::Int8s(puts.iter().map(|it| get(it.1)).collect());
    vec![
        self::ids(ids),
        bytes(|put| put.grant.as_ref().map(|it| &it.owner.as_bytes()[..])),
        Column::Int4s(puts.iter().map(|it| i32::from(it.1.rules)).collect()),
        bytes(|put| put.fingerprint.as_ref().map(|it| &it.as_bytes()[..])),
        bytes(|put| Some(&put.listing.principal.as_bytes()[..])),
        texts(|put| Some(&put.listing.kind)),
        texts(|put| Some(&put.listing.host)),
        texts(|put| Some(&put.listing.path)),
        texts(|put| Some(&put.listing.key)),
        texts(|put| Some(state(put))),
        texts(reason),
        texts(|put| answer(put).map(|it| &*it.kind)),
        bytes(|put| answer(put).map(|it| &it.stored().0[..])),
        int8s(|put| answer(put).and_then(|it| it.stored().1).map(i64::from)),
        int8s(|put| Some(length(put.policy.lease))),
        int8s(|put| Some(length(put.policy.run_max))),
        int8s(|put| Some(length(put.policy.retention))),
        int8s(|put| Some(length(put.policy.tombstone))),
        texts(|put| Some(unresolved(put))),
        bytes(|put| put.checkpoint.as_deref()),
        int8s(|put| put.wake_after.map(length)),
        int8s(|put| Some(millis(put.not_after))),
    ]
}

/// The 24 columns that `replace.sql` takes.
pub(crate) fn replaces<'a>(
    puts: &[(RecordId, &'a Put)],
    ids: &'a [RecordId],
    seen: &[Revision],
) -> Vec<Column<'a>> {
    let mut to = inserts(puts, ids);
    to.push(Column::Int8s(seen.iter().map(|it| Some(number(*it))).collect()));
    to.push(Column::Flags(puts.iter().map(|it| is_new_life(it.1)).collect()));
    to
}

/// The column of ids.
pub(crate) fn ids(ids: &[RecordId]) -> Column<'_> {
    Column::Bytes(ids.iter().map(|it| Some(&it.as_bytes()[..])).collect())
}

/// A revision as its column has it. No row has a negative one: one that no column can hold was never told.
pub(crate) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(-1)
}

/// Whether a new life of the record begins.
pub(crate) fn is_new_life(put: &Put) -> bool {
    put.grant.is_some_and(|it| it.new_life)
}

/// What its policy says of an unknown outcome.
pub(crate) fn unresolved(put: &Put) -> &'static str {
    match put.policy.unresolved {
        Unresolved::Hold => "hold",
        Unresolved::Rerun => "rerun",
    }
}

fn state(put: &Put) -> &str {
    match &put.state {
        State::Running => "running",
        State::Abandoned { .. } => "abandoned",
        State::Released => "released",
        State::Done(_) => "done",
        State::Tombstone => "tombstone",
    }
}

fn reason(put: &Put) -> Option<&str> {
    match &put.state {
        State::Abandoned { reason } => Some(reason),
        State::Running | State::Released | State::Done(_) | State::Tombstone => None,
    }
}

fn answer(put: &Put) -> Option<&Answer> {
    match &put.state {
        State::Done(answer) => Some(answer),
        State::Running | State::Abandoned { .. } | State::Released | State::Tombstone => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use onceward_core::Listing;

    use super::*;

    fn put(path: &str, state: State) -> Put {
        let claim = onceward_testkit::claim(1);
        let listing = Listing { path: path.into(), ..Listing::clone(&claim.listing) };
        Put { listing: Arc::new(listing), state, ..claim }
    }

    #[test]
    fn a_text_that_no_column_can_hold_is_refused_by_name() {
        assert!(check(&put("/é", State::Done(Answer::new("http", "a\0b")))).is_ok());
        for bad in [
            put("/a\0b", State::Running),
            put("/", State::Abandoned { reason: "\0".into() }),
            put("/", State::Done(Answer::new("\0", ""))),
        ] {
            assert_eq!(check(&bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn the_columns_of_the_statements_are_all_there() {
        let id = RecordId::from_bytes([1; 32]);
        let put = put("/", State::Running);
        assert_eq!(inserts(&[(id, &put)], &[id]).len(), 22);
        assert_eq!(replaces(&[(id, &put)], &[id], &[Revision(u64::MAX)]).len(), 24);
    }
}
