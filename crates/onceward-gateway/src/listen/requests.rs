//! What happens to each request between the server of one connection and the service behind it.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use onceward_http::{Body, Exchange, Told};
use tower_service::Service;

use super::counters::{Count, Counters};
use super::limits::Limits;
use super::line::{Fault, Line};
use super::received::{Received, Spoiled, Watch};
use super::refusal::{check_http2, close, overloaded, refusal};
use super::sent::{Ending, Sent};
use super::streams::PACE;
use crate::forward::{ClientAddr, SecureClient};

/// The service of one connection.
#[derive(Debug, Clone)]
pub(super) struct Requests<S> {
    pub(super) inner: S,
    pub(super) line: Arc<Line>,
    pub(super) limits: Limits,
    pub(super) counters: Counters,
    pub(super) peer: SocketAddr,
    pub(super) tls: bool,
}

impl<S> hyper::service::Service<Request<Incoming>> for Requests<S>
where
    S: Service<Request<Received>, Response = Response<Body>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
{
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Sent>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let is_http2 = request.version() >= Version::HTTP_2;
        if is_http2 {
            // The reader of HTTP/1 says so by itself, at the first byte.
            self.line.begin();
        }
        let mut ending = Ending { line: Arc::clone(&self.line), under_way: None };
        let number = self.line.request_began();
        let number = (!is_http2).then_some(number);
        let has_body = !request.body().is_end_stream();
        self.line.unread.store(false, Ordering::Relaxed);
        let exchange =
            OneRequest { line: Arc::clone(&self.line), is_http2, _panics: Panics(self.counters.clone()) };
        let fault = match number {
            Some(number) => self.line.fault(number),
            None => self.check(&request),
        };
        if let Some(fault) = fault {
            return Box::pin(async move { Ok(exchange.finish(refusal(fault), true, ending)) });
        }
        ending.under_way = self.counters.begin_one(self.limits.requests_max);
        if ending.under_way.is_none() {
            self.counters.note(Count::RequestsFull);
            return Box::pin(async move { Ok(exchange.finish(overloaded(), has_body, ending)) });
        }
        let spoiled = has_body.then(Spoiled::default);
        let watch = spoiled.clone().map(|spoiled| Watch {
            line: Arc::clone(&self.line),
            number,
            patience: self.limits.body_timeout,
            spoiled,
            counters: self.counters.clone(),
        });
        let mut request = request.map(|body| Received::new(body, watch));
        request.extensions_mut().insert(ClientAddr(self.peer));
        if self.tls {
            request.extensions_mut().insert(SecureClient);
        }
        let answer = self.inner.clone().call(request);
        Box::pin(async move {
            let response = match &spoiled {
                None => answer.await?,
                Some(spoiled) => {
                    let answered = tokio::select! {
                        biased;
                        _ = spoiled.wait() => None,
                        answered = answer => Some(answered?),
                    };
                    // The service may have said something about a body that broke off; this is why it did.
                    match (spoiled.said(), answered) {
                        (None, Some(response)) => response,
                        (Some(fault), _) => return Ok(exchange.finish(refusal(fault), true, ending)),
                        (None, None) => unreachable!("whoever waits for the reason is told after it is set"),
                    }
                }
            };
            let closes = has_body && is_refusal(&response);
            Ok(exchange.pass(response, closes, ending))
        })
    }
}

impl<S> Requests<S> {
    fn check<B>(&self, request: &Request<B>) -> Option<Fault> {
        let violation = check_http2(request, &self.limits)?;
        self.counters.note_violation(violation);
        tracing::debug!(violation = violation.as_str(), "a request was refused");
        Some(Fault::Violation(violation))
    }
}

/// What is known of a request while it is answered.
struct OneRequest {
    line: Arc<Line>,
    is_http2: bool,
    _panics: Panics,
}

impl OneRequest {
    /// An answer of the listener itself; HTTP/1 may have to close behind it.
    fn finish(&self, mut response: Response<Body>, closes: bool, ending: Ending) -> Response<Sent> {
        if closes && !self.is_http2 {
            close(&mut response);
        }
        self.pass(response, closes, ending)
    }

    fn pass(&self, mut response: Response<Body>, unread: bool, ending: Ending) -> Response<Sent> {
        // HTTP/2 can end one request and leave the connection as it is.
        self.line.unread.store(unread && !self.is_http2, Ordering::Relaxed);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.line.become_tunnel();
        } else if !self.is_http2 && self.line.leaving.load(Ordering::Relaxed) {
            close(&mut response);
        }
        let pace = PACE.try_with(Arc::clone).ok();
        response.map(|body| Sent::new(body, pace, ending))
    }
}

/// Whether the answer was given without regard to the request's body.
fn is_refusal(response: &Response<Body>) -> bool {
    let told = response.extensions().get::<Exchange>().map(|it| it.told);
    matches!(told, Some(Told::Refused | Told::Unavailable))
}

/// Says so when whoever holds it is torn down by a panic. The message itself goes to the panic hook.
struct Panics(Counters);

impl Drop for Panics {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.note(Count::Panicked);
            tracing::error!(
                "a request panicked: its connection, or its stream of HTTP/2, ends; others go on"
            );
        }
    }
}
