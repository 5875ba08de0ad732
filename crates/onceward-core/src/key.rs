//! Who asks for what: keys, principals, scopes, and the record id made of them.

use std::fmt;

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
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Principal([u8; 16]);

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
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId([u8; 32]);

impl RecordId {
    /// The record id of `key` in `scope`, under the current rule version.
    #[must_use]
    pub fn of(scope: &Scope, key: &Key) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("onceward 2026 record id");
        hash.update(&RULES.to_be_bytes());
        if !mutant::is(Mutant::ScopeWithoutPrincipal) {
            update_sized(&mut hash, scope.principal.as_bytes());
        }
        for part in [&scope.kind, &scope.host, &scope.path] {
            update_sized(&mut hash, part.as_bytes());
        }
        update_sized(&mut hash, key.as_str().as_bytes());
        Self(*hash.finalize().as_bytes())
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
        self.to_string()[..12].to_owned()
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

/// Adds `part` to `hash` behind its length, so that neighbours cannot run into each other.
pub(crate) fn update_sized(hash: &mut blake3::Hasher, part: &[u8]) {
    hash.update(&(part.len() as u64).to_be_bytes());
    hash.update(part);
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|it| write!(f, "{it:02x}"))
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
    fn a_key_stands_in_no_debug_output() {
        assert_eq!(format!("{:?}", Key::parse("secret").unwrap()), "Key(6 bytes)");
    }
}
