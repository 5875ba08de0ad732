//! Properties and headers of AMQP, and headers of a message.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use onceward_core::{Error, ErrorKind, Result};

use super::open::short;
use super::settings::OrderBy;
use crate::message::Message;

const KEY: &str = "key";
const COUNT: &str = "x-delivery-count";
/// Kept by the broker on its disk.
const PERSISTENT: u8 = 2;

/// A property that names something, its header, and how it is set.
type Property = (
    &'static str,
    fn(&BasicProperties) -> &Option<ShortString>,
    fn(BasicProperties, ShortString) -> BasicProperties,
);

const PROPERTIES: [Property; 7] = [
    ("app-id", BasicProperties::app_id, BasicProperties::with_app_id),
    ("content-encoding", BasicProperties::content_encoding, BasicProperties::with_content_encoding),
    ("content-type", BasicProperties::content_type, BasicProperties::with_content_type),
    ("correlation-id", BasicProperties::correlation_id, BasicProperties::with_correlation_id),
    ("message-id", BasicProperties::message_id, BasicProperties::with_message_id),
    ("reply-to", BasicProperties::reply_to, BasicProperties::with_reply_to),
    ("type", BasicProperties::kind, BasicProperties::with_type),
];

/// What the broker writes itself.
fn is_the_brokers(name: &str) -> bool {
    ["x-death", "x-delivery-count", "x-acquired-count", "x-first-death-", "x-last-death-"]
        .iter()
        .any(|it| name.starts_with(it))
}

/// How often a quorum queue has delivered it before.
pub(super) fn delivery_count(properties: &BasicProperties) -> Option<u32> {
    let count = properties.headers().as_ref()?.inner().get(COUNT)?;
    let count = match count {
        AMQPValue::LongLongInt(it) => *it,
        AMQPValue::LongInt(it) => i64::from(*it),
        AMQPValue::LongUInt(it) => i64::from(*it),
        AMQPValue::ShortInt(it) => i64::from(*it),
        AMQPValue::ShortUInt(it) => i64::from(*it),
        AMQPValue::ShortShortInt(it) => i64::from(*it),
        AMQPValue::ShortShortUInt(it) => i64::from(*it),
        _ => return None,
    };
    u32::try_from(count).ok()
}

/// What is ordered by, and the headers: those of the table sorted by name, then properties.
pub(super) fn read(
    properties: &BasicProperties,
    order_by: &OrderBy,
    routing_key: &str,
) -> (Option<Bytes>, Vec<(String, Bytes)>) {
    let mut headers: Vec<(String, Bytes)> = Vec::new();
    let table = properties.headers().as_ref().map(FieldTable::inner);
    for (name, value) in table.into_iter().flatten() {
        headers.extend(text(value).map(|it| (name.to_string(), it)));
    }
    for (name, get, _) in PROPERTIES {
        headers.extend(
            get(properties)
                .as_ref()
                .map(|it| (name.to_owned(), Bytes::copy_from_slice(it.as_str().as_bytes()))),
        );
    }
    let name = match order_by {
        OrderBy::Header(name) => name,
        OrderBy::RoutingKey => KEY,
    };
    let at = headers.iter().position(|it| it.0 == name);
    let key = match (at, order_by) {
        // Only what is there for nothing else is no header.
        (Some(at), _) if name == KEY => Some(headers.remove(at).1),
        (Some(at), _) => Some(headers[at].1.clone()),
        (None, OrderBy::RoutingKey) => Some(Bytes::copy_from_slice(routing_key.as_bytes())),
        (None, OrderBy::Header(_)) => None,
    };
    (key, headers)
}

/// The bytes of a value; of tables and lists there are none.
fn text(value: &AMQPValue) -> Option<Bytes> {
    Some(match value {
        AMQPValue::LongString(it) => Bytes::copy_from_slice(it.as_bytes()),
        AMQPValue::ShortString(it) => Bytes::copy_from_slice(it.as_str().as_bytes()),
        AMQPValue::ByteArray(it) => Bytes::copy_from_slice(it.as_slice()),
        AMQPValue::Boolean(it) => it.to_string().into(),
        AMQPValue::ShortShortInt(it) => it.to_string().into(),
        AMQPValue::ShortShortUInt(it) => it.to_string().into(),
        AMQPValue::ShortInt(it) => it.to_string().into(),
        AMQPValue::ShortUInt(it) => it.to_string().into(),
        AMQPValue::LongInt(it) => it.to_string().into(),
        AMQPValue::LongUInt(it) => it.to_string().into(),
        AMQPValue::LongLongInt(it) => it.to_string().into(),
        AMQPValue::Timestamp(it) => it.to_string().into(),
        AMQPValue::Float(it) => it.to_string().into(),
        AMQPValue::Double(it) => it.to_string().into(),
        AMQPValue::Void => Bytes::new(),
        AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => return None,
    })
}

