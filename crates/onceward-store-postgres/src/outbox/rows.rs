//! What goes in and comes out of the table of effects.

use std::time::Duration;

use bytes::Bytes;
use onceward_core::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

/// An effect as it is added.
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    /// Its name for whoever gets it.
    pub id: [u8; 16],
    /// What sends it. 1 to 64 characters.
    pub kind: &'a str,
    /// Where it goes.
    pub destination: &'a str,
    /// What it is kept in order with.
    pub key: Option<&'a [u8]>,
    /// Headers in their order.
    pub headers: &'a [(String, Bytes)],
    /// The payload.
    pub body: &'a [u8],
}

/// A number and a fence: what a call changes, as long as they are still its owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// The number of the row. Within a line it grows in the order of commits.
    pub seq: i64,
    /// Grows with each claim of the row.
    pub fence: i64,
}

/// An effect as it is stored.
#[derive(Debug, Clone)]
pub struct Row {
    /// What it is changed by.
    pub held: Held,
    /// Those of one line go out one after the other.
    pub line: i64,
    /// How many tries failed or ended with their relay.
    pub attempts: u32,
    /// Its name for whoever gets it.
    pub id: [u8; 16],
    /// What sends it.
    pub kind: String,
    /// Where it goes.
    pub destination: String,
    /// What it is kept in order with.
    pub key: Option<Bytes>,
    /// Headers in their order.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub body: Bytes,
    /// When it was added, by the server's clock.
    pub created: Timestamp,
}

/// How much to claim.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Of which kinds.
    pub kinds: &'a [String],
    /// Lines behind this one; [`FIRST_LINE`](super::FIRST_LINE) for all.
    pub after: i64,
    /// From how many lines at most.
    pub lines_max: usize,
    /// How many of a line at most.
    pub line_max: usize,
    /// How many at most.
    pub rows_max: usize,
    /// No more once their bodies have so many bytes; one may be longer.
    pub bytes_max: usize,
}

/// What was claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// In the order of their lines, and in order within each, without a gap.
    pub rows: Vec<Row>,
    /// Where to go on. `None` where there is no line behind.
    pub next: Option<i64>,
}

/// An effect that did not go out.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Which.
    pub held: Held,
    /// Not again before this has passed; `None` parks it.
    pub pause: Option<Duration>,
    /// Why.
    pub reason: String,
    /// Whether it was tried.
    pub tried: bool,
}

/// How an outbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// How many effects are not sent, parked ones included.
    pub unsent: u64,
    /// How many are parked. Those behind them in their lines are not counted here.
    pub parked: u64,
    /// How many a relay has in hand.
    pub owned: u64,
    /// For how long the oldest waits that is neither sent nor parked.
    pub oldest: Option<Duration>,
    /// The most tries that an unsent one had.
    pub attempts: u32,
}

/// A parked effect.
#[derive(Debug, Clone)]
pub struct ParkedRow {
    /// What it is.
    pub row: Row,
    /// Since when, by the server's clock.
    pub parked_at: Timestamp,
    /// Why.
    pub reason: String,
}

/// A row as the functions of the schema give it, if it is one.
pub(super) fn row(it: &PgRow) -> Option<Row> {
    let bytes = |it: &[u8]| Bytes::copy_from_slice(it);
    let names: Vec<String> = it.try_get("o_names").ok()?;
    let values: Vec<Vec<u8>> = it.try_get("o_values").ok()?;
    Some(Row {
        held: Held { seq: it.try_get("o_seq").ok()?, fence: it.try_get("o_fence").ok()? },
        line: it.try_get("o_line").ok()?,
        attempts: it.try_get::<i32, _>("o_attempts").ok()?.unsigned_abs(),
        id: it.try_get::<&[u8], _>("o_id").ok()?.try_into().ok()?,
        kind: it.try_get("o_kind").ok()?,
        destination: it.try_get("o_destination").ok()?,
        key: it.try_get::<Option<&[u8]>, _>("o_key").ok()?.map(bytes),
        headers: names.into_iter().zip(values.into_iter().map(Bytes::from)).collect(),
        body: bytes(it.try_get("o_body").ok()?),
        created: time(it, "o_created")?,
    })
}

pub(super) fn time(row: &PgRow, column: &str) -> Option<Timestamp> {
    Some(Timestamp::from_millis(row.try_get::<i64, _>(column).ok()?.unsigned_abs()))
}
