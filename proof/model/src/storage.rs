//! The store: carries calls out, sweeps, and loses its tail. What it keeps is what the rules of core say; what is
//! compared here is what was promised.

use std::sync::Arc;

use onceward_core::store::{Expiry, Insert, Put, Replace};
use onceward_core::{Fence, Record, Revision, State, Timestamp};

use crate::attempt::Reply;
use crate::compact::{CompactRecord, ID, Was};
use crate::promise::Promise;
use crate::setup::{Mutant, Setup};
use crate::state::{Attempt, Call, From, Looked, Who, World};

/// How many of its last writes a store can lose.
const TAIL: usize = 2;

// === calls ===

impl Setup {
    /// The store gets a call, for the first time or again.
    pub(crate) fn carry_out(&self, world: &mut World, call: &Call, heard: bool) {
        let put = self.sent(call);
        let found = world.record.map(|it| Arc::new(it.expand()));
        let overwrites = self.has(Mutant::InsertOverwrites);
        let reply = match call.seen {
            None => match put.insert(ID, found.as_ref().filter(|_| !overwrites), world.now()) {
                Insert::Kept(record) => Reply::Kept(Arc::unwrap_or_clone(record)),
                Insert::Found(record, _) => Reply::Shown(Some(Arc::unwrap_or_clone(record))),
                Insert::Late(_) => Reply::Late,
            },
            Some(seen) => match put.replace(ID, found.as_ref(), seen, world.now()) {
                Replace::Kept(record) => Reply::Kept(Arc::unwrap_or_clone(record)),
                Replace::Lost(shown, _) => Reply::Shown(shown.map(Arc::unwrap_or_clone)),
                Replace::Late(_) => Reply::Late,
            },
        };
        let reply = match reply {
            Reply::Kept(record) => Reply::Kept(self.keep(world, call, found.as_deref(), record)),
            Reply::Shown(_) | Reply::Late => reply,
        };
        if let (From::Attempt(who), true) = (call.from, heard) {
            self.heard(world, who, reply);
        }
    }

    fn sent(&self, call: &Call) -> Put {
        let mut put = call.put.expand();
        if self.has(Mutant::NoNotAfter) {
            put.not_after = Timestamp::MAX;
        }
        put
    }

    /// The store keeps what a call asked for.
    fn keep(&self, world: &mut World, call: &Call, found: Option<&Record>, mut record: Record) -> Record {
        if self.has(Mutant::RevisionFromOne) {
            record.revision = Revision(found.map_or(1, |it| it.revision.0 + 1));
        }
        if self.has(Mutant::FenceWithoutTime) && call.put.grant.is_some() {
            record.fence = Fence(found.map_or(1, |it| it.fence.0 + 1));
        }
        if self.has(Mutant::LeaseForEver) && record.state == State::Running {
            record.lease_until = Timestamp::MAX;
        }
        let next = CompactRecord::fold(&record);
        remember(world);
        match call.from {
            From::Attempt(who) if call.put.grant.is_some() => judge_grant(world, who),
            From::Attempt(who) => judge_holder(world, who, &next),
            From::Operator(shown) => judge_operator(world, shown, &next),
        }
        let deletes = self.has(Mutant::ReleaseDeletes) && next.state == Was::Released;
        self.write(world, (!deletes).then_some(next));
        self.compare_with_far_side(world);
        record
    }

    /// Whatever changes the record comes by here.
    fn write(&self, world: &mut World, next: Option<CompactRecord>) {
        let history = &mut world.history;
        if let Some(next) = next {
            let (fences, revisions) = (history.fence, history.revision);
            history.fence = fences.max(next.fence);
            history.revision = revisions.max(next.revision);
            // Only a grant has a new fence.
            let granted = world.record.is_none_or(|it| it.fence != next.fence);
            if granted && next.fence <= fences {
                world.broke(Promise::FencesGrow);
            }
            if next.revision <= revisions {
                world.broke(Promise::RevisionsGrow);
            }
        }
        world.record = next;
    }
}

/// Keeps what a rollback may bring back, before it changes.
fn remember(world: &mut World) {
    if world.left.rollbacks > 0 {
        world.tail.push((world.record, world.history.holder));
        let over = world.tail.len().saturating_sub(TAIL);
        world.tail.drain(..over);
    }
}

// === what a write must be ===
// Said from the times in the record and from who truly holds it, without asking the rules that are under test.

/// A grant needs a record that is free, and an attempt that still asks.
fn judge_grant(world: &mut World, who: Who) {
    let now = world.now();
    if let Some(it) = world.record {
        let mine = world.history.holder == Some(who);
        match it.state {
            Was::Running if now < it.lease_until && !mine => world.broke(Promise::Exclusive),
            Was::Running | Was::Abandoned if !mine => world.history.unknown = true,
            Was::Running | Was::Abandoned | Was::Released => {}
            Was::Done(_) | Was::Tombstone if now < it.gone_until => world.broke(Promise::FinalAnswer),
            Was::Done(_) | Was::Tombstone => world.new_life(),
        }
    }
    let may_be_granted = match world.attempt(who) {
        Attempt::Asking(_) => true,
        Attempt::Left(it) => now <= it.may_land_until,
        Attempt::Dead(may_land_until) => now <= *may_land_until,
        Attempt::Idle | Attempt::Holding(_) | Attempt::Finishing(_) | Attempt::Ended(_) => false,
    };
    if !may_be_granted {
        world.broke(Promise::EndedAttempt);
    }
    world.history.holder = Some(who);
}

