//! Stored bytes: versioned, checksummed, and read back to the very same record.
//!
//! Layout: format version (1 byte), the fields in order (integers big-endian, texts and bytes behind their
//! length), then 8 bytes: XXH3 of all that comes before, xor XXH3 of the record id. Bytes under another record's
//! id, truncated, flipped or of an unknown version are refused, never guessed at. The checksum is against damage:
//! whoever may write the files may write records.
//!
//! Versions 1 and 2 are read, no longer written: there the 8 bytes are of the BLAKE3 of the record id and all that
//! comes before. A packed answer, from version 2 on, is a state of its own: kind, plain length (4 bytes), zstd frame.
//! Reading unpacks nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::key::{Principal, RecordId};
use crate::policy::{Policy, Unresolved};
use crate::record::answer::Content;
use crate::record::{
    Answer, Fence, Listing, Owner, PACK_BYTES_MAX, RULES, Record, Revision, State, Timestamp,
};

/// The format that [`encode`] writes. [`decode`] reads it and all before it. The next one keeps the checksum as it is, for
/// by that [`is_newer`] tells it from damage.
pub const FORMAT: u8 = 3;

/// The format without packed answers.
const FORMAT_PLAIN: u8 = 1;
/// The last format with a checksum by BLAKE3.
const FORMAT_BLAKE3: u8 = 2;

const CHECK_BYTES: usize = 8;

/// The stored bytes of `record`.
#[must_use]
pub fn encode(record: &Record) -> Vec<u8> {
    let answer = if let State::Done(answer) = &record.state { Some(answer) } else { None };
    let mut out = Writer(Vec::with_capacity(320 + answer.map_or(0, Answer::stored_len)));
    out.u8(FORMAT);
    out.u16(record.rules);
    out.u64(record.revision.0);
    out.u64(record.fence.0);
    out.fixed(record.owner.as_bytes());
    out.u32(record.attempt);
    for time in [
        record.lease_until,
        record.run_until,
        record.answer_until,
        record.gone_until,
        record.created,
        record.updated,
    ] {
        out.u64(time.as_millis());
    }
    out.option(record.wake_at, |out, it| out.u64(it.as_millis()));
    out.option(record.fingerprint, |out, it| out.fixed(it.as_bytes()));
    out.fixed(record.listing.principal.as_bytes());
    for text in [&record.listing.kind, &record.listing.host, &record.listing.path, &record.listing.key] {
        out.bytes(text.as_bytes());
    }
    for time in [record.policy.lease, record.policy.run_max, record.policy.retention, record.policy.tombstone]
    {
        out.u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }
    out.u8(match record.policy.unresolved {
        Unresolved::Hold => 0,
        Unresolved::Rerun => 1,
    });
    out.option(record.checkpoint.as_ref(), |out, it| out.bytes(it));
    match &record.state {
        State::Running => out.u8(0),
        State::Abandoned { reason } => {
            out.u8(1);
            out.bytes(reason.as_bytes());
        }
        State::Released => out.u8(2),
        State::Done(answer) => match answer.content() {
            Content::Plain(bytes) => {
                out.u8(3);
                out.bytes(answer.kind.as_bytes());
                out.bytes(bytes);
            }
            Content::Packed { frame, len } => {
                out.u8(5);
                out.bytes(answer.kind.as_bytes());
                out.u32(*len);
                out.bytes(frame);
            }
        },
        State::Tombstone => out.u8(4),
    }
    let check = checksum(FORMAT, record.id, &out.0);
    out.fixed(&check);
    out.0
}

/// Reads what [`encode`] wrote for the record `id`.
///
/// # Errors
/// `Corrupt`: truncated, changed, another record's, or of a format or rule version this build does not know.
pub fn decode(id: RecordId, stored: &Bytes) -> Result<Record> {
    read(id, stored).ok_or_else(|| {
        let doing = match stored.first() {
            Some(&(FORMAT_PLAIN..=FORMAT)) => "read a stored record: its checksum or its shape is wrong",
            Some(_) => "read a stored record: its format version is unknown to this build",
            None => "read a stored record: it is empty",
        };
        Error::new(ErrorKind::Corrupt, doing)
    })
}

