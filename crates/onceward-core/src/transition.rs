//! What is asked of the store, and when: the puts of claims, holders, operators and upkeep. As pure as
//! [`decide`](crate::decide): no clock, no await, no store. The engine carries them out; whoever checks the
//! protocol runs the very same functions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::decide::{Claim, Decision, Finish, Verdict, decide};
use crate::policy::Policy;
use crate::record::{Answer, Listing, Owner, RULES, Record, Revision, State, Timestamp};
use crate::store::{Grant, Put};

/// One `begin` as the rules see it: what it asks for, and what each reply of the store means.
#[derive(Debug, Clone)]
pub struct Claiming {
    /// What the attempt brings.
    pub claim: Claim,
    /// The record that it may take over; without one it inserts.
    pub over: Option<TakeOver>,
    /// Whether a put of this `begin` may have taken over a record whose outcome is unknown.
    pub after_unknown: bool,
}

/// A record that may be taken over, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// What the swap must see.
    pub revision: Revision,
    /// Whether a new life of the record begins.
    pub new_life: bool,
    /// The policy of the claim.
    pub policy: Policy,
    /// Whether it is unknown what the attempt before did.
    pub unfinished: bool,
    /// What the attempt before saved.
    pub checkpoint: Option<Bytes>,
}

/// What a store said to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The put was kept; this is the record.
    Kept(Arc<Record>),
    /// Another record is there, at the store's time.
    Found(Arc<Record>, Timestamp),
    /// The record that was to be taken over is gone.
    Nothing,
    /// The call came too late and wrote nothing.
    Late,
}

/// What a `begin` does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The permit is granted: by this call, or by an earlier one whose reply was lost.
    Run {
        /// The record that is held.
        record: Arc<Record>,
        /// Whether this call was the one that was granted.
        by_this_call: bool,
    },
    /// Ask again at once: what is asked for has changed.
    Again,
    /// Ask the same again, unless patience is over.
    Late,
    /// Another attempt is running. Whoever waits inserts again later.
    Busy,
    /// Nothing is granted; this is why, as it was found, at the store's time.
    Told(Decision, Arc<Record>, Timestamp),
}

impl Claiming {
    /// A `begin` that has asked for nothing yet.
    #[must_use]
    pub fn new(claim: Claim) -> Self {
        Self { claim, over: None, after_unknown: false }
    }

    /// The revision that the next put swaps on; `None` when it is inserted.
    #[must_use]
    pub fn seen(&self) -> Option<Revision> {
        self.over.as_ref().map(|it| it.revision)
    }

    /// The put that is sent next. From now on it may land.
    #[must_use]
    pub fn put(&mut self, listing: Arc<Listing>, not_after: Timestamp) -> Put {
        let over = self.over.as_ref();
        self.after_unknown |= over.is_some_and(|it| it.unfinished);
        Put {
            grant: Some(Grant { owner: self.claim.owner, new_life: over.is_some_and(|it| it.new_life) }),
            listing,
            rules: RULES,
            fingerprint: Some(self.claim.fingerprint),
            state: State::Running,
            policy: over.map_or(self.claim.policy, |it| it.policy),
            checkpoint: over.and_then(|it| it.checkpoint.clone()),
            wake_after: None,
            not_after,
        }
    }

    /// Takes up what the store said.
    #[must_use]
    pub fn heard(&mut self, asked: Asked) -> Next {
        let (found, now) = match asked {
            Asked::Kept(record) => return Next::Run { record, by_this_call: true },
            Asked::Nothing => {
                self.over = None;
                return Next::Again;
            }
            Asked::Late => return Next::Late,
            Asked::Found(found, now) => (found, now),
        };
        match decide(&found, &self.claim, now) {
            Decision::Yours => Next::Run { record: found, by_this_call: false },
            Decision::TakeOver { new_life, policy } => {
                // What was saved belongs to the work that is still unfinished, and only to it.
                // Under this token nothing ran yet, so its own claim leaves nothing unknown.
                let unfinished = found.owner != self.claim.owner
                    && matches!(found.state, State::Running | State::Abandoned { .. });
                self.over = Some(TakeOver {
                    revision: found.revision,
                    new_life,
                    policy,
                    unfinished,
                    checkpoint: found.checkpoint.clone().filter(|_| unfinished),
                });
                Next::Again
            }
            Decision::Busy { .. } => {
                self.over = None;
                Next::Busy
            }
            told @ (Decision::Replay(_) | Decision::Mismatch | Decision::Unresolved | Decision::Gone) => {
                Next::Told(told, found, now)
            }
        }
    }
}

