//! What is counted: one registry for engine events, requests, store calls and upkeep.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use onceward_core::{Event, Observer};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

mod held;
mod labels;
mod listener;
mod served;
mod upstreams;

use crate::built::Build;
use crate::upstreams::Upstreams;
use held::{Held, Word};
use labels::{DecisionLabel, FinishLabel, OutcomeLabel, StoreLabel, SweptLabel, bounded};
use listener::ListenerMetrics;
pub use listener::{ListenerView, ReloadResult};
pub use served::Served;
use served::ServedMetrics;
use upstreams::UpstreamMetrics;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

const DECISIONS: [&str; 7] = ["run", "replay", "replay_cached", "busy", "mismatch", "unresolved", "gone"];
const FINISHES: [&str; 3] = ["completed", "released", "abandoned"];
const UPSTREAM_OUTCOMES: [&str; 8] = ["1xx", "2xx", "3xx", "4xx", "5xx", "unreachable", "timeout", "broken"];

/// All metrics of one process. Cheap to clone; clones count together.
///
/// Give it to the engine as its [`Observer`], wrap the store into a [`MeteredStore`](crate::MeteredStore),
/// and call [`served`](Self::served) for each request. Labels are bounded by construction: no request can
/// add a series beyond the configured routes, the known methods, and words that stand in this code.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    served: ServedMetrics,
    build: Build,
    upstream: Histograms<OutcomeLabel>,
    upstreams: UpstreamMetrics,
    listener: ListenerMetrics,
    decisions: Family<DecisionLabel, Counter>,
    finishes: Family<FinishLabel, Counter>,
    finish_retries: Counter,
    leases_lost: Counter,
    verdicts: Counter,
    attempts: Histogram,
    waits: Histogram,
    stored_answers: Histogram,
    store_calls: Histograms<StoreLabel>,
    swept: Family<SweptLabel, Counter>,
    damaged: Counter,
    store_up: Gauge,
    leases_passed: Gauge,
    running: Gauge,
    held: HeldSeries,
    count_running: OnceLock<Count>,
}

/// The series that were counted in, of the families that every operation counts in.
#[derive(Debug, Default)]
struct HeldSeries {
    upstream: Held<Word, Histogram>,
    decisions: Held<Word, Counter>,
    finishes: Held<Word, Counter>,
    store_calls: Held<(Word, Word), Histogram>,
}

struct Count(Box<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Count")
    }
}

impl Metrics {
    /// Metrics for a process that serves these configured `routes`; any other route is counted as `other`.
    #[must_use]
    pub fn new<R: Into<String>>(routes: impl IntoIterator<Item = R>) -> Self {
        let metrics = Self::with(Build::default());
        metrics.allow_routes(routes);
        metrics
    }

