//! What can happen next, one step of one party at a time.

use std::fmt;

use onceward_core::{Fence, Timestamp, Verdict};
use stateright::{Model, Property};

use crate::compact::{Was, answer};
use crate::promise::{BY_OPERATOR, properties};
use crate::setup::Setup;
use crate::state::{Attempt, Call, Effect, From, Who, World};

/// How much longer than a setup's ticks it may take to settle: longer than any lease and any budget together.
const CALM_TICKS: u8 = 8;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// An attempt begins: it sends an insert.
    Begin(Who),
    /// A `begin` asks again, with a later limit: no reply came, or it has waited.
    AskAgain(Who),
    /// A waiter has waited long enough.
    StopWaiting(Who),
    /// A `begin` is dropped or gives up; its process lives.
    Leave(Who),
    /// Upkeep looks after a claim that was left.
    LookAfter(Who),
    /// The process of an attempt dies.
    Crash(Who),
    /// The store carries a call out; the reply arrives, or is lost.
    CarryOut(Call, bool),
    /// A holder sends its effect.
    Send(Who),
    /// The far side gets an effect; it does it, or declines.
    Arrive(Who, Fence, bool),
    /// A holder asks for more time; perhaps it saves something with it.
    Renew(Who, bool),
    /// A holder stores the answer that it has.
    Complete(Who),
    /// A holder whose effect was never sent, or refused, gives the key back.
    Release(Who),
    /// A holder gives up: it may have happened.
    Abandon(Who),
    /// A sweep looks at the record.
    SweepLooks,
    /// A sweep acts on what it looked at.
    SweepActs,
    /// An operator is shown the record.
    Show,
    /// An operator says what became of it.
    Resolve(Says),
    /// The store loses that many of its last writes.
    Rollback(usize),
}

/// A verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// `Verdict::Rerun`
    Rerun,
    /// `Verdict::Answer`
    Answer,
    /// `Verdict::Remove`
    Remove,
}

impl Says {
    /// The verdict of core.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Rerun => Verdict::Rerun,
            Self::Answer => Verdict::Answer(answer(BY_OPERATOR)),
            Self::Remove => Verdict::Remove,
        }
    }
}

impl Setup {
    /// What an attempt can do by itself.
    fn actions_of(&self, world: &World, who: Who, actions: &mut Vec<Action>) {
        let left = &world.left;
        match world.attempt(who) {
            Attempt::Idle => {
                // Attempts that are alike begin in order: which of them is which makes no difference.
                let twin = usize::from(who)
                    .checked_sub(1)
                    .filter(|it| self.attempts[*it] == self.attempts[usize::from(who)]);
                if twin.is_none_or(|it| world.attempts[it] != Attempt::Idle) {
                    actions.push(Action::Begin(who));
                }
            }
            Attempt::Asking(asking) => {
                match asking.waits_for {
                    Some(limit) if limit < self.limit(world) => actions.push(Action::AskAgain(who)),
                    Some(_) => {}
                    None => {
                        // To ask while the lease is alive would change nothing.
                        if !world.record.is_some_and(|it| it.expand().lease_alive_at(world.now())) {
                            actions.push(Action::AskAgain(who));
                        }
                        actions.push(Action::StopWaiting(who));
                    }
                }
                if left.leaves > 0 {
                    actions.push(Action::Leave(who));
                }
            }
            Attempt::Left(it) => {
                if it.giving_back.is_none() {
                    actions.push(Action::LookAfter(who));
                }
            }
            Attempt::Holding(it) => {
                if it.renewing.is_none() && left.renewals > 0 {
                    actions.push(Action::Renew(who, false));
                }
                if it.renewing.is_none() && left.saves > 0 {
                    actions.push(Action::Renew(who, true));
                }
                match it.effect {
                    Effect::None => actions.extend([Action::Send(who), Action::Release(who)]),
                    Effect::Sent => actions.push(Action::Abandon(who)),
                    Effect::Answered(_) => actions.extend([Action::Complete(who), Action::Abandon(who)]),
                    Effect::Refused => actions.extend([Action::Release(who), Action::Abandon(who)]),
                }
            }
            Attempt::Finishing(_) => {}
            Attempt::Ended(_) | Attempt::Dead(_) => return,
        }
        if left.crashes > 0 && *world.attempt(who) != Attempt::Idle {
            actions.push(Action::Crash(who));
        }
    }

