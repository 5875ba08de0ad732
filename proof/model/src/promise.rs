//! What must never be, and what must be seen so that nothing holds for want of trying.

use stateright::Property;

use crate::compact::Was;
use crate::setup::Setup;
use crate::state::{Attempt, End, World};

/// What must never be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Promise {
    /// Whatever the far side does. A new life, and an operator who frees the key, allow one more each.
    OneEffectUnderHold,
    /// At a far side that returns its first answer and refuses lower fences.
    OneEffectUnderRerun,
    /// An answer "nothing was done" is stored only where nothing was done, and nothing is done after it.
    AnswerIsTrue,
    /// However many callers ask, until the answer's time is over or an operator removes it.
    OneAnswer,
    /// A caller sees an answer only once the store has it.
    ToldIsStored,
    /// Until its tombstone is over. Only an operator may remove it.
    FinalAnswer,
    /// Who lost the record to another holder or an operator writes nothing.
    OldHolder,
    /// Nobody is granted a record while another's lease is alive, or while its answer stands.
    Exclusive,
    /// Not to one that was told something; to one that died or left no later than its call's budget.
    EndedAttempt,
    /// Also after a removal and after a lost tail.
    FencesGrow,
    /// Also after a removal and after a lost tail.
    RevisionsGrow,
    /// Nothing that has changed since, and nothing that still stands.
    Sweep,
    /// Nothing that has changed since.
    Operator,
    /// Not by an attempt that took it over and did nothing.
    UnknownStays,
}

/// What must be reachable where a setup says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sight {
    /// A caller is told an answer.
    Told,
    /// Two callers are told an answer.
    Replayed,
    /// A caller is told that the outcome is unknown.
    Unresolved,
    /// A permit that took over an unknown outcome.
    TakenOver,
    /// A claim whose `begin` left is given back.
    GivenBack,
    /// A claim lands for a process that died.
    LandedForTheDead,
    /// The record is removed after it was there.
    Removed,
    /// A tombstone.
    Tombstone,
    /// A holder in a second life of the record.
    SecondLife,
    /// An operator's answer is told.
    OperatorsAnswer,
    /// A far side refuses an old fence.
    FenceRefused,
    /// The store lost its tail.
    RolledBack,
}

/// The operator's answer.
pub const BY_OPERATOR: u8 = 200;

/// The far side's answer "nothing was done".
pub const DECLINED: u8 = 100;

impl Promise {
    /// Every promise.
    pub const ALL: [Self; 14] = [
        Self::OneEffectUnderHold,
        Self::OneEffectUnderRerun,
        Self::AnswerIsTrue,
        Self::OneAnswer,
        Self::ToldIsStored,
        Self::FinalAnswer,
        Self::OldHolder,
        Self::Exclusive,
        Self::EndedAttempt,
        Self::FencesGrow,
        Self::RevisionsGrow,
        Self::Sweep,
        Self::Operator,
        Self::UnknownStays,
    ];

    /// The promise in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneEffectUnderHold => "under hold at most one effect without an operator",
            Self::OneEffectUnderRerun => "under rerun at most one accepted effect",
            Self::AnswerIsTrue => "a stored answer tells what happened",
            Self::OneAnswer => "a caller is told one answer per life of the record",
            Self::ToldIsStored => "an answer is told only once it is stored",
            Self::FinalAnswer => "a final answer is never overwritten",
            Self::OldHolder => "an old holder changes nothing",
            Self::Exclusive => "a live lease is exclusive",
            Self::EndedAttempt => "no grant to an attempt that has ended",
            Self::FencesGrow => "fences strictly grow",
            Self::RevisionsGrow => "revisions strictly grow",
            Self::Sweep => "sweep removes only what it looked at",
            Self::Operator => "an operator changes only what was shown",
            Self::UnknownStays => "an unknown outcome is freed by an operator alone",
        }
    }

    /// It holds in every state.
    fn property(self) -> Property<Setup> {
        let name = self.name();
        match self {
            Self::OneEffectUnderHold => {
                Property::always(name, |_, it: &World| it.keeps(Self::OneEffectUnderHold))
            }
            Self::OneEffectUnderRerun => {
                Property::always(name, |_, it: &World| it.keeps(Self::OneEffectUnderRerun))
            }
            Self::AnswerIsTrue => Property::always(name, |_, it: &World| it.keeps(Self::AnswerIsTrue)),
            Self::OneAnswer => Property::always(name, |_, it: &World| it.keeps(Self::OneAnswer)),
            Self::ToldIsStored => Property::always(name, |_, it: &World| it.keeps(Self::ToldIsStored)),
            Self::FinalAnswer => Property::always(name, |_, it: &World| it.keeps(Self::FinalAnswer)),
            Self::OldHolder => Property::always(name, |_, it: &World| it.keeps(Self::OldHolder)),
            Self::Exclusive => Property::always(name, |_, it: &World| it.keeps(Self::Exclusive)),
            Self::EndedAttempt => Property::always(name, |_, it: &World| it.keeps(Self::EndedAttempt)),
            Self::FencesGrow => Property::always(name, |_, it: &World| it.keeps(Self::FencesGrow)),
            Self::RevisionsGrow => Property::always(name, |_, it: &World| it.keeps(Self::RevisionsGrow)),
            Self::Sweep => Property::always(name, |_, it: &World| it.keeps(Self::Sweep)),
            Self::Operator => Property::always(name, |_, it: &World| it.keeps(Self::Operator)),
            Self::UnknownStays => Property::always(name, |_, it: &World| it.keeps(Self::UnknownStays)),
        }
    }
}

