//! The proxy behind the layer, and what is told of it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use onceward_admin::Metrics;
use onceward_core::{Clock, Engine, RecordId};
use onceward_http::{Body, Operation};
use tower_service::Service;

use crate::upstream::{Fault, PassThrough, Upstream};
use crate::watch::{fault_word, status_class};

/// The proxy behind the layer: tells it which requests are operations, and times it.
#[derive(Debug, Clone)]
pub(crate) struct ToUpstream {
    pub(crate) proxy: Upstream,
    pub(crate) metrics: Metrics,
    pub(crate) engine: Engine,
}

impl Service<Request<Body>> for ToUpstream {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Timed;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.proxy.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let extensions = request.extensions_mut();
        let record = extensions.get::<Operation>().map(|it| it.record);
        if record.is_none() {
            extensions.insert(PassThrough);
        }
        let (metrics, clock) = (self.metrics.clone(), Arc::clone(self.engine.clock()));
        let asked = clock.boot();
        Timed { answer: self.proxy.call(request), metrics, clock, asked, record }
    }
}

/// An answer of the proxy under way, which is timed when it is here. A future by hand: a box around the proxy's own
/// would be made and freed for each request.
pub(crate) struct Timed {
    answer: <Upstream as Service<Request<Body>>>::Future,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    asked: Duration,
    record: Option<RecordId>,
}

impl Future for Timed {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = self.answer.poll_unpin(cx) else { return Poll::Pending };
        let outcome = match response.extensions().get::<Fault>() {
            Some(fault) => {
                let record = self.record.map(|it| it.prefix());
                tracing::warn!(record, reason = fault.reason(), "a request got no answer from the upstream");
                fault_word(*fault)
            }
            None => status_class(response.status()),
        };
        self.metrics.upstream(outcome, self.clock.boot().saturating_sub(self.asked));
        Poll::Ready(Ok(response))
    }
}
