//! The walk of an operation: claim it, run it, and hand over to its end.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use onceward_core::mutant::{self, Mutant};
use onceward_core::{Answer, Attempt, Begin, ErrorKind, Identified, Key, Permit, RecordId, Scope};
use tokio::sync::oneshot;
use tower_service::Service;

use crate::answer::{Read, StoredAnswer};
use crate::body::{Body, BoxError};
use crate::capture::{Captured, capture};
use crate::crowd::Place;
use crate::ending::{Ended, Teller, end, run_and_capture, settle};
use crate::exchange::{Exchange, Told};
use crate::fingerprint::fingerprint_of;
use crate::key_header::IDEMPOTENCY_KEY;
use crate::key_source::KeySource;
use crate::layer::Shared;
use crate::policy::Compare;
use crate::principal::principal_of;
use crate::problem::Problem;
use crate::route::Route;
use crate::service::{FreshConnection, Operation, SecureClient, tell};

const ONCEWARD_FENCE: HeaderName = HeaderName::from_static("onceward-fence");
const ONCEWARD_ATTEMPT: HeaderName = HeaderName::from_static("onceward-attempt");

/// What a request met: what all share, and the route that matched.
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) route: Arc<Route>,
}

impl Door {
    fn replay(&self, id: RecordId, answer: &Answer) -> Response<Body> {
        match StoredAnswer::read_for_replay(answer, &self.route.policy.replay_drop) {
            Read::Whole(stored) => {
                tell(stored.replay(), Exchange { told: Told::Replay, ..self.exchange(id, 0) })
            }
            Read::NotKept => self.answered(id, &Problem::AnswerNotKept, Told::NotKept),
            Read::Unreadable => {
                tracing::error!(record = id.prefix(), "a stored answer cannot be read");
                self.answered(id, &Problem::StoreUnavailable, Told::Unavailable)
            }
        }
    }

    fn exchange(&self, id: RecordId, attempt: u32) -> Exchange {
        Exchange { record: Some(id), attempt, ..Exchange::of(&self.route, Told::FirstRun) }
    }

    fn refuse(&self, problem: &Problem, told: Told) -> Response<Body> {
        tell(problem.response(), Exchange::of(&self.route, told))
    }

    fn answered(&self, id: RecordId, problem: &Problem, told: Told) -> Response<Body> {
        tell(problem.response(), Exchange { told, ..self.exchange(id, 0) })
    }
}

fn failed(route: &Arc<Route>, id: RecordId, attempt: u32) -> Response<Body> {
    let exchange = Exchange { record: Some(id), attempt, ..Exchange::of(route, Told::Unknown) };
    tell(Problem::OutcomeUnresolved.response(), exchange)
}

