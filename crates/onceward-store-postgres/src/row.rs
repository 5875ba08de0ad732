//! A row of the table, read as the record it stands for, or refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onceward_core::record::RULES;
use onceward_core::store::Stamps;
use onceward_core::{
    Answer, Error, ErrorKind, Fence, Fingerprint, Listing, Owner, Policy, Principal, Record, RecordId,
    Result, Revision, State, Timestamp, Unresolved,
};
use tokio_postgres::Row;

use crate::sql::FORMAT;

/// A point in time as the table has it: what is past the largest number is never.
pub(crate) fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A length of time as the table has it.
pub(crate) fn length(pause: Duration) -> i64 {
    i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)
}

/// A row of whatever driver. `None` is a column of another type; within, `None` is null.
pub(crate) trait Cells {
    fn int2(&self, at: usize) -> Option<Option<i16>>;
    fn int4(&self, at: usize) -> Option<Option<i32>>;
    fn int8(&self, at: usize) -> Option<Option<i64>>;
    fn text(&self, at: usize) -> Option<Option<&str>>;
    fn bytes(&self, at: usize) -> Option<Option<&[u8]>>;
}

impl Cells for Row {
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

/// Takes columns from the left. `None` where one is of another type, or null where that cannot be.
pub(crate) struct Columns<'a, R> {
    row: &'a R,
    next: usize,
}

impl<'a, R: Cells> Columns<'a, R> {
    /// Begins at column `first`.
    pub(crate) fn from(row: &'a R, first: usize) -> Self {
        Self { row, next: first }
    }

    fn take<T>(&mut self, get: impl FnOnce(&'a R, usize) -> T) -> T {
        self.next += 1;
        get(self.row, self.next - 1)
    }

    pub(crate) fn long(&mut self) -> Option<i64> {
        self.take(R::int8)?
    }

    pub(crate) fn bytes_or_null(&mut self) -> Option<Option<&'a [u8]>> {
        self.take(R::bytes)
    }

    fn text_or_null(&mut self) -> Option<Option<String>> {
        self.take(R::text).map(|it| it.map(str::to_owned))
    }

    fn unsigned(&mut self) -> Option<u64> {
        u64::try_from(self.long()?).ok()
    }

    pub(crate) fn time(&mut self) -> Option<Timestamp> {
        self.long().and_then(time)
    }

    fn pause(&mut self) -> Option<Duration> {
        let millis = self.long()?;
        let millis = if millis == i64::MAX { u64::MAX } else { u64::try_from(millis).ok()? };
        Some(Duration::from_millis(millis))
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes_or_null()??.try_into().ok()
    }

    fn text(&mut self) -> Option<String> {
        self.text_or_null()?
    }
}

fn time(millis: i64) -> Option<Timestamp> {
    if millis == i64::MAX {
        return Some(Timestamp::MAX);
    }
    u64::try_from(millis).ok().map(Timestamp::from_millis)
}

/// How many columns [`stamps`] takes.
pub(crate) const STAMPS: usize = 11;

/// What a statement stamped, in the columns from `first` on; `None` where nothing was kept.
pub(crate) fn stamps(row: &impl Cells, first: usize) -> Option<Stamps> {
    let mut it = Columns::from(row, first);
    Some(Stamps {
        revision: Revision(it.unsigned()?),
        fence: Fence(it.unsigned()?),
        owner: Owner::from_bytes(it.fixed()?),
        attempt: u32::try_from(it.unsigned()?).ok()?,
        lease_until: it.time()?,
        run_until: it.time()?,
        answer_until: it.time()?,
        gone_until: it.time()?,
        wake_at: wake_at(&mut it)?,
        created: it.time()?,
        updated: it.time()?,
    })
}

fn wake_at(it: &mut Columns<'_, impl Cells>) -> Option<Option<Timestamp>> {
    match it.take(Cells::int8)? {
        None => Some(None),
        Some(millis) => time(millis).map(Some),
    }
}

/// The id in the column `first`; `None` where there is no row, or none with an id.
pub(crate) fn id(row: &impl Cells, first: usize) -> Option<RecordId> {
    Columns::from(row, first).fixed().map(RecordId::from_bytes)
}

/// Whether there is a row from the column `first` on.
pub(crate) fn is_there(row: &impl Cells, first: usize) -> bool {
    !matches!(row.bytes(first), Some(None))
}

/// The record in the columns from `first` on; `None` where there is no row.
///
/// # Errors
/// `Corrupt`: it is of a format or rule version that this build does not know, or its columns do not fit together.
pub(crate) fn record(row: &impl Cells, first: usize) -> Result<Option<Arc<Record>>> {
    if !is_there(row, first) {
        return Ok(None);
    }
    let doing = match row.int2(first + 1) {
        Some(Some(FORMAT)) => "read a stored record: its columns do not fit together",
        Some(_) | None => "read a stored record: its format version is unknown to this build",
    };
    let read = read(Columns::from(row, first)).map(|it| Some(Arc::new(it)));
    read.ok_or_else(|| Error::new(ErrorKind::Corrupt, doing))
}

fn read(mut it: Columns<'_, impl Cells>) -> Option<Record> {
    let id = RecordId::from_bytes(it.fixed()?);
    it.take(Cells::int2)?.filter(|it| *it == FORMAT)?;
    let rules = u16::try_from(it.take(Cells::int4)??).ok().filter(|it| (1..=RULES).contains(it))?;
    let state = it.take(Cells::text)??;
    let revision = Revision(it.unsigned()?);
    let fence = Fence(it.unsigned()?);
    let owner = Owner::from_bytes(it.fixed()?);
    let attempt = u32::try_from(it.unsigned()?).ok()?;
    let [lease_until, run_until, answer_until, gone_until] = [it.time()?, it.time()?, it.time()?, it.time()?];
    let wake_at = wake_at(&mut it)?;
    let [created, updated] = [it.time()?, it.time()?];
    let policy = Policy {
        lease: it.pause()?,
        run_max: it.pause()?,
        retention: it.pause()?,
        tombstone: it.pause()?,
        unresolved: match it.take(Cells::text)?? {
            "hold" => Unresolved::Hold,
            "rerun" => Unresolved::Rerun,
            _ => return None,
        },
    };
    let listing = Listing {
        principal: Principal::from_bytes(it.fixed()?),
        kind: it.text()?,
        host: it.text()?,
        path: it.text()?,
        key: it.text()?,
    };
    let fingerprint = match it.bytes_or_null()? {
        None => None,
        Some(bytes) => Some(Fingerprint::from_bytes(bytes.try_into().ok()?)),
    };
    let reason = it.text_or_null()?;
    let answer_kind = it.text_or_null()?;
    let answer = it.bytes_or_null()?;
    let answer_len = it.take(Cells::int8)?;
    let checkpoint = it.bytes_or_null()?.map(Bytes::copy_from_slice);
    let state = match state {
        "running" => State::Running,
        "abandoned" => State::Abandoned { reason: reason? },
        "released" => State::Released,
        "done" => {
            let packed = answer_len.map(u32::try_from).transpose().ok()?;
            State::Done(Answer::from_stored(answer_kind?, Bytes::copy_from_slice(answer?), packed).ok()?)
        }
        "tombstone" => State::Tombstone,
        _ => return None,
    };
    Some(Record {
        id,
        listing: Arc::new(listing),
        rules,
        fingerprint,
        state,
        owner,
        fence,
        revision,
        attempt,
        policy,
        checkpoint,
        lease_until,
        run_until,
        answer_until,
        gone_until,
        wake_at,
        created,
        updated,
    })
}
