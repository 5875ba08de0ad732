//! Wrong histories and wrong stores are caught, right ones are not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fastrand::Rng;
use onceward_core::store::{Insert, Put, Replace};
use onceward_core::{Clock as _, RecordId, Result, Store, SystemClock};
use tokio::task::JoinSet;

use super::{
    Ask, Called, Client, Event, Facts, Kind, Log, OneRecord, Plan, Sequential, Told, check, histories,
};
use crate::conformance::broken::{Law, fixture};
use crate::conformance::{Fixture, Memory, Wrapping};
use crate::wrapper::{Wrapped, Wrapper};

type History = Vec<Called<Ask, Told>>;

/// Calls as a picture: each line is one call, from its `[` to its `]`; without a `]` it has no end.
fn drawn<A: Clone, T: Clone>(lines: &[(&str, A, Option<T>)]) -> Vec<Called<A, T>> {
    let calls = lines.iter().enumerate().map(|(who, (line, ask, told))| Called {
        who: who as u64,
        ask: ask.clone(),
        began: line.find('[').expect("a call begins"),
        ended: line.find(']'),
        told: told.clone(),
    });
    let mut calls: Vec<_> = calls.collect();
    calls.sort_by_key(|it| it.began);
    calls
}

fn write(name: u64) -> super::one_record::Write {
    super::one_record::Write { name, grant: Some(1), kind: Kind::Running, not_after: 1000 }
}

fn fact(name: u64, revision: u64) -> Facts {
    Facts {
        name,
        kind: Kind::Running,
        owner: [1; 16],
        fence: revision,
        revision,
        attempt: u32::try_from(revision / 10).unwrap(),
        lease_until: 0,
        answer_until: u64::MAX,
        gone_until: u64::MAX,
        updated: 1,
    }
}

fn insert(name: u64) -> Ask {
    Ask::Insert(write(name))
}

fn swap(seen: u64, name: u64) -> Ask {
    Ask::Replace(seen, write(name))
}

fn kept(name: u64, revision: u64) -> Option<Told> {
    Some(Told::Kept(fact(name, revision)))
}

fn shown(name: u64, revision: u64) -> Option<Told> {
    Some(Told::Shown(Some(fact(name, revision)), 7))
}

const NOTHING: Option<Told> = Some(Told::Shown(None, 7));

#[test]
fn a_history_with_an_order_has_one() {
    for lines in [
        &[
            ("[--]", insert(1), kept(1, 10)),
            ("  [--]", insert(2), shown(1, 10)),
            ("[]    ", Ask::Load, NOTHING),
        ][..],
        // The call that began last was carried out first.
        &[("[----]", insert(1), shown(2, 10)), (" [--] ", insert(2), kept(2, 10))],
        // It was told nothing, and landed: late, or at once.
        &[("[        ", insert(1), None), (" []", Ask::Load, NOTHING), ("    []", Ask::Load, shown(1, 10))],
        // It was told nothing, and never landed.
        &[("[        ", insert(1), None), (" []", Ask::Load, NOTHING), ("    []", insert(2), kept(2, 10))],
        // It died and had landed, or had not.
        &[("[--]", insert(1), None), ("    []", Ask::Load, shown(1, 10))],
        &[("[--]", insert(1), None), ("    []", Ask::Load, NOTHING)],
        // A swap on a revision that came from a call without a reply.
        &[("[", insert(1), None), (" []", Ask::Load, shown(1, 10)), ("   []", swap(10, 2), kept(2, 20))],
    ] {
        assert!(check(&OneRecord, &drawn(lines)).is_ok(), "{lines:?}");
    }
}

