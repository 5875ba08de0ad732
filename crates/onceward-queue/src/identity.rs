//! What a message is known by: the application's own name for it, never the broker's, unless somebody says so.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use onceward_core::{IdError, Key, KeyError, id_in_json};

use crate::message::{Delivery, Message};

/// How the id of a message is found.
#[derive(Clone)]
pub struct Identity(How);

type Find = Arc<dyn Fn(&Message) -> Option<String> + Send + Sync>;

#[derive(Clone)]
enum How {
    Header(Arc<str>),
    Json(Arc<str>),
    By(Find),
    Position,
}

/// Why a message has no id. Nothing was run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// The header is not there.
    #[error("it has no header `{0}`; let the producer set it, or name another place with `key`")]
    NoHeader(Arc<str>),
    /// The header is there more than once.
    #[error("it has {1} headers `{0}`; let the producer set one")]
    ManyHeaders(Arc<str>, usize),
    /// The header is not text.
    #[error("its header `{0}` is not UTF-8")]
    NotText(Arc<str>),
    /// The body is not JSON.
    #[error("its body is not JSON, and the id is looked for at `{0}`")]
    NotJson(Arc<str>),
    /// There is no text or integer at the place.
    #[error("its body has no text or integer at `{0}`")]
    NothingThere(Arc<str>),
    /// The function found none.
    #[error("the function that was given to `key` found none")]
    NoneFound,
    /// The function panicked.
    #[error("the function that was given to `key` panicked")]
    Panicked,
    /// The broker has no lasting name for it.
    #[error(
        "this broker has no name for a message that stays the same; take the id from a header or the body"
    )]
    NoPosition,
    /// The id is no key.
    #[error("its id cannot be a key: {0}")]
    NoKey(#[from] KeyError),
}

impl Identity {
    /// The value of a header or attribute, whatever the case of its name.
    #[must_use]
    pub fn header(name: &str) -> Self {
        Self(How::Header(name.into()))
    }

    /// The text or the integer at a place in a JSON body, by JSON pointer (RFC 6901): `/data/id`.
    #[must_use]
    pub fn json(pointer: &str) -> Self {
        Self(How::Json(pointer.into()))
    }

    /// What a function finds in the message.
    #[must_use]
    pub fn by(find: impl Fn(&Message) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(How::By(Arc::new(find)))
    }

    /// The broker's own name for the message: topic, partition and offset, or the like. It tells deliveries of one message
    /// apart from those of another, and no more: a message that its producer sent twice, or that was moved to another topic,
    /// has two of them and runs twice. Not every broker has one
    /// ([`Capabilities::stable_position`](crate::source::Capabilities::stable_position)).
    #[must_use]
    pub fn position() -> Self {
        Self(How::Position)
    }

    /// Whether only a broker that delivers a message can name it: [`position`](Self::position).
    #[must_use]
    pub fn is_position(&self) -> bool {
        matches!(self.0, How::Position)
    }

    /// The id of a message, as a key.
    ///
    /// # Errors
    /// [`NoIdentity`] says what is missing, and what to do about it.
    pub fn of(&self, delivery: &Delivery) -> Result<Key, NoIdentity> {
        match &self.0 {
            How::Position => {
                let position = delivery.position.as_deref().ok_or(NoIdentity::NoPosition)?;
                Ok(Key::parse(position)?)
            }
            How::Header(_) | How::Json(_) | How::By(_) => self.of_message(&delivery.message),
        }
    }

    /// The id of a message that no broker has delivered yet: its [`position`](Self::position) is none.
    ///
    /// # Errors
    /// [`NoIdentity`] says what is missing, and what to do about it.
    pub fn of_message(&self, message: &Message) -> Result<Key, NoIdentity> {
        let text = match &self.0 {
            How::Header(name) => match message.header(name) {
                Err(count) => return Err(NoIdentity::ManyHeaders(Arc::clone(name), count)),
                Ok(None) => return Err(NoIdentity::NoHeader(Arc::clone(name))),
                Ok(Some(value)) => {
                    let text = std::str::from_utf8(value);
                    text.map_err(|_| NoIdentity::NotText(Arc::clone(name)))?.to_owned()
                }
            },
            How::Json(pointer) => {
                let found = id_in_json(&message.body, pointer);
                found.map_err(|it| match it {
                    IdError::NotJson => NoIdentity::NotJson(Arc::clone(pointer)),
                    IdError::NothingThere => NoIdentity::NothingThere(Arc::clone(pointer)),
                })?
            }
            How::By(find) => find(message).ok_or(NoIdentity::NoneFound)?,
            How::Position => return Err(NoIdentity::NoPosition),
        };
        Ok(Key::parse(&text)?)
    }
}

