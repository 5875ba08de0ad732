//! Asks the store, lets the rules decide, hands out permits and answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::OnceCell;

use crate::cache::{Answers, Before, Hit};
use crate::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::decide::{Claim, Decision, decide};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, NoObserver, Observer};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::flight::Flights;
use crate::key::{Key, Principal, RecordId, Scope};
use crate::permit::Permit;
use crate::policy::{InFlight, Policy};
use crate::record::{Answer, Listing, Owner, RULES, Record, Revision, State, Timestamp};
use crate::store::browse::RESERVED_KIND;
use crate::store::{CALL_BUDGET_MAX, Grant, Insert, Put, Replace, Store, Swept};

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

/// What an attempt may do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and taken apart once a request; a box would cost more")]
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
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            call_budget: Duration::from_secs(5),
            begin_patience: Duration::from_secs(3),
            cache_bytes: 32 << 20,
            cache_life: Duration::from_secs(60),
            hide_keys: false,
        }
    }
}

/// How long a caller is asked to wait before it asks for a running operation again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many records one round of upkeep looks at for expiry.
const SWEEP_LIMIT: usize = 1000;

/// How many stray claims are released at once, so that they share the store's work.
const STRAYS_AT_ONCE: usize = 64;

/// The longest host and path that a listing shows, in bytes. Identity is the hash of the whole.
const LISTED_BYTES_MAX: usize = 1024;

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
    strays: Mutex<HashMap<(RecordId, Owner), Stray>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stray {
    id: RecordId,
    owner: Owner,
    not_after: Timestamp,
    /// Whether it took over a record whose outcome is unknown.
    after_unknown: bool,
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
        self.inner.hasher.get_or_try_init(|| self.inner.load_secret()).await.copied()
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
    pub async fn begin(&self, attempt: &Attempt) -> Result<Begin> {
        attempt.policy.check()?;
        let begun = self.claim(attempt).await?;
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
        // Neither waits for the other to succeed.
        let swept = self.inner.store.sweep(SWEEP_LIMIT).await;
        self.inner.release_strays().await?;
        swept
    }

    /// How long another process may still use a cached answer.
    pub(crate) fn cache_life(&self) -> Duration {
        self.inner.settings.cache_life
    }

    async fn claim(&self, attempt: &Attempt) -> Result<Begin> {
        let inner = &self.inner;
        let id = attempt.record_id();
        let claim =
            Claim { owner: inner.new_owner()?, fingerprint: attempt.fingerprint, policy: attempt.policy };
        let listing = self.listing(attempt).await?;
        let started = inner.clock.boot();
        let mut unsure = Unsure::new(inner, id, claim.owner);
        let mut seen: Option<TakeOver> = None;
        let mut tries = 0;
        let mut waited = false;
        loop {
            let before = inner.answers.before(inner.clock.boot());
            if let Some(hit) = inner.answers.get(id, &attempt.fingerprint, before.boot()) {
                return Ok(match hit {
                    Hit::Replay(answer) => {
                        inner.observer.on(&Event::Replayed { cached: true });
                        Begin::Replay(answer)
                    }
                    Hit::Mismatch => Begin::Mismatch,
                });
            }
            let put = Put {
                grant: Some(Grant {
                    owner: claim.owner,
                    new_life: seen.as_ref().is_some_and(|it| it.new_life),
                }),
                listing: listing.clone(),
                rules: RULES,
                fingerprint: Some(claim.fingerprint),
                state: State::Running,
                policy: seen.as_ref().map_or(claim.policy, |it| it.policy),
                checkpoint: seen.as_ref().and_then(|it| it.checkpoint.clone()),
                wake_after: None,
                not_after: inner.not_after().await?,
            };
            unsure.sent(put.not_after, before.boot(), seen.as_ref().is_some_and(|it| it.unfinished));
            match inner.ask(id, seen.as_ref().map(|it| it.revision), &put).await {
                Ok(Asked::Kept(record)) => {
                    unsure.settle();
                    let after_unknown = unsure.after_unknown;
                    let permit = Permit::granted(self.clone(), record, before.boot(), after_unknown);
                    return Ok(Begin::Run(permit));
                }
                Ok(Asked::Nothing) => seen = None,
                Ok(Asked::Late) => {
                    if inner.clock.boot().saturating_sub(started) >= inner.settings.begin_patience {
                        let late = Error::new(ErrorKind::Unavailable, "claim the record in time");
                        return Err(unsure.refused(late));
                    }
                }
                Ok(Asked::Found(found, now)) => {
                    let decision = decide(&found, &claim, now);
                    match decision {
                        Decision::Yours => {
                            unsure.settle();
                            // The grant is at least as old as the first call whose reply was lost.
                            let asked = unsure.since.unwrap_or(before.boot());
                            let after_unknown = unsure.after_unknown;
                            let permit = Permit::granted(self.clone(), found, asked, after_unknown);
                            return Ok(Begin::Run(permit));
                        }
                        Decision::TakeOver { new_life, policy } => {
                            // What was saved belongs to the work that is still unfinished, and only to it.
                            // Under this token nothing ran yet, so its own claim leaves nothing unknown.
                            let unfinished = found.owner != claim.owner
                                && matches!(found.state, State::Running | State::Abandoned { .. });
                            seen = Some(TakeOver {
                                revision: found.revision,
                                new_life,
                                policy,
                                unfinished,
                                checkpoint: found.checkpoint.filter(|_| unfinished),
                            });
                            continue;
                        }
                        Decision::Busy { .. } => {
                            seen = None;
                            unsure.settle_unless_uncertain();
                            let left = match attempt.in_flight {
                                InFlight::Reject => Duration::ZERO,
                                InFlight::Wait(max) => {
                                    started.saturating_add(max).saturating_sub(inner.clock.boot())
                                }
                            };
                            if left.is_zero() {
                                unsure.settle();
                                if waited {
                                    inner.waited_since(started);
                                }
                                return Ok(Begin::Busy { retry_after: RETRY_AFTER });
                            }
                            waited = true;
                            inner.wait_for(id, left, &mut tries).await;
                            continue;
                        }
                        other => {
                            unsure.settle();
                            if waited {
                                inner.waited_since(started);
                            }
                            return Ok(inner.told(other, &found, now, before));
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Uncertain => {
                    unsure.uncertain();
                    if inner.clock.boot().saturating_sub(started) >= inner.settings.begin_patience {
                        return Err(error);
                    }
                    inner.clock.sleep(back_off(tries)).await;
                    tries += 1;
                }
                Err(error) => {
                    unsure.settle_unless_uncertain();
                    return Err(unsure.refused(error));
                }
            }
        }
    }

    async fn listing(&self, attempt: &Attempt) -> Result<Listing> {
        let key = attempt.key.as_str();
        let key = if self.inner.settings.hide_keys {
            self.hasher().await?.principal("listed key", key.as_bytes()).to_string()
        } else {
            key.to_owned()
        };
        let scope = &attempt.scope;
        Ok(Listing {
            principal: scope.principal,
            kind: scope.kind.clone(),
            host: listed(&scope.host),
            path: listed(&scope.path),
            key,
        })
    }
}

/// A text as listings show it: whole, or cut with a mark.
fn listed(text: &str) -> String {
    if text.len() <= LISTED_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=LISTED_BYTES_MAX).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A record that may be taken over, as it was found.
struct TakeOver {
    revision: Revision,
    new_life: bool,
    policy: Policy,
    /// Whether it is not known what the attempt before did.
    unfinished: bool,
    checkpoint: Option<Bytes>,
}

/// What came of asking the store for a grant, by `insert` or by `replace`.
enum Asked {
    Kept(Record),
    Found(Record, Timestamp),
    Nothing,
    Late,
}

impl Inner {
    pub(crate) fn not_after_now(&self) -> Option<Timestamp> {
        let offset = self.store_offset.load(Ordering::Relaxed);
        let boot = i64::try_from(self.clock.boot().as_millis()).unwrap_or(i64::MAX);
        (offset != i64::MIN).then(|| {
            let now = u64::try_from(boot.saturating_add(offset)).unwrap_or(0);
            Timestamp::from_millis(now).after(self.settings.call_budget)
        })
    }

    /// The latest store time at which a call made now may still be carried out. It is counted from the last
    /// reply of the store, so that two machines' clocks are never compared.
    pub(crate) async fn not_after(&self) -> Result<Timestamp> {
        if let Some(known) = self.not_after_now() {
            return Ok(known);
        }
        let now = self.store.load(RecordId::reserved("hash key")).await?.now;
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

    fn waited_since(&self, started: Duration) {
        self.observer.on(&Event::Waited(self.clock.boot().saturating_sub(started)));
    }

    async fn ask(&self, id: RecordId, seen: Option<Revision>, put: &Put) -> Result<Asked> {
        let doing = "claim the record";
        let asked = match seen {
            None => match self.in_budget(doing, self.store.insert(id, put)).await? {
                Insert::Kept(record) => Asked::Kept(record),
                Insert::Found(record, now) => Asked::Found(record, now),
                Insert::Late(now) => {
                    self.heard(now);
                    Asked::Late
                }
            },
            Some(seen) => match self.in_budget(doing, self.store.replace(id, seen, put)).await? {
                Replace::Kept(record) => Asked::Kept(record),
                Replace::Lost(Some(record), now) => Asked::Found(record, now),
                Replace::Lost(None, now) => {
                    self.heard(now);
                    Asked::Nothing
                }
                Replace::Late(now) => {
                    self.heard(now);
                    Asked::Late
                }
            },
        };
        match &asked {
            Asked::Kept(record) => self.heard(record.updated),
            Asked::Found(_, now) => self.heard(*now),
            Asked::Nothing | Asked::Late => {}
        }
        Ok(asked)
    }

    /// Puts a decision that ends a `begin` into words.
    fn told(&self, decision: Decision, found: &Record, now: Timestamp, before: Before) -> Begin {
        match decision {
            Decision::Replay(answer) => {
                if let Some(asked) = found.fingerprint {
                    self.remember(found.id, asked, &answer, now.until(found.answer_until), before);
                }
                self.observer.on(&Event::Replayed { cached: false });
                Begin::Replay(answer)
            }
            Decision::Mismatch => Begin::Mismatch,
            Decision::Unresolved => Begin::Unresolved,
            Decision::Gone => Begin::Gone,
            Decision::Busy { .. } | Decision::Yours | Decision::TakeOver { .. } => {
                Begin::Busy { retry_after: RETRY_AFTER }
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

    /// Sleeps until the permit that is out ends, when it is in this process; else a growing, jittered while.
    async fn wait_for(&self, id: RecordId, left: Duration, tries: &mut u32) {
        let Some(landed) = self.flights.landing(id) else {
            let mut jitter = [0; 1];
            // Without randomness the waiters only poll in step.
            let _ = self.entropy.fill(&mut jitter);
            let pause = back_off(*tries).mul_f64(0.5 + f64::from(jitter[0]) / 256.0);
            *tries += 1;
            return self.clock.sleep(pause.min(left)).await;
        };
        tokio::select! {
            () = landed => {}
            () = self.clock.sleep(left.min(Duration::from_secs(1))) => {}
        }
    }

    /// Reads the secret from which the hash keys are derived; inserts one if there is none.
    async fn load_secret(&self) -> Result<Hasher> {
        let id = RecordId::reserved("hash key");
        let loaded = self.store.load(id).await?;
        self.heard(loaded.now);
        let record = match loaded.record {
            Some(record) => record,
            None => {
                let mut secret = [0; 32];
                self.entropy
                    .fill(&mut secret)
                    .map_err(|it| Error::new(ErrorKind::Unavailable, "make the hash key").caused_by(it))?;
                let put = Put {
                    grant: None,
                    listing: Listing {
                        principal: Principal::ANONYMOUS,
                        kind: RESERVED_KIND.into(),
                        host: String::new(),
                        path: String::new(),
                        key: "hash key".into(),
                    },
                    rules: RULES,
                    fingerprint: None,
                    state: State::Done(Answer::new("hash key", secret.to_vec())),
                    policy: Policy {
                        retention: Duration::from_millis(u64::MAX),
                        tombstone: Duration::ZERO,
                        ..Policy::default()
                    },
                    checkpoint: None,
                    wake_after: None,
                    not_after: loaded.now.after(self.settings.call_budget),
                };
                match self.store.insert(id, &put).await? {
                    Insert::Kept(record) | Insert::Found(record, _) => record,
                    Insert::Late(now) => {
                        self.heard(now);
                        return Err(Error::new(ErrorKind::Unavailable, "keep the hash key in time"));
                    }
                }
            }
        };
        match record.state {
            State::Done(answer) => Ok(Hasher::new(&answer.bytes)),
            State::Running | State::Abandoned { .. } | State::Released | State::Tombstone => {
                Err(Error::new(ErrorKind::Corrupt, "read the hash key"))
            }
        }
    }

    /// Releases claims that landed after their `begin` had ended. Nothing ran under them.
    async fn release_strays(&self) -> Result<()> {
        // Each stays on the list until its matter is closed, also when this future is dropped on the way.
        let strays: Vec<Stray> = self.strays().values().copied().collect();
        let mut released = stream::iter(strays)
            .map(|stray| async move { (stray, self.release_stray(stray).await) })
            .buffer_unordered(STRAYS_AT_ONCE);
        let mut failed = None;
        while let Some((stray, closed)) = released.next().await {
            match closed {
                Ok(true) => drop(self.strays().remove(&(stray.id, stray.owner))),
                Ok(false) => {}
                // It cannot be read, so it cannot be released either: an operator sees it.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.strays().remove(&(stray.id, stray.owner));
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn strays(&self) -> MutexGuard<'_, HashMap<(RecordId, Owner), Stray>> {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the matter is closed: released, or it can no longer land.
    async fn release_stray(&self, stray: Stray) -> Result<bool> {
        let loaded = self.store.load(stray.id).await?;
        self.heard(loaded.now);
        let Some(found) = loaded.record.filter(|it| it.owner == stray.owner && it.state == State::Running)
        else {
            return Ok(loaded.now > stray.not_after);
        };
        let not_after = loaded.now.after(self.settings.call_budget);
        let put = if stray.after_unknown {
            // This claim did nothing; what the attempt before it did is still unknown.
            Put {
                state: State::Abandoned { reason: "its caller left while it was taken over".into() },
                ..Put::keep(&found, not_after)
            }
        } else {
            released(&found, not_after)
        };
        let replaced = self.store.replace(stray.id, found.revision, &put).await?;
        // Once it is kept, no copy of the claim can land any more: the revision has moved on.
        Ok(matches!(replaced, Replace::Kept(_)))
    }

    fn stray(&self, stray: Stray) {
        self.strays().insert((stray.id, stray.owner), stray);
    }
}

/// The put that frees a record. It forgets the fingerprint: the next request may be any.
pub(crate) fn released(record: &Record, not_after: Timestamp) -> Put {
    Put { state: State::Released, fingerprint: None, checkpoint: None, ..Put::keep(record, not_after) }
}

/// Remembers, when `begin` ends without a permit or is dropped, that a claim may still land.
struct Unsure<'a> {
    inner: &'a Inner,
    id: RecordId,
    owner: Owner,
    /// Until when a call of ours may land; `None` while none can.
    not_after: Option<Timestamp>,
    /// When the last call was sent.
    last_asked: Duration,
    /// When the first call was sent whose reply was lost.
    since: Option<Duration>,
    /// Whether a call of ours may have taken over a record whose outcome is unknown.
    after_unknown: bool,
}

impl<'a> Unsure<'a> {
    fn new(inner: &'a Inner, id: RecordId, owner: Owner) -> Self {
        let last_asked = Duration::ZERO;
        Self { inner, id, owner, not_after: None, last_asked, since: None, after_unknown: false }
    }

    /// A call is under way: until its reply is here, it may land.
    fn sent(&mut self, not_after: Timestamp, asked: Duration, after_unknown: bool) {
        self.not_after = self.not_after.max(Some(not_after));
        self.after_unknown |= after_unknown;
        self.last_asked = asked;
    }

    /// The call under way got no reply.
    fn uncertain(&mut self) {
        self.since.get_or_insert(self.last_asked);
    }

    /// The reply is here and nothing of ours can land any more, unless an earlier call got no reply.
    fn settle_unless_uncertain(&mut self) {
        if self.since.is_none() {
            self.settle();
        }
    }

    /// The record was seen after all calls, or is ours.
    fn settle(&mut self) {
        self.not_after = None;
    }

    /// A refusal says "nothing was written" only when that holds for every call of this `begin`.
    fn refused(&self, error: Error) -> Error {
        if self.since.is_some() && error.kind() == ErrorKind::Unavailable {
            return Error::new(ErrorKind::Uncertain, "claim the record").caused_by(error);
        }
        error
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if let Some(not_after) = self.not_after {
            let (id, owner, after_unknown) = (self.id, self.owner, self.after_unknown);
            self.inner.stray(Stray { id, owner, not_after, after_unknown });
        }
    }
}
