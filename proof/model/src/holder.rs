//! The holder of a permit: its effect, its renewals, and how it ends.

use onceward_core::decide::{Finish, Loss, judge_loss};
use onceward_core::transition::{abandoned, completed, given_back, released, renewed, saved};
use onceward_core::{Revision, Timestamp};

use crate::attempt::{Reply, hold};
use crate::compact::{self, CompactPut, CompactRecord, checkpoint, told};
use crate::setup::{Mutant, Setup};
use crate::state::{Attempt, Call, Effect, End, Finishing, From, Holding, Wanted, Who, World};

impl Setup {
    pub(crate) fn send(&self, world: &mut World, who: Who) -> Option<()> {
        let Attempt::Holding(mut it) = *world.attempt(who) else { return None };
        it.effect = Effect::Sent;
        world.effects.insert((who, it.held.fence));
        world.put_attempt(who, Attempt::Holding(it));
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
            return world.put_attempt(who, Attempt::Holding(it));
        }
        *left -= 1;
        let held = it.held.expand();
        let limit = if saves { Timestamp::MAX } else { self.limit(world) };
        let put = if saves { saved(&held, checkpoint(), limit) } else { renewed(&held, limit) };
        world.calls.insert(Call { from: From::Attempt(who), seen: Some(seen), put: CompactPut::fold(&put) });
        it.renewing = Some((seen, limit, saves));
        world.put_attempt(who, Attempt::Holding(it));
    }

    pub(crate) fn heard_holding(&self, world: &mut World, who: Who, mut it: Holding, reply: Reply) {
        let saves = it.renewing.is_some_and(|it| it.2);
        match reply {
            Reply::Kept(record) => {
                (it.held, it.renewing) = (hold(&record), None);
                world.put_attempt(who, Attempt::Holding(it));
            }
            Reply::Shown(shown) => match judge_loss(&it.held.expand(), Finish::Renew, shown.as_ref()) {
                Loss::Again(seen) => self.send_renewal(world, who, it, seen, saves),
                Loss::AlreadySo | Loss::Stands(_) | Loss::Lost => {
                    world.put_attempt(who, Attempt::Ended(End::Unresolved));
                }
            },
            Reply::Late => {
                it.renewing = None;
                world.put_attempt(who, Attempt::Holding(it));
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
        world.put_attempt(who, Attempt::Finishing(Finishing { held, wanted, seen }));
    }

    pub(crate) fn heard_finishing(&self, world: &mut World, who: Who, it: Finishing, reply: Reply) {
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
            (Loss::AlreadySo, Wanted::Release) => world.put_attempt(who, Attempt::Ended(End::Released)),
            (Loss::Stands(answer), _) => self.end_with(world, who, told(&answer)),
            (Loss::AlreadySo, Wanted::Abandon) | (Loss::Lost, _) => {
                world.put_attempt(who, Attempt::Ended(End::Unresolved));
            }
        }
    }
}
