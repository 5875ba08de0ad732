//! The bytes of heads and frames.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use onceward_core::{RecordId, Revision, Timestamp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 8] = b"ONCEWLOG";
const VERSION: u32 = 1;
/// A page of its own: no later write touches it.
pub(crate) const HEAD_LEN: usize = 4096;
const HEAD_USED: usize = 40;
pub(crate) const FRAME_LEN: usize = 48;
/// What stands in front of the checked bytes: the nonce and the check itself.
const UNCHECKED: usize = 16;
const GONE: u32 = u32::MAX;
const CHANGE_LEN: usize = 44;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The changes of one group.
    Group,
    /// Nothing changes: it says up to where everything is drained.
    Mark,
    /// The segment ends here; the number of the next one follows.
    End,
}

/// One record's change, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) id: RecordId,
    /// Of the record, or of the one that went.
    pub(crate) revision: Revision,
    /// The encoded record; `None` when it went.
    pub(crate) bytes: Option<&'a [u8]>,
}

/// A frame, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) drained: u64,
    pub(crate) now: Timestamp,
    /// Where its body lies among the bytes that it was read from.
    pub(crate) body: Range<usize>,
}

/// Not to be guessed by anybody: a planted frame would need it.
pub(crate) fn nonce() -> u64 {
    // Zeros must never look like the beginning of a frame.
    RandomState::new().hash_one(0).max(1)
}

/// The head of a segment.
pub(crate) fn head(number: u64, nonce: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_LEN);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(0_u32.to_le_bytes());
    head.extend(number.to_le_bytes());
    head.extend(nonce.to_le_bytes());
    head.extend(xxh3_64(&head).to_le_bytes());
    head.resize(HEAD_LEN, 0);
    head
}

/// The nonce of the segment `number` that begins with `bytes`.
pub(crate) fn nonce_of(bytes: &[u8], number: u64) -> Option<u64> {
    let nonce = u64_at(bytes, 24)?;
    (bytes.len() >= HEAD_LEN && bytes[..HEAD_USED] == head(number, nonce)[..HEAD_USED]).then_some(nonce)
}

/// Begins a frame in `out`, which is emptied. [`finish`] completes it.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(FRAME_LEN, 0);
}

pub(crate) fn push(out: &mut Vec<u8>, change: Change<'_>) {
    out.extend(change.id.as_bytes());
    out.extend(change.revision.0.to_le_bytes());
    let len = change.bytes.map_or(GONE, |it| u32::try_from(it.len()).expect("a record is far below 4 GiB"));
    out.extend(len.to_le_bytes());
    out.extend(change.bytes.unwrap_or_default());
}

pub(crate) fn finish(out: &mut [u8], nonce: u64, kind: Kind, [sequence, drained, now]: [u64; 3]) {
    let len = u32::try_from(out.len() - FRAME_LEN).expect("a group is far below 4 GiB");
    let kind: u32 = match kind {
        Kind::Group => 1,
        Kind::Mark => 2,
        Kind::End => 3,
    };
    out[16..20].copy_from_slice(&len.to_le_bytes());
    out[20..24].copy_from_slice(&kind.to_le_bytes());
    out[24..32].copy_from_slice(&sequence.to_le_bytes());
    out[32..40].copy_from_slice(&drained.to_le_bytes());
    out[40..48].copy_from_slice(&now.to_le_bytes());
    let check = xxh3_64_with_seed(&out[UNCHECKED..], nonce);
    out[..8].copy_from_slice(&nonce.to_le_bytes());
    out[8..16].copy_from_slice(&check.to_le_bytes());
}

/// The whole frame at `at`, if one of this nonce stands there unchanged.
pub(crate) fn frame(bytes: &[u8], at: usize, nonce: u64) -> Option<Frame> {
    if u64_at(bytes, at)? != nonce {
        return None;
    }
    let len = usize::try_from(u32_at(bytes, at + 16)?).ok()?;
    let end = (at + FRAME_LEN).checked_add(len)?;
    let checked = bytes.get(at + UNCHECKED..end)?;
    if xxh3_64_with_seed(checked, nonce) != u64_at(bytes, at + 8)? {
        return None;
    }
    let kind = match u32_at(bytes, at + 20)? {
        1 => Kind::Group,
        2 => Kind::Mark,
        3 => Kind::End,
        _ => return None,
    };
    Some(Frame {
        kind,
        sequence: u64_at(bytes, at + 24)?,
        drained: u64_at(bytes, at + 32)?,
        now: Timestamp::from_millis(u64_at(bytes, at + 40)?),
        body: at + FRAME_LEN..end,
    })
}

