//! Messages as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use onceward::queue::Handling;
use serde::Serialize;

/// A message as its handler gets it. The payload is text where it is UTF-8, else base64.
#[derive(Serialize)]
struct Envelope<'a> {
    index: usize,
    key: &'a str,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<u64>,
    topic: &'a str,
    /// Those that are UTF-8.
    headers: Vec<[&'a str; 2]>,
    /// How many are not.
    #[serde(skip_serializing_if = "is_zero")]
    headers_omitted: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(it: &usize) -> bool {
    *it == 0
}

/// An array of envelopes, in this order.
pub(super) fn envelopes<'a>(messages: impl Iterator<Item = &'a Handling>) -> Vec<u8> {
    let all: Vec<_> = messages.enumerate().map(|(index, it)| envelope(index, it)).collect();
    serde_json::to_vec(&all).expect("envelopes hold texts and numbers only")
}

fn envelope(index: usize, it: &Handling) -> Envelope<'_> {
    let message = &*it.message;
    let headers: Vec<_> = message
        .headers
        .iter()
        .filter_map(|(name, value)| Some([name.as_str(), std::str::from_utf8(value).ok()?]))
        .collect();
    let payload = std::str::from_utf8(&message.body).ok();
    Envelope {
        index,
        key: it.key.as_str(),
        attempt: it.attempt,
        fence: it.fence.map(|it| it.0),
        topic: &message.topic,
        headers_omitted: message.headers.len() - headers.len(),
        headers,
        payload,
        payload_base64: payload.is_none().then(|| BASE64.encode(&message.body)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use onceward::queue::Message;
    use onceward::{Fence, Key};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_envelope_holds_whatever_a_message_is() {
        let handling = |body: &'static [u8], headers: Vec<(String, Bytes)>| Handling {
            message: Message { topic: "orders".into(), key: None, headers, body: Bytes::from_static(body) }
                .into(),
            key: Key::parse("paid-1").unwrap(),
            fence: Some(Fence(7)),
            attempt: 2,
            checkpoint: None,
            effects: Default::default(),
        };
        let both = [
            handling(b"{\"cents\":1200}", vec![("event-id".into(), Bytes::from_static(b"paid-1"))]),
            handling(&[0xff, 0], vec![("trace".into(), Bytes::from_static(&[0xfe]))]),
        ];
        let told: Value = serde_json::from_slice(&envelopes(both.iter())).unwrap();
        let base = json!({ "key": "paid-1", "attempt": 2, "fence": 7, "topic": "orders" });
        let with = |more: Value| {
            let mut it = base.clone();
            it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            it
        };
        let first = with(json!({
            "index": 0, "headers": [["event-id", "paid-1"]], "payload": "{\"cents\":1200}"
        }));
        let second =
            with(json!({ "index": 1, "headers": [], "headers_omitted": 1, "payload_base64": "/wA=" }));
        assert_eq!(told, json!([first, second]));
    }
}
