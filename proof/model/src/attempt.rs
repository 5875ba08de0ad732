//! An attempt: its `begin`, its permit, and what upkeep does about a claim that it left.

use std::sync::Arc;

use onceward_core::decide::{Claim, Decision, Finish};
use onceward_core::transition::{
    Asked, Claiming, Next, Stray, TakeOver, abandoned, given_back, judge_stray, released,
};
use onceward_core::{Record, Timestamp};

use crate::compact::{
    self, CompactPut, CompactRecord, Terms, Was, checkpoint, fingerprint, listing, owner, told,
};
use crate::setup::{Mutant, Setup};
use crate::state::{Asking, Attempt, Call, Effect, End, From, Holding, Left, Over, Wanted, Who, World};

/// What the store says to a call.
#[derive(Debug)]
pub(crate) enum Reply {
    Kept(Record),
    Shown(Option<Record>),
    Late,
}

// === begin ===

impl Setup {
    fn token(&self, who: Who) -> compact::Token {
        if self.has(Mutant::SharedOwner) { 1 } else { who + 1 }
    }

    fn claim(&self, who: Who) -> Claim {
        let ask = self.attempts[usize::from(who)];
        let terms = Terms { hold: ask.hold, retention: crate::time::RETENTION, tombstone: self.tombstone };
        Claim { owner: owner(self.token(who)), fingerprint: fingerprint(ask.request), policy: terms.expand() }
    }

    fn claiming(&self, who: Who, asking: &Asking) -> Claiming {
        let over = asking.over.map(|it| TakeOver {
            revision: it.revision,
            new_life: it.new_life,
            policy: it.terms.expand(),
            unfinished: it.unfinished,
            checkpoint: it.saved.then(checkpoint),
        });
        Claiming { claim: self.claim(who), over, after_unknown: asking.after_unknown }
    }

    pub(crate) fn begin(&self, world: &mut World, who: Who) {
        self.ask(world, who, Claiming::new(self.claim(who)), Timestamp::ZERO);
    }

    /// Sends what the claim asks for.
    fn ask(&self, world: &mut World, who: Who, mut claiming: Claiming, may_land_until: Timestamp) {
        let limit = self.limit(world);
        let put = CompactPut::fold(&claiming.put(listing(), limit));
        world.calls.insert(Call { from: From::Attempt(who), seen: claiming.seen(), put });
        let asking = fold(&claiming, Some(limit), may_land_until.max(limit));
        world.put_attempt(who, Attempt::Asking(asking));
    }

    pub(crate) fn ask_again(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Asking(asking) = *world.attempt(who) else { return None };
        self.ask(world, who, self.claiming(who, &asking), asking.may_land_until);
        Some(())
    }

    pub(crate) fn stop_waiting(&self, world: &mut World, who: Who) {
        world.put_attempt(who, Attempt::Ended(End::Refused));
    }

    pub(crate) fn leave(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Asking(it) = *world.attempt(who) else { return None };
        world.left.leaves -= 1;
        let left =
            Left { may_land_until: it.may_land_until, after_unknown: it.after_unknown, giving_back: None };
        world.put_attempt(who, Attempt::Left(left));
        Some(())
    }

    pub(crate) fn crash(&self, world: &mut World, who: Who) {
        world.left.crashes -= 1;
        let may_land_until = match world.attempt(who) {
            Attempt::Asking(it) => it.may_land_until,
            Attempt::Left(it) => it.may_land_until,
            Attempt::Idle
            | Attempt::Holding(_)
            | Attempt::Finishing(_)
            | Attempt::Ended(_)
            | Attempt::Dead(_) => Timestamp::ZERO,
        };
        world.put_attempt(who, Attempt::Dead(may_land_until));
    }

    /// A reply to a claim.
    fn heard_asking(&self, world: &mut World, who: Who, asking: Asking, reply: Reply) {
        let now = world.now();
        let asked = match reply {
            Reply::Kept(record) => Asked::Kept(Arc::new(record)),
            Reply::Shown(Some(mut found)) => {
                if self.has(Mutant::PolicyOfTheLater) {
                    found.policy.unresolved = self.claim(who).policy.unresolved;
                }
                Asked::Found(Arc::new(found), now)
            }
            Reply::Shown(None) => Asked::Nothing,
            Reply::Late => Asked::Late,
        };
        let mut claiming = self.claiming(who, &asking);
        let next = claiming.heard(asked);
        match next {
            Next::Run { record, .. } => {
                let holding = Holding {
                    held: hold(&record),
                    after_unknown: claiming.after_unknown,
                    effect: Effect::None,
                    renewing: None,
                };
                world.put_attempt(who, Attempt::Holding(holding));
            }
            Next::Again | Next::Late => self.ask(world, who, claiming, asking.may_land_until),
            Next::Busy if self.waits => {
                let asking = fold(&claiming, None, asking.may_land_until);
                world.put_attempt(who, Attempt::Asking(asking));
            }
            Next::Busy => world.put_attempt(who, Attempt::Ended(End::Refused)),
            Next::Told(Decision::Replay(answer), ..) => self.end_with(world, who, told(&answer)),
            Next::Told(Decision::Unresolved, ..) => world.put_attempt(who, Attempt::Ended(End::Unresolved)),
            Next::Told(..) => world.put_attempt(who, Attempt::Ended(End::Refused)),
        }
    }

