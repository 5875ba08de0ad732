//! The right to run an operation, and the only way to finish its record.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::decide::{Finish, Loss, judge_loss};
use crate::engine::{Engine, back_off};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::flight::Flight;
use crate::key::RecordId;
use crate::mutant::{self, Mutant};
use crate::policy::Unresolved;
use crate::record::{Answer, Fence, Record, Timestamp};
use crate::store::{Put, Replace};
use crate::transition::{abandoned, completed, completed_with, given_back, released, renewed, saved};

/// The right to run an operation: record, owner token and fence.
///
/// Finish it with [`complete`](Self::complete), [`release`](Self::release) or [`abandon`](Self::abandon).
/// Dropping it equals a kill of the process at that place: the record stays running until its lease is over
/// and is unresolved from then on.
#[derive(Debug)]
#[must_use = "a dropped permit leaves its record unresolved"]
pub struct Permit {
    engine: Engine,
    record: Arc<Record>,
    /// When the grant was asked for, on the boot clock: everything local is counted from before the call.
    granted: Duration,
    /// Until when the lease lasts at least, by the boot clock. Advice, never proof.
    lease_until: Duration,
    /// Whether it is unknown what the attempt before this one did.
    after_unknown: bool,
    /// Wakes the waiters of this process when the permit ends.
    _flight: Flight,
}

/// The permit was lost while its work ran: another holder or an operator has the record. The work was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the permit was lost while the work ran, the work was stopped")]
pub struct Lost;

enum Swapped {
    Kept,
    AlreadySo,
    Stands(Answer),
}

impl Permit {
    pub(crate) fn granted(engine: Engine, record: Arc<Record>, asked: Duration, after_unknown: bool) -> Self {
        let flight = engine.inner.flights.take_off(record.id);
        let lease_until = asked.saturating_add(record.policy.lease);
        Self { engine, record, granted: asked, lease_until, after_unknown, _flight: flight }
    }

    /// The record that this permit is for.
    #[must_use]
    pub fn record_id(&self) -> RecordId {
        self.record.id
    }

