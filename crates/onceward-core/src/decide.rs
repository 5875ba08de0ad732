//! The rules: found record, attempt and the store's time in, decision out. No clock, no await, no store.

use std::time::Duration;

use crate::fingerprint::Fingerprint;
use crate::mutant::{self, Mutant};
use crate::policy::{Policy, Unresolved};
use crate::record::{Answer, Owner, Record, Revision, State, Timestamp};
use crate::transition::carried;

/// How long a caller is asked to wait before it asks for a running operation again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What an attempt brings to a decision.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The owner token of this `begin`.
    pub owner: Owner,
    /// What is asked.
    pub fingerprint: Fingerprint,
    /// The policy it asks for.
    pub policy: Policy,
}

/// What to do about a record that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This very `begin` was granted the permit; its reply was lost.
    Yours,
    /// Take the record over by a swap on the revision that was found.
    TakeOver {
        /// Whether a new life of the record begins.
        new_life: bool,
        /// The policy of the new claim: never less strict than an unfinished one.
        policy: Policy,
    },
    /// Hand out the stored answer.
    Replay(Answer),
    /// The first attempt is still running.
    Busy {
        /// When its lease ends unless it renews.
        until: Timestamp,
    },
    /// The key was first used for something else.
    Mismatch,
    /// The outcome is unknown and the policy forbids to run again.
    Unresolved,
    /// It was done; the answer is no longer kept.
    Gone,
}

/// Decides what an attempt may do with what it found. The order of the arms is the contract.
#[must_use]
pub fn decide(found: &Record, claim: &Claim, now: Timestamp) -> Decision {
    // Only a record that a repair stands in for has none: nobody knows what was asked, so there is nothing to
    // compare, and only an operator may let it run again.
    let known = found.fingerprint.is_some();
    let same = found.fingerprint.is_none_or(|it| it == claim.fingerprint);
    let unfinished =
        Policy { unresolved: found.policy.unresolved.stricter(claim.policy.unresolved), ..claim.policy };
    match &found.state {
        // The tombstone is over and was not swept yet.
        _ if found.vacant_at(now) => Decision::TakeOver { new_life: true, policy: claim.policy },
        // Nothing happened: free for any request.
        State::Released => Decision::TakeOver { new_life: false, policy: claim.policy },
        // Refused, whatever became of the first.
        _ if !same => Decision::Mismatch,
        // The token never leaves its own `begin`, so nothing ran under it yet.
        State::Running if found.owner == claim.owner && now < found.lease_until => Decision::Yours,
        State::Running if found.owner == claim.owner => {
            Decision::TakeOver { new_life: false, policy: unfinished }
        }
        State::Done(answer) if now < found.answer_until => Decision::Replay(answer.clone()),
        State::Done(_) | State::Tombstone => Decision::Gone,
        State::Running if now < found.lease_until => Decision::Busy { until: found.lease_until },
        State::Running | State::Abandoned { .. } => match unfinished.unresolved {
            Unresolved::Hold if mutant::is(Mutant::LeaseWithoutRenewal) && found.state == State::Running => {
                Decision::TakeOver { new_life: false, policy: unfinished }
            }
            Unresolved::Rerun if known => Decision::TakeOver { new_life: false, policy: unfinished },
            Unresolved::Hold | Unresolved::Rerun => Decision::Unresolved,
        },
    }
}

/// What the holder of a permit wants to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Extend the lease, or save a checkpoint.
    Renew,
    /// Store the answer.
    Complete,
    /// Nothing happened: free the key.
    Release,
    /// It may have happened: unresolved now.
    Abandon,
}

/// What a lost swap of a permit's holder means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The record is still this holder's, under another revision: swap again on that one.
    Again(Revision),
    /// What was wanted is already so; an earlier copy of the call landed.
    AlreadySo,
    /// An answer to the same request stands. It is what a caller is told.
    Stands(Answer),
    /// Another holder, another request or an operator has the record. Nothing may be written.
    Lost,
}

/// Judges a lost swap: `held` is the record as this holder last saw it, `shown` what the store showed.
#[must_use]
pub fn judge_loss(held: &Record, wanted: Finish, shown: Option<&Record>) -> Loss {
    let Some(shown) = shown else { return Loss::Lost };
    let mine = shown.owner == held.owner && shown.fence == held.fence;
    match (&shown.state, wanted) {
        (_, Finish::Release) if mutant::is(Mutant::ReleaseByAnyone) => Loss::Again(shown.revision),
        _ if mutant::is(Mutant::NoFenceCheck) => Loss::Again(shown.revision),
        (State::Running, _) if mine => Loss::Again(shown.revision),
        (State::Abandoned { .. }, Finish::Abandon) if mine => Loss::AlreadySo,
        // Only this holder or an operator's "it is over" wrote that. The answer that came after all is better
        // than none, and nobody else was let in.
        (State::Abandoned { .. }, Finish::Complete) if mine => Loss::Again(shown.revision),
        (State::Released, Finish::Release) if mine => Loss::AlreadySo,
        (State::Done(answer), Finish::Complete) if shown.fingerprint == held.fingerprint => {
            Loss::Stands(answer.clone())
        }
        (
            State::Running | State::Abandoned { .. } | State::Released | State::Done(_) | State::Tombstone,
            Finish::Renew | Finish::Complete | Finish::Release | Finish::Abandon,
        ) => Loss::Lost,
    }
}

/// What an operator wants to do to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It did not happen: free the key.
    Rerun,
    /// It happened, and this is the answer to replay.
    Answer(Answer),
    /// Free the key whatever is stored, so that the next request runs. For an unresolved record it is the same
    /// as [`Rerun`](Self::Rerun).
    Remove,
}

/// Whether an operator may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdicts {
    /// Yes, by a swap on the revision that was shown.
    Allowed,
    /// A permit is out and its lease is alive: only by force, with a reason.
    LeaseAlive,
    /// The record has a final answer or stands for nothing: there is nothing to resolve.
    NothingToResolve,
    /// The answer still carries effects that are to go out: nothing may free the key before.
    Carries,
}

/// Judges an operator's verdict on `found` at `now`.
#[must_use]
pub fn judge_verdict(found: &Record, verdict: &Verdict, forced: bool, now: Timestamp) -> Verdicts {
    match (&found.state, verdict) {
        (State::Running, _) if now < found.lease_until && !forced => Verdicts::LeaseAlive,
        (State::Running | State::Abandoned { .. }, _) => Verdicts::Allowed,
        (State::Done(_) | State::Tombstone, Verdict::Remove) if carried(found).is_some() => Verdicts::Carries,
        (State::Released | State::Done(_) | State::Tombstone, Verdict::Remove) => Verdicts::Allowed,
        (State::Released | State::Done(_) | State::Tombstone, Verdict::Rerun | Verdict::Answer(_)) => {
            Verdicts::NothingToResolve
        }
    }
}

#[cfg(test)]
mod tests;
