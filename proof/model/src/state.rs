//! What there is at one moment: the record, what is under way, what each party knows, and what was seen so far.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use onceward_core::decide::Finish;
use onceward_core::{Fence, Revision, Timestamp};

use crate::compact::{CompactPut, CompactRecord, Terms, Told, Was};
use crate::promise::Promise;
use crate::setup::{Budget, Setup};
use crate::time::StoreClock;

/// The number of an attempt, from zero.
pub type Who = u8;

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The store's clock. Everybody's time passes alike: only the store's is ever compared.
    pub clock: StoreClock,
    /// What the store has.
    pub record: Option<CompactRecord>,
    /// The attempts, in the order in which they begin where they are alike.
    pub attempts: Vec<Attempt>,
    /// Calls to the store. A call is never taken off: it may be carried out late, again, or never.
    pub calls: BTreeSet<Call>,
    /// Effects on their way to the far side; each arrives once, or never.
    pub effects: BTreeSet<(Who, Fence)>,
    /// The far side.
    pub far: Far,
    /// What a sweep has looked at and not acted on yet.
    pub looked: Option<Looked>,
    /// The revision that an operator was shown.
    pub shown: Option<Revision>,
    /// Earlier records that a rollback may bring back, the latest last, each with its true holder.
    pub tail: Vec<(Option<CompactRecord>, Option<Who>)>,
    /// What may still happen.
    pub left: Budget,
    /// What was seen so far. No party can read it.
    pub history: History,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// It has not begun.
    Idle,
    /// It is inside `begin`.
    Asking(Asking),
    /// Its `begin` ended without knowing what became of its claim; upkeep looks after it.
    Left(Left),
    /// It holds a permit.
    Holding(Holding),
    /// It finishes its permit.
    Finishing(Finishing),
    /// It is over.
    Ended(End),
    /// Its process died. What it sent may land until then.
    Dead(Timestamp),
}

/// A `begin` under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asking {
    /// `Claiming::over`.
    pub over: Option<Over>,
    /// `Claiming::after_unknown`.
    pub after_unknown: bool,
    /// The limit of the call that it waits for; none while it waits for another attempt to end.
    pub waits_for: Option<Timestamp>,
    /// The latest limit of all its calls.
    pub may_land_until: Timestamp,
}

/// `TakeOver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields of TakeOver")]
pub struct Over {
    pub revision: Revision,
    pub new_life: bool,
    pub terms: Terms,
    pub unfinished: bool,
    pub saved: bool,
}

/// A claim that nobody waits for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left {
    /// Until when it may land.
    pub may_land_until: Timestamp,
    /// Whether it may have taken over a record whose outcome is unknown.
    pub after_unknown: bool,
    /// The call that gives it back: what it saw, and its limit.
    pub giving_back: Option<(Revision, Timestamp)>,
}

/// A permit in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holding {
    /// The record as this holder last saw it.
    pub held: CompactRecord,
    /// Whether it is unknown what the attempt before did.
    pub after_unknown: bool,
    /// What became of its effect, as far as it knows.
    pub effect: Effect,
    /// The renewal that it waits for: what it saw, its limit, and whether it saves.
    pub renewing: Option<(Revision, Timestamp, bool)>,
}

/// What a holder knows of its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Not sent.
    None,
    /// Sent, no answer yet.
    Sent,
    /// The far side answered.
    Answered(Told),
    /// The far side refused the fence: nothing happened by this call.
    Refused,
}

/// A permit that is being finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Finishing {
    /// The record as this holder last saw it.
    pub held: CompactRecord,
    /// What it wants.
    pub wanted: Wanted,
    /// The revision that its call swaps on.
    pub seen: Revision,
}

/// How a permit is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// With this answer.
    Complete(Told),
    /// Nothing happened.
    Release,
    /// It may have happened.
    Abandon,
}

