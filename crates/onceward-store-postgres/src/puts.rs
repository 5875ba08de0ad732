//! What is asked for, as the arrays that one statement takes.

use onceward_core::store::Put;
use onceward_core::{Error, ErrorKind, RecordId, Result, Revision, State, Unresolved};
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

/// Collects one column.
fn column<'a, T: ToSql + Sync + Send + 'a, I>(
    values: &mut Values<'a>,
    of: &[I],
    kind: Type,
    get: impl Fn(&I) -> T,
) {
    values.push((Box::new(of.iter().map(get).collect::<Vec<T>>()), kind));
}

/// The 22 columns that `insert.sql` takes and `replace.sql` begins with.
pub(crate) fn inserts<'a>(puts: &[(RecordId, &'a Put)], ids: &'a [RecordId]) -> Values<'a> {
    let mut to = self::ids(ids);
    let it = &mut to;
    let state = |put: &'a Put| match &put.state {
        State::Running => "running",
        State::Abandoned { .. } => "abandoned",
        State::Released => "released",
        State::Done(_) => "done",
        State::Tombstone => "tombstone",
    };
    let reason = |put: &'a Put| match &put.state {
        State::Abandoned { reason } => Some(reason.as_str()),
        State::Running | State::Released | State::Done(_) | State::Tombstone => None,
    };
    let answer = |put: &'a Put| match &put.state {
        State::Done(answer) => Some(answer),
        State::Running | State::Abandoned { .. } | State::Released | State::Tombstone => None,
    };
    column(it, puts, Type::BYTEA_ARRAY, |(_, put)| put.grant.as_ref().map(|it| &it.owner.as_bytes()[..]));
    column(it, puts, Type::INT4_ARRAY, |(_, put)| i32::from(put.rules));
    column(it, puts, Type::BYTEA_ARRAY, |(_, put)| put.fingerprint.as_ref().map(|it| &it.as_bytes()[..]));
    column(it, puts, Type::BYTEA_ARRAY, |(_, put)| &put.listing.principal.as_bytes()[..]);
    column(it, puts, Type::TEXT_ARRAY, |(_, put)| put.listing.kind.as_str());
    column(it, puts, Type::TEXT_ARRAY, |(_, put)| put.listing.host.as_str());
    column(it, puts, Type::TEXT_ARRAY, |(_, put)| put.listing.path.as_str());
    column(it, puts, Type::TEXT_ARRAY, |(_, put)| put.listing.key.as_str());
    column(it, puts, Type::TEXT_ARRAY, |(_, put)| state(put));
    column(it, puts, Type::TEXT_ARRAY, |(_, put)| reason(put));
    column(it, puts, Type::TEXT_ARRAY, |(_, put)| answer(put).map(|it| &*it.kind));
    column(it, puts, Type::BYTEA_ARRAY, |(_, put)| answer(put).map(|it| &it.stored().0[..]));
    column(it, puts, Type::INT8_ARRAY, |(_, put)| answer(put).and_then(|it| it.stored().1).map(i64::from));
    column(it, puts, Type::INT8_ARRAY, |(_, put)| length(put.policy.lease));
    column(it, puts, Type::INT8_ARRAY, |(_, put)| length(put.policy.run_max));
    column(it, puts, Type::INT8_ARRAY, |(_, put)| length(put.policy.retention));
    column(it, puts, Type::INT8_ARRAY, |(_, put)| length(put.policy.tombstone));
    column(it, puts, Type::TEXT_ARRAY, |(_, put)| match put.policy.unresolved {
        Unresolved::Hold => "hold",
        Unresolved::Rerun => "rerun",
    });
    column(it, puts, Type::BYTEA_ARRAY, |(_, put)| put.checkpoint.as_deref());
    column(it, puts, Type::INT8_ARRAY, |(_, put)| put.wake_after.map(length));
    column(it, puts, Type::INT8_ARRAY, |(_, put)| millis(put.not_after));
    to
}

/// The 24 columns that `replace.sql` takes.
pub(crate) fn replaces<'a>(
    puts: &[(RecordId, &'a Put)],
    ids: &'a [RecordId],
    seen: &[Revision],
) -> Values<'a> {
    let mut to = inserts(puts, ids);
    // No row has a negative revision: one that no column can hold was never told.
    column(&mut to, seen, Type::INT8_ARRAY, |it| i64::try_from(it.0).unwrap_or(-1));
    column(&mut to, puts, Type::BOOL_ARRAY, |(_, put)| put.grant.is_some_and(|it| it.new_life));
    to
}

/// The column of ids.
pub(crate) fn ids(ids: &[RecordId]) -> Values<'_> {
    vec![(Box::new(ids.iter().map(|it| &it.as_bytes()[..]).collect::<Vec<_>>()), Type::BYTEA_ARRAY)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use onceward_core::{Answer, Listing};

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