    /// A number that is higher than that of every earlier permit for this record. Hand it to the effect.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.record.fence
    }

    /// How many permits this operation has seen, this one included: 1 for a first run.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.record.attempt
    }

    /// What an earlier attempt saved, if anything.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Bytes> {
        self.record.checkpoint.as_ref()
    }

    /// Runs `work` and renews the lease while it runs, up to the policy's `run_max`.
    ///
    /// When a renewal cannot be written in time, work under `hold` goes on (nobody else may run); work under
    /// `rerun` is dropped, because somebody else may.
    ///
    /// # Errors
    /// [`Lost`]: the work was dropped; the permit is of no more use.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work and leaves the permit as it was.
    pub async fn keep<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Lost> {
        let mut work = pin!(work);
        let mut failures = 0;
        let clock = Arc::clone(&self.engine.inner.clock);
        let must_stop = self.record.policy.unresolved == Unresolved::Rerun;
        loop {
            // Under `rerun` somebody else may run once the lease is over, whatever the store says or not.
            let now = clock.boot();
            let left = self.lease_until.saturating_sub(now);
            if must_stop && left.is_zero() {
                return Err(self.lost());
            }
            let pause = self.until_renewal(now, failures);
            let pause = if must_stop { pause.min(left) } else { pause };
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = clock.sleep(pause) => {}
            }
            let left = self.lease_until.saturating_sub(clock.boot());
            let renewed = tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                renewed = self.renew_or_look() => renewed,
                () = clock.sleep(left), if must_stop => return Err(self.lost()),
            };
            match renewed {
                Ok(()) => failures = 0,
                Err(error) if error.kind() == ErrorKind::Lost => return Err(self.lost()),
                Err(_) => failures = failures.saturating_add(1),
            }
        }
    }

    /// Stores the answer. It is repeated while the store cannot be reached, for as long as this future is
    /// polled; once it returns `Ok`, the answer is durable and is what every repeat gets.
    ///
    /// Gives back the answer that stands. It is the one given, unless an answer to the same request was
    /// stored before (by an operator, or by an earlier copy of this call).
    ///
    /// # Errors
    /// `Lost`: the record has another holder or was freed; nothing was written, and the caller must be told
    /// that the outcome is unresolved. `Corrupt`, `Invalid`: nothing was written.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the record running or done; it is unresolved or replayed later.
    pub async fn complete(self, answer: Answer) -> Result<Answer> {
        self.finish(answer, None).await
    }

    /// Stores the answer and, in the same swap, what it carries: something that is still to be done because of it, like
    /// messages that are to go out. Both are there or neither. The record is [due](crate::store::Due::Wake) to be woken until
    /// somebody says that it is [`delivered`](crate::transition::delivered), and stays so long. At most 1 MiB is advised: it
    /// is read and written whole.
    ///
    /// Where another answer stands, which is given back then, nothing is carried by this call.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    ///
    /// # Cancel safety
    /// As [`complete`](Self::complete).
    pub async fn complete_with(self, answer: Answer, carried: Bytes) -> Result<Answer> {
        self.finish(answer, Some(carried)).await
    }

    async fn finish(mut self, answer: Answer, carried: Option<Bytes>) -> Result<Answer> {
        let packed = answer.packed();
        let before = self.engine.inner.answers.before(self.engine.inner.clock.boot());
        let put = |record: &Record| match carried.clone() {
            None => completed(record, packed.clone(), Timestamp::MAX),
            Some(carried) => completed_with(record, packed.clone(), carried, Timestamp::MAX),
        };
        let swapped = self.swap(Finish::Complete, put).await?;
        match swapped {
            Swapped::Kept | Swapped::AlreadySo => {}
            // An earlier copy of this call landed.
            Swapped::Stands(stands) if stands == packed => {}
            Swapped::Stands(stands) => return Ok(stands),
        }
        let inner = &self.engine.inner;
        inner.observer.on(&Event::Completed { answer_bytes: answer.len() });
        if let Some(asked) = self.record.fingerprint {
            inner.remember(self.record.id, asked, &packed, self.record.policy.retention, before);
        }
        Ok(answer)
    }

    /// Gives the key back: nothing happened, anybody may run. Repeated like [`complete`](Self::complete).
    ///
    /// When this attempt took over one whose outcome is unknown, that outcome still is: the record is
    /// unresolved again instead of free.
    ///
    /// # Errors
    /// `Lost`: the record has another holder, was abandoned or is done; nothing was written.
    pub async fn release(mut self) -> Result<()> {
        if given_back(self.after_unknown) == Finish::Abandon {
            return self.abandon("nothing happened, and an earlier attempt is still unresolved").await;
        }
        self.swap(Finish::Release, |record| released(record, Timestamp::MAX)).await?;
        self.engine.inner.observer.on(&Event::Released);
        Ok(())
    }

    /// Gives the operation up: it may have happened, and is unresolved now instead of when the lease ends.
    /// The reason is shown to operators; it must hold no key and no body. Repeated like
    /// [`complete`](Self::complete).
    ///
    /// # Errors
    /// `Lost`: the record has another holder, was freed or is done; nothing was written.
    pub async fn abandon(mut self, reason: &str) -> Result<()> {
        let end = reason.char_indices().map(|it| it.0 + it.1.len_utf8()).take_while(|it| *it <= 255).last();
        let reason = &reason[..end.unwrap_or(0)];
        self.swap(Finish::Abandon, |record| abandoned(record, reason, Timestamp::MAX)).await?;
        self.engine.inner.observer.on(&Event::Abandoned);
        Ok(())
    }

    /// Saves `checkpoint` for a later attempt, and renews the lease.
    ///
    /// # Errors
    /// `Lost`: nothing was written and the work must stop. Other kinds: it may or may not be saved.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the old or the new checkpoint; calling again is harmless.
    pub async fn save(&mut self, checkpoint: Bytes) -> Result<()> {
        let asked = self.engine.inner.clock.boot();
        self.swap(Finish::Renew, |record| saved(record, checkpoint.clone(), Timestamp::MAX)).await?;
        self.leased(asked);
        Ok(())
    }

    /// Extends the lease; once it has reached its end, looks whether the record is still this holder's.
    async fn renew_or_look(&mut self) -> Result<()> {
        if !self.renewals_are_over() {
            return self.renew().await;
        }
        let inner = &self.engine.inner;
        let load = inner.store.load(self.record.id);
        let loaded = inner.in_budget("look at the record", load).await?;
        match judge_loss(&self.record, Finish::Renew, loaded.record.as_deref()) {
            Loss::Again(_) => Ok(()),
            Loss::AlreadySo | Loss::Stands(_) | Loss::Lost => {
                Err(Error::new(ErrorKind::Lost, "keep the lease"))
            }
        }
    }

    /// Extends the lease by the policy's `lease`, counted from now. One try.
    async fn renew(&mut self) -> Result<()> {
        let inner = &self.engine.inner;
        let asked = inner.clock.boot();
        let not_after = inner.not_after(asked).await?;
        let mut seen = self.record.revision;
        loop {
            let put = renewed(&self.record, not_after);
            let call = inner.store.replace(self.record.id, seen, &put);
            match inner.in_budget("renew the lease", call).await? {
                Replace::Kept(record) => {
                    inner.heard(record.updated);
                    self.record = record;
                    self.leased(asked);
                    return Ok(());
                }
                Replace::Lost(shown, now) => {
                    inner.heard(now);
                    match judge_loss(&self.record, Finish::Renew, shown.as_deref()) {
                        Loss::Again(revision) => seen = revision,
                        Loss::AlreadySo | Loss::Stands(_) | Loss::Lost => {
                            return Err(Error::new(ErrorKind::Lost, "renew the lease"));
                        }
                    }
                }
                Replace::Late(now) => {
                    inner.heard(now);
                    return Err(Error::new(ErrorKind::Unavailable, "renew the lease in time"));
                }
            }
        }
    }

    /// Swaps, and repeats until the store says what became of it.
    async fn swap(&mut self, wanted: Finish, put: impl Fn(&Record) -> Put) -> Result<Swapped> {
        let inner = &self.engine.inner;
        let mut tries = 0;
        let mut seen = self.record.revision;
        loop {
            let next = put(&self.record);
            let call = inner.store.replace(self.record.id, seen, &next);
            match inner.in_budget("finish the record", call).await {
                Ok(Replace::Kept(record)) => {
                    inner.heard(record.updated);
                    self.record = record;
                    return Ok(Swapped::Kept);
                }
                Ok(Replace::Lost(shown, now)) => {
                    inner.heard(now);
                    match judge_loss(&self.record, wanted, shown.as_deref()) {
                        Loss::Again(revision) => seen = revision,
                        Loss::AlreadySo => return Ok(Swapped::AlreadySo),
                        Loss::Stands(answer) => return Ok(Swapped::Stands(answer)),
                        Loss::Lost => {
                            inner.observer.on(&Event::LeaseLost);
                            return Err(Error::new(ErrorKind::Lost, "finish the record"));
                        }
                    }
                }
                Ok(Replace::Late(now)) => inner.heard(now),
                Err(error) => match error.kind() {
                    ErrorKind::Unavailable | ErrorKind::Uncertain => {
                        inner.observer.on(&Event::FinishRetried);
                        inner.clock.sleep(back_off(tries)).await;
                        tries += 1;
                    }
                    ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Lost => return Err(error),
                },
            }
        }
    }

    /// How long to wait from `now` on before the next renewal: a third of the lease; sooner after failures. Once the
    /// lease reaches `run_max`, until it ends.
    fn until_renewal(&self, now: Duration, failures: u32) -> Duration {
        let lease = self.record.policy.lease;
        if mutant::is(Mutant::LeaseWithoutRenewal) {
            return Duration::MAX;
        }
        if self.renewals_are_over() {
            let left = self.lease_until.saturating_sub(now);
            return if left.is_zero() { lease } else { left };
        }
        if failures > 0 {
            return back_off(failures).min(lease / 10);
        }
        (self.lease_until.saturating_sub(lease * 2 / 3)).saturating_sub(now)
    }

    /// Whether the lease has reached the end that the grant set.
    fn renewals_are_over(&self) -> bool {
        self.lease_until >= self.granted.saturating_add(self.record.policy.run_max)
    }

    /// Notes a lease that was asked for at `asked`: at least so long does it last.
    fn leased(&mut self, asked: Duration) {
        let policy = &self.record.policy;
        let end = self.granted.saturating_add(policy.run_max);
        self.lease_until = asked.saturating_add(policy.lease).min(end);
    }

    fn lost(&self) -> Lost {
        self.engine.inner.observer.on(&Event::LeaseLost);
        Lost
    }
}
