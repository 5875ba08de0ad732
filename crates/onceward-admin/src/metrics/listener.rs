//! What is counted of the connections of callers, of their TLS, and of reloads.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::labels::{ReasonLabel, ResultLabel, ViolationLabel};
use super::{counter, counters, registered};

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

/// A connection that is counted as open until this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    open: Gauge,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[derive(Debug)]
pub(super) struct ListenerMetrics {
    accepted: Counter,
    open: Gauge,
    refused: Family<ReasonLabel, Counter>,
    handshakes_failed: Family<ReasonLabel, Counter>,
    violations: Family<ViolationLabel, Counter>,
    reloads: Family<ResultLabel, Counter>,
    stale: Gauge,
    certificate: Certificate,
}

impl ListenerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let certificate = Certificate::default();
        registry.register_collector(Box::new(certificate.clone()));
        Self {
            accepted: counter(registry, "connections_accepted", "Connections of callers that were accepted"),
            open: registered(
                registry,
                "connections_open",
                "Connections of callers that are open now",
                None,
                Gauge::default(),
            ),
            refused: registered(
                registry,
                "connections_refused",
                "Connections of callers that were closed unserved",
                None,
                Family::default(),
            ),
            handshakes_failed: registered(
                registry,
                "tls_handshakes_failed",
                "Connections that ended before their TLS handshake did",
                None,
                Family::default(),
            ),
            violations: registered(
                registry,
                "requests_violating",
                "Requests that were refused because they break a rule of HTTP or a limit",
                None,
                Family::default(),
            ),
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
        }
    }

    pub(super) fn accepted(&self) -> OpenConnection {
        self.accepted.inc();
        self.open.inc();
        OpenConnection { open: self.open.clone() }
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn violation(&self, violation: &'static str) {
        self.violations.get_or_create(&ViolationLabel { violation }).inc();
    }

    pub(super) fn reloaded(&self, result: ReloadResult) {
        self.reloads.get_or_create(&ResultLabel { result: result.as_str() }).inc();
        self.stale.set(i64::from(result == ReloadResult::Refused));
    }

    pub(super) fn certificate_ends(&self, unix_seconds: i64) {
        *self.certificate.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some(unix_seconds);
    }
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
