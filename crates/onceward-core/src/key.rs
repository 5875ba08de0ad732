//! Who asks for what: keys, principals, scopes, and the record id made of them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use blake3::hazmat::{self, ContextKey, HasherExt as _};

use crate::mutant::{self, Mutant};
use crate::record::RULES;

/// The longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// The caller's name for one business intent: 1 to 255 visible ASCII characters.
///
/// `Debug` shows only the length: keys stand in no log line.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Box<str>);

/// Why a text is not a [`Key`]. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No characters.
    #[error("the key is empty; send 1 to 255 visible ASCII characters")]
    Empty,
    /// More than [`KEY_BYTES_MAX`] bytes.
    #[error("the key is longer than 255 characters; send a shorter one, for example a UUID")]
    TooLong,
    /// A blank, a control character or a byte outside ASCII.
    #[error("the key has a character that is not visible ASCII; send letters, digits and punctuation only")]
    NotVisibleAscii,
}

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if !text.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(KeyError::NotVisibleAscii);
        }
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong);
        }
        Ok(Self(text.into()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// Who calls: a keyed hash made by a [`Hasher`](crate::Hasher), or nobody in particular.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Principal([u8; 16]);

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_prefix(&self.0, state);
    }
}

impl Principal {
    /// The caller without a credential.
    pub const ANONYMOUS: Self = Self([0; 16]);

    /// A principal from its 16 hash bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads what `Display` wrote: 32 hexadecimal digits, or `anonymous`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "anonymous" { Some(Self::ANONYMOUS) } else { parse_hex(text).map(Self) }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANONYMOUS { f.write_str("anonymous") } else { write_hex(f, &self.0) }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({self})")
    }
}

/// The space in which a key is unique.
///
/// The texts are used exactly as given; each is hashed with its length, so that `a` + `bc` and `ab` + `c` are
/// two scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Who calls.
    pub principal: Principal,
    /// The kind of operation: an HTTP method, or a word such as `consume`.
    pub kind: String,
    /// Where: the HTTP host, a consumer group, a saga's name. May be empty.
    pub host: String,
    /// What: the HTTP path as sent, a topic, a step. May be empty.
    pub path: String,
}

/// The name of a record: all that a store needs to know of scope and key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId([u8; 32]);

/// The key of the context in which record ids are hashed: the hash of its name, which is made once.
static RECORD_ID: LazyLock<ContextKey> =
    LazyLock::new(|| hazmat::hash_derive_key_context("onceward 2026 record id"));

impl Hash for RecordId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_prefix(&self.0, state);
    }
}

/// What maps hash of a value that is a hash already: its first 8 bytes. Nobody can make values that share them faster
/// than by trying 2^32 for one pair, so they need not be hashed whole.
fn hash_prefix<H: Hasher, const N: usize>(bytes: &[u8; N], state: &mut H) {
    let prefix = bytes.first_chunk().expect("every hash is longer than 8 bytes");
    state.write_u64(u64::from_ne_bytes(*prefix));
}

impl RecordId {
    /// The record id of `key` in `scope`, under the current rule version.
    #[must_use]
    pub fn of(scope: &Scope, key: &Key) -> Self {
        let principal = (!mutant::is(Mutant::ScopeWithoutPrincipal)).then(|| &scope.principal.as_bytes()[..]);
        let texts = [&scope.kind, &scope.host, &scope.path].map(|it| it.as_bytes());
        let parts = principal.into_iter().chain(texts).chain([key.as_str().as_bytes()]);
        let hash = blake3::Hasher::new_from_context_key(&RECORD_ID);
        Self(hash_sized(hash, &RULES.to_be_bytes(), parts))
    }

    /// The id of a record that Onceward keeps for itself. No scope and key can lead to it.
    #[must_use]
    pub fn reserved(name: &str) -> Self {
        Self(blake3::derive_key("onceward 2026 reserved record", name.as_bytes()))
    }

    /// An id from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads what `Display` wrote: 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }

    /// The first 12 hexadecimal digits: what logs and messages show.
    #[must_use]
    pub fn prefix(&self) -> String {
        let mut text = String::with_capacity(12);
        push_hex(&mut text, &self.0[..6]);
        text
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({})", self.prefix())
    }
}

