//! Request headers that make the payment API slow, failing, cut off or talkative. For the demo only.
//!
//! | header | what it does |
//! |---|---|
//! | `Demo-Delay: 2s` | waits before the effect |
//! | `Demo-Fail-Before: 503` | gives this answer instead of the effect (503 says `Retry-After: 1`) |
//! | `Demo-Fail: 500` | has the effect, then gives this answer |
//! | `Demo-Delay-After: 500ms` | waits between the effect and the answer |
//! | `Demo-Cut: yes` | has the effect, closes the connection without an answer |
//! | `Demo-Answer-Bytes: 100000` | pads the answer with blanks to this size |

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer::Problem;

const NAMES: [&str; 6] =
    ["Demo-Delay", "Demo-Delay-After", "Demo-Fail", "Demo-Fail-Before", "Demo-Cut", "Demo-Answer-Bytes"];
const DELAY_MAX: Duration = Duration::from_secs(600);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Everything that the headers of one request switch on.
#[derive(Debug, Default)]
pub(super) struct Switches {
    delay: Duration,
    delay_after: Duration,
    fail: Option<StatusCode>,
    fail_before: Option<StatusCode>,
    cut: bool,
    answer_bytes: usize,
}

/// Marks an answer that must never be sent: the connection ends in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut;

impl Cut {
    pub(super) fn response() -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Self);
        response
    }
}

impl Switches {
    /// Reads the switches. A value that cannot be read is refused before anything happens.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let known = |name: &str| NAMES.iter().any(|it| it.eq_ignore_ascii_case(name));
        if let Some(name) = headers.keys().find(|it| it.as_str().starts_with("demo-") && !known(it.as_str()))
        {
            let message = format!("there is no switch {name}, only {}", NAMES.join(", "));
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", message));
        }
        let switches = Self {
            delay: one(headers, "Demo-Delay", "a time such as 2s or 500ms, at most 10m", delay)?
                .unwrap_or_default(),
            delay_after: one(headers, "Demo-Delay-After", "a time such as 2s or 500ms, at most 10m", delay)?
                .unwrap_or_default(),
            fail: one(headers, "Demo-Fail", "a status from 400 to 599", failure)?,
            fail_before: one(headers, "Demo-Fail-Before", "a status from 400 to 599", failure)?,
            cut: one(headers, "Demo-Cut", "yes or no", yes_or_no)?.unwrap_or_default(),
            answer_bytes: one(headers, "Demo-Answer-Bytes", "a number of bytes, at most 67108864", size)?
                .unwrap_or_default(),
        };
        Ok(switches)
    }

    /// Carries out `effect`, or does not, as the switches say.
    pub(super) async fn apply(self, effect: impl Future<Output = Response>) -> Response {
        pause(self.delay).await;
        let mut answer = match self.fail_before {
            Some(status) => failed_before(status),
            None => effect.await,
        };
        if let Some(status) = self.fail {
            let message = "Demo-Fail asked for this answer, whatever the call did";
            answer = Problem::new(status, "demo", message).into_response();
        }
        pause(self.delay_after).await;
        if self.cut { Cut::response() } else { pad(answer, self.answer_bytes).await }
    }
}

fn failed_before(status: StatusCode) -> Response {
    let message = "Demo-Fail-Before asked for this answer: nothing was done";
    let mut answer = Problem::new(status, "demo", message).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Blanks go before the last newline, so that the answer stays the same JSON.
async fn pad(answer: Response, bytes: usize) -> Response {
    if bytes == 0 {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    let mut text = match to_bytes(body, usize::MAX).await {
        Ok(text) => Vec::from(text),
        Err(_) => return Cut::response(), // our own bodies lie in memory and do not fail
    };
    let blanks = bytes.saturating_sub(text.len());
    let end = text.len() - usize::from(text.ends_with(b"\n"));
    text.splice(end..end, std::iter::repeat_n(b' ', blanks));
    let mut padded = Response::from_parts(parts, Body::from(text));
    padded.headers_mut().remove(header::CONTENT_LENGTH);
    padded
}

/// The one value of a switch, if the request has it.
fn one<T>(
    headers: &HeaderMap,
    name: &'static str,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let value = line.to_str().ok().filter(|_| lines.next().is_none());
    let value = value.and_then(|text| read(text.trim()));
    value.map(Some).ok_or_else(|| Problem::bad(name, format!("{name} must be given once, as {expected}")))
}

fn delay(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|it| *it <= DELAY_MAX)
}

fn failure(text: &str) -> Option<StatusCode> {
    let status: StatusCode = text.parse().ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn size(text: &str) -> Option<usize> {
    text.parse().ok().filter(|it| *it <= ANSWER_BYTES_MAX)
}
