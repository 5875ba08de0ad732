//! The walk of a request through the layer: recognise, claim, run, store, tell.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, RANGE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use onceward_core::{Answer, Attempt, Begin, ErrorKind, Key, Permit, RecordId, Scope};
use tokio::sync::oneshot;
use tower_service::Service;

use crate::answer::{Read, StoredAnswer, fit_length, strip_first_run, strip_hop_by_hop};
use crate::body::{Body, BoxError};
use crate::capture::{Captured, capture};
use crate::exchange::{Exchange, Told};
use crate::fingerprint::fingerprint_of;
use crate::key_header::{IDEMPOTENCY_KEY, key_of};
use crate::layer::Shared;
use crate::outcome::{Outcome, Reason};
use crate::policy::{HttpPolicy, KeyRule, Oversize};
use crate::principal::principal_of;
use crate::problem::Problem;
use crate::route::Route;

const ONCEWARD_FENCE: HeaderName = HeaderName::from_static("onceward-fence");
const ONCEWARD_ATTEMPT: HeaderName = HeaderName::from_static("onceward-attempt");

/// A request extension: this operation wants a connection of its own to the upstream.
#[derive(Debug, Clone, Copy)]
pub struct FreshConnection;

/// A request extension: this request is an operation, claimed under this record. Requests without it just
/// pass through.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// The record of the operation.
    pub record: RecordId,
}

/// A service whose operations are safe to repeat. Made by [`IdempotencyLayer`](crate::IdempotencyLayer).
#[derive(Debug, Clone)]
pub struct Idempotency<S> {
    pub(crate) inner: S,
    pub(crate) shared: Arc<Shared>,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Idempotency<S>
where
    S: Service<Request<Body>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    ReqB: HttpBody<Data = Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // A replay needs no room in the service behind; who does need it waits there.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let inner = self.inner.clone();
        let shared = Arc::clone(&self.shared);
        let (mut parts, body) = request.into_parts();
        drop_forged(&mut parts.headers);
        match recognise(&shared, &parts) {
            Recognised::PassThrough => Box::pin(pass_through(inner, parts, Body::stream(body))),
            Recognised::Refused(problem, route) => {
                let response = tell(problem.response(), Exchange::of(&route, Told::Refused));
                Box::pin(async move { Ok(response) })
            }
            Recognised::Operation(route, key) => {
                let door = Door { shared, route };
                Box::pin(async move { Ok(operation(door, inner, parts, Body::stream(body), key).await) })
            }
        }
    }
}

/// What a request is, as far as its head tells.
enum Recognised {
    PassThrough,
    Refused(Problem, Arc<Route>),
    Operation(Arc<Route>, Key),
}

fn recognise(shared: &Shared, parts: &Parts) -> Recognised {
    let Some(route) = shared.routes().find(&parts.method, parts.uri.path()) else {
        return Recognised::PassThrough;
    };
    // Methods are case-sensitive (RFC 9110, section 9.1), and not everybody behind us knows.
    if parts.method.as_str().bytes().any(|it| it.is_ascii_lowercase()) {
        let why = "The method is not in capital letters; write POST, PATCH, PUT or DELETE";
        return Recognised::Refused(Problem::RequestAmbiguous(why), route);
    }
    let required = route.policy.key == KeyRule::Required;
    if is_grpc(&parts.headers) {
        return if required {
            Recognised::Refused(Problem::GrpcUnsupported, route)
        } else {
            Recognised::PassThrough
        };
    }
    match key_of(&parts.headers) {
        Ok(Some(key)) => Recognised::Operation(route, key),
        Ok(None) if required => Recognised::Refused(Problem::KeyMissing, route),
        Ok(None) => Recognised::PassThrough,
        Err(problem) => Recognised::Refused(problem, route),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], |it| it.as_bytes());
    kind.get(..16).is_some_and(|it| it.eq_ignore_ascii_case(b"application/grpc"))
}