/// A holder writes only while it holds; an answer may also follow its own "it may have happened".
fn judge_holder(world: &mut World, who: Who, next: &CompactRecord) {
    let Some(old) = world.record else { return world.broke(Promise::OldHolder) };
    let holds = match old.state {
        Was::Running => true,
        Was::Abandoned => matches!(next.state, Was::Done(_)),
        Was::Released | Was::Done(_) | Was::Tombstone => false,
    };
    if !holds || world.history.holder != Some(who) {
        world.broke(Promise::OldHolder);
    }
    if next.state == Was::Released && world.history.unknown {
        world.broke(Promise::UnknownStays);
    }
    judge_final(world, &old, next);
}

/// An operator changes what was shown. To free the key allows one more effect.
fn judge_operator(world: &mut World, shown: Revision, next: &CompactRecord) {
    let Some(old) = world.record else { return world.broke(Promise::Operator) };
    if old.revision != shown {
        world.broke(Promise::Operator);
    }
    let removes = matches!(old.state, Was::Done(_)) && next.state == Was::Released;
    if removes {
        world.new_life();
    } else {
        if next.state == Was::Released {
            world.history.effects_allowed += 1;
            world.history.unknown = false;
        }
        judge_final(world, &old, next);
    }
}

/// An answer that stands is not replaced by another, nor by less.
fn judge_final(world: &mut World, old: &CompactRecord, next: &CompactRecord) {
    let stands = matches!(old.state, Was::Done(_)) && world.now() < old.gone_until;
    if stands && next.state != old.state {
        world.broke(Promise::FinalAnswer);
    }
}

// === time, sweeps, lost tails ===

impl Setup {
    pub(crate) fn tick(&self, world: &mut World) {
        world.clock.ticks += 1;
    }

    pub(crate) fn sweep_looks(&self, world: &mut World) -> Option<()> {
        let record = world.record?;
        let next = match record.expand().expiry(world.now()) {
            Expiry::Keep => return None,
            Expiry::Tombstone(next) => Some(CompactRecord::fold(&next)),
            Expiry::Remove => None,
        };
        world.left.sweeps -= 1;
        world.looked = Some(Looked { revision: record.revision, next });
        Some(())
    }

    pub(crate) fn sweep_acts(&self, world: &mut World) -> Option<()> {
        let looked = world.looked.take()?;
        let Some(record) = world.record else { return Some(()) };
        if record.revision != looked.revision {
            if !self.has(Mutant::StaleSweep) {
                return Some(());
            }
            world.broke(Promise::Sweep);
        }
        let stands = match record.state {
            Was::Running | Was::Abandoned => true,
            Was::Done(_) => {
                world.now() < record.answer_until || looked.next.is_none() && world.now() < record.gone_until
            }
            Was::Released | Was::Tombstone => world.now() < record.gone_until,
        };
        if stands {
            world.broke(Promise::Sweep);
        }
        remember(world);
        if looked.next.is_none() {
            world.history.holder = None;
            if matches!(record.state, Was::Done(_) | Was::Tombstone) {
                world.new_life();
            }
        }
        self.write(world, looked.next);
        Some(())
    }

    /// The store restarts without its last writes, and without what its sweep had looked at.
    pub(crate) fn roll_back(&self, world: &mut World, writes: usize) -> Option<()> {
        let at = world.tail.len().checked_sub(writes)?;
        (world.record, world.history.holder) = *world.tail.get(at)?;
        world.tail.clear();
        world.looked = None;
        world.left.rollbacks -= 1;
        if !self.clock_behind {
            world.clock.restarts += 1;
        }
        Some(())
    }

    /// Drops calls that can do nothing any more and that nobody waits for, so that states which differ only in
    /// them are one. A swap on a revision that has passed and that no rollback can bring back does nothing, because
    /// revisions grow: that is checked in the same run, and where they may not grow such calls are kept. A claim past its limit does nothing either,
    /// and of the dead only what may still land counts.
    pub(crate) fn forget_the_useless(&self, world: &mut World) {
        let now = world.now();
        let revisions_return = self.clock_behind || self.has(Mutant::RevisionFromOne);
        let useful = |call: &Call| {
            let in_time = now <= call.put.not_after || self.has(Mutant::NoNotAfter);
            let back = world.tail.iter().map(|it| it.0);
            let mut revisions = back.chain([world.record]).map(|it| it.map(|it| it.revision));
            in_time && (revisions_return || call.seen.is_none() || revisions.any(|it| it == call.seen))
        };
        let calls: Vec<_> =
            world.calls.iter().filter(|it| !useful(it) && !self.waits_for(world, it)).copied().collect();
        for call in calls {
            world.calls.remove(&call);
        }
        for attempt in &mut world.attempts {
            if let Attempt::Dead(may_land_until) = attempt
                && now > *may_land_until
            {
                *may_land_until = Timestamp::ZERO;
            }
        }
    }
}
