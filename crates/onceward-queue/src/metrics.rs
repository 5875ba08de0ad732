//! What a consumer tells, counted for Prometheus. No label carries an id, a topic or anything else of a message.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::event::{Event, Observer};
use crate::verdict::Reason;

pub(crate) mod page;

/// Counts the events of consumers. Several may share one.
pub struct Metrics {
    registry: Registry,
    received: Family<Redelivered, Counter>,
    messages: Family<Outcome, Counter>,
    letters: Family<Why, Counter>,
    begun: Counter,
    again: Counter,
    took_over: Counter,
    handled: Histogram,
    lost: Counter,
    revoked: Counter,
    broker: Counter,
    paused: Gauge,
    lag: Gauge,
    headroom: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Redelivered {
    redelivered: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("onceward");
        let handled = Histogram::new(exponential_buckets(0.001, 4.0, 10));
        let it = Self {
            received: Family::default(),
            messages: Family::default(),
            letters: Family::default(),
            begun: Counter::default(),
            again: Counter::default(),
            took_over: Counter::default(),
            handled: handled.clone(),
            lost: Counter::default(),
            revoked: Counter::default(),
            broker: Counter::default(),
            paused: Gauge::default(),
            lag: Gauge::default(),
            headroom: Gauge::default(),
            registry: Registry::default(),
        };
        // Each series is there from the start, so that a first one is seen as a rise.
        for redelivered in ["no", "yes"] {
            drop(it.received.get_or_create(&Redelivered { redelivered }));
        }
        for outcome in ["done", "duplicate_of_done", "duplicate_of_running", "retried", "fenced"] {
            drop(it.messages.get_or_create(&Outcome { outcome }));
        }
        for reason in Reason::ALL {
            drop(it.letters.get_or_create(&Why { reason: reason.as_str() }));
        }
        let registered = &mut registry;
        registered.register("messages_received", "Deliveries", it.received.clone());
        registered.register("messages", "What became of deliveries", it.messages.clone());
        registered.register("dead_letters", "Messages put among the dead letters", it.letters.clone());
        registered.register("handlers_begun", "Handlers that were begun", it.begun.clone());
        registered.register("handlers_begun_again", "Of these, later attempts", it.again.clone());
        let takeovers = "Of these, after an attempt of which nobody knows what it did";
        registered.register("handler_takeovers", takeovers, it.took_over.clone());
        registered.register("handler_duration_seconds", "How long handlers took", handled);
        let lost = "Deliveries that the broker took for another consumer's while they were in hand";
        registered.register("deliveries_lost", lost, it.lost.clone());
        registered.register(
            "lanes_revoked",
            "Partitions and queues that were taken away",
            it.revoked.clone(),
        );
        registered.register("broker_failures", "Calls that the broker did not carry out", it.broker.clone());
        let paused = "1 while nothing is taken up because the store cannot be reached";
        registered.register("consumer_paused", paused, it.paused.clone());
        let lag = "Messages that wait, as the broker counts them";
        registered.register("consumer_lag_messages", lag, it.lag.clone());
        let headroom = "How much longer it is remembered that a message was done than it can come again";
        registered.register("consumer_window_headroom_seconds", headroom, it.headroom.clone());
        Self { registry, ..it }
    }
}

impl Metrics {
    /// The page that Prometheus reads, in the OpenMetrics text format.
    #[must_use]
    pub fn page(&self) -> String {
        page::of(&self.registry)
    }

    fn message(&self, outcome: &'static str) {
        self.messages.get_or_create(&Outcome { outcome }).inc();
    }
}

impl Observer for Metrics {
    fn on(&self, event: &Event) {
        match event {
            Event::Received { redelivered } => {
                let redelivered = if *redelivered { "yes" } else { "no" };
                self.received.get_or_create(&Redelivered { redelivered }).inc();
            }
            Event::Begun { attempt, took_over } => {
                self.begun.inc();
                self.again.inc_by(u64::from(*attempt > 1));
                self.took_over.inc_by(u64::from(*took_over));
            }
            Event::Handled(took) => self.handled.observe(took.as_secs_f64()),
            Event::Done => self.message("done"),
            Event::DuplicateOfDone => self.message("duplicate_of_done"),
            Event::DuplicateOfRunning => self.message("duplicate_of_running"),
            Event::Retried(_) => self.message("retried"),
            Event::Fenced => self.message("fenced"),
            Event::Parked(reason) => drop(self.letters.get_or_create(&Why { reason: reason.as_str() }).inc()),
            Event::LeaseLost => drop(self.lost.inc()),
            Event::Revoked => drop(self.revoked.inc()),
            Event::Paused => drop(self.paused.set(1)),
            Event::Resumed => drop(self.paused.set(0)),
            Event::Lag(messages) => drop(self.lag.set(i64::try_from(*messages).unwrap_or(i64::MAX))),
            Event::Headroom(seconds) => drop(self.headroom.set(*seconds)),
            Event::BrokerFailed => drop(self.broker.inc()),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_metric_is_in_the_reference_and_nothing_else_is() {
        let reference = include_str!("../../../docs/reference/consumer-metrics.md");
        page::as_in(reference, &Metrics::default().page());
    }

    #[test]
    fn every_event_is_counted_and_every_series_is_there_from_the_start() {
        let metrics = Metrics::default();
        let series = |page: &str| page.lines().filter(|it| !it.starts_with('#')).count();
        let before = metrics.page();
        for event in [
            Event::Received { redelivered: true },
            Event::Begun { attempt: 2, took_over: true },
            Event::Handled(Duration::from_millis(3)),
            Event::Done,
            Event::DuplicateOfDone,
            Event::DuplicateOfRunning,
            Event::Retried(Duration::from_secs(1)),
            Event::Parked(Reason::Attempts),
            Event::Fenced,
            Event::LeaseLost,
            Event::Revoked,
            Event::Paused,
            Event::Lag(7),
            Event::Headroom(-7),
            Event::BrokerFailed,
        ] {
            let page = metrics.page();
            metrics.on(&event);
            assert_ne!(metrics.page(), page, "{event:?}");
        }
        let page = metrics.page();
        assert_eq!(series(&page), series(&before));
        for line in [
            "onceward_messages_received_total{redelivered=\"yes\"} 1",
            "onceward_messages_total{outcome=\"duplicate_of_done\"} 1",
            "onceward_dead_letters_total{reason=\"attempts\"} 1",
            "onceward_handler_takeovers_total 1",
            "onceward_consumer_paused 1",
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
        metrics.on(&Event::Resumed);
        assert!(metrics.page().contains("onceward_consumer_paused 0"));
    }
}
