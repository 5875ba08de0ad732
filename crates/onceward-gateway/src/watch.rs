//! What happens at each upstream and at the listener, for metrics and the admin API.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use onceward_admin::{ListenerView, Metrics, UpstreamState, UpstreamView};

use crate::listen::{Count, Counters, Violation};
use crate::upstream::{Fault, Upstream, UpstreamEvent, UpstreamObserver, UpstreamOutcome};

/// Counts what happens at upstreams and remembers the last failure of each.
#[derive(Debug)]
pub(crate) struct Watch {
    metrics: Metrics,
    last_failures: Mutex<HashMap<String, &'static str>>,
}

impl Watch {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { metrics, last_failures: Mutex::default() }
    }

    /// The upstreams as they are now.
    pub(crate) fn views(&self, upstream: &Upstream) -> Vec<UpstreamView> {
        let last = self.last_failures.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |it: crate::UpstreamState| UpstreamView {
            state: match it.ejected_for {
                None => UpstreamState::Up,
                Some(Duration::ZERO) => UpstreamState::Trial,
                Some(_) => UpstreamState::Ejected,
            },
            ejected_remaining_seconds: it
                .ejected_for
                .filter(|left| !left.is_zero())
                .map(|left| left.as_secs_f64()),
            in_flight: it.in_flight as u64,
            consecutive_failures: it.failures.into(),
            last_error: last.get(&it.url).map(|it| (*it).to_owned()),
            url: it.url,
        };
        upstream.states().into_iter().map(view).collect()
    }

    /// Forgets failures of upstreams that are no more.
    pub(crate) fn keep_only(&self, upstream: &Upstream) {
        let there: Vec<_> = upstream.states().into_iter().map(|it| it.url).collect();
        let mut last = self.last_failures.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|url, _| there.contains(url));
        self.metrics.allow_upstreams(there);
    }
}

impl UpstreamObserver for Watch {
    fn observe(&self, event: UpstreamEvent<'_>) {
        match event {
            UpstreamEvent::Ended { url, outcome, .. } => {
                let word = outcome_word(outcome);
                self.metrics.upstream_requested(url, word);
                if matches!(outcome, UpstreamOutcome::Failed(_)) {
                    let mut last = self.last_failures.lock().unwrap_or_else(PoisonError::into_inner);
                    last.insert(url.to_owned(), word);
                }
            }
            UpstreamEvent::Ejected { url, .. } => self.metrics.upstream_ejected(url),
            // Who tells of it has logged it.
            UpstreamEvent::Returned { .. } => {}
            UpstreamEvent::Full { url } => {
                tracing::debug!(upstream = url, "an upstream has as many requests under way as it may have");
            }
        }
    }
}

fn outcome_word(outcome: UpstreamOutcome) -> &'static str {
    match outcome {
        UpstreamOutcome::Answered(status) => status_class(status),
        UpstreamOutcome::Failed(fault) => fault_word(fault),
        UpstreamOutcome::NotProcessed => "unreachable",
        UpstreamOutcome::GivenUp => "given_up",
    }
}

/// The label for a request that got no answer from the upstream.
pub(crate) fn fault_word(fault: Fault) -> &'static str {
    match fault {
        Fault::Unreachable => "unreachable",
        Fault::TimedOut => "timeout",
        Fault::Broken => "broken",
    }
}

/// The label for a request that did.
pub(crate) fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The listener as it is now.
pub(crate) fn listener_view(counters: &Counters) -> ListenerView {
    ListenerView {
        accepted: counters.accepted(),
        open: counters.open(),
        under_way: counters.under_way(),
        ended: Count::ALL.iter().map(|it| (it.as_str(), counters.count(*it))).collect(),
        violations: Violation::ALL.iter().map(|it| (it.as_str(), counters.violations(*it))).collect(),
    }
}
