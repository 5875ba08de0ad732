//! What is counted of a request that was answered.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::held::{Held, Word};
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
    pub(super) routes: Known<OfRoute>,
    no_route: (Arc<str>, OfRoute),
    requests: Family<RequestLabel, Counter>,
    durations: Histograms<RouteOutcomeLabel>,
    request_bytes: Histograms<RouteLabel>,
    answer_bytes: Histograms<RouteLabel>,
}

/// The series of one route that were counted in.
#[derive(Debug, Default)]
pub(super) struct OfRoute {
    requests: Held<(Word, Word, Word), Counter>,
    durations: Held<Word, Histogram>,
    request_bytes: OnceLock<Histogram>,
    answer_bytes: OnceLock<Histogram>,
}

impl ServedMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            routes: Known::default(),
            no_route: (NO_ROUTE.into(), OfRoute::default()),
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
        match it.route {
            Some(route) => self.routes.with(route, |route, held| self.count(it, route, held)),
            None => self.count(it, &self.no_route.0, &self.no_route.1),
        }
    }

    fn count(&self, it: &Served<'_>, route: &Arc<str>, held: &OfRoute) {
        let (method, outcome, status_class) =
            (labels::method(it.method), it.outcome, labels::status_class(it.status));
        let requests = held.requests.get((Word(method), Word(outcome), Word(status_class)), || {
            let route = Arc::clone(route);
            self.requests.get_or_create_owned(&RequestLabel { route, method, outcome, status_class })
        });
        requests.inc();
        let duration = held.durations.get(Word(outcome), || {
            let route = Arc::clone(route);
            self.durations.get_or_create_owned(&RouteOutcomeLabel { route, outcome })
        });
        duration.observe(it.elapsed.as_secs_f64());
        let of_route = || RouteLabel { route: Arc::clone(route) };
        if let Some(bytes) = it.request_bytes {
            let sizes = || self.request_bytes.get_or_create_owned(&of_route());
            held.request_bytes.get_or_init(sizes).observe(size(bytes));
        }
        if let Some(bytes) = it.answer_bytes {
            let sizes = || self.answer_bytes.get_or_create_owned(&of_route());
            held.answer_bytes.get_or_init(sizes).observe(size(bytes));
        }
    }
}
