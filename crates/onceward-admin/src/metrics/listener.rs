//! What is told of the connections of callers, of their TLS, and of reloads.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::labels::{ReasonLabel, ResultLabel, ViolationLabel};
use super::{counters, registered};

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// The new settings are in force.
    Done,
    /// They were refused; the old ones are in force.
    Refused,
}

impl ReloadResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// The listener of callers at this moment. The words are those of its code, so there are few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerView {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// Requests that are under way.
    pub under_way: u64,
    /// How often the listener itself ended a connection or refused a request, by its reason.
    pub ended: Vec<(&'static str, u64)>,
    /// Requests that were refused because they break a rule of HTTP or a limit, by the rule.
    pub violations: Vec<(&'static str, u64)>,
}

#[derive(Debug)]
pub(super) struct ListenerMetrics {
    reloads: Family<ResultLabel, Counter>,
    stale: Gauge,
    certificate: Certificate,
    shown: Shown,
}

impl ListenerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (certificate, shown) = (Certificate::default(), Shown::default());
        registry.register_collector(Box::new(certificate.clone()));
        registry.register_collector(Box::new(shown.clone()));
        Self {
            reloads: counters(
                registry,
                "reloads",
                "Times that changed settings were to be taken over",
                [ReloadResult::Done, ReloadResult::Refused].map(|it| ResultLabel { result: it.as_str() }),
            ),
            stale: registered(
                registry,
                "settings_stale",
                "1 while the last reload was refused: the process runs on older settings than the file has",
                None,
                Gauge::default(),
            ),
            certificate,
            shown,
        }
    }

    pub(super) fn show(&self, look: impl Fn() -> ListenerView + Send + Sync + 'static) {
        // A second one would be another gateway in the same process; it must not silence the first.
        let _ = self.shown.look.set(Look(Box::new(look)));
    }

    pub(super) fn reloaded(&self, result: ReloadResult) {
        self.reloads.get_or_create(&ResultLabel { result: result.as_str() }).inc();
        self.stale.set(i64::from(result == ReloadResult::Refused));
    }

    pub(super) fn certificate_ends(&self, unix_seconds: i64) {
        *self.certificate.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some(unix_seconds);
    }
}

struct Look(Box<dyn Fn() -> ListenerView + Send + Sync>);

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

/// The listener's own counts, asked when the page is made.
#[derive(Debug, Clone, Default)]
struct Shown {
    look: Arc<OnceLock<Look>>,
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let view = self.look.get().map(|it| (it.0)()).unwrap_or_default();
        let help = "Connections of callers that were accepted.";
        let metric = encoder.encode_descriptor("connections_accepted", help, None, MetricType::Counter)?;
        ConstCounter::new(view.accepted).encode(metric)?;
        let gauges = [
            ("connections_open", "Connections of callers that are open now.", view.open),
            ("requests_under_way", "Requests of callers that are under way.", view.under_way),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        let help = "Times that the listener itself ended a connection or refused a request.";
        let ended = view.ended.into_iter().map(|(reason, count)| (ReasonLabel { reason }, count));
        family(&mut encoder, "listener_ended", help, ended)?;
        let help = "Requests that were refused because they break a rule of HTTP or a limit.";
        let broken =
            view.violations.into_iter().map(|(violation, count)| (ViolationLabel { violation }, count));
        family(&mut encoder, "requests_violating", help, broken)
    }
}

fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl Iterator<Item = (L, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (label, count) in series {
        ConstCounter::new(count).encode(family.encode_family(&label)?)?;
    }
    Ok(())
}

/// When the certificate of the listener ends, in seconds since 1970; says nothing where there is none.
#[derive(Debug, Clone, Default)]
struct Certificate {
    ends: Arc<Mutex<Option<i64>>>,
}

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ends = *self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ends) = ends else { return Ok(()) };
        let help = "When the certificate of the listener ends, in seconds since 1970.";
        let unit = Some(&Unit::Seconds);
        let metric = encoder.encode_descriptor("tls_certificate_not_after", help, unit, MetricType::Gauge)?;
        ConstGauge::new(ends).encode(metric)
    }
}
