//! What is explored: who takes part, what may go wrong and how often, and which rule is broken on purpose.

use std::time::Duration;

use crate::action::Says;
use crate::compact::Asked;
pub use crate::far_side::FarSide;
use crate::promise::{Promise, Sight};
use crate::time::TICK;

/// One exploration. Every order of steps within its bounds is tried.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What it is about.
    pub name: &'static str,
    /// Whether every test run explores it.
    pub quick: bool,
    /// The attempts.
    pub attempts: Vec<Ask>,
    /// What the far side does about repeats.
    pub far_side: FarSide,
    /// Whether the far side may decline: it answers, and has done nothing.
    pub declines: bool,
    /// How far time goes.
    pub ticks: u8,
    /// How long a late retry is refused.
    pub tombstone: Duration,
    /// How long other processes may replay a removed answer from their caches; none where nothing is shared.
    pub cache_life: Option<Duration>,
    /// Whether an attempt that finds another running waits for it.
    pub waits: bool,
    /// What an operator may say.
    pub says: Vec<Says>,
    /// Whether it is said by force, also while a lease is alive.
    pub forced: bool,
    /// How often things may happen that a run could have without end.
    pub budget: Budget,
    /// Whether a store that lost its tail also has a clock behind it.
    pub clock_behind: bool,
    /// The rule that is broken.
    pub mutant: Option<Mutant>,
    /// Whether it is looked whether all settles, too, which takes three times as long.
    pub settles: bool,
    /// What must never be.
    pub promises: Vec<Promise>,
    /// What must be seen.
    pub sights: Vec<Sight>,
}

/// What an attempt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Whether its policy is `hold`; else it is `rerun`.
    pub hold: bool,
    /// What is asked.
    pub request: Asked,
}

/// How often each thing may happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A process dies.
    pub crashes: u8,
    /// A `begin` is dropped.
    pub leaves: u8,
    /// A permit is renewed.
    pub renewals: u8,
    /// A permit saves.
    pub saves: u8,
    /// A sweep looks.
    pub sweeps: u8,
    /// An operator looks.
    pub verdicts: u8,
    /// The store loses its tail.
    pub rollbacks: u8,
}

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A release deletes the record.
    ReleaseDeletes,
    /// Revisions count from one, without time.
    RevisionFromOne,
    /// A sweep acts on what it looked at, whatever is there now.
    StaleSweep,
    /// The store does not look at `not_after`.
    NoNotAfter,
    /// Fences count from one, without time.
    FenceWithoutTime,
    /// All attempts have one owner token.
    SharedOwner,
    /// The policy of the later attempt decides, not the record's.
    PolicyOfTheLater,
    /// An operator's verdict swaps on whatever revision there is.
    OperatorWithoutRevision,
    /// The caller is told before the answer is stored.
    ToldBeforeStored,
    /// A release frees the key also where the attempt before is unknown.
    ReleaseAfterUnknown,
    /// A holder that lost the record swaps on whatever revision it is shown.
    LossIgnored,
    /// An insert keeps its put whatever is there.
    InsertOverwrites,
    /// A lease never ends.
    LeaseForEver,
}

/// Nothing goes wrong but calls and time: those may be late, lost and doubled everywhere.
pub(crate) const QUIET: Budget =
    Budget { crashes: 0, leaves: 0, renewals: 0, saves: 0, sweeps: 0, verdicts: 0, rollbacks: 0 };

impl Setup {
    /// Whether this rule is broken.
    #[must_use]
    pub fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn new(name: &'static str, attempts: Vec<Ask>, sights: &[Sight]) -> Self {
        let rerun = attempts.iter().all(|it| !it.hold);
        let two = attempts.len() == 2;
        Self {
            name,
            quick: false,
            attempts,
            far_side: if rerun { FarSide::Both } else { FarSide::Ignores },
            declines: rerun,
            ticks: 2,
            tombstone: TICK,
            cache_life: None,
            waits: false,
            says: Vec::new(),
            forced: false,
            budget: QUIET,
            clock_behind: false,
            mutant: None,
            settles: two,
            promises: Promise::ALL.to_vec(),
            sights: sights.to_vec(),
        }
    }
}
