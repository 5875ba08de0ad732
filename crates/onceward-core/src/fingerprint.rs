//! Keyed hashes: what was asked, and by whom. The hash key is made once inside the store.

use std::fmt;

use crate::key::{Principal, hash_sized, write_hex};
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
        let hash = blake3::Hasher::new_keyed(&self.fingerprint);
        Fingerprint(hash_sized(hash, &RULES.to_be_bytes(), parts))
    }

    /// Hashes who calls. `kind` keeps a cookie from ever equalling a header with the same text.
    #[must_use]
    pub fn principal(&self, kind: &str, credential: &[u8]) -> Principal {
        let hash = blake3::Hasher::new_keyed(&self.principal);
        let whole = hash_sized(hash, &[], [kind.as_bytes(), credential]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&whole[..16]);
        Principal::from_bytes(bytes)
    }

    /// What listings show in place of a key where keys are hidden.
    #[must_use]
    pub fn listed_key(&self, key: &str) -> String {
        self.principal("listed key", key.as_bytes()).to_string()
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
    fn the_hashes_of_one_store_are_the_same_for_ever() {
        let hasher = Hasher::new(b"secret");
        let parts = [b"a".as_slice(), &[7; 600], b"", &[8; 10]];
        let fingerprint = format!("{:02x?}", hasher.fingerprint(parts).as_bytes()).replace(", ", "");
        assert_eq!(fingerprint, "[949f5e0f5004149472f624fb47285cd757aab0a72fe696e3f112ab539c8f03e7]");
        assert_eq!(hasher.principal("bearer", b"abc").to_string(), "8bc4b63f782c1ae96afdf627cb9fe7c2");
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