/// Headers that only Onceward may send towards the service behind, also as a gateway interface (CGI, WSGI)
/// would spell them: there `_` and `-` are the same.
fn drop_forged(headers: &mut HeaderMap) {
    let is_forged = |it: &HeaderName| {
        let plain = it.as_str().replace('_', "-");
        plain.starts_with("onceward-") || (plain == IDEMPOTENCY_KEY.as_str() && *it != IDEMPOTENCY_KEY)
    };
    let forged: Vec<HeaderName> = headers.keys().filter(|it| is_forged(it)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

async fn pass_through<S, ResB>(inner: S, parts: Parts, body: Body) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let mut response = call(inner, Request::from_parts(parts, body)).await?;
    strip_first_run(response.headers_mut());
    Ok(tell(response.map(Body::stream), Exchange::pass_through()))
}

async fn call<S, ResB>(mut inner: S, request: Request<Body>) -> Result<Response<ResB>, S::Error>
where
    S: Service<Request<Body>, Response = Response<ResB>>,
{
    poll_fn(|cx| inner.poll_ready(cx)).await?;
    inner.call(request).await
}

fn tell(mut response: Response<Body>, exchange: Exchange) -> Response<Body> {
    response.extensions_mut().insert(exchange);
    response
}

/// What a request met: what all share, and the route that matched.
struct Door {
    shared: Arc<Shared>,
    route: Arc<Route>,
}

impl Door {
    fn replay(&self, id: RecordId, answer: &Answer) -> Response<Body> {
        match StoredAnswer::read(answer) {
            Read::Whole(stored) => {
                let response = stored.replay(&self.route.policy.replay_drop);
                tell(response, Exchange { told: Told::Replay, ..self.exchange(id, 0) })
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

    fn failed(&self, id: RecordId, attempt: u32) -> Response<Body> {
        let exchange = Exchange { told: Told::Unknown, ..self.exchange(id, attempt) };
        tell(Problem::OutcomeUnresolved.response(), exchange)
    }
}

/// From the recognised head to the answer. Until the permit is granted, a client that leaves ends this.
async fn operation<S, ResB>(door: Door, inner: S, mut parts: Parts, body: Body, key: Key) -> Response<Body>
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
            return without_store(&door, inner, parts, body, unreadable).await;
        }
    };
    let principal = match principal_of(&policy.principal, &parts.headers, &hasher) {
        Ok(principal) => principal,
        Err(problem) => return refused(problem),
    };
    let body = match capture(body, policy.max_request_bytes).await {
        Captured::Whole { body, .. } => body,
        Captured::TooLong(_) => return refused(too_large),
        Captured::Cut => return refused(Problem::RequestIncomplete),
    };
    let attempt = Attempt {
        scope: Scope {
            principal,
            kind: parts.method.as_str().to_owned(),
            host: host_of(&parts),
            path: parts.uri.path().to_owned(),
        },
        key,
        fingerprint: fingerprint_of(&hasher, &parts, &body),
        policy: policy.policy,
        in_flight: policy.in_flight,
    };
    let id = attempt.record_id();
    if door.shared.is_draining() {
        return door.answered(id, &Problem::Draining, Told::Unavailable);
    }
    let permit = match door.shared.engine.begin(&attempt).await {
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
            return without_store(&door, inner, parts, Body::from(body), unreadable).await;
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
    let failed = door.failed(id, permit.attempt());
    tasks.spawn(run(door, inner, permit, Request::from_parts(parts, Body::from(body)), tx));
    // The sender only goes away unheard when the runtime is shut down.
    rx.await.unwrap_or(failed)
}

/// Runs the claimed operation to its end, whether or not the client is still there.
async fn run<S, ResB>(
    door: Door,
    inner: S,
    mut permit: Permit,
    request: Request<Body>,
    tx: oneshot::Sender<Response<Body>>,
) where
    S: Service<Request<Body>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let abort = door.shared.abort.clone();
    let (id, attempt) = (permit.record_id(), permit.attempt());
    let max_answer_bytes = door.route.policy.max_answer_bytes;
    let work = AssertUnwindSafe(run_and_capture(inner, request, max_answer_bytes)).catch_unwind();
    let ended = tokio::select! {
        biased;
        () = abort.cancelled() => None,
        ended = permit.keep(work) => Some(ended),
    };
    let mut teller = Teller { tx: Some(tx), exchange: door.exchange(id, attempt) };
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

/// The store cannot be asked: refused, or run unprotected where the route says so.
async fn without_store<S, ResB>(
    door: &Door,
    inner: S,
    mut parts: Parts,
    body: Body,
    unreadable: bool,
) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    if door.shared.is_draining() {
        return door.refuse(&Problem::Draining, Told::Unavailable);
    }
    if !door.route.policy.fail_open || unreadable {
        return door.refuse(&Problem::StoreUnavailable, Told::Unavailable);
    }
    let max_bytes = door.route.policy.max_request_bytes;
    let body = match capture(body, max_bytes).await {
        Captured::Whole { body, .. } => body,
        Captured::TooLong(_) => return door.refuse(&Problem::RequestTooLarge { max_bytes }, Told::Refused),
        Captured::Cut => return door.refuse(&Problem::RequestIncomplete, Told::Refused),
    };
    strip_negotiation(&mut parts.headers);
    let exchange = Exchange::of(&door.route, Told::FailedOpen);
    match call(inner, Request::from_parts(parts, Body::from(body))).await {
        Ok(mut response) => {
            strip_first_run(response.headers_mut());
            tell(response.map(Body::stream), exchange)
        }
        Err(_) => tell(Problem::OutcomeUnresolved.response(), exchange),
    }
}

/// Writes what became of the operation, then tells the caller; never the other way round.
async fn end(door: &Door, permit: Permit, mut teller: Teller, outcome: Outcome, ended: Ended) {
    let id = permit.record_id();
    let patience = door.shared.engine.clock().sleep(door.shared.store_patience);
    let (finish, told, response): (FinishFuture, Told, Response<Body>) = match (outcome, ended) {
        (_, Ended::Failed(why)) => (
            Box::pin(async move { permit.abandon(why).await.map(|()| None) }),
            Told::Unknown,
            Problem::OutcomeUnresolved.response(),
        ),
        (Outcome::Store, Ended::Whole(stored)) => {
            let answer = stored.to_answer();
            (
                Box::pin(async move {
                    let given = answer.clone();
                    let stands = permit.complete(answer).await?;
                    Ok((stands != given).then_some(stands))
                }),
                Told::FirstRun,
                stored.first(),
            )
        }
        (Outcome::Store, Ended::Streams(response)) => {
            let response = match door.route.policy.oversize {
                Oversize::Pass => response,
                Oversize::Refuse => Problem::AnswerTooLarge.response(),
            };
            (
                Box::pin(async move {
                    let stands = permit.complete(StoredAnswer::not_kept()).await?;
                    Ok((stands != StoredAnswer::not_kept()).then_some(stands))
                }),
                Told::Oversize,
                response,
            )
        }
        (Outcome::Release, ended) => {
            (Box::pin(async move { permit.release().await.map(|()| None) }), Told::Released, ended.first())
        }
        (Outcome::Unknown, ended) => {
            let why = ended.why_unknown();
            (Box::pin(async move { permit.abandon(&why).await.map(|()| None) }), Told::Unknown, ended.first())
        }
    };
    let mut finish = finish;
    let written = tokio::select! {
        biased;
        written = &mut finish => written,
        () = patience => {
            let told = match told {
                Told::FirstRun | Told::Oversize => Told::NotStored,
                _ => Told::Unknown,
            };
            let late = match told {
                Told::NotStored => Problem::AnswerNotStored.response(),
                _ => Problem::OutcomeUnresolved.response(),
            };
            teller.tell(late, told);
            // Storing goes on: a repeat gets the answer once the store is back.
            tokio::select! {
                written = &mut finish => return settle(id, written),
                () = door.shared.abort.cancelled() => return,
            }
        }
    };
    match written {
        Ok(None) => teller.tell(response, told),
        Ok(Some(stands)) => match StoredAnswer::read(&stands) {
            Read::Whole(stored) => teller.tell(stored.first(), told),
            Read::NotKept => teller.tell(Problem::AnswerNotKept.response(), Told::NotKept),
            Read::Unreadable => teller.tell(Problem::OutcomeUnresolved.response(), Told::Unknown),
        },
        Err(error) => {
            teller.tell(Problem::OutcomeUnresolved.response(), Told::Unknown);
            settle(id, Err::<(), _>(error));
        }
    }
}

/// Resolves to the answer that stands when it is not the one that was given.
type FinishFuture = Pin<Box<dyn Future<Output = onceward_core::Result<Option<Answer>>> + Send>>;

/// How an operation ended, before anything is written about it.
enum Ended {
    /// An answer came back whole.
    Whole(StoredAnswer),
    /// An answer is too long to keep, or streams.
    Streams(Response<Body>),
    /// No whole answer came back.
    Failed(&'static str),
}

impl Ended {
    fn outcome(&self, policy: &HttpPolicy) -> Outcome {
        let (status, headers) = match self {
            Self::Whole(it) => (it.status, &it.headers),
            Self::Streams(it) => (it.status(), it.headers()),
            Self::Failed(_) => return Outcome::Unknown,
        };
        let said = match self {
            Self::Whole(it) => it.said,
            Self::Streams(it) => it.extensions().get().copied(),
            Self::Failed(_) => None,
        };
        policy.outcome(status, headers.contains_key(RETRY_AFTER), said)
    }

    /// Why the outcome of this answer is unknown, for operators.
    fn why_unknown(&self) -> String {
        let (reason, status) = match self {
            Self::Whole(it) => (it.reason, it.status),
            Self::Streams(it) => (it.extensions().get().copied(), it.status()),
            Self::Failed(why) => return (*why).to_owned(),
        };
        let of_status = || format!("the answer {} leaves the outcome open", status.as_u16());
        reason.map_or_else(of_status, |Reason(why)| why.to_owned())
    }

    fn first(self) -> Response<Body> {
        match self {
            Self::Whole(stored) => stored.first(),
            Self::Streams(response) => response,
            Self::Failed(_) => Problem::OutcomeUnresolved.response(),
        }
    }
}

async fn run_and_capture<S, ResB>(inner: S, request: Request<Body>, max_answer_bytes: u64) -> Ended
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    let Ok(response) = call(inner, request).await else {
        return Ended::Failed("the service failed without an answer");
    };
    let (mut parts, body) = response.into_parts();
    let in_process = parts.extensions.get::<Outcome>().copied();
    let reason = parts.extensions.get::<Reason>().copied();
    let said = strip_first_run(&mut parts.headers).or(in_process);
    if parts.status == StatusCode::SWITCHING_PROTOCOLS || is_event_stream(&parts.headers) {
        parts.extensions.extend(said_extension(said));
        return Ended::Streams(Response::from_parts(parts, Body::stream(body)));
    }
    strip_hop_by_hop(&mut parts.headers);
    match capture(Box::pin(body), max_answer_bytes).await {
        Captured::Whole { body, .. } if !meets_length(parts.status, &parts.headers, &body) => {
            Ended::Failed("the answer's length is not the one it names")
        }
        Captured::Whole { body, trailers } => {
            let mut stored =
                StoredAnswer { status: parts.status, headers: parts.headers, trailers, body, said, reason };
            fit_length(&mut stored);
            Ended::Whole(stored)
        }
        Captured::TooLong(body) => {
            parts.extensions.extend(said_extension(said));
            Ended::Streams(Response::from_parts(parts, body))
        }
        Captured::Cut => Ended::Failed("the answer was cut off"),
    }
}

fn said_extension(said: Option<Outcome>) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    if let Some(said) = said {
        extensions.insert(said);
    }
    extensions
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], |it| it.as_bytes());
    kind.get(..17).is_some_and(|it| it.eq_ignore_ascii_case(b"text/event-stream"))
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

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether an answer has the length that it names. Without a body it may name the length of another's.
fn meets_length(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> bool {
    let has_body = status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED;
    !has_body || content_length(headers).is_none_or(|it| it == body.len() as u64)
}

/// The host as it counts: lower case, without the default port. HTTP/2 says it in the target. Bytes outside
/// ASCII stand for themselves, so that no two hosts become one.
fn host_of(parts: &Parts) -> String {
    let sent = match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => parts.headers.get(HOST).map_or(&[][..], |it| it.as_bytes()),
    };
    let host = sent.rsplit(|it| *it == b'@').next().unwrap_or_default();
    let default: &[u8] = if parts.uri.scheme_str() == Some("https") { b":443" } else { b":80" };
    let host = host.strip_suffix(default).unwrap_or(host);
    host.iter().map(|it| char::from(it.to_ascii_lowercase())).collect()
}

/// Tells the caller once, if it is still there.
struct Teller {
    tx: Option<oneshot::Sender<Response<Body>>>,
    exchange: Exchange,
}

impl Teller {
    fn tell(&mut self, response: Response<Body>, told: Told) {
        if let Some(tx) = self.tx.take() {
            // A caller that has left hears nothing; the record is what counts.
            let _ = tx.send(tell(response, Exchange { told, ..self.exchange.clone() }));
        }
    }
}

/// Notes what could not be written.
fn settle<T>(id: RecordId, written: onceward_core::Result<T>) {
    if let Err(error) = written {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(record = id.prefix(), error, "the end of an operation was not written");
    }
}