/// How many bytes are gathered before they are hashed: most requests hash less. `blake3` takes its whole way through
/// for each piece, however short.
const GATHERED: usize = 512;

/// Hashes `head` and each part behind its length, so that neighbours cannot run into each other.
pub(crate) fn hash_sized<'a>(
    mut hash: blake3::Hasher,
    head: &[u8],
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> [u8; 32] {
    let (mut gathered, mut len) = ([0; GATHERED], 0);
    let mut add = |hash: &mut blake3::Hasher, piece: &[u8]| {
        if let Some(room) = gathered.get_mut(len..len + piece.len()) {
            room.copy_from_slice(piece);
            len += piece.len();
        } else {
            hash.update(&gathered[..len]);
            hash.update(piece);
            len = 0;
        }
    };
    add(&mut hash, head);
    for part in parts {
        add(&mut hash, &(part.len() as u64).to_be_bytes());
        add(&mut hash, part);
    }
    hash.update(&gathered[..len]);
    *hash.finalize().as_bytes()
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    f.write_str(&text)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, host: &str, path: &str, key: &str) -> RecordId {
        let scope = Scope {
            principal: Principal::ANONYMOUS,
            kind: kind.into(),
            host: host.into(),
            path: path.into(),
        };
        RecordId::of(&scope, &Key::parse(key).unwrap())
    }

    #[test]
    fn a_key_is_one_to_255_visible_ascii_characters() {
        for good in ["a", "/payments/1", "\"", &"k".repeat(255)] {
            assert!(Key::parse(good).is_ok(), "{good}");
        }
        assert_eq!(Key::parse(""), Err(KeyError::Empty));
        assert_eq!(Key::parse(&"k".repeat(256)), Err(KeyError::TooLong));
        for bad in [" ", "a b", "a\t", "a\u{7f}", "é", "a\0"] {
            assert_eq!(Key::parse(bad), Err(KeyError::NotVisibleAscii), "{bad:?}");
        }
    }

    #[test]
    fn parts_of_a_scope_cannot_run_into_each_other() {
        assert_ne!(id("POST", "a", "bc", "k"), id("POST", "ab", "c", "k"));
        assert_ne!(id("POST", "", "/a", "bk"), id("POST", "", "/ab", "k"));
        assert_ne!(id("POST", "h", "/", "k"), id("PATCH", "h", "/", "k"));
        assert_eq!(id("POST", "h", "/", "k"), id("POST", "h", "/", "k"));
    }

    #[test]
    fn ids_and_principals_read_back() {
        let it = id("POST", "h", "/", "k");
        assert_eq!(RecordId::parse(&it.to_string()), Some(it));
        assert_eq!(RecordId::parse("zz"), None);
        assert_eq!(RecordId::parse(&"é".repeat(32)), None);
        let who = Principal::from_bytes([7; 16]);
        assert_eq!(Principal::parse(&who.to_string()), Some(who));
        assert_eq!(Principal::parse("anonymous"), Some(Principal::ANONYMOUS));
    }

    #[test]
    fn the_id_of_a_record_is_the_same_for_ever() {
        for (key, expected) in [
            ("k", "c6acca0e33eb72c9a8d611a366500a2cefd84ff4b711ec544c9594986ced18d5"),
            (&"k".repeat(255), "5891e644850cbcc110fce9157f5a3b6cfd9a67489ba3afb70f86c2e423d9c10f"),
        ] {
            assert_eq!(id("POST", "shop.test", "/payments", key).to_string(), expected);
        }
        let long = id("POST", "shop.test", &"/a".repeat(1000), "k");
        assert_eq!(long.to_string(), "6f83ab13518c1c192f5620c2fcb17ea0a15f39ecc5c861cf1cd1572cf8cb8e20");
        assert_eq!(long.prefix(), long.to_string()[..12]);
    }

    #[test]
    fn a_key_stands_in_no_debug_output() {
        assert_eq!(format!("{:?}", Key::parse("secret").unwrap()), "Key(6 bytes)");
    }
}
