//! After the faults: everything settles, an operator who knows the ledger resolves what is left, and every answer that
//! anybody saw is there, also when nothing is left of it in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::arena::Arena;
use crate::book::{Entry, Told, count};
use crate::client::Client;
use crate::gateway::Up;
use crate::ledger::Kind;
use crate::nemesis::{keep_up, lock};
use crate::plan::Op;
use crate::script::Script;
use crate::time::{ms, now, until};

/// Longer than `run_max` of every route, and the longest wait.
const SETTLE: Duration = ms(25_000);
/// How long a store may take to open.
const OPEN: Duration = ms(10_000);
const PATIENCE: Duration = ms(9_000);
const WORKERS: usize = 8;

/// What the healing found.
#[derive(Debug, Default)]
pub(crate) struct Healed {
    pub(crate) records: usize,
    pub(crate) resolved_with_answer: usize,
    pub(crate) resolved_to_rerun: usize,
    pub(crate) replayed: usize,
}

pub(crate) fn run(arena: &Arena) -> Result<Healed> {
    let book = &arena.book;
    // What the upstream still has from earlier holders dies with it: from here on no effect is late.
    lock(arena).renew(&arena.ledger, Duration::ZERO)?;
    keep_up(arena)?;
    // The store may still be opening.
    let up = arena.up(ms(10_000)).ok_or("there is no gateway")?;
    if until(OPEN, || up.records("state=running").ok()).is_none() {
        return Err(format!("the records cannot be listed: {}", arena.keeper().last_words()).into());
    }
    let all = book.all();
    let mut healed = Healed { records: all.len(), ..Healed::default() };
    each(arena, &all, |client, entry| settle(arena, client, entry, true));
    for record in up.records("state=running")? {
        book.blame("stuck", format!("it still runs: {record}"), None);
    }
    for record in up.records("state=unresolved")? {
        resolve(arena, &up, &record, &mut healed)?;
    }
    each(arena, &all, |client, entry| settle(arena, client, entry, false));
    // Nothing is left of it in memory.
    for keeper in &arena.fleet {
        keeper.kill()?;
        count(&book.counts.kills);
    }
    arena.store.forget();
    keep_up(arena)?;
    let all = book.all();
    let seen: Vec<_> = all.into_iter().filter(|it| it.answer.is_some()).collect();
    let replayed = AtomicUsize::new(0);
    each(arena, &seen, |client, entry| {
        settle(arena, client, entry, false);
        replayed.fetch_add(1, Ordering::Relaxed);
    });
    healed.replayed = replayed.into_inner();
    book.read_ledger();
    for keeper in &arena.fleet {
        match keeper.stop()? {
            Some(0) => {}
            code => book.blame("ended", format!("nothing was under way, and it ended with {code:?}"), None),
        }
    }
    Ok(healed)
}

/// Does something for each, several at a time, as long as nothing was broken.
fn each(arena: &Arena, all: &[Entry], what: impl Fn(&mut Client, &Entry) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut client = Client::default();
                while let Some(entry) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if arena.book.violations().is_empty() {
                        what(&mut client, entry);
                    }
                }
            });
        }
    });
}

/// Repeats an operation until it has an end: an answer, or, for now, that it is unresolved.
fn settle(arena: &Arena, client: &mut Client, entry: &Entry, may_be_unresolved: bool) {
    let mut op = entry.op.clone();
    let end = now() + SETTLE;
    let mut turns = 0;
    let last = loop {
        let told = arena.send(client, &op, &Script::PLAIN, PATIENCE);
        let problem = match &told {
            Told::Answer => return,
            Told::Problem(problem) => problem.as_str(),
            Told::Released | Told::Unknown | Told::Nothing => "",
        };
        match problem {
            "unresolved" if may_be_unresolved => return,
            // Its retention is over, or it was `told` that this breaks a promise.
            "answer-gone" => return,
            // It was first used with the other payload.
            "key-reused" if turns < 2 => {
                turns += 1;
                op.payload.0 = 1 - op.payload.0;
                continue;
            }
            _ => {}
        }
        if now() > end {
            break told;
        }
        thread::sleep(ms(50));
    };
    arena.book.blame("stuck", format!("it has no end: {last:?}"), Some(entry.op.name()));
}

/// What an operator says who knows the ledger.
fn resolve(arena: &Arena, up: &Up, record: &Value, healed: &mut Healed) -> Result<()> {
    let book = &arena.book;
    count(&book.counts.unresolved);
    let fence =
        record["fence"].as_str().and_then(|it| it.parse::<u64>().ok()).ok_or("a record without a fence")?;
    let key = record["key"].as_str().unwrap_or_default();
    let path = record["path"].as_str().unwrap_or_default();
    let rows = book.rows_of(path, key);
    let receipt =
        rows.iter().find(|it| it.fence == fence && it.kind == Kind::Effect).map(|it| it.receipt.clone());
    let revision = &record["revision"];
    let verdict = match receipt {
        Some(receipt) => {
            healed.resolved_with_answer += 1;
            let headers = json!([["crash-kind", "answer"], ["crash-receipt", receipt]]);
            let answer = json!({"status": 200, "headers": headers, "body": "it happened"});
            json!({"outcome": "answer", "revision": revision, "answer": answer})
        }
        None => {
            healed.resolved_to_rerun += 1;
            json!({"outcome": "rerun", "revision": revision})
        }
    };
    let told = up.resolve(record, &verdict)?;
    if told.status != 200 {
        let name = rows.first().map(|it| it.name.clone());
        book.blame("stuck", format!("an operator cannot resolve it: {told:?}"), name);
    }
    Ok(())
}

/// The record's prefix in the logs, where the gateway can be asked.
pub(crate) fn prefixes(arena: &Arena, op: &Op) -> Vec<String> {
    let records =
        arena.any_up().and_then(|up| up.records(&format!("key={}", op.key)).ok()).unwrap_or_default();
    let ids = records.iter().filter(|it| it["path"] == op.path).filter_map(|it| it["id"].as_str());
    ids.map(|it| it.chars().take(12).collect()).collect()
}