/// From the recognised head to the answer. Until the permit is granted, a client that leaves ends this.
pub(crate) async fn operation<S, ResB>(
    door: Door,
    inner: S,
    mut parts: Parts,
    body: Body,
    key: Option<Key>,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let refused = |problem: Problem| door.refuse(&problem, Told::Refused);
    let policy = &door.route.policy;
    let too_large = Problem::RequestTooLarge { max_bytes: policy.max_request_bytes };
    if content_length(&parts.headers).is_some_and(|it| it > policy.max_request_bytes) {
        return refused(too_large);
    }
    if parts.headers.get_all(HOST).iter().count() > 1 {
        return refused(Problem::RequestAmbiguous("The request has more than one Host line; send one"));
    }
    let hasher = match door.shared.engine.hasher().await {
        Ok(hasher) => hasher,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the store cannot be asked");
            // Without its hash key no record is found again: they are never run over.
            let unreadable = error.kind() == ErrorKind::Corrupt;
            return Box::pin(without_store(door, inner, parts, body, unreadable, None)).await;
        }
    };
    let principal = match principal_of(&policy.principal, &parts.headers, &hasher) {
        Ok(principal) => principal,
        Err(problem) => return refused(problem),
    };
    let Some(place) = door.shared.crowd.enter(principal) else {
        return refused(Problem::TooManyInFlight);
    };
    let body = match capture(body, policy.max_request_bytes).await {
        Captured::Whole { body, .. } => body,
        Captured::TooLong(_) => return refused(too_large),
        Captured::Cut => return refused(Problem::RequestIncomplete),
    };
    if let Err(problem) = verify(&door, &parts, &body) {
        return refused(problem);
    }
    let key = match key.map_or_else(|| policy.key_from.in_body(&body), Ok) {
        Ok(key) => key,
        Err(problem) => return refused(problem),
    };
    if policy.key_from != KeySource::IdempotencyKey {
        // The service behind finds the key under one name, wherever the sender has it.
        let value = HeaderValue::from_str(key.as_str()).expect("a key is visible ASCII");
        parts.headers.insert(IDEMPOTENCY_KEY, value);
    }
    let attempt = Attempt {
        scope: Scope {
            principal,
            kind: parts.method.as_str().to_owned(),
            host: host_of(&parts),
            path: parts.uri.path().to_owned(),
        },
        key,
        fingerprint: match policy.compare {
            Compare::Request => fingerprint_of(&hasher, &parts, &body),
            Compare::Nothing => hasher.fingerprint([b"http, the key alone".as_slice()]),
        },
        policy: policy.policy,
        in_flight: policy.in_flight,
    };
    let attempt = Identified::from(&attempt);
    let id = attempt.record_id();
    if door.shared.is_draining() {
        return door.answered(id, &Problem::Draining, Told::Unavailable);
    }
    let permit = match door.shared.engine.begin(attempt).await {
        Ok(Begin::Run(permit)) => permit,
        Ok(Begin::Replay(answer)) => return door.replay(id, &answer),
        Ok(Begin::Busy { retry_after }) => {
            return door.answered(id, &Problem::InProgress { retry_after }, Told::Busy);
        }
        Ok(Begin::Mismatch) => return door.answered(id, &Problem::KeyReused, Told::Mismatch),
        Ok(Begin::Unresolved) => return door.answered(id, &Problem::Unresolved, Told::Unresolved),
        Ok(Begin::Gone) => return door.answered(id, &Problem::AnswerGone, Told::Gone),
        Err(error) => {
            tracing::warn!(
                record = id.prefix(),
                error = &error as &dyn std::error::Error,
                "the operation was not claimed"
            );
            // A record that cannot be read may be a claim, and one whose reply was lost may have landed:
            // neither is run over, not even where the route says `fail_open`.
            let unreadable = error.kind() != ErrorKind::Unavailable;
            let without = without_store(door, inner, parts, Body::from(body), unreadable, Some(place));
            return Box::pin(without).await;
        }
    };
    if door.shared.is_draining() {
        // It was granted while the drain began: nothing was sent yet.
        settle(id, permit.release().await);
        return door.answered(id, &Problem::Draining, Told::Unavailable);
    }
    prepare(&mut parts, &permit, &door.route);
    let (tx, rx) = oneshot::channel();
    let tasks = door.shared.tasks.clone();
    let (route, attempt) = (Arc::clone(&door.route), permit.attempt());
    let exchange = door.exchange(id, permit.attempt());
    let teller = Teller { tx: Some(tx), exchange, place: Some(place) };
    // In a box, because a task moves what it runs several times before and after.
    let work = Box::pin(run(door, inner, permit, Request::from_parts(parts, Body::from(body)), teller));
    if mutant::is(Mutant::CancelOnDisconnect) {
        work.await;
    } else {
        tasks.spawn(work);
    }
    // The sender only goes away unheard when the runtime is shut down.
    rx.await.unwrap_or_else(|_| failed(&route, id, attempt))
}

/// Runs the claimed operation to its end, whether or not the client is still there.
async fn run<S, ResB>(door: Door, inner: S, mut permit: Permit, request: Request<Body>, mut teller: Teller)
where
    S: Service<Request<Body>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let abort = door.shared.abort.clone();
    let id = permit.record_id();
    let max_answer_bytes = door.route.policy.max_answer_bytes;
    let ended = {
        // Pinned here, so that it is not moved into what keeps the permit. It ends with this block.
        let work = pin!(AssertUnwindSafe(run_and_capture(inner, request, max_answer_bytes)).catch_unwind());
        tokio::select! {
            biased;
            () = abort.cancelled() => None,
            ended = permit.keep(work) => Some(ended),
        }
    };
    let ended = match ended {
        None => {
            teller.tell(Problem::OutcomeUnresolved.response(), Told::Unknown);
            return settle(id, permit.abandon("the server was stopped while it ran").await);
        }
        // Another holder or an operator has the record: nothing may be written.
        Some(Err(_lost)) => return teller.tell(Problem::OutcomeUnresolved.response(), Told::Unknown),
        Some(Ok(Err(_panic))) => Ended::Failed("the service panicked"),
        Some(Ok(Ok(ended))) => ended,
    };
    let outcome = ended.outcome(&door.route.policy);
    end(&door, permit, teller, outcome, ended).await;
}

/// Whether a request was signed by whom its route says.
fn verify(door: &Door, parts: &Parts, body: &[u8]) -> Result<(), Problem> {
    let Some(verifier) = &door.route.policy.verify else { return Ok(()) };
    let now = door.shared.engine.clock().wall();
    verifier.verify(&parts.headers, body, now).map_err(Problem::SignatureInvalid)
}

