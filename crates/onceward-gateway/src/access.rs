//! Counts, logs and audits every exchange, outside of everything else.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response, Version};
use http_body::Body as _;
use onceward_admin::{Metrics, Served};
use onceward_core::{Clock, Engine};
use onceward_http::{Body, Exchange, Told};
use tower_service::Service;

use crate::forward::ClientAddr;
use crate::listen::Received;
use crate::settings::AccessLog;

/// Wraps the whole service of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Access<S> {
    pub(crate) inner: S,
    pub(crate) metrics: Metrics,
    pub(crate) engine: Engine,
    pub(crate) log: AccessLog,
}

impl<S> Service<Request<Received>> for Access<S>
where
    S: Service<Request<Received>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Received>) -> Self::Future {
        let metrics = self.metrics.clone();
        let clock = Arc::clone(self.engine.clock());
        let seen = Seen {
            started: clock.boot(),
            clock,
            is_answered: false,
            log: self.log,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            peer: request.extensions().get::<ClientAddr>().copied(),
            request_bytes: request.body().size_hint().exact(),
        };
        Counted { answer: self.inner.call(request), seen, metrics }
    }
}

/// An answer under way, which is noted when it is here. A future by hand: a box around the one inside would be made
/// and freed for each request.
pub(crate) struct Counted<F> {
    answer: F,
    seen: Seen,
    metrics: Metrics,
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = self.answer.poll_unpin(cx) else { return Poll::Pending };
        let Self { seen, metrics, .. } = &mut *self;
        seen.note(metrics, &response);
        Poll::Ready(Ok(response))
    }
}

/// What is kept of a request while it is answered. Paths are logged; queries may hold secrets and are not.
struct Seen {
    clock: Arc<dyn Clock>,
    started: Duration,
    is_answered: bool,
    log: AccessLog,
    method: http::Method,
    uri: http::Uri,
    version: Version,
    peer: Option<ClientAddr>,
    request_bytes: Option<u64>,
}

impl Seen {
    fn elapsed(&self) -> Duration {
        self.clock.boot().saturating_sub(self.started)
    }

    fn note(&mut self, metrics: &Metrics, response: &Response<Body>) {
        self.is_answered = true;
        let elapsed = self.elapsed();
        let exchange = response.extensions().get::<Exchange>();
        let told = exchange.map_or(Told::PassThrough, |it| it.told);
        let route = exchange.and_then(|it| it.route.as_deref()).map(|it| it.name.as_str());
        let attempt = exchange.map(|it| it.attempt).filter(|it| *it > 0);
        let status = response.status().as_u16();
        let answer_bytes = response.body().size_hint().exact();
        metrics.served(&Served {
            route,
            method: self.method.as_str(),
            outcome: told.as_str(),
            status,
            elapsed,
            request_bytes: self.request_bytes,
            answer_bytes,
        });
        let is_audited = told.is_duplicate() && self.log != AccessLog::None;
        let is_logged = self.log == AccessLog::All;
        if !is_audited && !is_logged {
            return;
        }
        let record = exchange.and_then(|it| it.record).map(|it| it.prefix());
        if is_logged {
            tracing::info!(
                target: "onceward::access",
                method = self.method.as_str(),
                path = self.uri.path(),
                version = ?self.version,
                peer = self.peer.map(|it| it.0).map(display),
                status,
                outcome = told.as_str(),
                route,
                record,
                attempt,
                request_bytes = self.request_bytes,
                answer_bytes,
                duration_us = micros(elapsed),
                "request"
            );
        }
        if is_audited {
            tracing::info!(
                target: "onceward::audit",
                outcome = told.as_str(),
                method = self.method.as_str(),
                route,
                record,
                peer = self.peer.map(|it| it.0).map(display),
                status,
                "duplicate"
            );
        }
    }
}

/// The connection ended before there was an answer: the caller has left, or the gateway stops. An operation
/// goes on, so what became of it shows in its record and not here.
impl Drop for Seen {
    fn drop(&mut self) {
        if self.is_answered || self.log != AccessLog::All {
            return;
        }
        tracing::info!(
            target: "onceward::access",
            method = self.method.as_str(),
            path = self.uri.path(),
            version = ?self.version,
            peer = self.peer.map(|it| it.0).map(display),
            outcome = "unanswered",
            request_bytes = self.request_bytes,
            duration_us = micros(self.elapsed()),
            "request"
        );
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
