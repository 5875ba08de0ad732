//! The stored outcome of an operation, plain or packed.
//!
//! Doors write and read plain bytes. The engine packs a longer answer before it hands it to a store, on the task
//! that finishes the permit: no store's thread compresses, and a record keeps its packed bytes wherever it is
//! copied, listed or cached. Whoever replays it unpacks it, on a task of its own.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// Answers up to this many bytes are stored as they are: there is little to gain.
pub const PACK_OVER_BYTES: usize = 1024;

/// Answers over this many bytes are stored as they are: packing one more would hold its task up for longer than
/// about 10 ms. No packed answer says that it is longer, and one that does is never unpacked.
pub const PACK_BYTES_MAX: usize = 4 << 20;

/// zstd's fastest usual level: most of the gain at a fraction of the time.
const LEVEL: i32 = 1;

/// The stored outcome of an operation: bytes, and what kind of bytes. Written once, never overwritten.
///
/// Two answers are equal when their kinds and their plain bytes are, packed or not.
#[derive(Clone)]
pub struct Answer {
    /// What the bytes are; each door has words of its own. At most 255 bytes.
    pub kind: Cow<'static, str>,
    content: Content,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    Plain(Bytes),
    /// One zstd frame, and how many bytes it stands for.
    Packed {
        frame: Bytes,
        len: u32,
    },
}

impl Answer {
    /// An answer of `kind`.
    #[must_use]
    pub fn new(kind: impl Into<Cow<'static, str>>, bytes: impl Into<Bytes>) -> Self {
        Self { kind: kind.into(), content: Content::Plain(bytes.into()) }
    }

    pub(super) fn of(kind: String, content: Content) -> Self {
        Self { kind: Cow::Owned(kind), content }
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// The answer as its door wrote it. Unpacks it where it is packed, which takes about 1 ms for 1 MiB and never
    /// more than [`PACK_BYTES_MAX`] of memory.
    ///
    /// # Errors
    /// `Corrupt`: the packed bytes are not what they say.
    pub fn bytes(&self) -> Result<Bytes> {
        match &self.content {
            Content::Plain(bytes) => Ok(bytes.clone()),
            Content::Packed { frame, len } => unpack(frame, *len),
        }
    }

    /// How many bytes its door wrote.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Plain(bytes) => bytes.len(),
            Content::Packed { len, .. } => usize::try_from(*len).unwrap_or(usize::MAX),
        }
    }

    /// Whether its door wrote no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it takes in memory and in a store.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        match &self.content {
            Content::Plain(bytes) => bytes.len(),
            Content::Packed { frame, .. } => frame.len(),
        }
    }

    /// What a store with columns of its own keeps: the bytes, and for a packed answer how many bytes they stand for.
    #[must_use]
    pub fn stored(&self) -> (&Bytes, Option<u32>) {
        match &self.content {
            Content::Plain(bytes) => (bytes, None),
            Content::Packed { frame, len } => (frame, Some(*len)),
        }
    }

    /// The answer whose [`stored`](Self::stored) form this is. It unpacks nothing.
    ///
    /// # Errors
    /// `Corrupt`: a packed answer says that it is longer than any is.
    pub fn from_stored(
        kind: impl Into<Cow<'static, str>>,
        bytes: Bytes,
        packed_len: Option<u32>,
    ) -> Result<Self> {
        let content = match packed_len {
            None => Content::Plain(bytes),
            Some(len) if usize::try_from(len).is_ok_and(|it| it <= PACK_BYTES_MAX) => {
                Content::Packed { frame: bytes, len }
            }
            Some(_) => return Err(Error::new(ErrorKind::Corrupt, "read a stored answer")),
        };
        Ok(Self { kind: kind.into(), content })
    }

    /// The same answer as stores get it: packed if it is longer than [`PACK_OVER_BYTES`], not longer than
    /// [`PACK_BYTES_MAX`], and shorter that way. Takes about 1 to 3 ms for 1 MiB.
    #[must_use]
    pub fn packed(&self) -> Self {
        let Content::Plain(bytes) = &self.content else { return self.clone() };
        if bytes.len() <= PACK_OVER_BYTES || bytes.len() > PACK_BYTES_MAX {
            return self.clone();
        }
        let len = u32::try_from(bytes.len()).expect("what is packed is short enough to be counted");
        match zstd::bulk::compress(bytes, LEVEL) {
            Ok(frame) if frame.len() < bytes.len() => {
                Self { kind: self.kind.clone(), content: Content::Packed { frame: frame.into(), len } }
            }
            // An answer that cannot be packed is kept as it is.
            Ok(_) | Err(_) => self.clone(),
        }
    }
}