#[test]
fn a_history_without_an_order_has_none() {
    let over = Facts { kind: Kind::Done, answer_until: 5, gone_until: 5, ..fact(1, 10) };
    for (lines, why) in [
        (&[("[--]", insert(1), kept(1, 10)), (" [--]", insert(2), kept(2, 20))][..], "two were kept"),
        (&[("[]", insert(1), kept(1, 10)), ("   []", Ask::Load, NOTHING)], "a look that is stale"),
        (
            &[("[--]", insert(1), shown(2, 10)), ("     []", insert(2), kept(2, 10))],
            "shown before it was asked for",
        ),
        (
            &[
                ("[]", insert(1), kept(1, 10)),
                ("  [-]", swap(10, 2), kept(2, 20)),
                ("  [-]", swap(10, 3), kept(3, 30)),
            ],
            "two swaps on one revision",
        ),
        (
            &[
                ("[]", insert(1), kept(1, 10)),
                ("  []", swap(10, 2), kept(2, 20)),
                ("    []", Ask::Load, shown(1, 10)),
            ],
            "it went back",
        ),
        (
            &[("[]", insert(1), kept(1, 10)), ("  []", swap(10, 2), kept(2, 10))],
            "a revision that was there before",
        ),
        (&[("[]", swap(0, 1), kept(1, 10))], "a swap that creates"),
        (
            &[("[]", insert(1), kept(1, 10)), ("  []", swap(10, 2), shown(1, 10))],
            "a swap that should be kept",
        ),
        (
            &[
                ("[--]", insert(1), None),
                ("    []", Ask::Load, NOTHING),
                ("       []", Ask::Load, shown(1, 10)),
            ],
            "the dead act",
        ),
        (
            &[("[]", insert(1), Some(Told::Kept(over))), ("  []", Ask::Load, NOTHING)],
            "removed before it had settled",
        ),
        (
            &[("[]", insert(1), kept(1, 10)), ("  []", Ask::Load, Some(Told::Shown(None, u64::MAX)))],
            "a running record was swept",
        ),
    ] {
        let stuck = check(&OneRecord, &drawn(lines)).expect_err(why);
        assert!(!stuck.calls.is_empty());
    }
}

#[test]
fn a_report_shows_the_shortest_part_without_what_only_looked() {
    let mut lines = vec![("[]", insert(1), kept(1, 10))];
    let looks: Vec<String> = (1..9).map(|it| format!("{}[]", "  ".repeat(it))).collect();
    lines.extend(looks.iter().map(|it| (&it[..], Ask::Load, shown(1, 10))));
    lines.push(("                    []", insert(2), kept(2, 20)));
    lines.push(("                      []", Ask::Load, shown(2, 20)));
    let stuck = check(&OneRecord, &drawn(&lines)).unwrap_err();
    assert_eq!(stuck.calls.len(), 2, "{stuck}");
    assert!(stuck.to_string().contains("client 9: Insert"), "{stuck}");
}

/// A number that is set and read: small enough to try every order of a few calls.
struct Register;

impl Sequential for Register {
    type State = u8;
    type Ask = Option<u8>;
    type Told = u8;

    fn start(&self) -> u8 {
        0
    }

    /// Setting tells what was there before.
    fn step(&self, state: &u8, ask: &Option<u8>, told: Option<&u8>) -> Vec<u8> {
        if told.is_some_and(|it| it != state) { vec![] } else { vec![ask.unwrap_or(*state)] }
    }

    fn only_looks(&self, ask: &Option<u8>, _: Option<&u8>) -> bool {
        ask.is_none()
    }
}

/// Tries every order of every part of the calls that has all that were told something.
fn has_an_order(calls: &[Called<Option<u8>, u8>], taken: &mut Vec<usize>, state: u8) -> bool {
    let left: Vec<usize> = (0..calls.len()).filter(|it| !taken.contains(it)).collect();
    if left.iter().all(|it| calls[*it].told.is_none()) {
        return true;
    }
    left.iter().any(|&next| {
        let call = &calls[next];
        // Nothing that is left had ended before it; what was told nothing may also be left out.
        let first = left
            .iter()
            .all(|it| calls[*it].told.is_none() || calls[*it].ended.is_none_or(|ended| ended >= call.began));
        // What died before somebody else began takes effect before that or never.
        let alive = taken.iter().all(|it| call.ended.is_none_or(|ended| calls[*it].began <= ended));
        first
            && alive
            && Register.step(&state, &call.ask, call.told.as_ref()).into_iter().any(|state| {
                taken.push(next);
                let found = has_an_order(calls, taken, state);
                taken.pop();
                found
            })
    })
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    let mut random = Rng::with_seed(1);
    let mut with = 0;
    for _ in 0..3000 {
        let calls: Vec<_> = (0..random.u64(1..7))
            .map(|who| {
                let began = random.usize(0..10);
                let told = (random.u8(0..4) > 0).then(|| random.u8(0..3));
                let ended = (told.is_some() || random.bool()).then(|| began + random.usize(1..6));
                Called { who, ask: random.bool().then(|| random.u8(0..3)), began, ended, told }
            })
            .collect();
        let mut calls = calls;
        calls.sort_by_key(|it| it.began);
        let found = check(&Register, &calls).is_ok();
        assert_eq!(found, has_an_order(&calls, &mut Vec::new(), 0), "{calls:#?}");
        with += usize::from(found);
    }
    assert!(
        (600..2400).contains(&with),
        "of 3000 histories {with} have an order: too few, or too many, to prove much"
    );
}

