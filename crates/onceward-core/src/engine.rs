//! Asks the store, lets the rules decide, hands out permits and answers.

mod claim;
mod secret;
mod stray;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OnceCell;

use self::claim::Asking;
use self::stray::Stray;
use crate::cache::{Answers, Before};
use crate::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, NoObserver, Observer};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::flight::Flights;
use crate::key::{Key, RecordId, Scope};
use crate::permit::Permit;
use crate::policy::{InFlight, Policy};
use crate::record::{Answer, Owner, Timestamp};
use crate::store::{CALL_BUDGET_MAX, Store, Swept};

/// One request to run an operation at most once.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The space in which the key is unique.
    pub scope: Scope,
    /// The caller's key.
    pub key: Key,
    /// What is asked, from [`Engine::hasher`].
    pub fingerprint: Fingerprint,
    /// What the claim stores.
    pub policy: Policy,
    /// What to do while a first attempt runs.
    pub in_flight: InFlight,
}

impl Attempt {
    /// The record that this attempt is about.
    #[must_use]
    pub fn record_id(&self) -> RecordId {
        RecordId::of(&self.scope, &self.key)
    }
}

/// An attempt and the id of its record, for callers that need the id, too: it is hashed once. `&Attempt` becomes one
/// by itself.
#[derive(Debug, Clone, Copy)]
pub struct Identified<'a> {
    attempt: &'a Attempt,
    id: RecordId,
}

impl<'a> From<&'a Attempt> for Identified<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        Self { attempt, id: attempt.record_id() }
    }
}

impl Identified<'_> {
    /// The record that the attempt is about.
    #[must_use]
    pub fn record_id(&self) -> RecordId {
        self.id
    }
}

/// What an attempt may do.
#[derive(Debug)]
pub enum Begin {
    /// Run the operation, then finish the permit.
    Run(Permit),
    /// It was done before; this is its answer.
    Replay(Answer),
    /// The first attempt is still running.
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The key was first used for something else. Nothing was run.
    Mismatch,
    /// The first attempt ended without an answer and must not run again by itself.
    Unresolved,
    /// It was done; the answer is no longer kept.
    Gone,
}

/// How an engine talks to its store.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// How long one call to the store may take until it must not be carried out any more. At most
    /// [`CALL_BUDGET_MAX`].
    pub call_budget: Duration,
    /// How long `begin` repeats a claim whose reply was lost before it gives up.
    pub begin_patience: Duration,
    /// How many bytes of completed answers to keep in this process; 0 keeps none.
    pub cache_bytes: u64,
    /// How long a cached answer is used when other processes may write the same store.
    pub cache_life: Duration,
    /// Lists a hash of each key instead of the key.
    pub hide_keys: bool,
    /// How many duplicates of one operation may wait for its first attempt in this process. One more is told at
    /// once that it runs, as under [`InFlight::Reject`].
    pub waiters_max: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            call_budget: Duration::from_secs(5),
            begin_patience: Duration::from_secs(3),
            cache_bytes: 32 << 20,
            cache_life: Duration::from_secs(60),
            hide_keys: false,
            waiters_max: 100,
        }
    }
}

/// How many records one round of upkeep looks at for expiry.
const SWEEP_LIMIT: usize = 1000;

/// The pause before the n-th repeat of a call that went wrong: 10 ms, doubling, at most 1 s.
pub(crate) fn back_off(tries: u32) -> Duration {
    Duration::from_millis(10 << tries.min(7)).min(Duration::from_secs(1))
}

/// Runs operations once. Cheap to clone; clones share everything.
///
/// The engine starts no task: a permit renews itself while its work is polled, and
/// [`maintain`](Engine::maintain) is called by whoever owns the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(crate) observer: Arc<dyn Observer>,
    settings: EngineSettings,
    pub(crate) flights: Arc<Flights>,
    pub(crate) answers: Answers,
    hasher: OnceCell<Hasher>,
    /// Store milliseconds minus boot milliseconds, from the last reply; `i64::MIN` before the first.
    store_offset: AtomicI64,
    /// Claims that may have landed after their `begin` ended; they are released when found.
    strays: Mutex<BTreeMap<(RecordId, Owner), Stray>>,
}

