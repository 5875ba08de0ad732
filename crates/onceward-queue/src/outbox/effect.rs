//! What is to go out.

use std::fmt;

use bytes::Bytes;
use onceward_core::{Entropy, SystemEntropy};

/// Something that is to happen elsewhere once a transaction has committed, or an answer is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Effect {
    /// What sends it, by the name that the relay has for it: `http`, `kafka`, `mail`. 1 to 64 characters.
    pub kind: String,
    /// Where it goes, in the words of what sends it: a URL, a topic.
    pub destination: String,
    /// What it is kept in order with: the id of an aggregate, say. Of the effects in a table with one kind, destination and key, each
    /// goes out after the one before it did; without a key it waits for none. Those that answers carry have the order of their answer.
    pub key: Option<Bytes>,
    /// Headers in their order.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub body: Bytes,
}

impl Effect {
    /// What every outbox asks of an effect.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.kind.is_empty() || self.kind.chars().count() > 64 {
            return Err("its kind must have 1 to 64 characters");
        }
        let texts = [&self.kind, &self.destination].into_iter().chain(self.headers.iter().map(|it| &it.0));
        if texts.into_iter().any(|it| it.contains('\0')) {
            return Err("there is a NUL in its kind, its destination or the name of a header");
        }
        Ok(())
    }

    /// How many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|it| it.0.len() + it.1.len()).sum();
        self.kind.len()
            + self.destination.len()
            + self.key.as_ref().map_or(0, Bytes::len)
            + headers
            + self.body.len()
    }
}

impl fmt::Debug for Effect {
    /// Destinations, keys, headers and bodies stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effect")
            .field("kind", &self.kind)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The name of an effect for whoever gets it: 16 random bytes, made when it is added, the same on every try. Shown as 32
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId([u8; 16]);

impl EffectId {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(super) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        SystemEntropy.fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok())??;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let id = EffectId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(EffectId::parse(&id.to_string()), Some(id));
        for text in ["", "0", "+00102030405060708090a0b0c0d0eff", "000102030405060708090a0b0c0d0effff"] {
            assert_eq!(EffectId::parse(text), None, "{text}");
        }
        assert_ne!(EffectId::random().unwrap(), EffectId::random().unwrap());
    }
}