/// A text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place of an id; write header:NAME, json:/POINTER or position")]
pub struct NoPlace(String);

impl FromStr for Identity {
    type Err = NoPlace;

    /// Reads `header:NAME`, `json:/POINTER` or `position`.
    fn from_str(text: &str) -> Result<Self, NoPlace> {
        match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => Ok(Self::header(name)),
            Some(("json", pointer)) if pointer.starts_with('/') => Ok(Self::json(pointer)),
            None if text == "position" => Ok(Self::position()),
            _ => Err(NoPlace(text.to_owned())),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            How::Header(name) => write!(f, "header:{name}"),
            How::Json(pointer) => write!(f, "json:{pointer}"),
            How::By(_) => f.write_str("by a function"),
            How::Position => f.write_str("position"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{Lane, Receipt, Seen};

    fn delivery(headers: &[(&str, &'static [u8])], body: &'static str, position: Option<&str>) -> Delivery {
        Delivery {
            message: Arc::new(Message {
                topic: "orders".into(),
                key: None,
                headers: headers.iter().map(|it| (it.0.to_owned(), Bytes::from_static(it.1))).collect(),
                body: Bytes::from_static(body.as_bytes()),
            }),
            receipt: Receipt { lane: Lane("orders".into()), session: 0, number: 0, token: "".into() },
            position: position.map(Into::into),
            seen: Seen::First,
        }
    }

    #[test]
    fn an_id_is_found_where_it_is_said_to_be() {
        let it = delivery(
            &[("Event-Id", b"m-1")],
            r#"{"id":"a/b","data":{"n":7,"x":1.5,"a~b":"t"}}"#,
            Some("orders/3/9"),
        );
        let found = |how: Identity| how.of(&it).map(|it| it.as_str().to_owned());
        assert_eq!(found(Identity::header("event-id")).unwrap(), "m-1");
        assert_eq!(found(Identity::json("/id")).unwrap(), "a/b");
        assert_eq!(found(Identity::json("/data/n")).unwrap(), "7");
        assert_eq!(found(Identity::json("/data/a~0b")).unwrap(), "t");
        assert_eq!(found(Identity::position()).unwrap(), "orders/3/9");
        assert_eq!(found(Identity::by(|it| Some(it.body.len().to_string()))).unwrap(), "45");
        assert_eq!(found(Identity::json("/data/x")), Err(NoIdentity::NothingThere("/data/x".into())));
        assert_eq!(found(Identity::json("/data")), Err(NoIdentity::NothingThere("/data".into())));
        assert_eq!(found(Identity::by(|_| None)), Err(NoIdentity::NoneFound));
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for text in ["header:event-id", "json:/data/id", "position"] {
            assert_eq!(format!("{:?}", text.parse::<Identity>().unwrap()), text);
        }
        for text in ["", "header:", "json:id", "event-id", "position:1"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_message_without_an_id_says_what_is_missing() {
        let it = delivery(
            &[("a", b"1"), ("A", b"2"), ("blank", b""), ("raw", b"\xff"), ("space", b"a b")],
            "no",
            None,
        );
        let said = |how: Identity| how.of(&it).unwrap_err().to_string();
        assert!(said(Identity::header("event-id")).contains("no header `event-id`"));
        assert!(said(Identity::header("a")).contains("2 headers `a`"));
        assert!(said(Identity::header("blank")).contains("the key is empty"));
        assert!(said(Identity::header("raw")).contains("not UTF-8"));
        assert!(said(Identity::header("space")).contains("visible ASCII"));
        assert!(said(Identity::json("/id")).contains("not JSON"));
        assert!(said(Identity::position()).contains("take the id from a header"));
    }
}