/// Every whole frame at `from` or later, wherever it begins.
pub(crate) fn frames_behind(bytes: &[u8], mut from: usize, nonce: u64) -> Vec<Frame> {
    let (mark, mut found) = (nonce.to_le_bytes(), Vec::new());
    while let Some(rest) = bytes.get(from..) {
        let Some(at) = rest.windows(mark.len()).position(|it| it == mark) else { break };
        from += at;
        match frame(bytes, from, nonce) {
            Some(it) => {
                from = it.body.end;
                found.push(it);
            }
            None => from += 1,
        }
    }
    found
}

/// The changes in the body of a frame; ends early where the body is not what [`push`] wrote.
pub(crate) fn changes(mut body: &[u8]) -> impl Iterator<Item = Change<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = body.split_at_checked(CHANGE_LEN)?;
        let id = RecordId::from_bytes(*head.first_chunk()?);
        let (revision, len) = (Revision(u64_at(head, 32)?), u32_at(head, 40)?);
        let bytes;
        (bytes, body) = match len {
            GONE => (None, rest),
            len => {
                let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                (Some(bytes), rest)
            }
        };
        Some(Change { id, revision, bytes })
    })
}

/// The number of the next segment, from the body of an [`Kind::End`].
pub(crate) fn next(body: &[u8]) -> Option<u64> {
    u64_at(body, 0)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|it| u64::from_le_bytes(*it))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|it| u32::from_le_bytes(*it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(byte: u8, bytes: Option<&[u8]>) -> Change<'_> {
        Change { id: RecordId::from_bytes([byte; 32]), revision: Revision(u64::from(byte)), bytes }
    }

    fn one(nonce: u64, sequence: u64) -> Vec<u8> {
        let mut out = vec![9];
        begin(&mut out);
        push(&mut out, change(1, Some(b"a record")));
        push(&mut out, change(2, None));
        push(&mut out, change(3, Some(b"")));
        finish(&mut out, nonce, Kind::Group, [sequence, 3, 77]);
        out
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let bytes = one(5, 4);
        let it = frame(&bytes, 0, 5).unwrap();
        let wanted = Frame {
            kind: Kind::Group,
            sequence: 4,
            drained: 3,
            now: Timestamp::from_millis(77),
            body: 48..bytes.len(),
        };
        assert_eq!(it, wanted);
        let read: Vec<_> = changes(&bytes[it.body]).collect();
        assert_eq!(read, [change(1, Some(b"a record")), change(2, None), change(3, Some(b""))]);
        assert_eq!(nonce_of(&head(7, 5), 7), Some(5));
        assert_eq!(nonce_of(&head(7, 5), 8), None, "another's number");
    }

    #[test]
    fn whatever_byte_of_a_frame_or_a_head_changes_it_is_none() {
        let (bytes, head) = (one(5, 4), head(7, 5));
        for flip in [0x01, 0x80, 0xff] {
            for at in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                assert_eq!(frame(&bytes, 0, 5), None, "{flip:#x} at {at}");
            }
            for at in 0..HEAD_USED {
                let mut head = head.clone();
                head[at] ^= flip;
                assert_eq!(nonce_of(&head, 7), None, "{flip:#x} at {at}");
            }
        }
        for cut in 0..bytes.len() {
            assert_eq!(frame(&bytes[..cut], 0, 5), None, "cut at {cut}");
        }
    }

    #[test]
    fn frames_of_another_use_are_none_and_those_of_this_are_found_anywhere() {
        let bytes =
            [&one(5, 4)[..], &[1, 2, 3], &one(6, 9), &one(5, 6), &[0; 100], &one(5, 7)[..30]].concat();
        let found: Vec<_> = frames_behind(&bytes, 1, 5).iter().map(|it| it.sequence).collect();
        assert_eq!(found, [6]);
        assert_eq!(frames_behind(&bytes, 0, 7), []);
    }
}
