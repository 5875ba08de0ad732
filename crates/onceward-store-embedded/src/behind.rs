//! Whether batches follow a damaged place in a journal: then that place is no unfinished write.
//!
//! A torn batch can hold anything, for answers are other people's bytes: also something that looks like a
//! batch. And what truly follows may lie behind damage that makes lengths meaningless. So:
//!
//! - Where the damaged batch can still be followed by its lengths to its end mark, only what stands behind
//!   that counts, and a whole batch right there is enough.
//! - Elsewhere a batch counts only if the journal *ends* with it: behind what truly follows lie zeros or
//!   nothing, while behind a planted one lies the rest of the batch that holds it.
//! - Its sequence number must be one that the journal can have come to.
//!
//! What is left to somebody who plants batches: to know that number, and a power cut that loses everything
//! from the very byte behind the planted one. Then the store refuses to open; nothing is lost.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::journal::{MAGIC, whole_batch};

const START_LEN: usize = 13;
const END_LEN: usize = 13;
/// A batch with the shortest entry there is.
const BATCH_LEN_MIN: usize = START_LEN + 9 + END_LEN;
/// The engine gives sequence numbers also to changes of its tables, a few with every file that it writes.
const SEQUENCE_SLACK: u64 = 1 << 16;
/// How often, on average, a byte may be hashed: more candidates than that are no accident.
const HASHED_MAX: usize = 16;

/// Whether a batch stands behind the damage at the beginning of `rest`, which is all that follows the last
/// whole batch but the zeros at its end. That batch has the sequence number `last`, if there is one. The work
/// is linear in the length of `rest`.
pub(crate) fn more_behind(rest: &[u8], last: Option<u64>) -> bool {
    let plausible = |at: usize, sequence: u64| {
        let Some(last) = last else { return true };
        // The damaged batch has a number of its own, and every batch between needs room.
        let between = u64::try_from(at / BATCH_LEN_MIN).unwrap_or(u64::MAX).saturating_add(SEQUENCE_SLACK);
        sequence.checked_sub(last).is_some_and(|it| (2..=between).contains(&it))
    };
    let behind = framed(rest);
    if let Some(at) = behind
        && let Ok(Some(batch)) = whole_batch(&mut &rest[at..])
        && plausible(at, batch.sequence)
    {
        return true;
    }
    ends_with_a_batch(rest, behind.unwrap_or(1), plausible)
}

/// Where the batch ends that begins here, judged by its lengths alone; `None` when they lead to no end mark.
fn framed(bytes: &[u8]) -> Option<usize> {
    let (count, _) = start(bytes, 0)?;
    let mut at = START_LEN;
    for _ in 0..count {
        at = entry_end(bytes, at)?;
    }
    end_mark(bytes, at).map(|_| at + END_LEN)
}

/// Whether a whole and plausible batch that begins at `from` or later ends where `bytes` end.
fn ends_with_a_batch(bytes: &[u8], from: usize, plausible: impl Fn(usize, u64) -> bool) -> bool {
    let Some(mark) = bytes.len().checked_sub(END_LEN) else { return false };
    let Some(expected) = end_mark(bytes, mark) else { return false };
    let mut may_hash = bytes.len().saturating_mul(HASHED_MAX);
    // From where entries lead to the end mark, and how many. Each entry leads to one place, so going backwards
    // every place is looked at once.
    let mut entries = HashMap::from([(mark, 0_u32)]);
    for at in (from..mark).rev() {
        if let Some(count) = entry_end(bytes, at).and_then(|it| entries.get(&it)) {
            entries.insert(at, count + 1);
        }
        let Some((count, sequence)) = start(bytes, at) else { continue };
        let first = at + START_LEN;
        if entries.get(&first) != Some(&count) || !plausible(at, sequence) {
            continue;
        }
        // Who plants so many could as well plant a whole one.
        let Some(left) = may_hash.checked_sub(mark - first) else { return true };
        may_hash = left;
        if xxh3_64(&bytes[first..mark]) == expected {
            return true;
        }
    }
    false
}

/// The number of entries, not zero, and the sequence number of a batch that seems to begin at `at`.
fn start(bytes: &[u8], at: usize) -> Option<(u32, u64)> {
    let (tag, rest) = bytes.get(at..)?.split_first()?;
    let (count, rest) = rest.split_first_chunk::<4>().filter(|_| *tag == 1)?;
    let count = u32::from_le_bytes(*count);
    (count > 0).then_some((count, u64::from_le_bytes(*rest.first_chunk()?)))
}

/// Where the entry ends that seems to begin at `at`. May lie outside.
fn entry_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        2 => {
            let head = bytes.get(at + 1..)?.first_chunk::<20>()?;
            let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = *head;
            let value = usize::try_from(u32::from_le_bytes([v0, v1, v2, v3])).ok()?;
            (at + 21 + usize::from(u16::from_le_bytes([k0, k1]))).checked_add(value)
        }
        4 => Some(at + 9),
        _ => None,
    }
}

