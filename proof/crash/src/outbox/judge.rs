//! What came of a run: what services committed, against the stream of the broker and the handler behind it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::adders::{Added, Committed};
use super::behind::Handler;
use super::{Field, IN_HAND, STREAM};
use crate::Result;

/// The ledger in numbers.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) committed: usize,
    pub(super) in_doubt: usize,
    pub(super) late: usize,
    pub(super) rolled_back: u64,
    pub(super) sends: usize,
    pub(super) repeats: u64,
    pub(super) repeats_max: u64,
    pub(super) lost: usize,
    pub(super) invented: usize,
    pub(super) renamed: usize,
    pub(super) disordered: usize,
    pub(super) handled: usize,
    pub(super) unseen: usize,
    pub(super) doubled: usize,
}

/// A check, and what it saw.
pub(super) type Violation = (&'static str, String);

/// Holds everything against everything.
pub(super) fn judge(
    field: &Field<'_>,
    committed: &Committed,
    handler: &Handler,
) -> Result<(Counts, Vec<Violation>)> {
    let there: HashSet<String> = field
        .database
        .sql("SELECT convert_from(body, 'UTF8') FROM onceward_outbox")
        .lines()
        .map(str::to_owned)
        .collect();
    // Of those in doubt, what the database has was committed.
    let effects: Vec<&Added> =
        committed.effects.iter().filter(|it| !it.in_doubt || there.contains(&it.label)).collect();
    let sent = stream(field)?;
    let mut violations = Vec::new();
    let mut first = HashMap::new();
    for (at, (_, label)) in sent.iter().enumerate() {
        first.entry(label.as_str()).or_insert(at);
    }
    let by_label: HashMap<_, _> = effects.iter().map(|it| (it.label.as_str(), *it)).collect();
    let mut counts = Counts {
        committed: effects.len(),
        in_doubt: effects.iter().filter(|it| it.in_doubt).count(),
        rolled_back: committed.rolled_back,
        sends: sent.len(),
        repeats: (sent.len() - first.len()) as u64,
        ..Counts::default()
    };
    // They stand there in the order in which they became visible, or nearly: late are those with a number below one before.
    let mut highest = 0;
    for effect in &effects {
        counts.late += usize::from(effect.number < highest);
        highest = highest.max(effect.number);
    }
    for effect in &effects {
        if !first.contains_key(effect.label.as_str()) {
            counts.lost += 1;
            violations.push(("lost", format!("{effect:?} was committed and never sent")));
        }
    }
    for (id, label) in &sent {
        match by_label.get(label.as_str()) {
            None => {
                counts.invented += 1;
                violations.push(("invented", format!("{label} was sent and never committed")));
            }
            Some(effect) if effect.id != *id => {
                counts.renamed += 1;
                violations.push(("id", format!("{effect:?} was sent under the id {id}")));
            }
            Some(_) => {}
        }
    }
    let mut last: HashMap<usize, (&str, usize)> = HashMap::new();
    for effect in &effects {
        let (Some(key), Some(at)) = (effect.key, first.get(effect.label.as_str())) else { continue };
        if let Some((before, place)) = last.insert(key, (&effect.label, *at))
            && place > *at
        {
            counts.disordered += 1;
            violations
                .push(("order", format!("{effect:?} was sent before {before}, which was committed earlier")));
        }
    }
    let ends = field.kills.load(Ordering::SeqCst) + field.stops.load(Ordering::SeqCst);
    // Where the broker stands still or the database is away, every relay may lose its leases.
    let others = field.restarts.load(Ordering::SeqCst) * field.args.relays;
    counts.repeats_max = (ends + others) * IN_HAND;
    if counts.repeats > counts.repeats_max {
        violations.push((
            "repeats",
            format!("{} effects were sent again, at most {}", counts.repeats, counts.repeats_max),
        ));
    }
    let handled = handler.handled();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for label in &handled {
        *times.entry(label).or_default() += 1;
    }
    counts.handled = handled.len();
    counts.doubled = times.values().filter(|it| **it > 1).count();
    counts.unseen = first.keys().filter(|it| !times.contains_key(*it)).count();
    if counts.doubled > 0 {
        violations
            .push(("doubled", format!("{} effects reached the handler more than once", counts.doubled)));
    }
    if counts.unseen > 0 {
        violations.push(("unseen", format!("{} effects never reached the handler", counts.unseen)));
    }
    Ok((counts, violations))
}

/// The id and the body of everything that was sent, in order.
fn stream(field: &Field<'_>) -> Result<Vec<(String, String)>> {
    let entries: Value = serde_json::from_str(&field.broker.cli(&["--json", "XRANGE", STREAM, "-", "+"]))?;
    let entry = |it: &Value| {
        let words: Vec<&str> = it[1].as_array()?.iter().map(|it| it.as_str().unwrap_or_default()).collect();
        let value = |name: &str| words.chunks(2).find(|it| it[0] == name).map(|it| it[1].to_owned());
        Some((value("event-id")?, value("body")?))
    };
    let entries = entries.as_array().ok_or("the broker has no stream")?;
    entries.iter().map(|it| entry(it).ok_or_else(|| format!("a strange entry: {it}").into())).collect()
}
