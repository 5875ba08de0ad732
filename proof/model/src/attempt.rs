//! An attempt: its `begin`, its permit, and what upkeep does about a claim that it left.

use onceward_core::decide::{Claim, Decision, Finish, Loss, judge_loss};
use onceward_core::transition::{
    Asked, Claiming, Next, Stray, TakeOver, abandoned, completed, given_back, judge_stray, released, renewed,
    saved,
};
use onceward_core::{Record, Revision, Timestamp, Unresolved};

use crate::compact::{
    self, CompactPut, CompactRecord, Terms, Was, checkpoint, fingerprint, listing, owner, told,
};
use crate::setup::{Mutant, Setup};
use crate::state::{
    Asking, Attempt, Call, Effect, End, Finishing, From, Holding, Left, Over, Wanted, Who, World,
};

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
        world.become_(who, Attempt::Asking(asking));
    }

    pub(crate) fn ask_again(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Asking(asking) = *world.attempt(who) else { return None };
        self.ask(world, who, self.claiming(who, &asking), asking.may_land_until);
        Some(())
    }

    pub(crate) fn stop_waiting(&self, world: &mut World, who: Who) {
        world.become_(who, Attempt::Ended(End::Refused));
    }

    pub(crate) fn leave(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Asking(it) = *world.attempt(who) else { return None };
        world.left.leaves -= 1;
        let left =
            Left { may_land_until: it.may_land_until, after_unknown: it.after_unknown, giving_back: None };
        world.become_(who, Attempt::Left(left));
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
        world.become_(who, Attempt::Dead(may_land_until));
    }

    /// A reply to a claim.
    fn heard_asking(&self, world: &mut World, who: Who, asking: Asking, reply: Reply) {
        let now = world.now();
        let asked = match reply {
            Reply::Kept(record) => Asked::Kept(record),
            Reply::Shown(Some(mut found)) => {
                if self.has(Mutant::PolicyOfTheLater) {
                    found.policy.unresolved = self.claim(who).policy.unresolved;
                }
                Asked::Found(found, now)
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
                world.become_(who, Attempt::Holding(holding));
            }
            Next::Again | Next::Late => self.ask(world, who, claiming, asking.may_land_until),
            Next::Busy if self.waits => {
                let asking = fold(&claiming, None, asking.may_land_until);
                world.become_(who, Attempt::Asking(asking));
            }
            Next::Busy => world.become_(who, Attempt::Ended(End::Refused)),
            Next::Told(Decision::Replay(answer), ..) => self.end_with(world, who, told(&answer)),
            Next::Told(Decision::Unresolved, ..) => world.become_(who, Attempt::Ended(End::Unresolved)),
            Next::Told(..) => world.become_(who, Attempt::Ended(End::Refused)),
        }
    }

    /// Its caller is told an answer that the store has.
    fn end_with(&self, world: &mut World, who: Who, told: u8) {
        world.tell(told);
        world.become_(who, Attempt::Ended(End::Told(told)));
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
fn hold(record: &Record) -> CompactRecord {
    let (lease_until, run_until) = (Timestamp::ZERO, Timestamp::ZERO);
    CompactRecord { lease_until, run_until, ..CompactRecord::fold(record) }
}

// === the permit ===

impl Setup {
    pub(crate) fn send(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Holding(mut it) = *world.attempt(who) else { return None };
        it.effect = Effect::Sent;
        world.effects.insert((who, it.held.fence));
        world.become_(who, Attempt::Holding(it));
        Some(())
    }

    pub(crate) fn renew(&self, world: &mut World, who: Who, saves: bool) -> Option<()> {
        let Attempt::Holding(it) = *world.attempt(who) else { return None };
        self.send_renewal(world, who, it, it.held.revision, saves);
        Some(())
    }

    /// A renewal carries a limit; a save is repeated until the store says what became of it, and carries none.
    /// Each repeat is a write of its own, so repeats are counted, too: a holder that has none left goes on without.
    fn send_renewal(&self, world: &mut World, who: Who, mut it: Holding, seen: Revision, saves: bool) {
        let left = if saves { &mut world.left.saves } else { &mut world.left.renewals };
        if *left == 0 {
            it.renewing = None;
            return world.become_(who, Attempt::Holding(it));
        }
        *left -= 1;
        let held = it.held.expand();
        let limit = if saves { Timestamp::MAX } else { self.limit(world) };
        let put = if saves { saved(&held, checkpoint(), limit) } else { renewed(&held, limit) };
        world.calls.insert(Call { from: From::Attempt(who), seen: Some(seen), put: CompactPut::fold(&put) });
        it.renewing = Some((seen, limit, saves));
        world.become_(who, Attempt::Holding(it));
    }

    fn heard_holding(&self, world: &mut World, who: Who, mut it: Holding, reply: Reply) {
        let saves = it.renewing.is_some_and(|it| it.2);
        match reply {
            Reply::Kept(record) => {
                (it.held, it.renewing) = (hold(&record), None);
                world.become_(who, Attempt::Holding(it));
            }
            Reply::Shown(shown) => match judge_loss(&it.held.expand(), Finish::Renew, shown.as_ref()) {
                Loss::Again(seen) => self.send_renewal(world, who, it, seen, saves),
                Loss::AlreadySo | Loss::Stands(_) | Loss::Lost => {
                    world.become_(who, Attempt::Ended(End::Unresolved));
                }
            },
            Reply::Late => {
                it.renewing = None;
                world.become_(who, Attempt::Holding(it));
            }
        }
    }

    pub(crate) fn complete(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Holding(it) = *world.attempt(who) else { return None };
        let Effect::Answered(told) = it.effect else { return None };
        if self.has(Mutant::ToldBeforeStored) {
            world.tell(told);
        }
        self.finish(world, who, it.held, Wanted::Complete(told), it.held.revision);
        Some(())
    }

    pub(crate) fn release(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Holding(it) = *world.attempt(who) else { return None };
        let wanted = match given_back(it.after_unknown && !self.has(Mutant::ReleaseAfterUnknown)) {
            Finish::Release => Wanted::Release,
            Finish::Abandon | Finish::Renew | Finish::Complete => Wanted::Abandon,
        };
        self.finish(world, who, it.held, wanted, it.held.revision);
        Some(())
    }

    pub(crate) fn abandon(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Holding(it) = *world.attempt(who) else { return None };
        self.finish(world, who, it.held, Wanted::Abandon, it.held.revision);
        Some(())
    }

    /// Sends the end of a permit. It carries no limit: it may land at any time.
    fn finish(&self, world: &mut World, who: Who, held: CompactRecord, wanted: Wanted, seen: Revision) {
        let record = held.expand();
        let put = match wanted {
            Wanted::Complete(told) => completed(&record, compact::answer(told), Timestamp::MAX),
            Wanted::Release => released(&record, Timestamp::MAX),
            Wanted::Abandon => abandoned(&record, "", Timestamp::MAX),
        };
        world.calls.insert(Call { from: From::Attempt(who), seen: Some(seen), put: CompactPut::fold(&put) });
        world.become_(who, Attempt::Finishing(Finishing { held, wanted, seen }));
    }

    fn heard_finishing(&self, world: &mut World, who: Who, it: Finishing, reply: Reply) {
        let loss = match reply {
            Reply::Kept(_) => Loss::AlreadySo,
            Reply::Shown(shown) => match judge_loss(&it.held.expand(), it.wanted.finish(), shown.as_ref()) {
                Loss::Lost if self.has(Mutant::LossIgnored) => {
                    shown.map_or(Loss::Lost, |it| Loss::Again(it.revision))
                }
                loss => loss,
            },
            Reply::Late => return,
        };
        match (loss, it.wanted) {
            (Loss::Again(seen), wanted) => self.finish(world, who, it.held, wanted, seen),
            (Loss::AlreadySo, Wanted::Complete(told)) => self.end_with(world, who, told),
            (Loss::AlreadySo, Wanted::Release) => world.become_(who, Attempt::Ended(End::Released)),
            (Loss::Stands(answer), _) => self.end_with(world, who, told(&answer)),
            (Loss::AlreadySo, Wanted::Abandon) | (Loss::Lost, _) => {
                world.become_(who, Attempt::Ended(End::Unresolved));
            }
        }
    }
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
                world.become_(who, Attempt::Left(left));
            }
            Stray::MayLand => {}
            Stray::Over => world.become_(who, Attempt::Ended(End::Unsure)),
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
                    world.become_(who, Attempt::Ended(End::Unsure));
                } else {
                    it.giving_back = None;
                    world.become_(who, Attempt::Left(it));
                }
            }
            Attempt::Holding(it) => self.heard_holding(world, who, it, reply),
            Attempt::Finishing(it) => self.heard_finishing(world, who, it, reply),
            Attempt::Idle | Attempt::Ended(_) | Attempt::Dead(_) => {}
        }
    }

    /// The policy of an attempt, for reports.
    #[must_use]
    pub fn asks_to_hold(&self, who: Who) -> bool {
        self.claim(who).policy.unresolved == Unresolved::Hold
    }
}