/// The room is bounded before it is taken, and the frame cannot write beyond it.
fn unpack(frame: &[u8], len: u32) -> Result<Bytes> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "unpack a stored answer");
    let room = usize::try_from(len).ok().filter(|it| *it <= PACK_BYTES_MAX).ok_or_else(corrupt)?;
    let plain = zstd::bulk::decompress(frame, room).map_err(|it| corrupt().caused_by(it))?;
    if plain.len() == room { Ok(plain.into()) } else { Err(corrupt()) }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        let same_bytes = || match (self.bytes(), other.bytes()) {
            (Ok(mine), Ok(theirs)) => mine == theirs,
            (Ok(_) | Err(_), _) => false,
        };
        self.kind == other.kind
            && (self.content == other.content || (self.len() == other.len() && same_bytes()))
    }
}

impl Eq for Answer {}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.kind, self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Text that packs well.
    fn text(len: usize) -> Bytes {
        b"{\"amount\":12,\"currency\":\"EUR\"},".iter().copied().cycle().take(len).collect()
    }

    /// Bytes that do not pack.
    fn noise(len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes.into()
    }

    fn forged(frame: &[u8], len: u32) -> Answer {
        Answer::of("http".into(), Content::Packed { frame: Bytes::copy_from_slice(frame), len })
    }

    #[test]
    fn long_answers_are_packed_and_others_are_not() {
        for (bytes, is_packed) in [
            (text(0), false),
            (text(PACK_OVER_BYTES), false),
            (text(PACK_OVER_BYTES + 1), true),
            (text(1 << 20), true),
            (text(PACK_BYTES_MAX), true),
            (text(PACK_BYTES_MAX + 1), false),
            (noise(PACK_OVER_BYTES + 1), false),
            (noise(1 << 20), false),
        ] {
            let plain = Answer::new("http", bytes.clone());
            let stored = plain.packed();
            let most = if is_packed { bytes.len() / 10 } else { bytes.len() };
            assert!(stored.stored_len() <= most, "{stored:?} takes {}", stored.stored_len());
            assert!(is_packed || stored.stored_len() == bytes.len(), "{stored:?} is as it was");
            assert_eq!((stored.len(), stored.bytes().unwrap()), (bytes.len(), bytes));
            assert_eq!(stored, plain);
            assert_eq!(stored.packed().stored_len(), stored.stored_len(), "it is packed once");
        }
    }

    #[test]
    fn answers_are_compared_by_what_they_stand_for() {
        let counted = (0..2000).map(|it| format!("{it},")).collect::<String>()[..5000].to_owned();
        let plain = Answer::new("http", counted.clone());
        let harder = forged(&zstd::bulk::compress(counted.as_bytes(), 19).unwrap(), 5000);
        assert!(harder.content != plain.packed().content, "another build may pack otherwise");
        assert_eq!(harder, plain.packed());
        assert_ne!(harder, Answer::new("json", counted.clone()));
        assert_ne!(plain.packed(), Answer::new("http", counted.clone() + "1").packed());
        let mut other = counted.into_bytes();
        other[4000] ^= 1;
        assert_ne!(plain.packed(), Answer::new("http", other).packed());
        assert_ne!(forged(b"junk", 4), Answer::new("http", "junk"), "what cannot be read equals nothing");
    }

    #[test]
    fn an_answer_reads_back_from_what_a_store_keeps() {
        for answer in
            [Answer::new("http", ""), Answer::new("http", noise(9)), Answer::new("http", text(5000)).packed()]
        {
            let (bytes, packed_len) = answer.stored();
            assert_eq!(bytes.len(), answer.stored_len());
            let again = Answer::from_stored("http", bytes.clone(), packed_len).unwrap();
            assert!(again.content == answer.content && again.kind == answer.kind);
        }
        let longest = u32::try_from(PACK_BYTES_MAX).unwrap();
        assert!(Answer::from_stored("http", text(9), Some(longest)).is_ok());
        let error = Answer::from_stored("http", text(9), Some(longest + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_frame_that_is_not_what_it_says_is_refused() {
        let good = zstd::bulk::compress(&text(5000), LEVEL).unwrap();
        let zeros = zstd::bulk::compress(&vec![0; 64 << 20], LEVEL).unwrap();
        let unsized_zeros = {
            let mut out = Vec::new();
            zstd::stream::copy_encode(std::io::repeat(0).take(64 << 20), &mut out, LEVEL).unwrap();
            out
        };
        assert!(zeros.len() < 10_000);
        for (what, frame, len) in [
            ("it expands to more than it says", zeros.clone(), 5000),
            ("so does one whose frame names no size", unsized_zeros, 5000),
            ("it says more than the bound", zeros.clone(), 64 << 20),
            ("it says all there is", zeros, u32::MAX),
            ("it is shorter than it says", good.clone(), 5001),
            ("it is longer than it says", good.clone(), 4999),
            ("it is cut", good[..good.len() - 1].to_vec(), 5000),
            ("it is empty", Vec::new(), 5000),
            ("something follows", [&good[..], b"junk"].concat(), 5000),
            ("another frame follows", [&good[..], &good[..]].concat(), 5000),
            ("it is no frame", text(100).to_vec(), 5000),
        ] {
            let error = forged(&frame, len).bytes().expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}");
        }
        assert_eq!(forged(&good, 5000).bytes().unwrap(), text(5000));
    }
}
