//! A message as a broker hands it over, and what its delivery is known by.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// What a producer sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic, queue, subject or stream that it was read from, as the broker names it.
    pub topic: Arc<str>,
    /// What the broker orders or groups by, where it does: the key of a Kafka record, the group of an SQS FIFO message.
    pub key: Option<Bytes>,
    /// Headers or attributes in their order. A name may stand there more than once.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub body: Bytes,
}

impl Message {
    /// The value of a header, whatever the case of its name.
    ///
    /// # Errors
    /// How many there are, when there are more than one: nobody can say which is meant.
    pub fn header(&self, name: &str) -> Result<Option<&Bytes>, usize> {
        let mut values = self.headers.iter().filter(|it| it.0.eq_ignore_ascii_case(name)).map(|it| &it.1);
        match (values.next(), values.count()) {
            (first, 0) => Ok(first),
            (_, more) => Err(more + 1),
        }
    }
}

impl fmt::Debug for Message {
    /// Keys, headers and bodies stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A message, and how it came.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What was sent.
    pub message: Arc<Message>,
    /// What its source knows this delivery by.
    pub receipt: Receipt,
    /// The name that the broker itself has for the message (`orders/3/1042`), if it is the same on every delivery.
    pub position: Option<Arc<str>>,
    /// Whether it came before.
    pub seen: Seen,
}

/// Whether a message was handed to a consumer before, as far as its source can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// This is certainly the first delivery.
    First,
    /// Nobody knows: it lies so close behind what was acknowledged that a consumer who died may have had it.
    Perhaps,
    /// It was. The broker's own count, if it has one, says how often at least, this delivery included.
    Before(Option<u32>),
}

/// What a source knows a delivery by. Another delivery of the same message has another receipt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Where it came from.
    pub lane: Lane,
    /// Which session of the lane: the connection, or the assignment of a partition. What is acknowledged for a session
    /// that is over is not sent.
    pub session: u64,
    /// The place in the lane, in the broker's order, or a number of the source's own.
    pub number: u64,
    /// The broker's own word for the delivery, where it has one.
    pub token: Arc<str>,
}

/// A part of a source that is assigned, revoked and acknowledged as a whole: a partition of a topic, or a queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub Arc<str>);

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_in_any_case_unless_there_are_several() {
        let of = |names: &[&'static str]| {
            let headers =
                names.iter().map(|it| ((*it).to_owned(), Bytes::from_static(it.as_bytes()))).collect();
            Message { topic: "t".into(), key: None, headers, body: Bytes::new() }
        };
        assert_eq!(of(&["Event-Id"]).header("event-id"), Ok(Some(&Bytes::from_static(b"Event-Id"))));
        assert_eq!(of(&["event"]).header("event-id"), Ok(None));
        assert_eq!(of(&["event-id", "x", "EVENT-ID"]).header("event-id"), Err(2));
    }
}
