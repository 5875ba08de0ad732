//! What happened, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use onceward_core::store::Filter;
use onceward_core::{Record, State, Store};
use onceward_gateway::{AtWork, Ended};

use crate::plan::{GATEWAYS, Plan, Way};

/// One line of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, since the simulation began.
    pub at: Duration,
    /// On which host.
    pub who: String,
    /// What.
    pub what: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} ms  {:<8} {}", self.at.as_secs_f64() * 1000.0, self.who, self.what)
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A key had two effects.
    TwoEffects,
    /// One permit reached the far side twice.
    SentTwice,
    /// Two callers were told two answers of one key, or a replay differs from the first answer.
    TwoAnswers,
    /// An answer was told that the store does not have.
    ToldNotStored,
    /// A caller was told the answer of another request.
    WrongAnswer,
    /// A caller was told what only an old holder may hear.
    OldHolder,
    /// A key was freed though its permit had an effect.
    ReleasedWithEffect,
    /// A fence or a revision did not grow.
    NotGrown,
    /// A final answer was overwritten.
    Overwritten,
    /// A permit was granted that the rules forbid.
    Granted,
    /// A key did not come to an end after everything had healed.
    Stuck,
    /// A gateway holds on to something after everybody has gone.
    Leaked,
    /// A gateway did not stop cleanly, or not at all.
    NotStopped,
    /// Something panicked.
    Panicked,
}

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
    pub(crate) fn records(&self) -> Vec<Record> {
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

    pub(crate) fn take(&self) -> (Vec<Event>, Vec<(Violation, String)>, BTreeMap<String, u64>) {
        let mut inner = self.inner();
        (
            std::mem::take(&mut inner.events),
            std::mem::take(&mut inner.violations),
            std::mem::take(&mut inner.counts),
        )
    }

    // === The far side ===

    /// A request of an operation has arrived at an upstream. Tells what the far side remembers.
    pub(crate) fn arrived(&self, intent: usize, fence: u64) -> FarSide {
        let mut inner = self.inner();
        let far = inner.far.entry(intent).or_default();
        let again = !far.fences.insert(fence);
        let before = far.clone();
        far.fence_max = far.fence_max.max(fence);
        drop(inner);
        if again {
            self.violated(Violation::SentTwice, format!("key-{intent} arrived twice under fence {fence}"));
        }
        before
    }

    /// The effect happens now. Under `rerun` the far side has made sure before that it is the first.
    pub(crate) fn effect(&self, who: &str, intent: usize, fence: u64) -> usize {
        let mut inner = self.inner();
        let number = inner.effects.len();
        inner.effects.push(Effect { intent, fence });
        let count = inner.effects.iter().filter(|it| it.intent == intent).count();
        let released = inner.released.contains(&(intent, fence));
        drop(inner);
        self.note(who, || format!("EFFECT {number} of key-{intent}, fence {fence}"));
        self.count("effects");
        if count > 1 {
            self.violated(Violation::TwoEffects, format!("key-{intent} had {count} effects"));
        }
        if released {
            let why = format!("key-{intent} was freed before fence {fence} had its effect");
            self.violated(Violation::ReleasedWithEffect, why);
        }
        number
    }

    pub(crate) fn has_effect(&self, intent: usize) -> bool {
        self.inner().effects.iter().any(|it| it.intent == intent)
    }

    /// What the far side of a `rerun` intent says from now on; the first outcome stands.
    pub(crate) fn first_outcome(&self, intent: usize, outcome: FirstOutcome) {
        self.inner().far.entry(intent).or_default().first.get_or_insert(outcome);
    }

    pub(crate) fn far_side(&self, intent: usize) -> FarSide {
        self.inner().far.get(&intent).cloned().unwrap_or_default()
    }

    // === Callers ===

    /// A caller was told something.
    pub(crate) fn told(&self, who: &str, intent: usize, payload: &str, reply: &Reply) {
        let kind = match (reply.problem(), reply.header("x-outcome")) {
            (Some(problem), _) => format!("{} {problem}", reply.status),
            (None, Some(outcome)) if reply.replayed => format!("replay, {outcome}"),
            (None, Some(outcome)) => format!("first answer, {outcome}"),
            (None, None) => format!("{} from nobody", reply.status),
        };
        self.note(who, || format!("told {kind} for key-{intent} {payload}: {}", reply.body));
        self.count(&format!("told: {kind}"));
        match reply.header("x-outcome") {
            None => {}
            Some("final") => self.told_final(intent, payload, reply),
            Some("fenced") => {
                self.violated(Violation::OldHolder, format!("key-{intent}: told what the far side refused"));
            }
            Some(other) if reply.replayed => {
                self.violated(Violation::TwoAnswers, format!("key-{intent}: {other} was replayed"));
            }
            Some(outcome) => self.told_open(intent, outcome, reply),
        }
    }

    /// An answer that is not kept is told once the record says what it means.
    fn told_open(&self, intent: usize, outcome: &str, reply: &Reply) {
        let fence = reply.header("x-fence").and_then(|it| it.parse().ok()).unwrap_or(0);
        let inner = self.inner();
        // Nothing happened, but an earlier attempt is unresolved: that is how the record stays.
        let written = inner.abandoned.contains(&(intent, fence))
            || (outcome == "released" && inner.released.contains(&(intent, fence)));
        drop(inner);
        if !written {
            let why = format!("key-{intent}: told {outcome} of fence {fence}");
            self.violated(Violation::ToldNotStored, why);
        }
    }

    fn told_final(&self, intent: usize, payload: &str, reply: &Reply) {
        if !reply.body.contains(&format!("\"{payload}\"")) {
            let why = format!("key-{intent} asked with {payload} and was told {}", reply.body);
            self.violated(Violation::WrongAnswer, why);
        }
        let first = self.inner().told.entry(intent).or_insert_with(|| reply.clone()).clone();
        if (first.status, &first.headers, &first.body) != (reply.status, &reply.headers, &reply.body) {
            let why = format!("key-{intent}: first told {first:?}, now {reply:?}");
            self.violated(Violation::TwoAnswers, why);
        }
        let stored = self.records().into_iter().any(|it| {
            let State::Done(answer) = &it.state else { return false };
            let bytes = answer.bytes().unwrap_or_default();
            self.intent_of(&it) == Some(intent) && bytes.ends_with(reply.body.as_bytes())
        });
        if !stored {
            self.violated(Violation::ToldNotStored, format!("key-{intent}: told {}", reply.body));
        }
    }

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

    // === The store ===

    /// Judges one change of a record, as the store carried it out.
    pub(crate) fn changed(&self, before: Option<&Record>, after: &Record) {
        let Some(intent) = self.intent_of(after) else { return };
        let granted = before.is_none_or(|it| it.fence != after.fence);
        if let Some(before) = before {
            if after.revision <= before.revision || after.fence < before.fence {
                let why = format!("key-{intent}: {before:?} then {after:?}");
                self.violated(Violation::NotGrown, why);
            }
            match (&before.state, &after.state) {
                (State::Done(_), State::Tombstone) => {}
                (State::Done(_) | State::Tombstone, _) => {
                    self.violated(Violation::Overwritten, format!("key-{intent}: {after:?}"));
                }
                _ => {}
            }
            let hold = self.0.plan.intents[intent].way != Way::Rerun;
            let held = matches!(before.state, State::Running | State::Abandoned { .. });
            if granted
                && held
                && before.owner != after.owner
                && (hold || before.lease_alive_at(after.updated))
            {
                self.violated(Violation::Granted, format!("key-{intent}: {before:?} then {after:?}"));
            }
        }
        if matches!(after.state, State::Abandoned { .. }) {
            self.inner().abandoned.insert((intent, after.fence.0));
        }
        if after.state == State::Released {
            let mut inner = self.inner();
            inner.released.insert((intent, after.fence.0));
            let had = inner.effects.iter().any(|it| it.intent == intent && it.fence == after.fence.0);
            drop(inner);
            if had {
                let why = format!("key-{intent}: fence {} had its effect", after.fence);
                self.violated(Violation::ReleasedWithEffect, why);
            }
        }
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