/// The checksum in the end mark at `at`, if one stands there.
fn end_mark(bytes: &[u8], at: usize) -> Option<u64> {
    let (tag, rest) = bytes.get(at..)?.split_first()?;
    let (sum, rest) = rest.split_first_chunk().filter(|_| *tag == 3)?;
    rest.starts_with(MAGIC).then(|| u64::from_le_bytes(*sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u64 = 10;

    fn batch(sequence: u64, values: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        for value in values {
            body.extend([2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
            let length = u32::try_from(value.len()).unwrap().to_le_bytes();
            body.extend([length, length].concat());
            body.extend(b"key");
            body.extend(*value);
        }
        let count = u32::try_from(values.len()).unwrap().to_le_bytes();
        let head = [&[1][..], &count, &sequence.to_le_bytes()].concat();
        [&head[..], &body, &[3], &xxh3_64(&body).to_le_bytes(), MAGIC].concat()
    }

    fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.iter().rposition(|it| *it != 0).map_or(0, |it| it + 1));
        bytes
    }

    #[test]
    fn these_batches_are_the_engines() {
        let bytes = batch(7, &[b"one", b"two"]);
        let batch = whole_batch(&mut &bytes[..]).unwrap().unwrap();
        assert_eq!((batch.bytes, batch.sequence), (bytes.len() as u64, 7));
        assert_eq!(framed(&bytes), Some(bytes.len()));
    }

    #[test]
    fn wherever_a_batch_is_damaged_a_later_one_tells() {
        let (bad, next) = (batch(11, &[b"a value", b"and another"]), batch(12, &[b"told"]));
        let last = batch(14, &[b"told", b"told"]);
        for behind in [vec![&next], vec![&next, &last]] {
            for at in 0..bad.len() {
                for flip in [0x01, 0x80, 0xff] {
                    let mut bytes = bad.clone();
                    bytes[at] ^= flip;
                    for it in &behind {
                        bytes.extend(*it);
                    }
                    assert!(more_behind(&bytes, Some(LAST)), "{flip:#x} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_later_batch_behind_a_readable_frame_tells_even_if_the_last_one_is_torn() {
        let mut bytes = batch(11, &[b"a value"]);
        let value = bytes.len() - END_LEN - 1;
        bytes[value] ^= 1;
        bytes.extend(batch(12, &[b"told"]));
        let torn = batch(13, &[b"not told"]);
        bytes.extend(&torn[..torn.len() - 5]);
        assert!(more_behind(&bytes, Some(LAST)));
    }

    /// What a power cut can leave of one batch, whatever its values hold.
    #[test]
    fn a_batch_that_was_planted_in_a_value_does_not_tell() {
        let empty = |sequence: u64| {
            let head = [&[1, 0, 0, 0, 0][..], &sequence.to_le_bytes()].concat();
            [&head[..], &[3], &xxh3_64(b"").to_le_bytes(), MAGIC].concat()
        };
        for planted in
            [empty(0), empty(12), batch(0, &[b"x"]), batch(LAST + 1, &[b"x"]), batch(1 << 40, &[b"x"])]
        {
            let value = [&b"{\"echo\":\""[..], &planted, &planted, b"\"}"].concat();
            let torn = batch(11, &[b"row", &value, b"row"]);
            check_torn(&torn, |_| false);
        }
        // With the right number only the cut right behind it deceives.
        let planted = batch(12, &[b"x"]);
        let value = [&b"{\"echo\":\""[..], &planted, b"\"}"].concat();
        let torn = batch(11, &[b"row", &value, b"row"]);
        let end = torn.windows(planted.len()).position(|it| it == planted).unwrap() + planted.len();
        check_torn(&torn, |cut| cut == end);
    }

    fn check_torn(torn: &[u8], deceives: impl Fn(usize) -> bool) {
        for cut in 1..torn.len() {
            let rest = trimmed(torn[..cut].to_vec());
            assert_eq!(more_behind(&rest, Some(LAST)), deceives(cut), "cut at {cut}");
        }
        for from in 0..torn.len() {
            for len in [1, 8, 40, 100] {
                let mut rest = torn.to_vec();
                rest[from..torn.len().min(from + len)].fill(0);
                let rest = trimmed(rest);
                assert!(
                    !more_behind(&rest, Some(LAST)) || deceives(rest.len()),
                    "{len} are missing at {from}"
                );
            }
        }
    }

    #[test]
    fn crafted_bytes_cost_no_more_than_their_length() {
        // Every 26 bytes another start whose entries reach to the end, and none has the right checksum.
        const STARTS: u32 = 100_000;
        let mut bytes = vec![9];
        for number in 0..STARTS {
            // A row whose key is the next start.
            bytes.extend([2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend([&[1][..], &(STARTS - 1 - number).to_le_bytes(), &12_u64.to_le_bytes()].concat());
        }
        bytes.extend([&[3][..], &[0; 8], MAGIC].concat());
        assert!(more_behind(&bytes, Some(LAST)), "so many are refused, not tried");
        assert!(!more_behind(&bytes, Some(12)), "none of these can be meant");
    }
}
