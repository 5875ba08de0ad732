//! The answer that an operator gives for an operation that happened.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use onceward_core::Answer;
use serde::Deserialize;

use crate::body::Whole;

/// An HTTP answer, as an operator gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status, 200 to 599.
    pub status: StatusCode,
    /// The header lines in the order given; none belongs to one connection, to framing or to the moment.
    pub headers: HeaderMap,
    /// The body; empty where the status has none.
    pub body: Bytes,
}

impl fmt::Debug for HttpAnswer {
    /// Header values and the body stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpAnswer({}, {} bytes)", self.status.as_u16(), self.body.len())
    }
}

impl HttpAnswer {
    /// 16 hexadecimal digits that tell answers apart in the audit without showing them: the begin of the
    /// blake3 hash of the status line, the header lines, an empty line and the body, lines ending in `\n`.
    pub(crate) fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{}\n", self.status.as_u16()).as_bytes());
        for (name, value) in &self.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"] {
                hasher.update(part);
            }
        }
        hasher.update(b"\n").update(&self.body);
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

type Write = dyn Fn(HttpAnswer) -> Result<Answer, String> + Send + Sync;

/// Writes an [`HttpAnswer`] as the door stores it. Doors do not know each other, so whoever wires them brings it.
#[derive(Clone)]
pub struct AnswerWriter {
    write: Arc<Write>,
}

impl AnswerWriter {
    /// A writer. What it refuses is told to the operator in its words, which must hold nothing of the body.
    #[must_use]
    pub fn new(write: impl Fn(HttpAnswer) -> Result<Answer, String> + Send + Sync + 'static) -> Self {
        Self { write: Arc::new(write) }
    }

    pub(crate) fn write(&self, answer: HttpAnswer) -> Result<Answer, String> {
        (self.write)(answer)
    }
}

impl fmt::Debug for AnswerWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerWriter")
    }
}

/// The `answer` member of a resolve request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerBody {
    status: Whole,
    #[serde(default)]
    headers: Vec<(String, String)>,
    body: Option<String>,
    body_base64: Option<String>,
}

/// What the recording never has, because the next connection has its own.
const NEVER_STORED: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The others of that kind, which the `http` crate does not name, and one of Onceward's own.
const NEVER_STORED_EITHER: [&str; 3] = ["keep-alive", "proxy-connection", "idempotent-replayed"];

/// Longer than any header name.
const HEADER_NAME_CHARS_MAX: usize = 100;
/// More lines than any answer has.
pub(crate) const HEADERS_MAX: usize = 1000;

// The same rules for readers of the document.
/// A header value: no control characters but tabs.
pub(crate) const HEADER_VALUE_PATTERN: &str = "^[^\\u0000-\\u0008\\u000A-\\u001F\\u007F]*$";
/// Base64 in the standard alphabet, padded, with no bits left over.
pub(crate) const BASE64_PATTERN: &str =
    "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?$";

/// A header name, in any case, that may be given.
pub(crate) fn header_name_pattern() -> String {
    let any_case = |name: &str| -> String {
        name.chars()
            .map(|it| if it == '-' { "-".into() } else { format!("[{}{it}]", it.to_ascii_uppercase()) })
            .collect()
    };
    let never = NEVER_STORED.iter().map(HeaderName::as_str).chain(NEVER_STORED_EITHER);
    let never: Vec<String> = never.map(any_case).collect();
    format!(
        "^(?!({}|{}.*)$)[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,{HEADER_NAME_CHARS_MAX}}}$",
        never.join("|"),
        any_case("onceward-")
    )
}

impl AnswerBody {
    /// Checks it. The refusal says what is wrong and names the member.
    pub(crate) fn parse(self) -> Result<HttpAnswer, String> {
        let status = u16::try_from(self.status.0)
            .ok()
            .and_then(|it| StatusCode::from_u16(it).ok())
            .filter(|it| (200..600).contains(&it.as_u16()))
            .ok_or("`answer.status` must be 200 to 599")?;
        if self.headers.len() > HEADERS_MAX {
            return Err(format!("`answer.headers` has more than {HEADERS_MAX} lines"));
        }
        let mut headers = HeaderMap::new();
        for (index, (name, value)) in self.headers.into_iter().enumerate() {
            let (name, value) =
                header_line(&name, &value).map_err(|what| format!("`answer.headers[{index}]` {what}"))?;
            headers.try_append(name, value).map_err(|_| "`answer.headers` has too many lines")?;
        }
        let body = match (self.body, self.body_base64) {
            (Some(_), Some(_)) => return Err("give `answer.body` or `answer.body_base64`, not both".into()),
            (Some(text), None) => Bytes::from(text),
            (None, Some(coded)) => Bytes::from(
                STANDARD
                    .decode(coded)
                    .map_err(|_| "`answer.body_base64` is not base64 (standard alphabet, padded)")?,
            ),
            (None, None) => Bytes::new(),
        };
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless && !body.is_empty() {
            return Err(format!("`answer.body` must be left out: status {} has none", status.as_u16()));
        }
        Ok(HttpAnswer { status, headers, body })
    }
}

fn header_line(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    if name.len() > HEADER_NAME_CHARS_MAX {
        return Err(format!("has a name of more than {HEADER_NAME_CHARS_MAX} characters"));
    }
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "has no valid name")?;
    // Onceward says these itself.
    if name.as_str() == "idempotent-replayed" || name.as_str().starts_with("onceward-") {
        return Err(format!("must be left out: `{name}` is Onceward's own"));
    }
    if NEVER_STORED.contains(&name) || NEVER_STORED_EITHER.contains(&name.as_str()) {
        return Err(format!("must be left out: `{name}` is made afresh for each reply"));
    }
    let value = HeaderValue::from_str(value).map_err(|_| "has no valid value")?;
    Ok((name, value))
}
