//! One `begin`: claims the record, or finds out why not.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::stray::Unsure;
use super::{Attempt, Begin, Engine, Inner, back_off};
use crate::cache::{Before, Hit};
use crate::decide::{Claim, Decision, RETRY_AFTER};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::flight::Waiter;
use crate::key::RecordId;
use crate::permit::Permit;
use crate::policy::InFlight;
use crate::record::{Listing, Record, Revision, Timestamp};
use crate::store::{Hints, Insert, Put, Replace};
use crate::transition::{Asked, Claiming, Next};

/// The least time between two looks at a record that hints lead to: a store that hints all the time is not asked all the
/// time.
const HINT_PAUSE: Duration = Duration::from_millis(5);

/// An attempt that is about to be made.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    attempt: &'a Attempt,
    id: RecordId,
    /// Taken before anything is asked.
    before: Before,
}

impl<'a> Asking<'a> {
    pub(super) fn new(inner: &Inner, attempt: &'a Attempt, id: RecordId) -> Self {
        Self { attempt, id, before: inner.answers.before(inner.clock.boot()) }
    }
}

impl Engine {
    /// Claims what the local cache of answers does not know.
    pub(super) async fn claim(&self, mut asking: Asking<'_>) -> Result<Begin> {
        let inner = &self.inner;
        let Asking { attempt, id, before } = asking;
        let started = before.boot();
        let claim =
            Claim { owner: inner.new_owner()?, fingerprint: attempt.fingerprint, policy: attempt.policy };
        let listing = Arc::new(self.listing(attempt).await?);
        let mut unsure = Unsure::new(inner, id, claim.owner);
        let mut claiming = Claiming::new(claim);
        let mut tries = 0;
        let mut waiter: Option<Waiter> = None;
        let mut hints: Option<Hints> = None;
        loop {
            let before = asking.before;
            let put = claiming.put(Arc::clone(&listing), inner.not_after(before.boot()).await?);
            unsure.sent(put.not_after, before.boot(), claiming.after_unknown);
            let asked = inner.ask(id, claiming.seen(), &put).await;
            match asked.map(|it| claiming.heard(it)) {
                Ok(Next::Run { record, by_this_call }) => {
                    unsure.settle();
                    // The grant is at least as old as the first call whose reply was lost.
                    let asked = unsure.since.filter(|_| !by_this_call).unwrap_or(before.boot());
                    let permit = Permit::granted(self.clone(), record, asked, claiming.after_unknown);
                    return Ok(Begin::Run(permit));
                }
                Ok(Next::Again) => {}
                Ok(Next::Late) => {
                    if inner.clock.boot().saturating_sub(started) >= inner.settings.begin_patience {
                        let late = Error::new(ErrorKind::Unavailable, "claim the record in time");
                        return Err(unsure.refused(late));
                    }
                }
                Ok(Next::Busy) => {
                    unsure.settle_unless_uncertain();
                    let left = match attempt.in_flight {
                        InFlight::Reject => Duration::ZERO,
                        InFlight::Wait(max) => started.saturating_add(max).saturating_sub(inner.clock.boot()),
                    };
                    if waiter.is_none() && !left.is_zero() {
                        waiter = inner.flights.wait(id, inner.settings.waiters_max);
                    }
                    let may_wait = waiter.is_some() && !left.is_zero();
                    if !may_wait {
                        unsure.settle();
                        if waiter.is_some() {
                            inner.waited_since(started);
                        }
                        return Ok(Begin::Busy { retry_after: RETRY_AFTER });
                    }
                    inner.wait_for(id, left, &mut tries, &mut hints, before.boot()).await;
                }
                Ok(Next::Told(decision, found, now)) => {
                    unsure.settle();
                    if waiter.is_some() {
                        inner.waited_since(started);
                    }
                    return Ok(inner.told(decision, &found, now, before));
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
            asking.before = inner.answers.before(inner.clock.boot());
            if let Some(known) = inner.known(&asking) {
                return Ok(known);
            }
        }
    }

    pub(crate) fn hides_keys(&self) -> bool {
        self.inner.settings.hide_keys
    }

    /// What a listing shows for a key where it hides keys.
    pub(crate) async fn listed_key(&self, key: &str) -> Result<String> {
        Ok(self.hasher().await?.listed_key(key))
    }

    async fn listing(&self, attempt: &Attempt) -> Result<Listing> {
        let key = attempt.key.as_str();
        let key = if self.hides_keys() { self.listed_key(key).await? } else { key.to_owned() };
        Ok(Listing::of(&attempt.scope, key))
    }
}

impl Inner {
    /// What the local cache of answers knows about an attempt.
    pub(super) fn known(&self, asking: &Asking<'_>) -> Option<Begin> {
        Some(match self.answers.get(asking.id, &asking.attempt.fingerprint, asking.before.boot())? {
            Hit::Replay(answer) => {
                self.observer.on(&Event::Replayed { cached: true });
                Begin::Replay(answer)
            }
            Hit::Mismatch => Begin::Mismatch,
        })
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

    /// Sleeps until the permit that is out ends, when it is in this process; else a growing, jittered while, or until the
    /// store hints at the record, which was looked at last at `looked`.
    async fn wait_for(
        &self,
        id: RecordId,
        left: Duration,
        tries: &mut u32,
        hints: &mut Option<Hints>,
        looked: Duration,
    ) {
        let Some(landed) = self.flights.landing(id) else {
            let mut jitter = [0; 1];
            // Without randomness the waiters only poll in step.
            let _ = self.entropy.fill(&mut jitter);
            let pause = back_off(*tries).mul_f64(0.5 + f64::from(jitter[0]) / 256.0);
            if hints.is_none() {
                *hints = self.store.hints(id);
            }
            tokio::select! {
                biased;
                () = self.hinted(hints, looked) => {}
                () = self.clock.sleep(pause.min(left)) => *tries += 1,
            }
            return;
        };
        tokio::select! {
            biased;
            () = landed => {}
            () = self.clock.sleep(left.min(Duration::from_secs(1))) => {}
        }
    }

    /// Waits for a hint that is worth a look. Hints that have ended are asked for again by the next who waits.
    async fn hinted(&self, hints: &mut Option<Hints>, looked: Duration) {
        if let Some(heard) = hints {
            if heard.next().await.is_some() {
                let since = self.clock.boot().saturating_sub(looked);
                return self.clock.sleep(HINT_PAUSE.saturating_sub(since)).await;
            }
            *hints = None;
        }
        std::future::pending().await
    }
}
