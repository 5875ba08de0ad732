//! The labels, and what keeps each of them bounded.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

/// What every label set can do; spares the functions that make metrics a long list of bounds.
pub(super) trait Label:
    EncodeLabelSet + Clone + fmt::Debug + Hash + Eq + Send + Sync + 'static
{
}

impl<L: EncodeLabelSet + Clone + fmt::Debug + Hash + Eq + Send + Sync + 'static> Label for L {}

/// The value for everything that is not known.
pub(super) const OTHER: &str = "other";
/// The route of what no route matched.
pub(super) const NO_ROUTE: &str = "none";

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabel {
    pub(super) route: Arc<str>,
    pub(super) method: &'static str,
    pub(super) outcome: &'static str,
    pub(super) status_class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteOutcomeLabel {
    pub(super) route: Arc<str>,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabel {
    pub(super) route: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabel {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DecisionLabel {
    pub(super) decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FinishLabel {
    pub(super) finish: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StoreLabel {
    pub(super) operation: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SweptLabel {
    pub(super) to: &'static str,
}

/// The routes that settings name.
#[derive(Debug)]
pub(super) struct Known {
    routes: BTreeSet<Arc<str>>,
    none: Arc<str>,
    other: Arc<str>,
}

impl Known {
    pub(super) fn new(routes: impl Iterator<Item = String>) -> Self {
        Self { routes: routes.map(Arc::from).collect(), none: NO_ROUTE.into(), other: OTHER.into() }
    }

    /// The label of a route; none where no route matched.
    pub(super) fn route(&self, route: Option<&str>) -> Arc<str> {
        let known = route.map(|it| self.routes.get(it).unwrap_or(&self.other));
        Arc::clone(known.unwrap_or(&self.none))
    }
}

/// The label of a method: only the registered ones, as written.
pub(super) fn method(method: &str) -> &'static str {
    bounded(method, &METHODS)
}

/// The label of a status: its class.
pub(super) fn status_class(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => OTHER,
    }
}

/// `word` where it is one of `known`, else `other`.
pub(super) fn bounded(word: &str, known: &[&'static str]) -> &'static str {
    known.iter().find(|it| **it == word).copied().unwrap_or(OTHER)
}
