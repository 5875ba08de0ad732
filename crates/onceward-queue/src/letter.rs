//! Dead letters: messages that are no longer tried, kept in the store with the reason, whole enough to be sent again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use onceward_core::{Answer, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::verdict::Reason;

/// The kind of the operations that put a message among the dead letters, as listings show it.
pub const KIND: &str = "dead-letter";

/// A message that is no longer tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Why.
    pub reason: Reason,
    /// What its handler said, or what is wrong with it.
    pub detail: String,
    /// How often its handler was begun.
    pub attempts: u32,
    /// Whose it was.
    pub consumer: String,
    /// The broker's own name for it, if it has one.
    pub position: Option<String>,
    /// The record of the message, where it has an id.
    pub record: Option<String>,
    /// What was sent.
    pub message: Message,
}

#[derive(Serialize, Deserialize)]
struct Written {
    reason: String,
    detail: String,
    attempts: u32,
    consumer: String,
    position: Option<String>,
    record: Option<String>,
    topic: String,
    key: Option<String>,
    headers: Vec<(String, String)>,
    body: String,
}

impl Letter {
    /// The letter as it is stored: JSON, with Base64 for whatever may be no text.
    #[must_use]
    pub fn to_answer(&self) -> Answer {
        let message = &self.message;
        let written = Written {
            reason: self.reason.as_str().to_owned(),
            detail: self.detail.clone(),
            attempts: self.attempts,
            consumer: self.consumer.clone(),
            position: self.position.clone(),
            record: self.record.clone(),
            topic: message.topic.to_string(),
            key: message.key.as_ref().map(|it| BASE64.encode(it)),
            headers: message.headers.iter().map(|it| (it.0.clone(), BASE64.encode(&it.1))).collect(),
            body: BASE64.encode(&message.body),
        };
        Answer::new(KIND, serde_json::to_vec(&written).expect("text and numbers can be written as JSON"))
    }

    /// Reads what [`to_answer`](Self::to_answer) wrote.
    ///
    /// # Errors
    /// `Corrupt`: it is no letter.
    pub fn from_answer(answer: &Answer) -> Result<Self> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "read a dead letter");
        let decode = |text: &str| BASE64.decode(text).map(Bytes::from).map_err(|it| corrupt().caused_by(it));
        if answer.kind != KIND {
            return Err(corrupt());
        }
        let written: Written =
            serde_json::from_slice(&answer.bytes()?).map_err(|it| corrupt().caused_by(it))?;
        let headers = written.headers.into_iter().map(|it| Ok((it.0, decode(&it.1)?)));
        Ok(Self {
            reason: Reason::parse(&written.reason).ok_or_else(corrupt)?,
            detail: written.detail,
            attempts: written.attempts,
            consumer: written.consumer,
            position: written.position,
            record: written.record,
            message: Message {
                topic: written.topic.into(),
                key: written.key.as_deref().map(decode).transpose()?,
                headers: headers.collect::<Result<_>>()?,
                body: decode(&written.body)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        let letter = Letter {
            reason: Reason::Attempts,
            detail: "no connection".into(),
            attempts: 10,
            consumer: "billing".into(),
            position: Some("orders/3/9".into()),
            record: None,
            message: Message {
                topic: "orders".into(),
                key: Some(Bytes::from_static(b"\xff\0")),
                headers: vec![("a".into(), Bytes::from_static(b"\xfe")), ("a".into(), Bytes::new())],
                body: Bytes::from_static(b"{}"),
            },
        };
        assert_eq!(Letter::from_answer(&letter.to_answer()).unwrap(), letter);
        assert!(Letter::from_answer(&Answer::new("http", "{}")).is_err());
        assert!(Letter::from_answer(&Answer::new(KIND, "{}")).is_err());
    }

    #[test]
    fn every_reason_is_read_as_it_is_written() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
    }
}
