//! How records and their times lie in the tables.
//!
//! `records`: record id (32 bytes) → the bytes of [`encode`](onceward_core::record::encode::encode).
//!
//! `agenda`: what (1 byte), when (8 bytes, big-endian milliseconds), which (32 bytes) → nothing, so that what
//! is due first lies first and nothing scans. The row [`HIGH_WATER`] holds the latest time that a write was
//! stamped with.

use std::ops::RangeInclusive;

use onceward_core::store::Agenda;
use onceward_core::{Record, RecordId, Timestamp};

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

fn key(what: Agenda, when: Timestamp, id: RecordId) -> AgendaKey {
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

/// Every row of `what` up to and including `now`.
pub(crate) fn due(what: Agenda, now: Timestamp) -> RangeInclusive<AgendaKey> {
    key(what, Timestamp::ZERO, RecordId::from_bytes([0; 32]))
        ..=key(what, now, RecordId::from_bytes([0xff; 32]))
}

/// Which record a row of the agenda, or of the records, belongs to.
pub(crate) fn record_id(key: &[u8]) -> Option<RecordId> {
    let id = key.last_chunk::<32>().filter(|_| matches!(key.len(), 32 | 41))?;
    Some(RecordId::from_bytes(*id))
}

/// Reads the value of [`HIGH_WATER`].
pub(crate) fn time(value: &[u8]) -> Option<Timestamp> {
    value.try_into().ok().map(|it| Timestamp::from_millis(u64::from_be_bytes(it)))
}
