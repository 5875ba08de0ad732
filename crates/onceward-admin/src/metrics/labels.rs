//! The labels, and what keeps each of them bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

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

/// The most names of a kind in the life of a process. Settings have a few; a process that is reloaded with new
/// ones every hour must not grow for ever.
const NAMES_MAX: usize = 1000;

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

/// What came of a whole call, over all upstreams that it tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabel {
    pub(super) upstream: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamOutcomeLabel {
    pub(super) upstream: Arc<str>,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ViolationLabel {
    pub(super) violation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabel {
    pub(super) result: &'static str,
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

/// The names that settings give: of routes, or the URLs of upstreams, and what is kept for each. Reloading may add
/// some; none is taken away, since what was counted stays.
#[derive(Debug)]
pub(super) struct Known<T> {
    names: RwLock<BTreeMap<Arc<str>, T>>,
    other: (Arc<str>, T),
}

impl<T: Default> Default for Known<T> {
    fn default() -> Self {
        Self { names: RwLock::default(), other: (OTHER.into(), T::default()) }
    }
}

impl<T: Default> Known<T> {
    /// Lets these names be labels, as far as there is room, and hands back those that may.
    pub(super) fn allow(&self, names: impl Iterator<Item = String>) -> Vec<Arc<str>> {
        let mut known = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let mut allowed = Vec::new();
        for name in names.map(Arc::<str>::from) {
            if known.len() < NAMES_MAX || known.contains_key(&name) {
                known.entry(Arc::clone(&name)).or_default();
                allowed.push(name);
            }
        }
        allowed
    }

    /// Shows `look` the label of `name`, itself if it is known, and what is kept for it.
    pub(super) fn with<R>(&self, name: &str, look: impl FnOnce(&Arc<str>, &T) -> R) -> R {
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let (label, kept) = known.get_key_value(name).unwrap_or((&self.other.0, &self.other.1));
        look(label, kept)
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
