//! The values of the statements for one row.

use onceward_core::store::Put;
use onceward_core::{Record, RecordId, Revision, State};
use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;

use crate::puts;
use crate::row::{length, millis};

/// "onceward" in ASCII. It keeps our locks away from others'.
const LOCK: i64 = 0x6f6e_6365_7761_7264;

/// Those of `operation_vacant.sql`.
pub(super) fn vacant(id: RecordId, put: &Put) -> Result<PgArguments, BoxDynError> {
    let (listing, policy) = (&put.listing, &put.policy);
    let mut to = PgArguments::default();
    to.add(lock(id))?;
    to.add(&id.as_bytes()[..])?;
    to.add(i32::from(put.rules))?;
    to.add(put.grant.as_ref().map(|it| &it.owner.as_bytes()[..]))?;
    for pause in [policy.lease, policy.run_max, policy.retention, policy.tombstone] {
        to.add(length(pause))?;
    }
    to.add(puts::unresolved(put))?;
    to.add(&listing.principal.as_bytes()[..])?;
    for text in [&listing.kind, &listing.host, &listing.path, &listing.key] {
        to.add(&text[..])?;
    }
    to.add(put.fingerprint.as_ref().map(|it| &it.as_bytes()[..]))?;
    Ok(to)
}

/// Those of the function that finishes an operation: `done` is to stand where `seen` is.
pub(super) fn done(seen: Revision, done: &Record) -> Result<PgArguments, BoxDynError> {
    let answer = if let State::Done(answer) = &done.state { Some(answer) } else { None };
    let stored = answer.map(onceward_core::Answer::stored);
    let mut to = PgArguments::default();
    to.add(&done.id.as_bytes()[..])?;
    for revision in [seen, done.revision] {
        to.add(puts::number(revision))?;
    }
    for time in [done.updated, done.answer_until, done.gone_until] {
        to.add(millis(time))?;
    }
    to.add(Some(millis(done.expires_at())).filter(|it| *it != i64::MAX))?;
    to.add(answer.map(|it| &it.kind[..]))?;
    to.add(stored.map(|it| &it.0[..]))?;
    to.add(stored.and_then(|it| it.1).map(i64::from))?;
    Ok(to)
}

/// The name of the lock of a record id: what `onceward_operation_lock_1` makes of it.
fn lock(id: RecordId) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ LOCK
}