/// What clients note who share one record of a memory store.
fn noted(clients: u64, calls: usize, leaves: u32) -> History {
    let log = Arc::new(Mutex::new(Vec::<Event>::new()));
    crate::conformance::run(4, async {
        let fixture = Memory::default();
        let store = fixture.open().await;
        let mut tasks = JoinSet::new();
        for who in 0..clients {
            let plan = Plan { records: 1, leaves, clock: fixture.clock(), ..Plan::new(5, who) };
            // Without a pause of its own every call to memory is done in one poll.
            let store: Arc<dyn Store> = Arc::new(crate::FaultyStore::yielding(Arc::clone(&store)));
            let mut client = Client::new(store, Arc::clone(&log) as Arc<dyn Log>, plan);
            tasks.spawn(async move { client.calls(calls).await });
        }
        tasks.join_all().await;
    });
    let events = std::mem::take(&mut *log.lock().unwrap());
    histories(&events).remove(&0).unwrap()
}

#[test]
fn ten_thousand_calls_of_one_record_are_checked_in_well_under_a_second() {
    for leaves in [0, 50] {
        let history = noted(8, 1400, leaves);
        let untold = history.iter().filter(|it| it.told.is_none()).count();
        assert!(history.len() > 10_000, "{}", history.len());
        let began = SystemClock.boot();
        let order = check(&OneRecord, &history);
        let took = SystemClock.boot() - began;
        println!("{} calls, {untold} of them without a reply: {took:?}", history.len());
        assert!(order.is_ok());
        assert!(took.as_secs() < 1, "{took:?}");
    }
}

#[test]
fn one_wrong_reply_among_thousands_is_seen() {
    let history = noted(4, 300, 20);
    assert!(check(&OneRecord, &history).is_ok());
    let mut random = Rng::with_seed(3);
    for _ in 0..8 {
        let mut wrong = history.clone();
        let at = loop {
            let at = random.usize(0..wrong.len());
            if matches!(wrong[at].told, Some(Told::Kept(_) | Told::Shown(..))) {
                break at;
            }
        };
        wrong[at].told = match wrong[at].told.take() {
            Some(Told::Kept(facts)) => Some(Told::Kept(Facts { revision: facts.revision - 1, ..facts })),
            Some(Told::Shown(Some(_), now)) => Some(Told::Shown(None, now)),
            _ => shown(1, 10),
        };
        let stuck = check(&OneRecord, &wrong).expect_err("the reply is wrong");
        assert!(stuck.calls.len() < wrong.len(), "{}", stuck.calls.len());
    }
}

/// Looks whether there is something, and if not, sets: the claim that everybody writes first.
#[derive(Debug)]
struct GetThenSet(Arc<dyn Store>);

#[async_trait]
impl Wrapper for GetThenSet {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        let found = self.0.load(id).await?;
        if let Some(record) = found.record {
            return Ok(Insert::Found(record, found.now));
        }
        tokio::task::yield_now().await;
        loop {
            match self.0.insert(id, put).await? {
                Insert::Found(other, _) => {
                    if let Replace::Kept(record) = self.0.replace(id, other.revision, put).await? {
                        return Ok(Insert::Kept(record));
                    }
                }
                told => return Ok(told),
            }
        }
    }
}

/// The report of the first of some runs that has no order.
fn caught<F: Fixture>(what: &str, fixture: impl Fn() -> F) -> String {
    for seed in 0..50 {
        let run = || crate::conformance::run(4, async { super::run(seed, &fixture()).await });
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            return panic.downcast_ref::<String>().expect("it says why").clone();
        }
    }
    panic!("{what} was not caught in 50 runs");
}

#[test]
fn a_store_that_claims_by_get_then_set_is_caught() {
    let said =
        caught("get then set", || Wrapping::new(Memory::default(), |it| Arc::new(Wrapped(GetThenSet(it)))));
    println!("{said}");
    assert!(said.contains("have no order"), "{said}");
    assert!(said.matches("client").count() <= 40, "the report is short:\n{said}");
}

#[test]
fn stores_that_break_a_law_are_caught() {
    for law in [
        Law::InsertOverwrites,
        Law::RevisionIgnored,
        Law::SwapCreates,
        Law::EveryChangeGrants,
        Law::SweepIsBlind,
    ] {
        let said = caught(&format!("{law:?}"), || fixture(law));
        assert!(said.contains("have no order"), "{said}");
    }
}

mod memory {
    use super::*;
    crate::store_history!(Memory::default(), runs = 20);
}

mod faulty {
    use super::*;
    crate::store_history!(
        Wrapping::new(Memory::default(), |it| Arc::new(crate::FaultyStore::yielding(it))),
        runs = 20
    );
}
