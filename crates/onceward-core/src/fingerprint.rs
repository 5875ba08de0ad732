//! Keyed hashes: what was asked, and by whom. The hash key is made once inside the store.

use std::fmt;

use crate::key::{Principal, update_sized, write_hex};
use crate::record::RULES;

/// A keyed hash of what was asked: the same key with another fingerprint is a misuse, never a replay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A fingerprint from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        write_hex(f, &self.0[..4])?;
        f.write_str("…)")
    }
}

/// Makes fingerprints and principals with the hash key of one store.
///
/// Two engines over the same store hash alike; a stolen store does not tell what was asked.
#[derive(Clone, Copy)]
pub struct Hasher {
    fingerprint: [u8; 32],
    principal: [u8; 32],
}

impl Hasher {
    /// A hasher from the secret that the store keeps.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            fingerprint: blake3::derive_key("onceward 2026 fingerprint key", secret),
            principal: blake3::derive_key("onceward 2026 principal key", secret),
        }
    }

    /// Hashes what was asked: every part with its length, in the order given, under the current rule version.
    #[must_use]
    pub fn fingerprint<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
        let mut hash = blake3::Hasher::new_keyed(&self.fingerprint);
        hash.update(&RULES.to_be_bytes());
        for part in parts {
            update_sized(&mut hash, part);
        }
        Fingerprint(*hash.finalize().as_bytes())
    }

    /// Hashes who calls. `kind` keeps a cookie from ever equalling a header with the same text.
    #[must_use]
    pub fn principal(&self, kind: &str, credential: &[u8]) -> Principal {
        let mut hash = blake3::Hasher::new_keyed(&self.principal);
        update_sized(&mut hash, kind.as_bytes());
        update_sized(&mut hash, credential);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        Principal::from_bytes(bytes)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_hashed() {
        let hasher = Hasher::new(b"secret");
        let of = |parts: &[&'static str]| hasher.fingerprint(parts.iter().map(|it| it.as_bytes()));
        assert_ne!(of(&["a", "bc"]), of(&["ab", "c"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
        assert_eq!(of(&["a", "bc"]), of(&["a", "bc"]));
    }

    #[test]
    fn another_store_hashes_differently() {
        let parts = [b"x".as_slice()];
        assert_ne!(Hasher::new(b"1").fingerprint(parts), Hasher::new(b"2").fingerprint(parts));
        assert_ne!(Hasher::new(b"1").principal("header", b"x"), Hasher::new(b"2").principal("header", b"x"));
    }

    #[test]
    fn a_cookie_is_not_a_header_with_the_same_text() {
        let hasher = Hasher::new(b"secret");
        assert_ne!(hasher.principal("cookie:a", b"x"), hasher.principal("header:a", b"x"));
    }
}
