//! What all parts of a simulation share.

mod event;
mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use onceward_core::store::Filter;
use onceward_core::{Record, Store};
use onceward_gateway::{AtWork, Ended};

pub use self::event::{Event, Violation};
use crate::plan::{GATEWAYS, Plan};
use crate::run::Report;

/// An effect at the far side.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) intent: usize,
    pub(crate) fence: u64,
}

/// What the far side of one intent remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct FarSide {
    pub(crate) fence_max: u64,
    pub(crate) first: Option<FirstOutcome>,
    pub(crate) fences: BTreeSet<u64>,
}

/// What a far side that dedups says again.
#[derive(Debug, Clone)]
pub(crate) struct FirstOutcome {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// What a caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) replayed: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    /// The code of the problem, where it is one of ours.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.header("content-type").filter(|it| *it == "application/problem+json")?;
        let from = self.body.split("urn:onceward:").nth(1)?;
        from.split('"').next()?.rsplit(':').next()
    }

    /// Whether the far side meant it to be kept.
    pub(crate) fn is_final(&self) -> bool {
        self.header("x-outcome") == Some("final")
    }
}

/// What all parts of one simulation share. Clones are the same.
#[derive(Clone)]
pub(crate) struct World(Arc<Shared>);

struct Shared {
    plan: Plan,
    faults: AtomicBool,
    /// 0: it answers, 1: it refuses, 2: it swallows.
    store_mood: AtomicUsize,
    healed: AtomicBool,
    inner: Mutex<Inner>,
    store: Mutex<Arc<dyn Store>>,
    tracing: bool,
}

#[derive(Default)]
struct Inner {
    now: Duration,
    events: Vec<Event>,
    violations: Vec<(Violation, String)>,
    counts: BTreeMap<String, u64>,
    told: BTreeMap<usize, Reply>,
    effects: Vec<Effect>,
    far: BTreeMap<usize, FarSide>,
    /// Which grants were freed, and which were given up.
    released: BTreeSet<(usize, u64)>,
    abandoned: BTreeSet<(usize, u64)>,
    at_work: [Option<AtWork>; GATEWAYS],
    ended: [Option<Ended>; GATEWAYS],
    clients_at_work: usize,
    audited: bool,
}

impl World {
    pub(crate) fn new(plan: Plan, store: Arc<dyn Store>, tracing: bool) -> Self {
        Self(Arc::new(Shared {
            plan,
            faults: AtomicBool::new(true),
            store_mood: AtomicUsize::new(0),
            healed: AtomicBool::new(false),
            inner: Mutex::default(),
            store: Mutex::new(store),
            tracing,
        }))
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// Randomness for one part of the simulation, which draws from it alone.
    pub(crate) fn rng(&self, part: &str, turn: u64) -> fastrand::Rng {
        let mixed = part.bytes().fold(self.0.plan.seed ^ 0x9e37_79b9_7f4a_7c15, |mixed, it| {
            (mixed ^ u64::from(it)).wrapping_mul(0x0100_0000_01b3).rotate_left(7)
        });
        fastrand::Rng::with_seed(mixed ^ turn.wrapping_mul(0xbf58_476d_1ce4_e5b9))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === Phases ===

    pub(crate) fn faults(&self) -> bool {
        self.0.faults.load(Ordering::Relaxed)
    }

    pub(crate) fn healed(&self) -> bool {
        self.0.healed.load(Ordering::Relaxed)
    }

    pub(crate) fn heal(&self) {
        self.0.faults.store(false, Ordering::Relaxed);
        self.0.store_mood.store(0, Ordering::Relaxed);
        self.0.healed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn store_mood(&self) -> usize {
        self.0.store_mood.load(Ordering::Relaxed)
    }

    pub(crate) fn set_store_mood(&self, mood: usize) {
        self.0.store_mood.store(mood, Ordering::Relaxed);
    }

    /// The store itself, looked at without a fault.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_store(&self, store: Arc<dyn Store>) {
        *self.0.store.lock().unwrap_or_else(PoisonError::into_inner) = store;
    }

    /// Every record as it is now.
    pub(crate) fn records(&self) -> Vec<Arc<Record>> {
        let store = self.store();
        let listed = store.list(&Filter::default(), None, usize::MAX).now_or_never();
        listed.expect("the memory store never waits").map(|it| it.records).unwrap_or_default()
    }

    pub(crate) fn intent_of(&self, record: &Record) -> Option<usize> {
        self.0.plan.intents.iter().position(|it| it.key == record.listing.key)
    }

    // === What happened ===

    /// Time as the driver and the hosts have seen it; it never goes back.
    pub(crate) fn tick(&self, now: Duration) {
        let mut inner = self.inner();
        inner.now = inner.now.max(now);
    }

    pub(crate) fn count(&self, what: &str) {
        let mut inner = self.inner();
        match inner.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(inner.counts.insert(what.to_owned(), 1)),
        }
    }

    /// Notes a line of the trace; `what` is only made when somebody will read it.
    pub(crate) fn note(&self, who: &str, what: impl FnOnce() -> String) {
        if self.0.tracing {
            let at = self.now();
            let event = Event { at, who: who.to_owned(), what: what() };
            self.inner().events.push(event);
        }
    }

    fn now(&self) -> Duration {
        let host = tokio::runtime::Handle::try_current().ok().and_then(|_| turmoil::sim_elapsed());
        host.unwrap_or_else(|| self.inner().now)
    }

    pub(crate) fn violated(&self, what: Violation, why: String) {
        self.note("CHECK", || format!("{what:?}: {why}"));
        self.inner().violations.push((what, why));
    }

    pub(crate) fn is_violated(&self) -> bool {
        !self.inner().violations.is_empty()
    }

    /// The report of a run that is over.
    pub(crate) fn report(&self, simulated: Duration) -> Report {
        let mut inner = self.inner();
        Report {
            seed: self.0.plan.seed,
            events: std::mem::take(&mut inner.events),
            violations: std::mem::take(&mut inner.violations),
            counts: std::mem::take(&mut inner.counts),
            simulated,
        }
    }

    // === Callers ===

    pub(crate) fn client_begins(&self) {
        self.inner().clients_at_work += 1;
    }

    pub(crate) fn client_ends(&self) {
        self.inner().clients_at_work -= 1;
    }

    pub(crate) fn clients_at_work(&self) -> usize {
        self.inner().clients_at_work
    }

    pub(crate) fn audited(&self) {
        self.inner().audited = true;
    }

    pub(crate) fn is_audited(&self) -> bool {
        self.inner().audited
    }

    // === Gateways ===

    pub(crate) fn at_work(&self, gateway: usize, it: Option<AtWork>) {
        self.inner().at_work[gateway] = it;
    }

    pub(crate) fn all_at_work(&self) -> [Option<AtWork>; GATEWAYS] {
        self.inner().at_work
    }

    pub(crate) fn ended(&self, gateway: usize, ended: Ended) {
        self.inner().ended[gateway] = Some(ended);
    }

    pub(crate) fn forget_ends(&self) {
        self.inner().ended = [None; GATEWAYS];
    }

    pub(crate) fn ends(&self) -> [Option<Ended>; GATEWAYS] {
        self.inner().ended
    }
}