/// Extends the lease. The end that the grant set is kept by [`Put::stamp`].
#[must_use]
pub fn renewed(held: &Record, not_after: Timestamp) -> Put {
    Put::keep(held, not_after)
}

/// Extends the lease and leaves `checkpoint` for a later attempt.
#[must_use]
pub fn saved(held: &Record, checkpoint: Bytes, not_after: Timestamp) -> Put {
    Put { checkpoint: Some(checkpoint), ..Put::keep(held, not_after) }
}

/// Stores the answer.
#[must_use]
pub fn completed(held: &Record, answer: Answer, not_after: Timestamp) -> Put {
    Put { state: State::Done(answer), checkpoint: None, ..Put::keep(held, not_after) }
}

/// Stores the answer and, in the same swap, what it carries: something that is still to be done because of it, in bytes that
/// only whoever does it understands. It is due at once, and again and again until it is [`delivered`].
#[must_use]
pub fn completed_with(held: &Record, answer: Answer, carried: Bytes, not_after: Timestamp) -> Put {
    carries_on(&Record { state: State::Done(answer), ..held.clone() }, carried, Duration::ZERO, not_after)
}

/// What the answer of `found` still carries.
#[must_use]
pub fn carried(found: &Record) -> Option<&Bytes> {
    found.checkpoint.as_ref().filter(|_| found.is_owing())
}

/// Leaves `carried` with the answer of `found`, due after `pause`. So whoever looks after it keeps it from others meanwhile, or
/// lets it rest. The answer is kept all the while, and its retention begins once it is [`delivered`].
#[must_use]
pub fn carries_on(found: &Record, carried: Bytes, pause: Duration, not_after: Timestamp) -> Put {
    Put { checkpoint: Some(carried), wake_after: Some(pause), ..Put::keep(found, not_after) }
}

/// Takes what the answer of `found` carried away from it: all of it is done. The retention of the answer begins.
#[must_use]
pub fn delivered(found: &Record, not_after: Timestamp) -> Put {
    Put { checkpoint: None, ..Put::keep(found, not_after) }
}

/// Frees a record. It forgets the fingerprint: the next request may be any.
#[must_use]
pub fn released(record: &Record, not_after: Timestamp) -> Put {
    Put { state: State::Released, fingerprint: None, checkpoint: None, ..Put::keep(record, not_after) }
}

/// Makes a record unresolved now.
#[must_use]
pub fn abandoned(record: &Record, reason: &str, not_after: Timestamp) -> Put {
    Put { state: State::Abandoned { reason: reason.to_owned() }, ..Put::keep(record, not_after) }
}

/// How a claim ends under which nothing happened: the key is free again, unless it is unknown what the attempt
/// before it did. That still is.
#[must_use]
pub fn given_back(after_unknown: bool) -> Finish {
    if after_unknown { Finish::Abandon } else { Finish::Release }
}

/// What is to be done about a claim whose `begin` ended without knowing whether it landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// It landed, and nothing ran under it: give it back, by a swap on the revision that was shown.
    Landed,
    /// It may still land.
    MayLand,
    /// It never will.
    Over,
}

/// Judges a claim of `owner` that could land until `not_after`, by what the store shows at `now`.
#[must_use]
pub fn judge_stray(shown: Option<&Record>, owner: Owner, not_after: Timestamp, now: Timestamp) -> Stray {
    match shown {
        Some(it) if it.owner == owner && it.state == State::Running => Stray::Landed,
        _ if now > not_after => Stray::Over,
        _ => Stray::MayLand,
    }
}

/// What an operator's verdict writes over `found`. `cached` is how long another process may still replay an
/// answer from its cache, where records are shared: so long a removed answer is replayed by all of them.
#[must_use]
pub fn resolved(found: &Record, verdict: &Verdict, cached: Option<Duration>, not_after: Timestamp) -> Put {
    match (verdict, &found.state, cached) {
        (Verdict::Answer(answer), _, _) => completed(found, answer.packed(), not_after),
        (Verdict::Remove, State::Done(_), Some(cache_life)) => {
            let policy = Policy { retention: cache_life, tombstone: Duration::ZERO, ..found.policy };
            Put { policy, ..Put::keep(found, not_after) }
        }
        (Verdict::Remove | Verdict::Rerun, _, _) => released(found, not_after),
    }
}
