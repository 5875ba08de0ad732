//! Where the key of a request stands: in `Idempotency-Key`, or, for senders that know nothing of it, where they have the id of
//! what they send.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use onceward_core::{IdError, Key, id_in_json};

use crate::key_header::{IDEMPOTENCY_KEY, key_of, refusal_elsewhere};
use crate::problem::Problem;

/// Where the key of a request stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeySource {
    /// In the header `Idempotency-Key`.
    #[default]
    IdempotencyKey,
    /// In another header, as it stands there.
    Header(HeaderName),
    /// In a JSON body: the text or the integer at a JSON pointer (RFC 6901) that begins with `/`.
    Json(Box<str>),
}

/// A text that names no place of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place of a key; write header:NAME or json:/POINTER")]
pub struct NoKeySource(String);

impl KeySource {
    /// The key of a request, as far as its head tells; `None` when it has none, or when only the body can tell.
    pub(crate) fn in_head(&self, headers: &HeaderMap) -> Result<Option<Key>, Problem> {
        match self {
            Self::IdempotencyKey => key_of(headers),
            Self::Header(name) => {
                let mut lines = headers.get_all(name).iter();
                match (lines.next(), lines.next()) {
                    (None, _) => Ok(None),
                    (Some(line), None) => {
                        let text = std::str::from_utf8(line.as_bytes()).unwrap_or("\u{80}");
                        Key::parse(text.trim_matches([' ', '\t'])).map(Some).map_err(refusal_elsewhere)
                    }
                    (Some(_), Some(_)) => Err(Problem::KeyInvalid(
                        "The request has more than one line of the header that is its key; send exactly one",
                    )),
                }
            }
            Self::Json(_) => Ok(None),
        }
    }

    /// The key of a request whose head did not tell.
    pub(crate) fn in_body(&self, body: &[u8]) -> Result<Key, Problem> {
        let Self::Json(pointer) = self else { return Err(self.missing()) };
        match id_in_json(body, pointer) {
            Ok(id) => Key::parse(&id).map_err(refusal_elsewhere),
            Err(IdError::NotJson) => {
                Err(Problem::KeyInvalid("The body, which should have the key, is not JSON"))
            }
            Err(IdError::NothingThere) => Err(self.missing()),
        }
    }

    /// That a request has no key.
    pub(crate) fn missing(&self) -> Problem {
        Problem::KeyMissing(self.clone())
    }
}

impl FromStr for KeySource {
    type Err = NoKeySource;

    /// Reads `header:NAME` or `json:/POINTER`.
    fn from_str(text: &str) -> Result<Self, NoKeySource> {
        let wrong = || NoKeySource(text.to_owned());
        match text.split_once(':') {
            Some(("header", name)) => match name.parse::<HeaderName>() {
                Ok(name) if name == IDEMPOTENCY_KEY => Ok(Self::IdempotencyKey),
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(wrong()),
            },
            Some(("json", pointer)) if pointer.starts_with('/') => Ok(Self::Json(pointer.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdempotencyKey => f.write_str("header:idempotency-key"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Json(pointer) => write!(f, "json:{pointer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_refused() {
        for text in ["header:idempotency-key", "header:webhook-id", "json:/id", "json:/data/object/id"] {
            assert_eq!(text.parse::<KeySource>().unwrap().to_string(), text);
        }
        assert_eq!("header:Idempotency-Key".parse(), Ok(KeySource::IdempotencyKey));
        for text in ["", "id", "json:id", "json:", "header:", "header:a b", "cookie:x"] {
            assert!(text.parse::<KeySource>().is_err(), "{text}");
        }
    }
}
