//! A message as a request to its handler, and what the answer means.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use onceward::http::{Body, HttpPolicy, IDEMPOTENCY_KEY, ONCEWARD_OUTCOME, Outcome, Reason};
use onceward::queue::{Failure, Handling};
use onceward_gateway::Upstream;
use tower_service::Service as _;

use super::effects;

/// Sends a message to the handler, once.
pub(super) async fn deliver(upstream: Upstream, to: &Uri, it: &Handling) -> Result<(), Failure> {
    let request = request(to, it).map_err(Failure::park)?;
    let (response, body) = ask(upstream, request).await;
    judge(&response, body.as_deref())?;
    effects::add(&it.effects, response.headers().get(CONTENT_TYPE), body.as_deref().unwrap_or_default())
}

/// The handler's answer; without a body where that did not come whole.
pub(super) async fn ask(mut upstream: Upstream, request: Request<Body>) -> (Response<()>, Option<Bytes>) {
    let Ok(response) = upstream.call(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
    (Response::from_parts(parts, ()), body)
}

/// A request to the handler, with this body.
pub(super) fn post(to: &Uri, body: Bytes, kind: &'static str) -> Result<Request<Body>, String> {
    let mut request = Request::new(Body::whole(body, None));
    *request.method_mut() = Method::POST;
    let path = to.path_and_query().map_or("/", |it| it.as_str());
    *request.uri_mut() =
        path.parse().map_err(|it| format!("the handler's URL cannot be asked: {to}: {it}"))?;
    let headers = request.headers_mut();
    headers.insert(http::header::HOST, value(to.authority().map_or("", |it| it.as_str()).as_bytes())?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(request)
}

/// The headers of the message that an HTTP request cannot carry are counted in `Onceward-Message-Omitted`.
fn request(to: &Uri, it: &Handling) -> Result<Request<Body>, String> {
    let message = &it.message;
    let mut request = post(to, Bytes::clone(&message.body), "application/octet-stream")?;
    let headers = request.headers_mut();
    headers.insert(IDEMPOTENCY_KEY, value(it.key.as_str().as_bytes())?);
    headers.insert("onceward-attempt", HeaderValue::from(it.attempt));
    headers.insert("onceward-topic", value(message.topic.as_bytes())?);
    if let Some(fence) = it.fence {
        headers.insert("onceward-fence", HeaderValue::from(fence.0));
    }
    let mut omitted = 0_u32;
    for (name, content) in &message.headers {
        let named = HeaderName::try_from(format!("onceward-message-{name}"));
        match (named, HeaderValue::from_bytes(content)) {
            (Ok(named), Ok(content)) => {
                if name.eq_ignore_ascii_case("content-type") {
                    headers.insert(CONTENT_TYPE, content.clone());
                }
                headers.append(named, content);
            }
            _ => omitted += 1,
        }
    }
    if omitted > 0 {
        headers.insert("onceward-message-omitted", HeaderValue::from(omitted));
    }
    Ok(request)
}

fn value(bytes: &[u8]) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(bytes).map_err(|it| format!("the message cannot be sent as a request: {it}"))
}

/// How many characters of an answer a dead letter shows.
const SHOWN: usize = 500;

/// What an answer of the handler means for its message. There is no body where it did not come whole.
pub(super) fn judge<T>(response: &Response<T>, body: Option<&[u8]>) -> Result<(), Failure> {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER);
    let header = response.headers().get(ONCEWARD_OUTCOME).map(HeaderValue::as_bytes);
    let said = response.extensions().get::<Outcome>().copied().or(match header {
        Some(b"store") => Some(Outcome::Store),
        Some(b"release") => Some(Outcome::Release),
        Some(b"unknown") => Some(Outcome::Unknown),
        _ => None,
    });
    let told = match response.extensions().get::<Reason>() {
        // No handler said that.
        Some(Reason(why)) => format!("the handler did not answer: {why}"),
        None => {
            let text: String =
                String::from_utf8_lossy(body.unwrap_or_default()).chars().take(SHOWN).collect();
            let header = header.map(|it| format!(" with onceward-outcome: {}", String::from_utf8_lossy(it)));
            let told = format!("the handler answered {}{}", status.as_u16(), header.unwrap_or_default());
            if text.is_empty() { told } else { format!("{told}: {text}") }
        }
    };
    match HttpPolicy::default().outcome(status, after.is_some(), said) {
        Outcome::Release => {
            let seconds = after.and_then(|it| it.to_str().ok()?.parse().ok());
            Err(Failure::Retry { reason: told, after: seconds.map(Duration::from_secs) })
        }
        _ if body.is_none() => Err(Failure::unknown("the handler's answer did not come whole")),
        Outcome::Unknown => Err(Failure::unknown(told)),
        Outcome::Store if said.is_some() || status.is_success() => Ok(()),
        // It may be working on a request with this key.
        Outcome::Store if status.is_server_error() || status == StatusCode::CONFLICT => {
            Err(Failure::unknown(told))
        }
        Outcome::Store => Err(Failure::park(told)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_what_becomes_of_a_message() {
        let judged = |status: u16, headers: &[(&str, &str)], whole: bool| {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            match judge(&response.body(()).unwrap(), whole.then_some(&b""[..])) {
                Ok(()) => "done".to_owned(),
                Err(Failure::Retry { after, .. }) => format!("retry {}", after.map_or(0, |it| it.as_secs())),
                Err(Failure::Park { .. }) => "park".to_owned(),
                Err(Failure::Unknown { .. }) => "unknown".to_owned(),
            }
        };
        let outcome = |it| [("onceward-outcome", it)];
        for (status, headers, whole, wanted) in [
            (200, vec![], true, "done"),
            (204, vec![], true, "done"),
            (200, vec![], false, "unknown"),
            (302, vec![], true, "park"),
            (400, vec![], true, "park"),
            (422, vec![], true, "park"),
            (409, vec![], true, "unknown"),
            (401, vec![], true, "retry 0"),
            (429, vec![("retry-after", "7")], true, "retry 7"),
            (503, vec![("retry-after", "soon")], true, "retry 0"),
            (503, vec![], true, "unknown"),
            (500, vec![], true, "unknown"),
            (408, vec![], true, "unknown"),
            (500, outcome("store").to_vec(), true, "done"),
            (200, outcome("release").to_vec(), true, "retry 0"),
            (404, outcome("unknown").to_vec(), true, "unknown"),
        ] {
            assert_eq!(judged(status, &headers, whole), wanted, "{status} {headers:?} {whole}");
        }
    }
}