    /// What operators and sweeps can do.
    fn actions_of_upkeep(&self, world: &World, actions: &mut Vec<Action>) {
        let Some(record) = &world.record else {
            actions.extend(world.looked.map(|_| Action::SweepActs));
            return;
        };
        let found = record.expand();
        if world.looked.is_some() {
            actions.push(Action::SweepActs);
        } else if world.left.sweeps > 0 && world.now() >= found.expires_at() {
            actions.push(Action::SweepLooks);
        }
        if world.shown.is_some() {
            actions.extend(self.says.iter().map(|it| Action::Resolve(*it)));
        } else if world.left.verdicts > 0 && record.state != Was::Released {
            // While the lease is alive only force helps.
            if self.forced || !found.lease_alive_at(world.now()) {
                actions.push(Action::Show);
            }
        }
    }

    /// Every step but faults, renewals and what operators and sweeps do: what happens once everything goes well.
    /// Time passes only while somebody waits for it.
    pub(crate) fn calm_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let lease_alive = world.record.is_some_and(|it| it.expand().lease_alive_at(world.now()));
        let may_land = world
            .attempts
            .iter()
            .any(|it| matches!(it, Attempt::Left(it) if world.now() <= it.may_land_until));
        if (lease_alive || may_land) && world.clock.ticks < self.ticks + CALM_TICKS {
            actions.push(Action::Tick);
        }
        let mut all = Vec::new();
        for who in self.everybody() {
            self.actions_of(world, who, &mut all);
        }
        actions.extend(all.into_iter().filter(|it| match it {
            Action::StopWaiting(_) | Action::LookAfter(_) | Action::Send(_) | Action::Complete(_) => true,
            Action::Release(_) | Action::Abandon(_) => true,
            Action::AskAgain(who) => {
                matches!(world.attempt(*who), Attempt::Asking(it) if it.waits_for.is_none())
            }
            _ => false,
        }));
        for call in &world.calls {
            actions.push(Action::CarryOut(*call, self.waits_for(world, call)));
        }
        self.arrivals(world, actions);
    }

    fn arrivals(&self, world: &World, actions: &mut Vec<Action>) {
        for (who, fence) in &world.effects {
            actions.push(Action::Arrive(*who, *fence, true));
            if self.declines {
                actions.push(Action::Arrive(*who, *fence, false));
            }
        }
    }

    /// The numbers of all attempts.
    pub(crate) fn everybody(&self) -> std::ops::Range<Who> {
        0..Who::try_from(self.attempts.len()).expect("there are two or three")
    }

    /// The limit of a call that is sent now.
    pub(crate) fn limit(&self, world: &World) -> Timestamp {
        world.now().after(crate::time::BUDGET)
    }

    /// Carries out one step; `None` where it is impossible.
    fn step(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::Tick => self.tick(world),
            Action::Begin(who) => self.begin(world, who),
            Action::AskAgain(who) => self.ask_again(world, who)?,
            Action::StopWaiting(who) => self.stop_waiting(world, who),
            Action::Leave(who) => self.leave(world, who)?,
            Action::LookAfter(who) => self.look_after(world, who)?,
            Action::Crash(who) => self.crash(world, who),
            Action::CarryOut(call, heard) => self.carry_out(world, &call, heard),
            Action::Send(who) => self.send(world, who)?,
            Action::Arrive(who, fence, accepted) => self.arrive(world, who, fence, accepted),
            Action::Renew(who, saves) => self.renew(world, who, saves)?,
            Action::Complete(who) => self.complete(world, who)?,
            Action::Release(who) => self.release(world, who)?,
            Action::Abandon(who) => self.abandon(world, who)?,
            Action::SweepLooks => self.sweep_looks(world)?,
            Action::SweepActs => self.sweep_acts(world)?,
            Action::Show => self.show(world)?,
            Action::Resolve(says) => self.resolve(world, says)?,
            Action::Rollback(writes) => self.roll_back(world, writes)?,
        }
        self.forget_the_useless(world);
        Some(())
    }
}

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.clock.ticks < self.ticks {
            actions.push(Action::Tick);
        }
        for who in self.everybody() {
            self.actions_of(world, who, actions);
        }
        for call in &world.calls {
            actions.push(Action::CarryOut(*call, false));
            if self.waits_for(world, call) {
                actions.push(Action::CarryOut(*call, true));
            }
        }
        self.arrivals(world, actions);
        self.actions_of_upkeep(world, actions);
        if world.left.rollbacks > 0 {
            actions.extend((1..=world.tail.len()).map(Action::Rollback));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.step(&mut next, action)?;
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties(self)
    }
}