impl Engine {
    /// An engine over `store` with the clock and the randomness of this machine.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with(
            store,
            EngineSettings::default(),
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
            Arc::new(NoObserver),
        )
    }

    /// An engine with everything given.
    #[must_use]
    pub fn with(
        store: Arc<dyn Store>,
        settings: EngineSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let settings = EngineSettings { call_budget: settings.call_budget.min(CALL_BUDGET_MAX), ..settings };
        let cache_life = if store.traits().shared { settings.cache_life } else { Duration::MAX };
        Self {
            inner: Arc::new(Inner {
                answers: Answers::new(settings.cache_bytes, cache_life),
                store,
                clock,
                entropy,
                observer,
                settings,
                flights: Arc::new(Flights::default()),
                hasher: OnceCell::new(),
                store_offset: AtomicI64::new(i64::MIN),
                strays: Mutex::default(),
            }),
        }
    }

    /// The store behind this engine.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The clock that paces this engine.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The hasher of this store. The first call reads its secret, or makes it if the store has none; later
    /// calls are free.
    ///
    /// # Errors
    /// The store could not be asked. Nothing else was written; ask again.
    pub async fn hasher(&self) -> Result<Hasher> {
        if let Some(hasher) = self.inner.hasher.get() {
            return Ok(*hasher);
        }
        // In a box, so that the calls after the first do not carry its room.
        self.inner.hasher.get_or_try_init(|| Box::pin(self.inner.load_secret())).await.copied()
    }

    /// Claims the operation, or says why not.
    ///
    /// One round trip to the store for a new key, at most one for a replay.
    ///
    /// # Errors
    /// `Unavailable`: nothing was claimed. `Uncertain`: a claim may have landed; it is released by
    /// [`maintain`](Self::maintain) when it is found. No error ever stands for a permit.
    ///
    /// # Cancel safety
    /// Dropping the future claims nothing that lasts: a claim that landed nevertheless is released like one
    /// whose reply was lost. A waiter that is dropped disturbs nobody.
    pub async fn begin(&self, attempt: impl Into<Identified<'_>>) -> Result<Begin> {
        let Identified { attempt, id } = attempt.into();
        attempt.policy.check()?;
        let asked = Asking::new(&self.inner, attempt, id);
        let begun = match self.inner.known(&asked) {
            Some(known) => known,
            // In a box, because most repeats are known and need not carry its room.
            None => Box::pin(self.claim(asked)).await?,
        };
        self.inner.observer.on(&match &begun {
            Begin::Run(permit) => Event::Granted { attempt: permit.attempt() },
            Begin::Replay(_) => return Ok(begun),
            Begin::Busy { .. } => Event::Busy,
            Begin::Mismatch => Event::Mismatch,
            Begin::Unresolved => Event::Unresolved,
            Begin::Gone => Event::Gone,
        });
        Ok(begun)
    }

    /// One round of upkeep: drops what has expired and releases stray claims. Call it every second or so,
    /// again at once while the result says `more`.
    ///
    /// # Errors
    /// The store could not be asked; what was done stays done.
    pub async fn maintain(&self) -> Result<Swept> {
        // Neither waits for the other. A caller may be waiting for its key.
        let sweep = self.inner.store.sweep(SWEEP_LIMIT);
        let (released, swept) = futures_util::future::join(self.inner.release_strays(), sweep).await;
        released.and(swept)
    }

    /// How long another process may still use a cached answer.
    pub(crate) fn cache_life(&self) -> Duration {
        self.inner.settings.cache_life
    }
}

impl Inner {
    /// The latest store time at which a call made at `boot` may still be carried out. It is counted from the last
    /// reply of the store, so that two machines' clocks are never compared.
    pub(crate) async fn not_after(&self, boot: Duration) -> Result<Timestamp> {
        let offset = self.store_offset.load(Ordering::Relaxed);
        if offset != i64::MIN {
            let boot = i64::try_from(boot.as_millis()).unwrap_or(i64::MAX);
            let now = u64::try_from(boot.saturating_add(offset)).unwrap_or(0);
            return Ok(Timestamp::from_millis(now).after(self.settings.call_budget));
        }
        let load = self.store.load(RecordId::reserved("hash key"));
        let now = Box::pin(self.in_budget("ask the store for its time", load)).await?.now;
        self.heard(now);
        Ok(now.after(self.settings.call_budget))
    }

    /// Notes the store's time from a reply that has just arrived.
    pub(crate) fn heard(&self, now: Timestamp) {
        let boot = i64::try_from(self.clock.boot().as_millis()).unwrap_or(i64::MAX);
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.store_offset.store(now.saturating_sub(boot), Ordering::Relaxed);
    }

    fn new_owner(&self) -> Result<Owner> {
        let mut bytes = [0; 16];
        self.entropy
            .fill(&mut bytes)
            .map_err(|it| Error::new(ErrorKind::Unavailable, "make an owner token").caused_by(it))?;
        Ok(Owner::from_bytes(bytes))
    }

    /// A call to the store that is given up when its budget is over: from then on it writes nothing.
    pub(crate) async fn in_budget<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            told = call => told,
            () = self.clock.sleep(self.settings.call_budget) => {
                Err(Error::new(ErrorKind::Uncertain, doing))
            }
        }
    }

    pub(crate) fn remember(
        &self,
        id: RecordId,
        asked: Fingerprint,
        answer: &Answer,
        left: Duration,
        before: Before,
    ) {
        if self.settings.cache_bytes > 0 {
            self.answers.put(id, asked, answer, left, before);
        }
    }
}
