//! What is counted of the upstreams, and what they are like when the page is made.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::held::{Held, Word};
use super::labels::{Known, UpstreamLabel, UpstreamOutcomeLabel, bounded};
use super::{UPSTREAM_OUTCOMES, registered};
use crate::upstreams::{UpstreamState, UpstreamView, Upstreams};

#[derive(Debug)]
pub(super) struct UpstreamMetrics {
    pub(super) known: Known<Held<Word, Counter>>,
    requests: Family<UpstreamOutcomeLabel, Counter>,
    ejections: Family<UpstreamLabel, Counter>,
    shown: Shown,
}

impl UpstreamMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let shown = Shown::default();
        registry.register_collector(Box::new(shown.clone()));
        Self {
            known: Known::default(),
            requests: registered(
                registry,
                "upstream_requests",
                "Requests that were sent to an upstream, by what came of them",
                None,
                Family::default(),
            ),
            ejections: registered(
                registry,
                "upstream_ejections",
                "Times that an upstream was given no more requests for a while",
                None,
                Family::default(),
            ),
            shown,
        }
    }

    /// Lets these upstreams have series of their own, which start at zero.
    pub(super) fn allow(&self, urls: impl Iterator<Item = String>) {
        for url in self.known.allow(urls) {
            drop(self.ejections.get_or_create(&UpstreamLabel { upstream: url }));
        }
    }

    pub(super) fn requested(&self, url: &str, outcome: &str) {
        let outcome = bounded(outcome, &UPSTREAM_OUTCOMES);
        self.known.with(url, |upstream, held| {
            let label = || UpstreamOutcomeLabel { upstream: Arc::clone(upstream), outcome };
            held.get(Word(outcome), || self.requests.get_or_create_owned(&label())).inc();
        });
    }

    pub(super) fn ejected(&self, url: &str) {
        let upstream = self.known.with(url, |upstream, _| Arc::clone(upstream));
        self.ejections.get_or_create(&UpstreamLabel { upstream }).inc();
    }

    pub(super) fn show(&self, upstreams: Upstreams) {
        // A second one would be another gateway in the same process; it must not silence the first.
        let _ = self.shown.upstreams.set(upstreams);
    }
}

/// The gauges: asked when the page is made, so that they show the upstreams that are configured then.
#[derive(Debug, Clone, Default)]
struct Shown {
    upstreams: Arc<OnceLock<Upstreams>>,
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let views = self.upstreams.get().map(Upstreams::look).unwrap_or_default();
        gauge(&mut encoder, &views, "upstream_in_flight", "Requests under way at an upstream.", |it| {
            i64::try_from(it.in_flight).unwrap_or(i64::MAX)
        })?;
        let help = "1 while an upstream is given no requests, or one to try it.";
        gauge(&mut encoder, &views, "upstream_ejected", help, |it| i64::from(it.state != UpstreamState::Up))
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    views: &[UpstreamView],
    name: &str,
    help: &str,
    value: impl Fn(&UpstreamView) -> i64,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for view in views {
        let label = UpstreamLabel { upstream: view.url.as_str().into() };
        ConstGauge::new(value(view)).encode(family.encode_family(&label)?)?;
    }
    Ok(())
}