fn read(id: RecordId, stored: &Bytes) -> Option<Record> {
    let body = stored.len().checked_sub(CHECK_BYTES)?;
    let format = stored.first().copied().filter(|it| (FORMAT_PLAIN..=FORMAT).contains(it))?;
    if stored[body..] != checksum(format, id, &stored[..body]) {
        return None;
    }
    let mut input = Reader(stored.slice(..body));
    input.u8()?;
    let rules = input.u16().filter(|it| (1..=RULES).contains(it))?;
    let revision = Revision(input.u64()?);
    let fence = Fence(input.u64()?);
    let owner = Owner::from_bytes(input.fixed()?);
    let attempt = input.u32()?;
    let lease_until = input.time()?;
    let run_until = input.time()?;
    let answer_until = input.time()?;
    let gone_until = input.time()?;
    let created = input.time()?;
    let updated = input.time()?;
    let wake_at = input.option(Reader::time)?;
    let fingerprint = input.option(|input| input.fixed().map(Fingerprint::from_bytes))?;
    let listing = Arc::new(Listing {
        principal: Principal::from_bytes(input.fixed()?),
        kind: input.text()?,
        host: input.text()?,
        path: input.text()?,
        key: input.text()?,
    });
    let policy = Policy {
        lease: input.millis()?,
        run_max: input.millis()?,
        retention: input.millis()?,
        tombstone: input.millis()?,
        unresolved: match input.u8()? {
            0 => Unresolved::Hold,
            1 => Unresolved::Rerun,
            _ => return None,
        },
    };
    let checkpoint = input.option(Reader::bytes)?;
    let state = match input.u8()? {
        0 => State::Running,
        1 => State::Abandoned { reason: input.text()? },
        2 => State::Released,
        3 => State::Done(Answer::of(input.text()?, Content::Plain(input.bytes()?))),
        4 => State::Tombstone,
        5 if format > FORMAT_PLAIN => {
            let kind = input.text()?;
            let len = input.u32().filter(|it| usize::try_from(*it).is_ok_and(|it| it <= PACK_BYTES_MAX))?;
            State::Done(Answer::of(kind, Content::Packed { len, frame: input.bytes()? }))
        }
        _ => return None,
    };
    if !input.0.is_empty() {
        return None;
    }
    Some(Record {
        id,
        listing,
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

/// Whether a newer build wrote these bytes: their checksum is right, and their format or their rules are not known here.
/// They are not damaged, and that build reads them.
#[must_use]
pub fn is_newer(id: RecordId, stored: &[u8]) -> bool {
    let Some((body, check)) = stored.len().checked_sub(CHECK_BYTES).map(|it| stored.split_at(it)) else {
        return false;
    };
    let [format @ FORMAT_PLAIN..=u8::MAX, high, low, ..] = body else { return false };
    let is_known = *format <= FORMAT && u16::from_be_bytes([*high, *low]) <= RULES;
    !is_known && check == checksum(*format, id, body)
}

fn checksum(format: u8, id: RecordId, body: &[u8]) -> [u8; CHECK_BYTES] {
    if format > FORMAT_BLAKE3 {
        return (xxh3_64(body) ^ xxh3_64(id.as_bytes())).to_be_bytes();
    }
    let mut check = [0; CHECK_BYTES];
    let hash = blake3::Hasher::new().update(id.as_bytes()).update(body).finalize();
    check.copy_from_slice(&hash.as_bytes()[..CHECK_BYTES]);
    check
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn u16(&mut self, value: u16) {
        self.fixed(&value.to_be_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.fixed(&value.to_be_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.fixed(&value.to_be_bytes());
    }
    fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.fixed(bytes);
    }
    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Takes fields from the front; `None` when there is not enough or not what was written. Answers share the
/// stored bytes instead of copying them.
struct Reader(Bytes);

impl Reader {
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.0.len() < N {
            return None;
        }
        self.0.split_to(N)[..].try_into().ok()
    }
    fn u8(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|it| it[0])
    }
    fn u16(&mut self) -> Option<u16> {
        self.fixed().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_be_bytes)
    }
    fn time(&mut self) -> Option<Timestamp> {
        self.u64().map(Timestamp::from_millis)
    }
    fn millis(&mut self) -> Option<Duration> {
        self.u64().map(Duration::from_millis)
    }
    fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.u64()?).ok()?;
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }
    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