impl Sight {
    /// The sight in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Told => "a caller is told an answer",
            Self::Replayed => "two callers are told the answer",
            Self::Unresolved => "a caller is told that the outcome is unknown",
            Self::TakenOver => "an unknown outcome is taken over",
            Self::GivenBack => "a claim that was left is given back",
            Self::LandedForTheDead => "a claim lands for a process that died",
            Self::Removed => "a record is removed",
            Self::Tombstone => "an answer becomes a tombstone",
            Self::SecondLife => "a second life is held",
            Self::OperatorsAnswer => "the operator's answer is told",
            Self::FenceRefused => "the far side refuses an old fence",
            Self::RolledBack => "the store loses its tail",
        }
    }

    /// It is seen in some state.
    fn property(self) -> Property<Setup> {
        let name = self.name();
        match self {
            Self::Told => Property::sometimes(name, |_, it: &World| told(it) >= 1),
            Self::Replayed => Property::sometimes(name, |_, it: &World| told(it) >= 2),
            Self::Unresolved => Property::sometimes(name, |_, it: &World| {
                it.attempts.contains(&Attempt::Ended(End::Unresolved))
            }),
            Self::TakenOver => Property::sometimes(name, |_, it: &World| {
                it.attempts.iter().any(|it| matches!(it, Attempt::Holding(held) if held.after_unknown))
            }),
            Self::GivenBack => Property::sometimes(name, |_, it: &World| {
                it.attempts.contains(&Attempt::Ended(End::Unsure))
                    && it.record.is_some_and(|it| matches!(it.state, Was::Released | Was::Abandoned))
            }),
            Self::LandedForTheDead => Property::sometimes(name, |_, it: &World| {
                let died_asking =
                    |who| matches!(it.attempt(who), Attempt::Dead(until) if until.as_millis() > 0);
                it.record.is_some_and(|it| it.state == Was::Running)
                    && it.history.holder.is_some_and(died_asking)
            }),
            Self::Removed => {
                Property::sometimes(name, |_, it: &World| it.record.is_none() && it.history.revision.0 > 0)
            }
            Self::Tombstone => Property::sometimes(name, |_, it: &World| {
                it.record.is_some_and(|it| it.state == Was::Tombstone)
            }),
            Self::SecondLife => Property::sometimes(name, |_, it: &World| {
                it.history.effects_allowed > 1
                    && it.record.is_some_and(|it| it.state == Was::Running)
                    && it.far.accepted == 1
            }),
            Self::OperatorsAnswer => Property::sometimes(name, |_, it: &World| {
                it.attempts.contains(&Attempt::Ended(End::Told(BY_OPERATOR)))
            }),
            Self::FenceRefused => Property::sometimes(name, |_, it: &World| {
                let refused = crate::state::Effect::Refused;
                it.attempts.iter().any(|it| matches!(it, Attempt::Holding(held) if held.effect == refused))
            }),
            Self::RolledBack => Property::sometimes(name, |_, it: &World| it.clock.restarts > 0),
        }
    }
}

fn told(world: &World) -> usize {
    world.attempts.iter().filter(|it| matches!(it, Attempt::Ended(End::Told(_)))).count()
}

/// The properties of a setup, for the checker.
#[must_use]
pub fn properties(setup: &Setup) -> Vec<Property<Setup>> {
    let promises = setup.promises.iter().map(|it| it.property());
    promises.chain(setup.sights.iter().map(|it| it.property())).collect()
}
