//! The tower service: recognises what a request is, and sends it on its way.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::Body as HttpBody;
use onceward_core::{Key, RecordId};
use tower_service::Service;

use crate::answer::strip_first_run;
use crate::body::{Body, BoxError};
use crate::cors::{CrossOrigin, Whose};
use crate::exchange::{Exchange, Told};
use crate::key_source::KeySource;
use crate::layer::Shared;
use crate::operation::{Door, operation};
use crate::problem::{Ours, Problem};
use crate::route::{Route, Watched};

/// A request extension: this operation wants a connection of its own to the upstream.
#[derive(Debug, Clone, Copy)]
pub struct FreshConnection;

/// A request extension: the caller's connection is encrypted, so the default port of its host is 443.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecureClient;

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
        let cors = shared.cors().map(|it| (it, CrossOrigin::of(&parts.method, &parts.headers)));
        let answer: Self::Future = match recognise(&shared, &parts) {
            Recognised::PassThrough => Box::pin(pass_through(inner, parts, Body::stream(body))),
            Recognised::Refused(problem, route) => {
                let response = tell(problem.response(), Exchange::of(&route, Told::Refused));
                Box::pin(std::future::ready(Ok(response)))
            }
            Recognised::Operation(route, key) => {
                let door = Door { shared, route };
                Box::pin(operation(door, inner, parts, Body::stream(body), key).map(Ok))
            }
        };
        let Some((policy, asked)) = cors else { return answer };
        Box::pin(async move {
            let mut response = answer.await?;
            let whose = whose(&response);
            asked.dress(&policy, whose, response.headers_mut());
            Ok(response)
        })
    }
}

/// Whose answer a response is, once it is told.
fn whose(response: &Response<Body>) -> Whose {
    let is_replay = response.extensions().get::<Exchange>().is_some_and(|it| it.told == Told::Replay);
    match response.extensions().get::<Ours>() {
        Some(Ours) => Whose::Ours,
        None if is_replay => Whose::Replayed,
        None => Whose::Theirs,
    }
}

/// What a request is, as far as its head tells.
enum Recognised {
    PassThrough,
    Refused(Problem, Arc<Route>),
    /// The key, unless only the body tells.
    Operation(Arc<Route>, Option<Key>),
}

fn recognise(shared: &Shared, parts: &Parts) -> Recognised {
    let routes = shared.routes();
    let Some(Watched { route, tokens }) = routes.matched(&parts.method, parts.uri.path()) else {
        return Recognised::PassThrough;
    };
    let route = Arc::clone(route);
    // Methods are case-sensitive (RFC 9110, section 9.1), and not everybody behind us knows.
    if parts.method.as_str().bytes().any(|it| it.is_ascii_lowercase()) {
        let why = "The method is not in capital letters; write POST, PATCH, PUT or DELETE";
        return Recognised::Refused(Problem::RequestAmbiguous(why), route);
    }
    let required = route.policy.needs_key();
    if is_grpc(&parts.headers) {
        return if required {
            Recognised::Refused(Problem::GrpcUnsupported, route)
        } else {
            Recognised::PassThrough
        };
    }
    let source = &route.policy.key_from;
    match source.in_head(&parts.headers) {
        Ok(None) if required && !matches!(source, KeySource::Json(_)) => {
            let problem = source.missing();
            Recognised::Refused(problem, route)
        }
        Ok(key) if key.is_some() || required => {
            tokens.look(&route, &parts.headers, &**shared.engine.clock());
            Recognised::Operation(route, key)
        }
        Ok(_) => Recognised::PassThrough,
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
    // Few requests carry one: nothing is gathered for those that do not.
    if !headers.keys().any(is_forged) {
        return;
    }
    let forged: Vec<HeaderName> = headers.keys().filter(|it| is_forged(it)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

fn is_forged(name: &HeaderName) -> bool {
    let text = name.as_str();
    if let Some(rest) = text.strip_prefix("onceward") {
        return rest.starts_with(['-', '_']);
    }
    // Only the spelling with the dash is what a client may send.
    text == "idempotency_key"
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

pub(crate) async fn call<S, ResB>(mut inner: S, request: Request<Body>) -> Result<Response<ResB>, S::Error>
where
    S: Service<Request<Body>, Response = Response<ResB>>,
{
    poll_fn(|cx| inner.poll_ready(cx)).await?;
    inner.call(request).await
}

pub(crate) fn tell(mut response: Response<Body>, exchange: Exchange) -> Response<Body> {
    response.extensions_mut().insert(exchange);
    response
}