/// The store cannot be asked: refused, or run unprotected where the route says so.
async fn without_store<S, ResB>(
    door: Door,
    inner: S,
    mut parts: Parts,
    body: Body,
    unreadable: bool,
    place: Option<Place>,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let policy = &door.route.policy;
    if door.shared.is_draining() {
        return door.refuse(&Problem::Draining, Told::Unavailable);
    }
    if !policy.fail_open || unreadable {
        return door.refuse(&Problem::StoreUnavailable, Told::Unavailable);
    }
    let max_bytes = policy.max_request_bytes;
    let body = match capture(body, max_bytes).await {
        Captured::Whole { body, .. } => body,
        Captured::TooLong(_) => return door.refuse(&Problem::RequestTooLarge { max_bytes }, Told::Refused),
        Captured::Cut => return door.refuse(&Problem::RequestIncomplete, Told::Refused),
    };
    if let Err(problem) = verify(&door, &parts, &body) {
        return door.refuse(&problem, Told::Refused);
    }
    if door.shared.is_draining() {
        // The drain began while the body came.
        return door.refuse(&Problem::Draining, Told::Unavailable);
    }
    strip_negotiation(&mut parts.headers);
    let exchange = Exchange::of(&door.route, Told::FailedOpen);
    let failed = tell(Problem::OutcomeUnresolved.response(), exchange.clone());
    let (tx, rx) = oneshot::channel();
    let teller = Teller { tx: Some(tx), exchange, place };
    let tasks = door.shared.tasks.clone();
    tasks.spawn(run_unprotected(door, inner, Request::from_parts(parts, Body::from(body)), teller));
    rx.await.unwrap_or(failed)
}

/// Runs an operation without a record to its end, whether or not the client is still there.
async fn run_unprotected<S, ResB>(door: Door, inner: S, request: Request<Body>, mut teller: Teller)
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let max_answer_bytes = door.route.policy.max_answer_bytes;
    let work = AssertUnwindSafe(run_and_capture(inner, request, max_answer_bytes)).catch_unwind();
    let ended = tokio::select! {
        biased;
        () = door.shared.abort.cancelled() => Ended::Failed("the server was stopped while it ran"),
        ended = work => ended.unwrap_or(Ended::Failed("the service panicked")),
    };
    teller.tell(ended.first(), Told::FailedOpen);
}

/// Gives the request the headers that the service behind may rely on.
fn prepare(parts: &mut Parts, permit: &Permit, route: &Route) {
    strip_negotiation(&mut parts.headers);
    parts.headers.insert(ONCEWARD_FENCE, HeaderValue::from(permit.fence().0));
    parts.headers.insert(ONCEWARD_ATTEMPT, HeaderValue::from(permit.attempt()));
    parts.extensions.insert(Operation { record: permit.record_id() });
    if route.fresh_connection {
        parts.extensions.insert(FreshConnection);
    }
}

/// An answer is stored once for all repeats, so it is asked for whole and in identity form.
fn strip_negotiation(headers: &mut HeaderMap) {
    headers.remove(ACCEPT_ENCODING);
    headers.remove(RANGE);
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The host as it counts: lower case, without the default port. HTTP/2 says it in the target. Bytes outside
/// ASCII stand for themselves, so that no two hosts become one.
fn host_of(parts: &Parts) -> String {
    let sent = match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => parts.headers.get(HOST).map_or(&[][..], |it| it.as_bytes()),
    };
    let host = sent.rsplit(|it| *it == b'@').next().unwrap_or_default();
    // HTTP/1 seldom names the scheme; the connection tells.
    let secure = match parts.uri.scheme_str() {
        Some(scheme) => scheme == "https",
        None => parts.extensions.get::<SecureClient>().is_some(),
    };
    let default: &[u8] = if secure { b":443" } else { b":80" };
    let host = host.strip_suffix(default).unwrap_or(host);
    match str::from_utf8(host) {
        Ok(host) if host.is_ascii() => host.to_ascii_lowercase(),
        _ => host.iter().map(|it| char::from(it.to_ascii_lowercase())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(target: &str, line: &str, is_secure: bool) -> String {
        let mut request = Request::post(target).header(HOST, line);
        if is_secure {
            request = request.extension(SecureClient);
        }
        host_of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn the_default_port_is_that_of_the_connection_where_no_scheme_is_named() {
        for (target, line, is_secure, expected) in [
            ("/", "Shop.test:443", true, "shop.test"),
            ("/", "shop.test:80", true, "shop.test:80"),
            ("/", "shop.test:443", false, "shop.test:443"),
            ("/", "shop.test:80", false, "shop.test"),
            ("https://shop.test:443/", "x", true, "shop.test"),
            ("https://shop.test:443/", "x", false, "shop.test"),
            ("http://shop.test:80/", "x", true, "shop.test"),
        ] {
            assert_eq!(host(target, line, is_secure), expected, "{target} {line} {is_secure}");
        }
    }
}
