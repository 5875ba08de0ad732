//! How records and their times lie in the tables.
//!
//! `records`: record id (32 bytes) → the bytes of [`encode`](onceward_core::record::encode::encode).
//!
//! `agenda`: what (1 byte), when (8 bytes, big-endian milliseconds), which (32 bytes) → nothing, so that what
//! is due first lies first and nothing scans. The row [`HIGH_WATER`] holds the latest time that a write was
//! stamped with, as far as the log that is begun at every opening does not say it: a repair writes it, and builds did
//! that had no log.

use std::ops::RangeInclusive;

use fjall::{Keyspace, OwnedWriteBatch};
use onceward_core::store::Agenda;
use onceward_core::{Record, RecordId, Timestamp};

use crate::past::next_key;

/// The key of the high-water mark in the agenda. No row of a record is as short.
pub(crate) const HIGH_WATER: &[u8] = b"\0high water";

/// The key of one row of the agenda.
pub(crate) type AgendaKey = [u8; 41];

/// Before and behind every row of a record.
pub(crate) const FIRST: AgendaKey = {
    let mut first = [0; 41];
    first[0] = 1;
    first
};
pub(crate) const LAST: AgendaKey = [0xff; 41];

pub(crate) fn key(what: Agenda, when: Timestamp, id: RecordId) -> AgendaKey {
    let mut key = [0; 41];
    key[0] = match what {
        Agenda::Lease => 1,
        Agenda::Wake => 2,
        Agenda::Expiry => 3,
    };
    key[1..9].copy_from_slice(&when.as_millis().to_be_bytes());
    key[9..].copy_from_slice(id.as_bytes());
    key
}

/// The rows that belong to `record`, at most one of each kind.
pub(crate) fn agenda(record: &Record) -> impl Iterator<Item = AgendaKey> {
    let id = record.id;
    record.agenda().map(move |(what, when)| key(what, when, id))
}

/// What the rows of a record say: what it waits for, and until when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times([Option<Timestamp>; 3]);

const KINDS: [Agenda; 3] = [Agenda::Lease, Agenda::Wake, Agenda::Expiry];

impl Times {
    pub(crate) fn of(record: &Record) -> Self {
        let mut times = Self::default();
        for (what, when) in record.agenda() {
            times.0[what as usize] = Some(when);
        }
        times
    }
}

/// Adds to `batch` what brings the rows of `id` in both tables from `before` to what they shall be.
///
/// Always `remove`, whose marker hides every older version; a weak one would let the version beneath come back, and
/// that is a claim.
pub(crate) fn change(
    batch: &mut OwnedWriteBatch,
    (records, agenda): (&Keyspace, &Keyspace),
    id: RecordId,
    before: Times,
    after: Option<(Times, &[u8])>,
) {
    let new = after.map_or_else(Times::default, |it| it.0);
    for ((what, old), new) in KINDS.into_iter().zip(before.0).zip(new.0) {
        if old == new {
            continue;
        }
        if let Some(when) = old {
            batch.remove(agenda, &key(what, when, id)[..]);
        }
        if let Some(when) = new {
            batch.insert(agenda, &key(what, when, id)[..], b"");
        }
    }
    match after {
        Some((_, bytes)) => batch.insert(records, id.as_bytes(), bytes),
        None => batch.remove(records, id.as_bytes()),
    }
}

/// Every row of `what` up to and including `now`, or those of them behind another row; `None` where there cannot be any.
pub(crate) fn due(
    what: Agenda,
    behind: Option<AgendaKey>,
    now: Timestamp,
) -> Option<RangeInclusive<AgendaKey>> {
    let last = key(what, now, RecordId::from_bytes([0xff; 32]));
    let first = match behind {
        None => key(what, Timestamp::ZERO, RecordId::from_bytes([0; 32])),
        Some(behind) => next_key(behind)?,
    };
    (first <= last).then_some(first..=last)
}

/// What a row of the agenda says: when, and which.
pub(crate) fn place(key: &AgendaKey) -> Option<(Timestamp, RecordId)> {
    Some((time(&key[1..9])?, record_id(key)?))
}

/// Which record a row of the agenda, or of the records, belongs to.
pub(crate) fn record_id(key: &[u8]) -> Option<RecordId> {
    let id = key.last_chunk::<32>().filter(|_| matches!(key.len(), 32 | 41))?;
    Some(RecordId::from_bytes(*id))
}

/// Reads a time: the value of [`HIGH_WATER`], or a part of a key.
pub(crate) fn time(value: &[u8]) -> Option<Timestamp> {
    value.try_into().ok().map(|it| Timestamp::from_millis(u64::from_be_bytes(it)))
}
