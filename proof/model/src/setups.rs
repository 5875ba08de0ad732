//! The setups that hold, the rules that are broken on purpose, and the known limits.

use std::time::Duration;

use crate::action::Says;
use crate::far_side::FarSide;
use crate::promise::{Promise, Sight};
use crate::setup::{Ask, Budget, Mutant, QUIET, Setup};
use crate::time::TICK;

const HOLD: Ask = Ask { hold: true, request: 1 };
const RERUN: Ask = Ask { hold: false, request: 1 };
const OTHER: Ask = Ask { hold: true, request: 2 };

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
            // Without crashes and refusals it fits into memory: an attempt may stop anywhere all the same.
            declines: false,
            ..Setup::new(
                "rerun, 3 attempts, nothing declined",
                vec![RERUN; 3],
                &[Told, Replayed, TakenOver, FenceRefused],
            )
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
