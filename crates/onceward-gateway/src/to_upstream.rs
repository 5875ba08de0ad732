//! The proxy behind the layer, and what is told of it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use onceward_admin::Metrics;
use onceward_core::Engine;
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
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.proxy.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let extensions = request.extensions_mut();
        let record = extensions.get::<Operation>().map(|it| it.record.prefix());
        if extensions.get::<Operation>().is_none() {
            extensions.insert(PassThrough);
        }
        let (metrics, clock) = (self.metrics.clone(), Arc::clone(self.engine.clock()));
        let asked = clock.boot();
        let answer = self.proxy.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if let Some(fault) = response.extensions().get::<Fault>() {
                tracing::warn!(record, reason = fault.reason(), "a request got no answer from the upstream");
            }
            let outcome = match response.extensions().get::<Fault>() {
                Some(fault) => fault_word(*fault),
                None => status_class(response.status()),
            };
            metrics.upstream(outcome, clock.boot().saturating_sub(asked));
            Ok(response)
        })
    }
}
