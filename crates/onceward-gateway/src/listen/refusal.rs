//! What the listener itself says when a request does not reach the service.

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use onceward_http::{Body, Problem};

use super::line::Fault;
use super::violation::Violation;

/// The answer to a request that is not passed on, after which a connection of HTTP/1 ends.
pub(super) fn refusal(fault: Fault) -> Response<Body> {
    match fault {
        Fault::Violation(violation) if violation.status() == StatusCode::BAD_REQUEST => {
            Problem::RequestAmbiguous(violation.sentence()).response()
        }
        Fault::Violation(Violation::HeadTooLarge) => Problem::HeaderTooLarge.response(),
        Fault::Violation(violation) => plain(violation.status(), violation.sentence()),
        Fault::HeaderTimeout | Fault::BodyTimeout => Problem::RequestTimeout.response(),
    }
}

/// The answer when too many requests are under way.
pub(super) fn overloaded() -> Response<Body> {
    Problem::Overloaded.response()
}

/// HTTP/1 ends the connection after this answer.
pub(super) fn close(response: &mut Response<Body>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The answer to a request without TLS on a port with it, from status line to end.
pub(super) const PLAIN_ON_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\ncontent-length: 49\r\nconnection: close\r\n\r\n\
    This port speaks TLS. Use https:// to reach it.\r\n";

/// A problem that has no type of its own (RFC 9457 section 4.2.1).
fn plain(status: StatusCode, sentence: &'static str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or_default();
    let code = status.as_u16();
    let json = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{code},\
         \"detail\":\"{sentence}. Nothing was run.\"}}"
    );
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a request of HTTP/2 breaks, whose framing has been checked already.
pub(super) fn check_http2<B>(request: &http::Request<B>, limits: &super::Limits) -> Option<Violation> {
    let headers = request.headers();
    if headers.len() > limits.headers_max {
        return Some(Violation::HeadTooLarge);
    }
    let target = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
    if target > limits.target_bytes_max {
        return Some(Violation::TargetTooLong);
    }
    let mut lengths = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let is_plain = |it: &HeaderValue| !it.is_empty() && it.as_bytes().iter().all(u8::is_ascii_digit);
    let twice_or_odd = lengths.next().is_some_and(|it| !is_plain(it)) || lengths.next().is_some();
    twice_or_odd.then_some(Violation::ContentLength)
}
