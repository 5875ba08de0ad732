//! What came of a run: what was published, against the ledger and the dead letters.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use onceward::queue::{DEAD_LETTER, Letter, Letters, Reason};
use onceward::store::Filter;
use onceward::{Engine, Status};

use super::consumers::Fault;
use super::handler::{Call, End};
use super::{Field, Strength, carried, producers};
use crate::Result;
use crate::time::ms;

/// How long before a call its claim may be, and how long after its answer the note of it.
pub(super) const AROUND: Duration = ms(1_500);

/// The ledger in numbers.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) messages: usize,
    pub(super) calls: usize,
    pub(super) effects: usize,
    pub(super) done: usize,
    pub(super) parked: [usize; Reason::ALL.len()],
    pub(super) done_and_parked: usize,
    pub(super) never_called: usize,
    pub(super) doubled: usize,
    pub(super) lost: usize,
    pub(super) unexplained: usize,
    pub(super) stuck: usize,
    /// Of effects that answers name.
    pub(super) carried: Option<carried::Counts>,
}

/// A check, and what it saw.
pub(super) type Violation = (&'static str, String);

/// What stands in the store.
#[derive(Debug, Default)]
struct Stored {
    /// By the body of its message.
    letters: HashMap<String, Vec<Letter>>,
    /// Those of messages, and how they look.
    records: Vec<Kept>,
    left: carried::Left,
}

/// A record of a message.
#[derive(Debug)]
struct Kept {
    key: String,
    id: String,
    status: Status,
}

/// Holds everything against everything.
pub(super) fn judge(field: &Field<'_>) -> Result<(Counts, Vec<Violation>)> {
    let stored = field.runtime.block_on(stored(&field.store.url()))?;
    let mut counts = Counts::default();
    let mut violations = Vec::new();
    let ids = producers::ids(field);
    counts.messages = ids.len();
    for letter in stored.letters.values().flatten() {
        let place = Reason::ALL.iter().position(|it| *it == letter.reason);
        counts.parked[place.ok_or("a reason that is none")?] += 1;
    }
    match field.args.strength {
        Strength::Lease => of_calls(field, &ids, &stored, &mut counts, &mut violations),
        Strength::Transaction => of_rows(field, &ids, &stored, &mut counts, &mut violations)?,
    }
    // What is unresolved is among the letters, so that somebody hears of it; and nothing runs any more.
    let told: HashSet<&str> =
        stored.letters.values().flatten().filter_map(|it| it.record.as_deref()).collect();
    for record in &stored.records {
        match record.status {
            Status::Unresolved if !told.contains(record.id.as_str()) => {
                counts.lost += 1;
                violations.push(("lost", format!("{record:?}, and no letter says so")));
            }
            Status::Running => {
                counts.stuck += 1;
                violations.push(("stuck", format!("{record:?}")));
            }
            _ => {}
        }
    }
    if let Some(receiver) = &field.receiver {
        let is_done = |it: &&Kept| it.status == Status::Done;
        let done = stored.records.iter().filter(is_done).map(|it| it.key.as_str()).collect();
        let calls = field.handler.calls();
        let (of_effects, seen) =
            carried::judge(&done, &calls, &receiver.arrivals(), &stored.left, &field.faults());
        counts.carried = Some(of_effects);
        violations.extend(seen);
    }
    Ok((counts, violations))
}

fn of_calls(
    field: &Field<'_>,
    ids: &[String],
    stored: &Stored,
    counts: &mut Counts,
    violations: &mut Vec<Violation>,
) {
    let faults = field.faults();
    let calls = field.handler.calls();
    counts.calls = calls.len();
    counts.effects = calls.iter().filter(|it| it.effect.is_some()).count();
    let mut by_id: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in &calls {
        by_id.entry(&call.id).or_default().push(call);
    }
    for id in ids {
        let calls = by_id.remove(id.as_str()).unwrap_or_default();
        let letters = stored.letters.get(id).map_or(&[][..], Vec::as_slice);
        let records = || stored.records.iter().filter(|it| it.key == *id).collect::<Vec<_>>();
        let story =
            || format!("{id}: {}, {}, {:?}", shown(&calls, &faults), shown_letters(letters), records());
        // Who was refused may be asked again, where that could not be noted.
        let is_over = |it: &Call| matches!(it.end, End::Released | End::Refused) && it.answered.is_some();
        for (before, call) in calls.iter().zip(calls.iter().skip(1)) {
            // Under `hold` only what said that nothing happened may be tried again, and only then.
            if !is_over(before) || before.answered > Some(call.arrived) {
                counts.doubled += 1;
                violations.push(("doubled", story()));
            }
            if before.fence >= call.fence || before.attempt >= call.attempt {
                violations.push(("fences", story()));
            }
        }
        let done = calls.iter().any(|it| it.end == End::Done && it.answered.is_some());
        counts.done += usize::from(done);
        if !done && letters.is_empty() {
            counts.lost += 1;
            violations.push(("lost", story()));
        }
        for letter in letters {
            let last = calls.last();
            counts.done_and_parked += usize::from(done);
            let fits = match letter.reason {
                Reason::Unresolved => {
                    counts.never_called += usize::from(last.is_none());
                    // Whichever it was that left it open. Where its handler said later that nothing happened, others followed.
                    match calls.as_slice() {
                        [] => !faults.is_empty(),
                        calls => calls.iter().any(|it| explains(it, &faults)),
                    }
                }
                Reason::Attempts => {
                    last.is_some_and(|it| it.end == End::Released) && letter.attempts >= super::ATTEMPTS
                }
                Reason::Handler => last.is_some_and(|it| it.end == End::Refused),
                Reason::NoIdentity | Reason::OtherPayload => false,
            };
            if !fits {
                counts.unexplained += 1;
                violations.push(("unexplained", story()));
            }
        }
    }
    for id in by_id.keys() {
        violations.push(("invented", format!("{id} was handled and never published")));
    }
}

/// Whether it is known why nobody knew what a call did.
fn explains(call: &Call, faults: &[Fault]) -> bool {
    if matches!(call.end, End::Cut | End::Failed) {
        return true;
    }
    // A call that has no answer was cut off by the end of its caller, or is one that was not waited for.
    let to = call.answered.map(|it| it + AROUND);
    let meets = |it: &&Fault| it.to + AROUND >= call.arrived && to.is_none_or(|to| it.from <= to);
    let of_caller = faults.iter().filter(meets).any(|it| it.process.is_none_or(|it| it == call.process));
    // Where the call said that nothing happened, another process was next, and did not come to call.
    of_caller || (call.end == End::Released && faults.iter().any(|it| it.to + AROUND >= call.arrived))
}

fn of_rows(
    field: &Field<'_>,
    ids: &[String],
    stored: &Stored,
    counts: &mut Counts,
    violations: &mut Vec<Violation>,
) -> Result<()> {
    let rows = field.store.sql("SELECT id || ' ' || count(*) FROM ledger GROUP BY id");
    let mut rows: HashMap<&str, usize> = rows
        .lines()
        .filter_map(|it| it.split_once(' '))
        .map(|it| (it.0, it.1.parse().unwrap_or(0)))
        .collect();
    for id in ids {
        let effects = rows.remove(id.as_str()).unwrap_or(0);
        let letters = stored.letters.get(id).map_or(&[][..], Vec::as_slice);
        let story = || format!("{id}: {effects} rows, {}", shown_letters(letters));
        counts.effects += effects;
        counts.done += usize::from(effects > 0);
        if effects > 1 {
            counts.doubled += 1;
            violations.push(("doubled", story()));
        }
        if effects == 0 && letters.is_empty() {
            counts.lost += 1;
            violations.push(("lost", story()));
        }
        // Nothing is ever unresolved here, and what was parked was rolled back.
        let wrong = |it: &Letter| !matches!(it.reason, Reason::Attempts | Reason::Handler) || effects > 0;
        if letters.iter().any(wrong) {
            counts.unexplained += 1;
            counts.done_and_parked += usize::from(effects > 0);
            violations.push(("unexplained", story()));
        }
    }
    for id in rows.keys() {
        violations.push(("invented", format!("{id} has a row and was never published")));
    }
    Ok(())
}

async fn stored(url: &str) -> Result<Stored> {
    let engine = Engine::new(onceward::open_to_look(url).await?);
    let letters = Letters::new(engine.clone());
    let (mut stored, mut cursor) = (Stored::default(), None);
    stored.left = carried::Left::of(&engine).await?;
    loop {
        let (page, next) = letters.list(None, cursor, 500).await?;
        for (_, letter) in page {
            let id = String::from_utf8_lossy(&letter.message.body).into_owned();
            stored.letters.entry(id).or_default().push(letter);
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    let mut cursor = None;
    loop {
        let page = engine.list(&Filter::default(), cursor, 500).await?;
        let of_messages = page.records.iter().filter(|it| it.listing.kind != DEAD_LETTER);
        stored.records.extend(of_messages.map(|it| Kept {
            key: it.listing.key.to_string(),
            id: it.id.to_string(),
            status: it.status_at(page.now),
        }));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(stored)
}

fn shown(calls: &[&Call], faults: &[Fault]) -> String {
    let of_callers = faults.iter().filter(|fault| {
        calls.iter().any(|call| {
            fault.process.is_none_or(|it| it == call.process)
                && fault.to + ms(5_000) > call.arrived
                && fault.from < call.answered.unwrap_or(call.arrived) + ms(5_000)
        })
    });
    format!("calls {calls:#?}, faults of their callers {:#?}", of_callers.collect::<Vec<_>>())
}

fn shown_letters(letters: &[Letter]) -> String {
    let told = letters.iter().map(|it| format!("`{}` after {}: {}", it.reason, it.attempts, it.detail));
    format!("letters {:?}", told.collect::<Vec<_>>())
}
