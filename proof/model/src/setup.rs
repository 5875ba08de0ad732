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

const HOLD: Ask = Ask { hold: true, request: 1 };
const RERUN: Ask = Ask { hold: false, request: 1 };
const OTHER: Ask = Ask { hold: true, request: 2 };

/// Nothing goes wrong but calls and time: those may be late, lost and doubled everywhere.
const QUIET: Budget =
    Budget { crashes: 0, leaves: 0, renewals: 0, saves: 0, sweeps: 0, verdicts: 0, rollbacks: 0 };

impl Setup {
    /// Whether this rule is broken.
    #[must_use]
    pub fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn new(name: &'static str, attempts: Vec<Ask>, sights: &[Sight]) -> Self {
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

/// Every setup in which all promises hold. Those that are quick are for every test run.
#[must_use]
pub fn setups() -> Vec<Setup> {
    use Says::{Answer, Remove, Rerun};
    use Sight::*;
    let all = vec![Rerun, Answer, Remove];
    vec![
        Setup {
            quick: true,
            budget: Budget { crashes: 1, leaves: 1, ..QUIET },
            ..Setup::new(
                "hold, 2 attempts",
                vec![HOLD; 2],
                &[Told, Replayed, Unresolved, GivenBack, LandedForTheDead],
            )
        },
        Setup {
            quick: true,
            budget: Budget { renewals: 1, saves: 1, ..QUIET },
            ..Setup::new(
                "hold, 2 attempts, a renewal and a save",
                vec![HOLD; 2],
                &[Told, Replayed, Unresolved],
            )
        },
        Setup {
            quick: true,
            budget: Budget { crashes: 1, ..QUIET },
            ..Setup::new("first rerun, then hold", vec![RERUN, HOLD], &[Told, Replayed, Unresolved])
        },
        Setup {
            quick: true,
            budget: Budget { crashes: 1, leaves: 1, ..QUIET },
            ..Setup::new(
                "rerun, 2 attempts",
                vec![RERUN; 2],
                &[Told, Replayed, TakenOver, FenceRefused, GivenBack, LandedForTheDead],
            )
        },
        Setup {
            quick: true,
            ticks: 5,
            budget: Budget { sweeps: 2, ..QUIET },
            ..Setup::new(
                "hold, 2 attempts, swept",
                vec![HOLD; 2],
                &[Told, Replayed, Removed, Tombstone, SecondLife],
            )
        },
        Setup {
            quick: true,
            budget: Budget { verdicts: 1, ..QUIET },
            says: all.clone(),
            ..Setup::new("hold, 2 attempts, operator", vec![HOLD; 2], &[Told, Unresolved, OperatorsAnswer])
        },
        Setup {
            quick: true,
            budget: Budget { rollbacks: 1, ..QUIET },
            promises: WITHOUT_THE_TAIL.to_vec(),
            ..Setup::new("hold, 2 attempts, the store loses its tail", vec![HOLD; 2], &[Told, RolledBack])
        },
        Setup {
            budget: Budget { renewals: 2, saves: 1, crashes: 1, ..QUIET },
            ..Setup::new(
                "hold, 2 attempts, renewals and a save",
                vec![HOLD; 2],
                &[Told, Replayed, Unresolved],
            )
        },
        Setup {
            budget: Budget { crashes: 1, ..QUIET },
            settles: true,
            ..Setup::new("hold, 3 attempts", vec![HOLD; 3], &[Told, Replayed, Unresolved, LandedForTheDead])
        },
        Setup {
            waits: true,
            budget: Budget { crashes: 1, ..QUIET },
            ..Setup::new("hold, 3 attempts that wait", vec![HOLD; 3], &[Told, Replayed, Unresolved])
        },
        Setup {
            budget: Budget { leaves: 1, ..QUIET },
            ..Setup::new(
                "hold, 3 attempts, one asks for something else",
                vec![HOLD, HOLD, OTHER],
                &[Told, Replayed],
            )
        },
        Setup {
            budget: Budget { crashes: 1, ..QUIET },
            ..Setup::new("rerun, 3 attempts", vec![RERUN; 3], &[Told, Replayed, TakenOver, FenceRefused])
        },
        Setup {
            budget: Budget { renewals: 1, saves: 1, crashes: 1, ..QUIET },
            ..Setup::new(
                "rerun, 2 attempts, a renewal and a save",
                vec![RERUN; 2],
                &[Told, TakenOver, FenceRefused],
            )
        },
        Setup {
            ticks: 5,
            budget: Budget { sweeps: 2, crashes: 1, leaves: 1, ..QUIET },
            ..Setup::new(
                "hold, 2 attempts, swept, crashes",
                vec![HOLD; 2],
                &[Told, Replayed, Removed, Tombstone, SecondLife, GivenBack],
            )
        },
        Setup {
            ticks: 5,
            tombstone: Duration::ZERO,
            budget: Budget { sweeps: 2, crashes: 1, ..QUIET },
            ..Setup::new(
                "hold, 2 attempts, no tombstones, swept",
                vec![HOLD; 2],
                &[Told, Removed, SecondLife],
            )
        },
        Setup {
            ticks: 5,
            budget: Budget { sweeps: 2, crashes: 1, ..QUIET },
            ..Setup::new("rerun, 2 attempts, swept", vec![RERUN; 2], &[Told, Removed, Tombstone, TakenOver])
        },
        Setup {
            budget: Budget { verdicts: 2, crashes: 1, ..QUIET },
            says: all.clone(),
            ..Setup::new(
                "hold, 2 attempts, two verdicts",
                vec![HOLD; 2],
                &[Told, Unresolved, OperatorsAnswer],
            )
        },
        Setup {
            forced: true,
            cache_life: Some(TICK),
            ticks: 3,
            budget: Budget { verdicts: 1, ..QUIET },
            says: all.clone(),
            ..Setup::new(
                "hold, 2 attempts, operator by force, shared store",
                vec![HOLD; 2],
                &[Told, Unresolved, OperatorsAnswer, SecondLife],
            )
        },
        Setup {
            budget: Budget { verdicts: 1, ..QUIET },
            says: all,
            ..Setup::new("hold, 3 attempts, operator", vec![HOLD; 3], &[Told, Unresolved, OperatorsAnswer])
        },
        Setup {
            budget: Budget { rollbacks: 1, ..QUIET },
            promises: [&WITHOUT_THE_TAIL[..], &[Promise::OneEffectUnderRerun]].concat(),
            ..Setup::new(
                "rerun, 2 attempts, the store loses its tail",
                vec![RERUN; 2],
                &[Told, TakenOver, RolledBack],
            )
        },
    ]
}

/// What holds even where a store that promised to be durable was not, provided that its clock is ahead. The rest
/// does not: an answer that was told may be gone, a claim that had landed may land again, and nobody remembers an
/// attempt that was granted in the tail.
const WITHOUT_THE_TAIL: [Promise; 5] =
    [Promise::ToldIsStored, Promise::OldHolder, Promise::FencesGrow, Promise::RevisionsGrow, Promise::Sweep];

/// A setup that must break promises, so that the model is known to see it.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What is explored.
    pub setup: Setup,
    /// The promises that it breaks.
    pub breaks: Vec<Promise>,
}

/// Every rule that is broken on purpose, with the promises that each breaks.
#[must_use]
pub fn mutants() -> Vec<Broken> {
    use Promise::*;
    let two = |name, asks: [Ask; 2]| Setup::new(name, asks.to_vec(), &[]);
    let with = |name, mutant| Setup { mutant: Some(mutant), ..two(name, [HOLD; 2]) };
    let swept = |it| Setup { ticks: 5, budget: Budget { sweeps: 1, ..QUIET }, ..it };
    let far = |name, far_side| Setup { far_side, ..two(name, [RERUN; 2]) };
    let operated =
        |it| Setup { budget: Budget { verdicts: 1, ..QUIET }, says: vec![Says::Rerun, Says::Answer], ..it };
    let breaks = |setup, breaks: &[Promise]| Broken { setup, breaks: breaks.to_vec() };
    vec![
        breaks(with("a release deletes the record", Mutant::ReleaseDeletes), &[EndedAttempt]),
        breaks(swept(with("revisions count from 1", Mutant::RevisionFromOne)), &[RevisionsGrow]),
        breaks(swept(with("a sweep acts on a stale list", Mutant::StaleSweep)), &[Sweep]),
        breaks(swept(with("no not_after", Mutant::NoNotAfter)), &[EndedAttempt]),
        breaks(swept(with("fences without time", Mutant::FenceWithoutTime)), &[FencesGrow]),
        breaks(with("two attempts share an owner token", Mutant::SharedOwner), &[OneEffectUnderHold]),
        breaks(
            Setup {
                mutant: Some(Mutant::PolicyOfTheLater),
                ..two("the policy of the later attempt decides", [HOLD, RERUN])
            },
            &[OneEffectUnderHold],
        ),
        breaks(
            operated(with("an operator without the revision", Mutant::OperatorWithoutRevision)),
            &[Operator],
        ),
        breaks(
            operated(with("the answer is told before it is stored", Mutant::ToldBeforeStored)),
            &[ToldIsStored, OneAnswer],
        ),
        breaks(
            far("rerun, the far side ignores fences and repeats", FarSide::Ignores),
            &[OneEffectUnderRerun],
        ),
        breaks(far("rerun, the far side only refuses lower fences", FarSide::Fences), &[OneEffectUnderRerun]),
        breaks(far("rerun, the far side only dedups", FarSide::Dedups), &[AnswerIsTrue]),
        breaks(
            Setup {
                mutant: Some(Mutant::ReleaseAfterUnknown),
                ..two("a release frees what is unknown", [RERUN; 2])
            },
            &[UnknownStays],
        ),
        breaks(
            operated(with("a holder goes on after its loss", Mutant::LossIgnored)),
            &[OldHolder, FinalAnswer],
        ),
        breaks(with("an insert overwrites", Mutant::InsertOverwrites), &[Exclusive, FinalAnswer]),
    ]
}

/// What a store that loses acknowledged writes breaks, as the documentation says: a limit, not a fault.
#[must_use]
pub fn limits() -> Vec<Broken> {
    use Promise::*;
    let lossy =
        |name| Setup { budget: Budget { rollbacks: 1, ..QUIET }, ..Setup::new(name, vec![HOLD; 2], &[]) };
    vec![
        Broken { setup: lossy("hold, an acknowledged write is lost"), breaks: vec![OneEffectUnderHold] },
        Broken {
            setup: Setup {
                clock_behind: true,
                ..lossy("an acknowledged write is lost, the clock is not ahead")
            },
            breaks: vec![FencesGrow, RevisionsGrow],
        },
    ]
}

/// A lease that never ends: what then never settles.
#[must_use]
pub fn never_settles() -> Setup {
    let budget = Budget { crashes: 1, ..QUIET };
    Setup {
        mutant: Some(Mutant::LeaseForEver),
        budget,
        ..Setup::new("a lease never ends", vec![HOLD; 2], &[])
    }
}
