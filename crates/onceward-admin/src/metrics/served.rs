//! What is counted of a request that was answered.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::{self, Known, NO_ROUTE, RequestLabel, RouteLabel, RouteOutcomeLabel};
use super::{Histograms, registered, seconds, size, sized, timed};

/// A request that was answered, as the gateway saw it.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The configured route that chose the policy, as given to [`Metrics::new`](super::Metrics::new);
    /// `None` where no route matched.
    pub route: Option<&'a str>,
    /// The method as sent.
    pub method: &'a str,
    /// What the request turned out to be. A word of the code, so that no request can invent one.
    pub outcome: &'static str,
    /// The status that the client got.
    pub status: u16,
    /// From the first byte of the request until the answer was handed over.
    pub elapsed: Duration,
    /// Length of the request's body, where it was counted.
    pub request_bytes: Option<u64>,
    /// Length of the answer's body, where it was counted.
    pub answer_bytes: Option<u64>,
}

#[derive(Debug)]
pub(super) struct ServedMetrics {
    pub(super) routes: Known,
    no_route: Arc<str>,
    requests: Family<RequestLabel, Counter>,
    durations: Histograms<RouteOutcomeLabel>,
    request_bytes: Histograms<RouteLabel>,
    answer_bytes: Histograms<RouteLabel>,
}

impl ServedMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            routes: Known::default(),
            no_route: NO_ROUTE.into(),
            requests: registered(
                registry,
                "requests",
                "Requests that were answered, by what they turned out to be",
                None,
                Family::default(),
            ),
            durations: timed(registry, "request_duration", "Time until requests were answered", seconds),
            request_bytes: sized(registry, "request_body", "Size of request bodies"),
            answer_bytes: sized(registry, "answer_body", "Size of answer bodies"),
        }
    }

    pub(super) fn observe(&self, it: &Served<'_>) {
        let route = it.route.map_or_else(|| Arc::clone(&self.no_route), |it| self.routes.label(it));
        let status_class = labels::status_class(it.status);
        let method = labels::method(it.method);
        let outcome = it.outcome;
        let label = RouteOutcomeLabel { route: route.clone(), outcome };
        self.durations.get_or_create(&label).observe(it.elapsed.as_secs_f64());
        let label = RouteLabel { route: route.clone() };
        if let Some(bytes) = it.request_bytes {
            self.request_bytes.get_or_create(&label).observe(size(bytes));
        }
        if let Some(bytes) = it.answer_bytes {
            self.answer_bytes.get_or_create(&label).observe(size(bytes));
        }
        self.requests.get_or_create(&RequestLabel { route, method, outcome, status_class }).inc();
    }
}
