//! What relays tell, counted for Prometheus, and how the outbox stands. No label carries a kind, a destination or anything else
//! of an effect.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{RelayEvent, RelayObserver, Stats};
use crate::metrics::page;

/// Counts the events of relays, and shows how the outbox stood when it was last counted. Several relays may share one.
pub struct RelayMetrics {
    registry: Registry,
    claimed: Counter,
    effects: Family<Outcome, Counter>,
    tried: Histogram,
    removed: Counter,
    unreadable: Family<Why, Counter>,
    database: Counter,
    unsent: Gauge,
    parked: Gauge,
    in_hand: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    attempts: Gauge,
    counted: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    why: &'static str,
}

impl Default for RelayMetrics {
    fn default() -> Self {
        let it = Self {
            registry: Registry::with_prefix("onceward_outbox"),
            claimed: Counter::default(),
            effects: Family::default(),
            tried: Histogram::new(exponential_buckets(0.001, 4.0, 10)),
            removed: Counter::default(),
            unreadable: Family::default(),
            database: Counter::default(),
            unsent: Gauge::default(),
            parked: Gauge::default(),
            in_hand: Gauge::default(),
            oldest: Gauge::default(),
            attempts: Gauge::default(),
            counted: Gauge::default(),
        };
        // Each series is there from the start, so that a first one is seen as a rise.
        for outcome in ["sent", "retried", "parked", "fenced", "lease_lost"] {
            drop(it.effects.get_or_create(&Outcome { outcome }));
        }
        for why in ["corrupt", "newer"] {
            drop(it.unreadable.get_or_create(&Why { why }));
        }
        it.registered()
    }
}

impl RelayMetrics {
    fn registered(mut self) -> Self {
        let all = &mut self.registry;
        all.register("claimed", "Effects that this process took up", self.claimed.clone());
        all.register("effects", "What became of them", self.effects.clone());
        all.register("try_duration_seconds", "How long tries took, however they ended", self.tried.clone());
        all.register("removed", "Effects that were sent long ago and are removed", self.removed.clone());
        let unreadable = "Answers whose effects this process cannot read, and leaves as they are";
        all.register("unreadable", unreadable, self.unreadable.clone());
        let failures = "Questions that the database did not answer";
        all.register("database_failures", failures, self.database.clone());
        all.register("unsent", "Effects that are not sent, parked ones included", self.unsent.clone());
        all.register("parked", "Effects that wait until somebody has looked", self.parked.clone());
        all.register("in_hand", "Effects that some relay has in hand", self.in_hand.clone());
        let oldest = "Age of the oldest effect that is neither sent nor parked; 0 where there is none";
        all.register("oldest_unsent_seconds", oldest, self.oldest.clone());
        all.register("attempts_max", "The most tries that an unsent effect had", self.attempts.clone());
        let counted = "1 where these numbers are new, 0 where the outbox could not be counted";
        all.register("counted", counted, self.counted.clone());
        self
    }

    /// Shows how the outbox stands, by [`Outbox::stats`](super::Outbox::stats); `None` where it could not be counted: then the
    /// numbers stay as they were.
    pub fn counted(&self, stats: Option<&Stats>) {
        self.counted.set(i64::from(stats.is_some()));
        let Some(it) = stats else { return };
        let number = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        self.unsent.set(number(it.unsent));
        self.parked.set(number(it.parked));
        self.in_hand.set(number(it.owned));
        self.oldest.set(it.oldest.unwrap_or_default().as_secs_f64());
        self.attempts.set(i64::from(it.attempts));
    }

    /// The page that Prometheus reads, in the OpenMetrics text format.
    #[must_use]
    pub fn page(&self) -> String {
        page::of(&self.registry)
    }

    fn became(&self, outcome: &'static str, count: usize) {
        self.effects.get_or_create(&Outcome { outcome }).inc_by(count as u64);
    }
}

impl RelayObserver for RelayMetrics {
    fn on(&self, event: &RelayEvent) {
        match event {
            RelayEvent::Claimed(count) => drop(self.claimed.inc_by(*count as u64)),
            RelayEvent::Tried(took) => self.tried.observe(took.as_secs_f64()),
            RelayEvent::Sent(count) => self.became("sent", *count),
            RelayEvent::Retried(_) => self.became("retried", 1),
            RelayEvent::Parked => self.became("parked", 1),
            RelayEvent::Fenced(count) => self.became("fenced", *count),
            RelayEvent::LeaseLost => self.became("lease_lost", 1),
            RelayEvent::Removed(count) => drop(self.removed.inc_by(*count)),
            RelayEvent::Unreadable { newer } => {
                let why = if *newer { "newer" } else { "corrupt" };
                self.unreadable.get_or_create(&Why { why }).inc();
            }
            RelayEvent::DatabaseFailed => drop(self.database.inc()),
        }
    }
}

impl fmt::Debug for RelayMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_metric_is_in_the_reference_and_nothing_else_is() {
        let reference = include_str!("../../../../docs/reference/outbox-metrics.md");
        let page = RelayMetrics::default().page();
        let shown = page::as_in(reference, &page);
        for series in page.lines().filter_map(|it| it.split("outcome=\"").nth(1)?.split('"').next()) {
            assert!(reference.contains(&format!("`{series}`")), "{series}");
        }
        // Those that alerts are made of.
        for name in reference.split(|it: char| !it.is_ascii_alphanumeric() && it != '_') {
            let known = shown.iter().any(|it| name == it || name.strip_suffix("_bucket") == Some(it));
            assert!(known || !name.starts_with("onceward_outbox_"), "{name}");
        }
    }

    #[test]
    fn events_are_counted_and_what_stands_is_shown_until_it_is_known_anew() {
        let metrics = RelayMetrics::default();
        for event in [
            RelayEvent::Claimed(7),
            RelayEvent::Tried(Duration::from_millis(20)),
            RelayEvent::Sent(5),
            RelayEvent::Retried(Duration::ZERO),
            RelayEvent::Parked,
            RelayEvent::Fenced(2),
            RelayEvent::LeaseLost,
            RelayEvent::Removed(9),
            RelayEvent::Unreadable { newer: true },
            RelayEvent::Unreadable { newer: false },
            RelayEvent::Unreadable { newer: false },
            RelayEvent::DatabaseFailed,
        ] {
            metrics.on(&event);
        }
        let stats =
            Stats { unsent: 12, parked: 1, owned: 4, oldest: Some(Duration::from_millis(1500)), attempts: 3 };
        metrics.counted(Some(&stats));
        metrics.counted(None);
        let page = metrics.page();
        for line in [
            "claimed_total 7",
            "effects_total{outcome=\"sent\"} 5",
            "effects_total{outcome=\"retried\"} 1",
            "effects_total{outcome=\"parked\"} 1",
            "effects_total{outcome=\"fenced\"} 2",
            "effects_total{outcome=\"lease_lost\"} 1",
            "try_duration_seconds_count 1",
            "removed_total 9",
            "unreadable_total{why=\"newer\"} 1",
            "unreadable_total{why=\"corrupt\"} 2",
            "database_failures_total 1",
            "unsent 12",
            "parked 1",
            "in_hand 4",
            "oldest_unsent_seconds 1.5",
            "attempts_max 3",
            "counted 0",
        ] {
            assert!(page.contains(&format!("\nonceward_outbox_{line}\n")), "{line} is not in {page}");
        }
    }
}