    /// Metrics for a process of this build, with no routes and no upstreams yet.
    #[must_use]
    pub fn with(build: Build) -> Self {
        let mut registry = Registry::with_prefix("onceward");
        let it = &mut registry;
        let labels = [("version", build.version.clone()), ("commit", build.commit.clone())];
        it.register("build", "The version that runs", Info::new(labels));
        let inner = Inner {
            build,
            served: ServedMetrics::register(it),
            upstreams: UpstreamMetrics::register(it),
            listener: ListenerMetrics::register(it),
            upstream: timed(
                it,
                "upstream_duration",
                "Time until the head of the upstream's answer was here",
                seconds,
            ),
            decisions: counters(
                it,
                "decisions",
                "What the engine decided about attempts to run an operation",
                DECISIONS.map(|decision| DecisionLabel { decision }),
            ),
            finishes: counters(
                it,
                "finishes",
                "How permits were finished",
                FINISHES.map(|finish| FinishLabel { finish }),
            ),
            finish_retries: counter(it, "finish_retries", "Repeated writes of the end of an operation"),
            leases_lost: counter(it, "leases_lost", "Permits that found another holder or a verdict"),
            verdicts: counter(it, "verdicts", "Records that operators changed"),
            attempts: {
                let buckets = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0];
                let help = "Which attempt of its record each granted permit was, 1 for a first run";
                registered(it, "permit_attempt", help, None, Histogram::new(buckets))
            },
            waits: {
                let help = "Time that duplicates waited for a running first attempt";
                registered(it, "wait_duration", help, Some(Unit::Seconds), seconds())
            },
            stored_answers: {
                let help = "Size of answers when they were stored";
                registered(it, "stored_answer", help, Some(Unit::Bytes), bytes())
            },
            store_calls: timed(it, "store_call_duration", "Time of calls to the store", fast_seconds),
            swept: counters(
                it,
                "store_swept",
                "Records that sweeping changed: answers turned into tombstones, and records removed",
                [SweptLabel { to: "tombstone" }, SweptLabel { to: "removed" }],
            ),
            damaged: counter(
                it,
                "store_damaged",
                "Damaged records that the store met; each was refused, the others are served",
            ),
            store_up: registered(
                it,
                "store_up",
                "1 when the store answered its last check",
                None,
                Gauge::default(),
            ),
            leases_passed: registered(
                it,
                "leases_passed",
                "Records whose holder was gone before it finished them: unresolved, at most 1000 are counted",
                None,
                Gauge::default(),
            ),
            running: registered(it, "operations_running", "Operations that run now", None, Gauge::default()),
            held: HeldSeries::default(),
            count_running: OnceLock::new(),
            registry,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Counts a request that was answered.
    pub fn served(&self, served: &Served<'_>) {
        self.inner.served.observe(served);
    }

    /// Lets these configured routes have series of their own, beside those from before: at most 1000 in the
    /// life of the process, any other is counted as `other`. To be called at the start and on each reload.
    pub fn allow_routes<R: Into<String>>(&self, routes: impl IntoIterator<Item = R>) {
        self.inner.served.routes.allow(routes.into_iter().map(Into::into));
    }

    /// The same for upstreams, by their configured URL.
    pub fn allow_upstreams<U: Into<String>>(&self, urls: impl IntoIterator<Item = U>) {
        self.inner.upstreams.allow(urls.into_iter().map(Into::into));
    }

    /// Counts a call to the upstreams as a whole: a status class (`2xx`), `unreachable`, `timeout` or
    /// `broken` (no whole answer); anything else is counted as `other`.
    pub fn upstream(&self, outcome: &str, elapsed: Duration) {
        let outcome = bounded(outcome, &UPSTREAM_OUTCOMES);
        let all = &self.inner.upstream;
        let series = || all.get_or_create_owned(&OutcomeLabel { outcome });
        self.inner.held.upstream.get(Word(outcome), series).observe(elapsed.as_secs_f64());
    }

    /// Counts one request to one upstream, with the words of [`upstream`](Self::upstream). A call that moved
    /// on because an upstream was unreachable counts at each.
    pub fn upstream_requested(&self, url: &str, outcome: &str) {
        self.inner.upstreams.requested(url, outcome);
    }

    /// Counts that an upstream is given no more requests for a while.
    pub fn upstream_ejected(&self, url: &str) {
        self.inner.upstreams.ejected(url);
    }

    /// Shows how many requests each upstream has under way and whether it is ejected, as asked whenever the
    /// page is made. [`router`](crate::router()) does this with its own. The first call wins.
    pub fn show_upstreams(&self, upstreams: Upstreams) {
        self.inner.upstreams.show(upstreams);
    }

    /// Shows what the listener of callers counts, as asked whenever the page is made. The first call wins.
    pub fn show_listener(&self, look: impl Fn() -> ListenerView + Send + Sync + 'static) {
        self.inner.listener.show(look);
    }

    /// Counts a reload, whoever asked for it. One where there is no settings file is none.
    pub fn reloaded(&self, result: ReloadResult) {
        self.inner.listener.reloaded(result);
    }

    /// Tells when the certificate of the listener ends, in seconds since 1970. Without a call nothing is
    /// shown; each certificate that is loaded needs one.
    pub fn tls_certificate_ends(&self, unix_seconds: i64) {
        self.inner.listener.certificate_ends(unix_seconds);
    }

    /// Counts damaged records that were met. A [`MeteredStore`](crate::MeteredStore) does so by itself for
    /// its calls; this is for what is found otherwise, such as at the start.
    pub fn damaged(&self, records: u64) {
        self.inner.damaged.inc_by(records);
    }

    /// The build that runs.
    #[must_use]
    pub fn build(&self) -> &Build {
        &self.inner.build
    }

    /// Tells how many records are past their lease.
    pub fn leases_passed(&self, records: usize) {
        self.inner.leases_passed.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// Lets `count` tell, whenever the page is made, how many operations run. The first call wins.
    pub fn count_running(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        // A second one would be another gateway in the same process; it must not silence the first.
        let _ = self.inner.count_running.set(Count(Box::new(count)));
    }

    /// The metrics page, in the OpenMetrics text format.
    #[must_use]
    pub fn page(&self) -> String {
        if let Some(count) = self.inner.count_running.get() {
            self.inner.running.set(i64::try_from((count.0)()).unwrap_or(i64::MAX));
        }
        let mut page = String::new();
        text::encode(&mut page, &self.inner.registry).expect("writing to a string cannot fail");
        page
    }

    pub(crate) fn store_call(&self, operation: &'static str, outcome: &'static str, elapsed: Duration) {
        let all = &self.inner.store_calls;
        let series = || all.get_or_create_owned(&StoreLabel { operation, outcome });
        let words = (Word(operation), Word(outcome));
        self.inner.held.store_calls.get(words, series).observe(elapsed.as_secs_f64());
    }

    pub(crate) fn swept(&self, tombstones: u64, removed: u64) {
        self.inner.swept.get_or_create(&SweptLabel { to: "tombstone" }).inc_by(tombstones);
        self.inner.swept.get_or_create(&SweptLabel { to: "removed" }).inc_by(removed);
    }

    pub(crate) fn store_is_up(&self, up: bool) {
        self.inner.store_up.set(i64::from(up));
    }

    fn decided(&self, decision: &'static str) {
        let series = || self.inner.decisions.get_or_create_owned(&DecisionLabel { decision });
        self.inner.held.decisions.get(Word(decision), series).inc();
    }

    fn finished(&self, finish: &'static str) {
        let series = || self.inner.finishes.get_or_create_owned(&FinishLabel { finish });
        self.inner.held.finishes.get(Word(finish), series).inc();
    }
}

impl Observer for Metrics {
    fn on(&self, event: &Event) {
        match event {
            Event::Granted { attempt } => {
                self.decided("run");
                self.inner.attempts.observe(f64::from(*attempt));
            }
            Event::Replayed { cached: false } => self.decided("replay"),
            Event::Replayed { cached: true } => self.decided("replay_cached"),
            Event::Busy => self.decided("busy"),
            Event::Mismatch => self.decided("mismatch"),
            Event::Unresolved => self.decided("unresolved"),
            Event::Gone => self.decided("gone"),
            Event::Waited(pause) => self.inner.waits.observe(pause.as_secs_f64()),
            Event::Completed { answer_bytes } => {
                self.finished("completed");
                self.inner.stored_answers.observe(size(u64::try_from(*answer_bytes).unwrap_or(u64::MAX)));
            }
            Event::Released => self.finished("released"),
            Event::Abandoned => self.finished("abandoned"),
            Event::LeaseLost => {
                self.inner.leases_lost.inc();
            }
            Event::FinishRetried => {
                self.inner.finish_retries.inc();
            }
            Event::Verdict => {
                self.inner.verdicts.inc();
            }
            // Events may be added before this crate knows what to count of them.
            _ => {}
        }
    }
}

// === how metrics are made ===

fn registered<M>(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    registered(registry, name, help, None, Counter::default())
}

/// Counters that start at zero for every label, so that a first increase is seen as one.
fn counters<L>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    known: impl IntoIterator<Item = L>,
) -> Family<L, Counter>
where
    L: labels::Label,
{
    let family = Family::<L, Counter>::default();
    for label in known {
        drop(family.get_or_create(&label));
    }
    registered(registry, name, help, None, family)
}

fn timed<L>(registry: &mut Registry, name: &str, help: &str, buckets: fn() -> Histogram) -> Histograms<L>
where
    L: labels::Label,
{
    let family = Histograms::<L>::new_with_constructor(buckets);
    registered(registry, name, help, Some(Unit::Seconds), family)
}

fn sized<L>(registry: &mut Registry, name: &str, help: &str) -> Histograms<L>
where
    L: labels::Label,
{
    let family = Histograms::<L>::new_with_constructor(bytes);
    registered(registry, name, help, Some(Unit::Bytes), family)
}

/// 1 ms to 60 s.
fn seconds() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

/// 100 µs to 5 s.
fn fast_seconds() -> Histogram {
    Histogram::new([0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
}

/// 256 bytes to 4 MiB.
fn bytes() -> Histogram {
    Histogram::new([256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0])
}

/// Bytes as a histogram takes them. Beyond 2^53 the last digits are lost, which no bucket shows.
fn size(bytes: u64) -> f64 {
    bytes as f64
}
