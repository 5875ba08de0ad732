//! Headers of NATS and of a message.

use std::str::FromStr as _;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use onceward_core::{Error, ErrorKind, Result};

use crate::letters::REDRIVEN;
use crate::message::Message;

const KEY: &str = "key";
const ID: &str = "Nats-Msg-Id";

/// What is ordered by, and the headers, sorted by name: the client does not tell their order.
pub(super) fn read(headers: Option<&HeaderMap>) -> (Option<Bytes>, Vec<(String, Bytes)>) {
    let (mut key, mut all) = (None, Vec::new());
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        for value in values {
            let value = Bytes::copy_from_slice(value.as_str().as_bytes());
            match name {
                KEY => key = Some(value),
                name => all.push((name.to_owned(), value)),
            }
        }
    }
    // Those of one name stay in their order.
    all.sort_by(|a: &(String, Bytes), b| a.0.cmp(&b.0));
    (key, all)
}

/// The headers of a message, and its id for the stream.
///
/// # Errors
/// `Invalid`: one of them cannot be a header of NATS.
pub(super) fn write(message: &Message, id_header: Option<&str>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut id = message.header(ID).ok().flatten();
    if let Some(name) = id_header {
        id = message.header(name).ok().flatten().or(id);
    }
    // What is sent again is not what the stream has seen.
    id = message.header(REDRIVEN).ok().flatten().or(id);
    for (name, value) in &message.headers {
        if name == KEY {
            let what = "publish a message: NATS has no room for a header called `key`";
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        // The others are the server's, and would order it about.
        if !name.to_ascii_lowercase().starts_with("nats-") {
            append(&mut headers, name, value)?;
        }
    }
    for (name, value) in [(KEY, message.key.as_ref()), (ID, id)] {
        if let Some(value) = value {
            append(&mut headers, name, value)?;
        }
    }
    Ok(headers)
}

fn append(headers: &mut HeaderMap, name: &str, value: &Bytes) -> Result<()> {
    let what = "publish a message: headers of NATS are text in one line, without white space at its ends";
    let wrong = || Error::new(ErrorKind::Invalid, what);
    let text = std::str::from_utf8(value).map_err(|it| wrong().caused_by(it))?;
    if text.trim() != text {
        return Err(wrong());
    }
    let name = HeaderName::from_str(name).map_err(|it| wrong().caused_by(it))?;
    headers.append(name, HeaderValue::from_str(text).map_err(|it| wrong().caused_by(it))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &'static str)]) -> Message {
        let headers = headers.iter().map(|it| (it.0.to_owned(), Bytes::from_static(it.1.as_bytes())));
        Message { topic: "t".into(), key: None, headers: headers.collect(), body: Bytes::new() }
    }

    #[test]
    fn what_is_sent_again_has_an_id_of_its_own() {
        let id = |headers: &[(&str, &'static str)], id_header| {
            let written = write(&message(headers), id_header).unwrap();
            written.get(ID).map(|it| it.as_str().to_owned())
        };
        assert_eq!(id(&[("event-id", "e-1")], None), None);
        assert_eq!(id(&[("event-id", "e-1")], Some("event-id")), Some("e-1".into()));
        assert_eq!(id(&[("nats-msg-id", "m-1")], None), Some("m-1".into()));
        assert_eq!(id(&[("Nats-Msg-Id", "m-1"), (REDRIVEN, "letter")], None), Some("letter".into()));
    }

    #[test]
    fn headers_come_back_as_they_went_but_for_those_of_the_server() {
        let sent = Message {
            key: Some(Bytes::from_static(b"account-7")),
            ..message(&[("b", "2"), ("a", "1"), ("b", "3"), ("Nats-Expected-Last-Sequence", "9")])
        };
        let (key, headers) = read(Some(&write(&sent, None).unwrap()));
        assert_eq!(key, sent.key);
        let named: Vec<_> = headers.iter().map(|it| (it.0.as_str(), &it.1[..])).collect();
        assert_eq!(named, [("a", &b"1"[..]), ("b", b"2"), ("b", b"3")]);
        for wrong in [("key", "x"), ("a", " x"), ("a", "x\r\ny: z"), ("a b", "x")] {
            assert_eq!(write(&message(&[wrong]), None).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
        }
    }
}