    /// Its caller is told an answer that the store has.
    pub(crate) fn end_with(&self, world: &mut World, who: Who, told: u8) {
        world.tell(told);
        world.put_attempt(who, Attempt::Ended(End::Told(told)));
    }
}

fn fold(claiming: &Claiming, waits_for: Option<Timestamp>, may_land_until: Timestamp) -> Asking {
    let over = claiming.over.as_ref().map(|it| Over {
        revision: it.revision,
        new_life: it.new_life,
        terms: Terms::fold(&it.policy),
        unfinished: it.unfinished,
        saved: it.checkpoint.is_some(),
    });
    Asking { over, after_unknown: claiming.after_unknown, waits_for, may_land_until }
}

/// A record as its holder keeps it. When its lease ends is the store's business: no rule asks the holder.
pub(crate) fn hold(record: &Record) -> CompactRecord {
    let (lease_until, run_until) = (Timestamp::ZERO, Timestamp::ZERO);
    CompactRecord { lease_until, run_until, ..CompactRecord::fold(record) }
}

// === what was left, and replies ===

impl Setup {
    /// Upkeep loads the record, and gives a claim back that landed after its `begin` had ended.
    pub(crate) fn look_after(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Left(mut left) = *world.attempt(who) else { return None };
        let shown = world.record.map(|it| it.expand());
        let token = owner(self.token(who));
        match judge_stray(shown.as_ref(), token, left.may_land_until, world.now()) {
            Stray::Landed => {
                let found = shown?;
                let limit = self.limit(world);
                let put = match given_back(left.after_unknown) {
                    Finish::Release => released(&found, limit),
                    Finish::Abandon | Finish::Renew | Finish::Complete => abandoned(&found, "", limit),
                };
                let put = CompactPut::fold(&put);
                world.calls.insert(Call { from: From::Attempt(who), seen: Some(found.revision), put });
                left.giving_back = Some((found.revision, limit));
                world.put_attempt(who, Attempt::Left(left));
            }
            Stray::MayLand => {}
            Stray::Over => world.put_attempt(who, Attempt::Ended(End::Unsure)),
        }
        Some(())
    }

    /// Whether the sender of a call still waits for its reply.
    pub(crate) fn waits_for(&self, world: &World, call: &Call) -> bool {
        let From::Attempt(who) = call.from else { return false };
        let (seen, limit) = (call.seen, call.put.not_after);
        match (world.attempt(who), call.put.grant) {
            (Attempt::Asking(it), Some(_)) => {
                it.waits_for == Some(limit) && it.over.map(|it| it.revision) == seen
            }
            (Attempt::Left(it), None) => it.giving_back.is_some_and(|it| (Some(it.0), it.1) == (seen, limit)),
            (Attempt::Holding(it), None) => it.renewing.is_some_and(|it| (Some(it.0), it.1) == (seen, limit)),
            (Attempt::Finishing(it), None) => {
                let state = match it.wanted {
                    Wanted::Complete(told) => Was::Done(told),
                    Wanted::Release => Was::Released,
                    Wanted::Abandon => Was::Abandoned,
                };
                Some(it.seen) == seen && call.put.state == state
            }
            _ => false,
        }
    }

    /// The sender of a call hears what became of it.
    pub(crate) fn heard(&self, world: &mut World, who: Who, reply: Reply) {
        match *world.attempt(who) {
            Attempt::Asking(it) => self.heard_asking(world, who, it, reply),
            Attempt::Left(mut it) => {
                if let Reply::Kept(_) = reply {
                    world.put_attempt(who, Attempt::Ended(End::Unsure));
                } else {
                    it.giving_back = None;
                    world.put_attempt(who, Attempt::Left(it));
                }
            }
            Attempt::Holding(it) => self.heard_holding(world, who, it, reply),
            Attempt::Finishing(it) => self.heard_finishing(world, who, it, reply),
            Attempt::Idle | Attempt::Ended(_) | Attempt::Dead(_) => {}
        }
    }
}
