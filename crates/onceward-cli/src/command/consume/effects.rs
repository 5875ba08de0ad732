//! What a handler's answer says is to go out because of its message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::HeaderValue;
use onceward::queue::Failure;
use onceward::queue::outbox::{Effect, Effects};
use serde::Deserialize;

/// The media type of an answer that names effects.
const MEDIA_TYPE: &str = "application/vnd.onceward.effects+json";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    effects: Vec<NamedEffect>,
}

/// An effect as a handler names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedEffect {
    kind: String,
    destination: String,
    key: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// A text, or
    body: Option<String>,
    /// any bytes.
    body_base64: Option<String>,
}

/// Whether an answer of this media type names effects.
pub(super) fn is_named_by(media_type: Option<&HeaderValue>) -> bool {
    let media_type = media_type.map(HeaderValue::as_bytes).unwrap_or_default();
    let media_type = media_type.split(|it| *it == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
}

/// Adds what an answer names, all of it or, where it cannot be read, nothing. An answer of another media type names none.
///
/// # Errors
/// What is wrong with it.
pub(super) fn add(effects: &Effects, media_type: Option<&HeaderValue>, body: &[u8]) -> Result<(), Failure> {
    if !is_named_by(media_type) {
        return Ok(());
    }
    let named: Named = serde_json::from_slice(body).map_err(|it| wrong(&it))?;
    add_all(effects, named.effects)
}

/// Adds all of them or, where one cannot be read, none.
///
/// # Errors
/// What is wrong with them. What was asked for was done; but without these it is not done.
pub(super) fn add_all(effects: &Effects, named: Vec<NamedEffect>) -> Result<(), Failure> {
    let read: Vec<_> = named.into_iter().map(read).collect::<Result<_, _>>()?;
    read.into_iter().try_for_each(|it| effects.add(it).map(drop)).map_err(|it| wrong(&it))
}

fn read(it: NamedEffect) -> Result<Effect, Failure> {
    let body = match (it.body, it.body_base64) {
        (Some(text), None) => Bytes::from(text),
        (None, Some(text)) => BASE64.decode(text).map_err(|it| wrong(&format!("body_base64: {it}")))?.into(),
        (None, None) => Bytes::new(),
        (Some(_), Some(_)) => return Err(wrong(&"there is both `body` and `body_base64`")),
    };
    let headers = it.headers.into_iter().map(|it| (it.0, Bytes::from(it.1))).collect();
    Ok(Effect { kind: it.kind, destination: it.destination, key: it.key.map(Bytes::from), headers, body })
}

fn wrong(it: &dyn std::fmt::Display) -> Failure {
    Failure::unknown(format!("the effects that the handler answered cannot be used: {it}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_read_from_answers_of_their_media_type_alone() {
        let good = br#"{"effects":[
            {"kind":"hooks","destination":"on-paid","key":"1","headers":[["a","b"]],"body":"text"},
            {"kind":"events","destination":"paid","body_base64":"/w=="},
            {"kind":"events","destination":"empty"}
        ]}"#;
        let added = |media_type: Option<&'static str>, body: &[u8]| {
            let effects = Effects::default();
            let media_type = media_type.map(HeaderValue::from_static);
            let added = add(&effects, media_type.as_ref(), body);
            added.map(|()| effects.carried().is_some()).map_err(|it| it.reason().to_owned())
        };
        assert_eq!(added(Some(MEDIA_TYPE), good), Ok(true));
        assert_eq!(added(Some("Application/vnd.Onceward.effects+JSON; charset=utf-8"), good), Ok(true));
        assert_eq!(added(Some(MEDIA_TYPE), br#"{"effects":[]}"#), Ok(false));
        for media_type in [None, Some("application/json"), Some("text/plain")] {
            assert_eq!(added(media_type, good), Ok(false), "{media_type:?}");
        }
        for (body, what) in [
            (&b"half"[..], "expected value"),
            (br#"{"effects":[{"kind":"a"}]}"#, "destination"),
            (br#"{"effects":[{"kind":"","destination":"a"}]}"#, "1 to 64 characters"),
            (br#"{"effects":[{"kind":"a","destination":"b","bodi":""}]}"#, "bodi"),
            (br#"{"effects":[{"kind":"a","destination":"b","body":"","body_base64":""}]}"#, "both"),
            (br#"{"effects":[{"kind":"a","destination":"b","body_base64":"?"}]}"#, "body_base64"),
        ] {
            let told = added(Some(MEDIA_TYPE), body).unwrap_err();
            assert!(told.contains(what), "{told} instead of {what}");
        }
    }
}
