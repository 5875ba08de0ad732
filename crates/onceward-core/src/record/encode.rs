//! Stored bytes: versioned, checksummed, and read back to the very same record.
//!
//! Layout: format version (1 byte), the fields in order (integers big-endian, texts and bytes behind their
//! length), then 8 bytes of BLAKE3 over the record id and all that comes before. Bytes under another record's
//! id, truncated, flipped or of an unknown version are refused, never guessed at.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::key::{Principal, RecordId};
use crate::policy::{Policy, Unresolved};
use crate::record::{Answer, Fence, Listing, Owner, RULES, Record, Revision, State, Timestamp};

/// The format that [`encode`] writes. Readers accept this one and, once there is one, its predecessor.
pub const FORMAT: u8 = 1;

const CHECK_BYTES: usize = 8;

/// The stored bytes of `record`.
#[must_use]
pub fn encode(record: &Record) -> Vec<u8> {
    let answer_bytes = if let State::Done(answer) = &record.state { answer.bytes.len() } else { 0 };
    let mut out = Writer(Vec::with_capacity(320 + answer_bytes));
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
        State::Done(answer) => {
            out.u8(3);
            out.bytes(answer.kind.as_bytes());
            out.bytes(&answer.bytes);
        }
        State::Tombstone => out.u8(4),
    }
    let check = checksum(record.id, &out.0);
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
            Some(&FORMAT) => "read a stored record: its checksum or its shape is wrong",
            Some(_) => "read a stored record: its format version is unknown to this build",
            None => "read a stored record: it is empty",
        };
        Error::new(ErrorKind::Corrupt, doing)
    })
}

fn read(id: RecordId, stored: &Bytes) -> Option<Record> {
    let body = stored.len().checked_sub(CHECK_BYTES)?;
    if stored[body..] != checksum(id, &stored[..body]) {
        return None;
    }
    let mut input = Reader(stored.slice(..body));
    if input.u8()? != FORMAT {
        return None;
    }
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
    let listing = Listing {
        principal: Principal::from_bytes(input.fixed()?),
        kind: input.text()?,
        host: input.text()?,
        path: input.text()?,
        key: input.text()?,
    };
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
        3 => State::Done(Answer { kind: Cow::Owned(input.text()?), bytes: input.bytes()? }),
        4 => State::Tombstone,
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

fn checksum(id: RecordId, body: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = blake3::Hasher::new();
    hash.update(id.as_bytes());
    hash.update(body);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash.finalize().as_bytes()[..CHECK_BYTES]);
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
mod tests {
    use super::*;

    fn sample(state: State) -> Record {
        Record {
            id: RecordId::from_bytes([9; 32]),
            listing: Listing {
                principal: Principal::from_bytes([3; 16]),
                kind: "POST".into(),
                host: "shop.example".into(),
                path: "/payments".into(),
                key: "k-1".into(),
            },
            rules: RULES,
            fingerprint: Some(Fingerprint::from_bytes([5; 32])),
            state,
            owner: Owner::from_bytes([8; 16]),
            fence: Fence(77),
            revision: Revision(78),
            attempt: 2,
            policy: Policy::default(),
            checkpoint: Some(Bytes::from_static(b"half way")),
            lease_until: Timestamp::from_millis(1),
            run_until: Timestamp::from_millis(2),
            answer_until: Timestamp::MAX,
            gone_until: Timestamp::MAX,
            wake_at: Some(Timestamp::from_millis(3)),
            created: Timestamp::from_millis(4),
            updated: Timestamp::from_millis(5),
        }
    }

    fn states() -> Vec<State> {
        vec![
            State::Running,
            State::Abandoned { reason: "the connection broke".into() },
            State::Released,
            State::Done(Answer::new("http", b"\x00\xff\xfe".as_slice())),
            State::Done(Answer::new("json", b"".as_slice())),
            State::Tombstone,
        ]
    }

    #[test]
    fn every_state_reads_back_to_the_same_record() {
        for state in states() {
            let record = sample(state);
            assert_eq!(decode(record.id, &encode(&record).into()).unwrap(), record);
        }
    }

    #[test]
    fn a_flipped_bit_a_cut_or_another_id_is_refused() {
        let record = sample(State::Done(Answer::new("http", b"body".as_slice())));
        let good = encode(&record);
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode(record.id, &bad.into()).unwrap_err().kind(), ErrorKind::Corrupt, "bit {at}");
        }
        for len in 0..good.len() {
            assert!(decode(record.id, &Bytes::copy_from_slice(&good[..len])).is_err(), "cut to {len}");
        }
        assert!(decode(RecordId::from_bytes([1; 32]), &good.into()).is_err());
    }

    #[test]
    fn an_unknown_format_with_a_right_checksum_is_refused() {
        let record = sample(State::Running);
        let mut bytes = encode(&record);
        bytes.truncate(bytes.len() - CHECK_BYTES);
        bytes[0] = FORMAT + 1;
        let check = checksum(record.id, &bytes);
        bytes.extend_from_slice(&check);
        let error = decode(record.id, &bytes.into()).unwrap_err();
        assert!(error.to_string().contains("format version"), "{error}");
    }

    /// Stored bytes outlive a build. When this fails, [`FORMAT`] must grow and the old bytes stay readable.
    #[test]
    fn the_first_format_is_still_read() {
        let record = sample(State::Done(Answer::new("http", b"body".as_slice())));
        let digest = blake3::hash(&encode(&record)).to_hex();
        assert_eq!(&digest[..16], "7dccd5491e2c3bd9");
    }
}