/// The properties of a message.
///
/// # Errors
/// `Invalid`: one of its headers cannot be one of AMQP.
pub(super) fn write(message: &Message, order_by: &OrderBy) -> Result<BasicProperties> {
    let wrong = |what| Err(Error::new(ErrorKind::Invalid, what));
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let mut table = FieldTable::default();
    for (name, value) in &message.headers {
        if is_the_brokers(name) {
            continue;
        }
        if let Some((_, get, with)) = PROPERTIES.iter().find(|it| it.0 == name) {
            let Some(value) = std::str::from_utf8(value).ok().filter(|it| it.len() <= 255) else {
                return wrong("publish a message: a property of AMQP is text of at most 255 bytes");
            };
            if get(&properties).is_some() {
                return wrong("publish a message: a property of AMQP has one value");
            }
            properties = with(properties, short(value)?);
            continue;
        }
        if table.contains_key(name) {
            return wrong("publish a message: a header of AMQP has one value");
        }
        table.insert(short(name)?, AMQPValue::LongString(LongString::from(value.to_vec())));
    }
    let name: &str = match order_by {
        OrderBy::Header(name) => name,
        OrderBy::RoutingKey => KEY,
    };
    if let Some(key) = &message.key {
        let own = AMQPValue::LongString(LongString::from(key.to_vec()));
        if table.inner().get(name).is_some_and(|it| *it != own) {
            return wrong(
                "publish a message: the header that it is ordered by says something else than its key",
            );
        }
        table.insert(short(name)?, own);
    }
    Ok(properties.with_headers(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: Option<&'static str>, headers: &[(&str, &'static str)]) -> Message {
        let headers = headers.iter().map(|it| (it.0.to_owned(), Bytes::from_static(it.1.as_bytes())));
        let key = key.map(|it| Bytes::from_static(it.as_bytes()));
        Message { topic: "t".into(), key, headers: headers.collect(), body: Bytes::new() }
    }

    #[test]
    fn headers_and_properties_come_back_as_they_went_but_for_those_of_the_broker() {
        let by = |name: &str| OrderBy::Header(name.to_owned());
        let headers = [
            ("a", "1"),
            ("b", "\u{e9}"),
            ("x-death", "x"),
            ("x-delivery-count", "9"),
            ("message-id", "m-1"),
            ("type", "paid"),
        ];
        let sent = message(Some("account-7"), &headers);
        let properties = write(&sent, &by("key")).unwrap();
        assert_eq!(properties.message_id().as_ref().map(ShortString::as_str), Some("m-1"));
        let (key, got) = read(&properties, &by("key"), "orders");
        assert_eq!(key, sent.key);
        let kept: Vec<_> = sent.headers.iter().filter(|it| !it.0.starts_with("x-")).cloned().collect();
        assert_eq!(got, kept);
        // By a header that is there for something else, too.
        let (key, got) = read(&properties, &by("type"), "orders");
        assert_eq!((key.as_deref(), got.len()), (Some(&b"paid"[..]), 5));
        let none = write(&message(None, &[]), &by("key")).unwrap();
        assert_eq!(read(&none, &OrderBy::RoutingKey, "eu.1").0.as_deref(), Some(&b"eu.1"[..]));
        assert_eq!(read(&none, &by("key"), "eu.1").0, None);
    }

    #[test]
    fn what_amqp_cannot_say_is_refused() {
        let by = OrderBy::Header("key".to_owned());
        for wrong in [
            message(None, &[("a", "1"), ("a", "2")]),
            message(None, &[("type", "1"), ("type", "2")]),
            message(Some("one"), &[("key", "two")]),
            Message { headers: vec![("n".repeat(256), Bytes::new())], ..message(None, &[]) },
            Message { headers: vec![("type".into(), "v".repeat(256).into())], ..message(None, &[]) },
        ] {
            assert_eq!(write(&wrong, &by).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