/// The letter of an attempt.
fn name(who: Who) -> char {
    char::from(b'A' + who)
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.from {
            From::Attempt(who) => format!("{}'s", name(who)),
            From::Operator(_) => "the operator's".to_owned(),
        };
        let what = match (self.put.grant, self.put.state) {
            (Some(_), _) if self.seen.is_none() => "insert".to_owned(),
            (Some(_), _) => "take-over".to_owned(),
            (None, Was::Running) if self.put.saved => "save".to_owned(),
            (None, Was::Running) => "renewal".to_owned(),
            (None, Was::Abandoned) => "abandon".to_owned(),
            (None, Was::Released) => "release".to_owned(),
            (None, Was::Done(told)) => format!("answer {told}"),
            (None, Was::Tombstone) => "tombstone".to_owned(),
        };
        write!(f, "{who} {what}")
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => write!(f, "time passes"),
            Self::Begin(who) => write!(f, "{} begins", name(*who)),
            Self::AskAgain(who) => write!(f, "{} asks again", name(*who)),
            Self::StopWaiting(who) => write!(f, "{} waits no longer", name(*who)),
            Self::Leave(who) => write!(f, "{} leaves", name(*who)),
            Self::LookAfter(who) => write!(f, "upkeep looks after {}'s claim", name(*who)),
            Self::Crash(who) => write!(f, "{} dies", name(*who)),
            Self::CarryOut(call, true) => write!(f, "the store gets {call} and replies"),
            Self::CarryOut(call, false) => write!(f, "the store gets {call}, nobody hears the reply"),
            Self::Send(who) => write!(f, "{} sends its effect", name(*who)),
            Self::Arrive(who, _, true) => write!(f, "{}'s effect arrives", name(*who)),
            Self::Arrive(who, _, false) => write!(f, "{}'s effect arrives and is declined", name(*who)),
            Self::Renew(who, false) => write!(f, "{} renews", name(*who)),
            Self::Renew(who, true) => write!(f, "{} saves", name(*who)),
            Self::Complete(who) => write!(f, "{} completes", name(*who)),
            Self::Release(who) => write!(f, "{} releases", name(*who)),
            Self::Abandon(who) => write!(f, "{} abandons", name(*who)),
            Self::SweepLooks => write!(f, "the sweep looks"),
            Self::SweepActs => write!(f, "the sweep acts"),
            Self::Show => write!(f, "the operator looks"),
            Self::Resolve(Says::Rerun) => write!(f, "the operator says: run again"),
            Self::Resolve(Says::Answer) => write!(f, "the operator says: this is the answer"),
            Self::Resolve(Says::Remove) => write!(f, "the operator says: remove it"),
            Self::Rollback(writes) => write!(f, "the store loses its last {writes} write(s)"),
        }
    }
}
