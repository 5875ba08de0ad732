//! What a handler's answer says is to go out because of its message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use onceward::queue::outbox::{Effect, Effects};
use serde::Deserialize;

/// The media type of an answer that names effects.
const MEDIA_TYPE: &str = "application/vnd.onceward.effects+json";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    effects: Vec<NamedEffect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedEffect {
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

/// Adds what an answer names, all of it or, where it cannot be read, nothing. An answer of another media type names none.
///
/// # Errors
/// What is wrong with it.
pub(super) fn add(effects: &Effects, media_type: Option<&[u8]>, body: &[u8]) -> Result<(), String> {
    let media_type = media_type.unwrap_or_default().split(|it| *it == b';').next().unwrap_or_default();
    if !media_type.trim_ascii().eq_ignore_ascii_case(MEDIA_TYPE.as_bytes()) {
        return Ok(());
    }
    let wrong =
        |it: &dyn std::fmt::Display| format!("the effects that the handler answered cannot be used: {it}");
    let named: Named = serde_json::from_slice(body).map_err(|it| wrong(&it))?;
    let mut read = Vec::new();
    for it in named.effects {
        let body = match (it.body, it.body_base64) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(text)) => {
                BASE64.decode(text).map_err(|it| wrong(&format!("body_base64: {it}")))?.into()
            }
            (None, None) => Bytes::new(),
            (Some(_), Some(_)) => return Err(wrong(&"there is both `body` and `body_base64`")),
        };
        let headers = it.headers.into_iter().map(|it| (it.0, Bytes::from(it.1))).collect();
        let key = it.key.map(Bytes::from);
        read.push(Effect { kind: it.kind, destination: it.destination, key, headers, body });
    }
    for effect in read {
        effects.add(effect).map_err(|it| wrong(&it))?;
    }
    Ok(())
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
        let added = |media_type: Option<&str>, body: &[u8]| {
            let effects = Effects::default();
            add(&effects, media_type.map(str::as_bytes), body).map(|()| effects.carried().is_some())
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
