//! What a message is in SQS: a text with at most ten attributes.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{Message as Native, MessageAttributeValue, MessageSystemAttributeName as System};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use onceward_core::{Error, ErrorKind, Result};

use crate::message::Message;

/// Says that the body is not the text itself. SQS takes no bytes.
const ENCODING: &str = "body-encoding";
const BASE64: &str = "base64";
/// How many attributes SQS takes.
const ATTRIBUTES_MAX: usize = 10;
/// How long a group or an id of repeats may be.
const WORD_MAX: usize = 128;

/// What SQS is given.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) body: String,
    pub(super) attributes: HashMap<String, MessageAttributeValue>,
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::Invalid, what)
}

/// Writes a message down.
pub(super) fn write(message: &Message) -> Result<Sent> {
    if message.body.is_empty() {
        return Err(invalid("publish a message: SQS takes none without a body"));
    }
    let mut attributes = HashMap::new();
    for (name, value) in &message.headers {
        if value.is_empty() || name == ENCODING {
            return Err(invalid(
                "publish a message: SQS takes no empty header, and none called body-encoding",
            ));
        }
        let attribute = match std::str::from_utf8(value).ok().filter(|it| is_text(it)) {
            Some(text) => MessageAttributeValue::builder().data_type("String").string_value(text),
            None => MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new(&value[..])),
        };
        let attribute = attribute.build().expect("it has a type");
        if attributes.insert(name.clone(), attribute).is_some() {
            return Err(invalid("publish a message: SQS takes each header once"));
        }
    }
    let body = match std::str::from_utf8(&message.body).ok().filter(|it| is_text(it)) {
        Some(text) => text.to_owned(),
        None => {
            let encoding = MessageAttributeValue::builder().data_type("String").string_value(BASE64);
            attributes.insert(ENCODING.to_owned(), encoding.build().expect("it has a type"));
            BASE64_STANDARD.encode(&message.body)
        }
    };
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(invalid(
            "publish a message: SQS takes at most ten headers, one less where the body is no text",
        ));
    }
    Ok(Sent { body, attributes })
}

/// The group of a FIFO queue that a message belongs to, and what its repeats are known by.
pub(super) fn order(message: &Message, repeats_by: &str) -> Result<(String, String)> {
    let repeats = match message.header(repeats_by) {
        Ok(Some(id)) => word(id).ok_or_else(|| {
            invalid(
                "publish a message: what its repeats are known by must be 1 to 128 visible ASCII characters",
            )
        })?,
        _ => hash(message),
    };
    let group = match message.key.as_ref().filter(|it| !it.is_empty()) {
        Some(key) => word(key)
            .ok_or_else(|| invalid("publish a message: its key must be 1 to 128 visible ASCII characters"))?,
        // It waits for none.
        None => repeats.clone(),
    };
    Ok((group, repeats))
}

fn hash(message: &Message) -> String {
    let mut hasher = blake3::Hasher::new();
    let headers = message.headers.iter().flat_map(|it| [it.0.as_bytes(), &it.1[..]]);
    for part in [message.key.as_deref().unwrap_or_default(), &message.body[..]].into_iter().chain(headers) {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn word(bytes: &[u8]) -> Option<String> {
    let is_word = (1..=WORD_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    is_word.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// The characters that SQS takes.
fn is_text(text: &str) -> bool {
    text.chars().all(
        |it| matches!(it, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..),
    )
}

/// Reads what was written, or what others wrote.
pub(super) fn read(topic: &Arc<str>, native: &Native) -> Message {
    let mut headers = Vec::new();
    let mut is_encoded = false;
    for (name, value) in native.message_attributes().into_iter().flatten() {
        if name == ENCODING && value.string_value() == Some(BASE64) {
            is_encoded = true;
            continue;
        }
        let bytes = match (value.string_value(), value.binary_value()) {
            (Some(text), _) => Bytes::copy_from_slice(text.as_bytes()),
            (None, Some(blob)) => Bytes::copy_from_slice(blob.as_ref()),
            (None, None) => Bytes::new(),
        };
        headers.push((name.clone(), bytes));
    }
    // They come in no order; the same message looks the same every time.
    headers.sort();
    let text = native.body().unwrap_or_default();
    let decoded = if is_encoded { BASE64_STANDARD.decode(text).ok() } else { None };
    let group = native.attributes().and_then(|it| it.get(&System::MessageGroupId));
    Message {
        topic: Arc::clone(topic),
        key: group.map(|it| Bytes::copy_from_slice(it.as_bytes())),
        headers,
        body: decoded.map_or_else(|| Bytes::copy_from_slice(text.as_bytes()), Bytes::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &'static [u8])], body: &'static [u8]) -> Message {
        Message {
            topic: "orders".into(),
            key: Some(Bytes::from_static(b"account-7")),
            headers: headers.iter().map(|it| (it.0.to_owned(), Bytes::from_static(it.1))).collect(),
            body: Bytes::from_static(body),
        }
    }

    #[test]
    fn what_is_written_is_read_also_where_it_is_no_text() {
        for it in [message(&[("a", b"1"), ("b", b"\xff\x00")], "é".as_bytes()), message(&[], b"\x00\xff")] {
            let sent = write(&it).unwrap();
            let native = Native::builder().body(sent.body).set_message_attributes(Some(sent.attributes));
            let native = native.attributes(System::MessageGroupId, "account-7").build();
            assert_eq!(read(&it.topic, &native), it);
        }
    }

    #[test]
    fn what_sqs_cannot_carry_is_refused_by_name() {
        let refused = |it: &Message| write(it).unwrap_err().to_string();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let ten = names.map(|it| (it, &b"1"[..]));
        write(&message(&ten, b"text")).unwrap();
        assert!(refused(&message(&ten, b"\xff")).contains("at most ten headers"));
        assert!(refused(&message(&[("a", b"1"), ("a", b"2")], b"x")).contains("each header once"));
        assert!(refused(&message(&[("a", b"")], b"x")).contains("no empty header"));
        assert!(refused(&message(&[], b"")).contains("without a body"));
        let blank = Message { key: Some(Bytes::from_static(b"a b")), ..message(&[], b"x") };
        assert!(order(&blank, "event-id").unwrap_err().to_string().contains("its key"));
    }

    #[test]
    fn repeats_are_known_by_the_header_or_else_by_everything() {
        let id = |it: &Message| order(it, "event-id").unwrap().1;
        assert_eq!(id(&message(&[("Event-Id", b"m-1")], b"x")), "m-1");
        let plain = message(&[("trace", b"1")], b"x");
        assert_eq!(id(&plain), id(&plain.clone()));
        assert_ne!(id(&plain), id(&message(&[("trace", b"2")], b"x")));
        assert_ne!(id(&plain), id(&message(&[("trace", b"1")], b"y")));
    }
}