impl Wanted {
    /// The word of core.
    #[must_use]
    pub fn finish(self) -> Finish {
        match self {
            Self::Complete(_) => Finish::Complete,
            Self::Release => Finish::Release,
            Self::Abandon => Finish::Abandon,
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Its caller has an answer.
    Told(Told),
    /// Its caller was told that another runs, that the key is misused, or that the answer is gone.
    Refused,
    /// Its caller was told that the outcome is unknown: it was abandoned or lost, or found unresolved.
    Unresolved,
    /// It gave the key back.
    Released,
    /// Its caller was told that the store cannot be reached, or left.
    Unsure,
}

/// A call to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// Who sent it.
    pub from: From,
    /// The revision that it swaps on; an insert has none.
    pub seen: Option<Revision>,
    /// What it asks to keep.
    pub put: CompactPut,
}

/// Who sent a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum From {
    /// An attempt, or the upkeep that looks after what it left.
    Attempt(Who),
    /// An operator, who was shown this revision.
    Operator(Revision),
}

/// The far side: what it keeps for the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Far {
    /// The highest fence that it saw.
    pub highest: Option<Fence>,
    /// The first answer to an accepted effect.
    pub first: Option<Told>,
    /// How many effects it accepted.
    pub accepted: u8,
}

/// What a sweep is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Looked {
    /// The revision that it looked at.
    pub revision: Revision,
    /// The tombstone that takes its place; none when it is to be removed.
    pub next: Option<CompactRecord>,
}

/// What was seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct History {
    /// Who truly got the last grant, whatever its token says.
    pub holder: Option<Who>,
    /// How many effects there may be: one, and one more for each life that ended and each key that an operator
    /// freed.
    pub effects_allowed: u8,
    /// The answer that callers were told in this life of the record.
    pub told: Option<Told>,
    /// Whether an attempt before the holder may have done something, and nobody has said what.
    pub unknown: bool,
    /// The highest fence of any grant, also of those that a rollback took.
    pub fence: Fence,
    /// The highest revision, likewise.
    pub revision: Revision,
    /// The promises that were broken, one bit each.
    pub broken: u16,
}

impl World {
    /// Nothing has happened.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            clock: StoreClock { ticks: 0, restarts: 0 },
            record: None,
            attempts: vec![Attempt::Idle; setup.attempts.len()],
            calls: BTreeSet::new(),
            effects: BTreeSet::new(),
            far: Far::default(),
            looked: None,
            shown: None,
            tail: Vec::new(),
            left: setup.budget,
            history: History {
                holder: None,
                effects_allowed: 1,
                told: None,
                unknown: false,
                fence: Fence(0),
                revision: Revision(0),
                broken: 0,
            },
        }
    }

    /// 64 bits that stand for this state where only its identity counts, as the checker keeps them.
    #[must_use]
    pub fn digest(&self) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(self)
    }

    /// The store's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Notes that a promise is broken.
    pub fn broke(&mut self, promise: Promise) {
        self.history.broken |= 1 << promise as u16;
    }

    /// Whether a promise was kept so far.
    #[must_use]
    pub fn keeps(&self, promise: Promise) -> bool {
        self.history.broken & (1 << promise as u16) == 0
    }

    /// A caller is told an answer.
    pub fn tell(&mut self, told: Told) {
        if self.history.told.is_some_and(|it| it != told) {
            self.broke(Promise::OneAnswer);
        }
        if self.record.is_none_or(|it| it.state != Was::Done(told)) {
            self.broke(Promise::ToldIsStored);
        }
        self.history.told = Some(told);
    }

    /// A new life begins: another effect is due, and another answer.
    pub fn new_life(&mut self) {
        self.history.effects_allowed += 1;
        self.history.told = None;
        self.history.unknown = false;
    }

    /// The attempt of this number.
    #[must_use]
    pub fn attempt(&self, who: Who) -> &Attempt {
        &self.attempts[usize::from(who)]
    }

    /// An attempt takes its next step.
    pub fn put_attempt(&mut self, who: Who, attempt: Attempt) {
        self.attempts[usize::from(who)] = attempt;
    }
}
