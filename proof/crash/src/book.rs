//! What callers were told, held against the ledger at once: this is where a run fails.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Result;
use crate::client::Reply;
use crate::ledger::{Kind, Ledger, Name, Row};
use crate::plan::{Op, retention};
use crate::script::Script;
use crate::time::{ms, now};

/// For so long after a fault has ended an operation may be unresolved for its sake.
const AFTERMATH: Duration = ms(1_500);

/// What a caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The stored answer, by a first run or a replay.
    Answer,
    /// The upstream's word that nothing happened.
    Released,
    /// The upstream's word that leaves open what happened.
    Unknown,
    /// A problem of the gateway.
    Problem(String),
    /// Nothing, or half of something.
    Nothing,
}

/// An answer that some caller has seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) digest: blake3::Hash,
    pub(crate) at: Duration,
    /// Until when it must be replayed, at least.
    pub(crate) until: Duration,
    pub(crate) payload: u64,
}

/// All that is known of a record.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) op: Op,
    pub(crate) since: Duration,
    /// Something was asked for that may leave it unresolved with no other fault.
    pub(crate) risky: bool,
    pub(crate) answer: Option<Seen>,
    pub(crate) rows: Vec<Row>,
    pub(crate) told: Vec<(Duration, Duration, String)>,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    /// The check that saw it, in one or two words.
    pub(crate) check: &'static str,
    pub(crate) what: String,
    pub(crate) name: Option<Name>,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) left: AtomicU64,
    pub(crate) answers: AtomicU64,
    pub(crate) replays: AtomicU64,
    pub(crate) in_progress: AtomicU64,
    pub(crate) mismatches: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unresolved: AtomicU64,
    pub(crate) overruled: AtomicU64,
    pub(crate) kills: AtomicU64,
    pub(crate) stops: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) upstream_kills: AtomicU64,
    pub(crate) upstream_stops: AtomicU64,
    pub(crate) cuts: AtomicU64,
    pub(crate) full_disks: AtomicU64,
    pub(crate) store_kills: AtomicU64,
    pub(crate) store_stops: AtomicU64,
    pub(crate) wire_faults: AtomicU64,
    pub(crate) stalls: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) struct Book {
    inner: Mutex<Inner>,
    pub(crate) counts: Counts,
    /// Set at the first violation, or when the time is over.
    pub(crate) ends: AtomicBool,
}

struct Inner {
    ledger: Ledger,
    entries: HashMap<Name, Entry>,
    /// Rows of records that nobody has noted yet are kept here.
    strange: HashMap<Name, Vec<Row>>,
    faults: Vec<(Duration, Option<Duration>, &'static str)>,
    violations: Vec<Violation>,
}

impl Book {
    pub(crate) fn open(ledger: &Path) -> Result<Self> {
        let inner = Inner {
            ledger: Ledger::open(ledger)?,
            entries: HashMap::new(),
            strange: HashMap::new(),
            faults: Vec::new(),
            violations: Vec::new(),
        };
        Ok(Self { inner: Mutex::new(inner), counts: Counts::default(), ends: AtomicBool::new(false) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }

    pub(crate) fn blame(&self, check: &'static str, what: String, name: Option<Name>) {
        self.accuse(Violation { check, what, name });
    }

    fn accuse(&self, violation: Violation) {
        self.inner().violations.push(violation);
        self.ends.store(true, Ordering::SeqCst);
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.inner().violations.clone()
    }

    /// A fault begins. It ends with [`Book::heal`].
    pub(crate) fn fault(&self, what: &'static str) {
        self.inner().faults.push((now(), None, what));
    }

    /// All faults of this kind are over.
    pub(crate) fn heal(&self, what: &'static str) {
        let end = Some(now());
        self.inner().faults.iter_mut().filter(|it| it.2 == what && it.1.is_none()).for_each(|it| it.1 = end);
    }

    /// A request is about to be sent.
    pub(crate) fn sends(&self, op: &Op, script: &Script) {
        count(&self.counts.requests);
        if script.is_risky() {
            count(&self.counts.cuts);
        }
        let mut inner = self.inner();
        let rows = inner.strange.remove(&op.name()).unwrap_or_default();
        let entry = inner.entries.entry(op.name()).or_insert_with(|| Entry {
            op: op.clone(),
            since: now(),
            risky: false,
            answer: None,
            rows,
            told: Vec::new(),
        });
        entry.risky |= script.is_risky();
    }

    /// What is known from an earlier life of the records. The ledger is read anew.
    pub(crate) fn seed(&self, entry: Entry) {
        let mut inner = self.inner();
        let name = entry.op.name();
        let rows = inner.strange.remove(&name).unwrap_or_default();
        inner.entries.insert(name, Entry { rows, told: Vec::new(), risky: true, ..entry });
    }

    /// The operation may end in any way from here on: an operator has overruled its holder.
    pub(crate) fn risk(&self, op: &Op) {
        if let Some(entry) = self.inner().entries.get_mut(&op.name()) {
            entry.risky = true;
        }
    }

    /// Notes what a caller was told, or that it was told nothing, and holds it against all that is known.
    pub(crate) fn told(&self, op: &Op, sent: Duration, reply: Option<&Reply>) -> Told {
        let told = kind_of(reply);
        let counts = &self.counts;
        match (&told, reply.is_some_and(Reply::is_replay)) {
            (Told::Answer, true) => count(&counts.replays),
            (Told::Answer, false) => count(&counts.answers),
            (Told::Released | Told::Unknown, _) => {}
            (Told::Problem(problem), _) => match problem.as_str() {
                "in-progress" => count(&counts.in_progress),
                "key-reused" => count(&counts.mismatches),
                _ => count(&counts.refused),
            },
            (Told::Nothing, _) => count(&counts.left),
        }
        let mut inner = self.inner();
        let read = inner.read_ledger();
        let checked = inner.check(op, sent, &told, reply);
        drop(inner);
        let checked = checked.map_err(|(check, what)| Violation { check, what, name: Some(op.name()) });
        for violation in [read.err(), checked.err()].into_iter().flatten() {
            self.accuse(violation);
        }
        told
    }

    /// Reads the ledger: also what nobody was told of is held against the promises.
    pub(crate) fn read_ledger(&self) {
        let read = self.inner().read_ledger();
        if let Err(violation) = read {
            self.accuse(violation);
        }
    }

    /// The lines of the ledger about this record, from the ledger as it is now.
    pub(crate) fn rows(&self, op: &Op, kind: Kind) -> Vec<Row> {
        self.read_ledger();
        let inner = self.inner();
        let rows = inner.entries.get(&op.name()).map(|it| it.rows.as_slice()).unwrap_or_default();
        rows.iter().filter(|it| it.kind == kind).cloned().collect()
    }

    /// The same for all callers of a key.
    pub(crate) fn rows_of(&self, path: &str, key: &str) -> Vec<Row> {
        self.read_ledger();
        let inner = self.inner();
        let all = inner.entries.iter().filter(|it| it.0.path == path && it.0.key == key);
        all.flat_map(|it| it.1.rows.clone()).collect()
    }

    pub(crate) fn entry(&self, op: &Op) -> Option<Entry> {
        self.inner().entries.get(&op.name()).cloned()
    }

    /// Whether a fault explains that an operation which began then is unresolved.
    pub(crate) fn is_excused(&self, op: &Op) -> bool {
        let inner = self.inner();
        let Some(entry) = inner.entries.get(&op.name()) else { return true };
        entry.risky || inner.faults.iter().any(|it| it.1.is_none_or(|end| end + AFTERMATH >= entry.since))
    }

    /// All operations, in an order that depends on nothing but their names.
    pub(crate) fn all(&self) -> Vec<Entry> {
        let mut all: Vec<_> = self.inner().entries.values().cloned().collect();
        all.sort_by_key(|it| it.op.name());
        all
    }

    /// The story of a record: the ledger, what callers saw, the faults meanwhile.
    pub(crate) fn story(&self, name: &Name) -> Vec<String> {
        let inner = self.inner();
        let mut lines = Vec::new();
        if let Some(entry) = inner.entries.get(name) {
            let rows = entry.rows.iter().chain(inner.strange.get(name).into_iter().flatten());
            lines.extend(
                rows.map(|it| (it.at, format!("ledger  {}", it.line().trim_end().replace('\t', " ")))),
            );
            let told = entry.told.iter();
            lines.extend(
                told.map(|it| (it.1, format!("caller  sent at {:.3}, {}", it.0.as_secs_f64(), it.2))),
            );
            let faults =
                inner.faults.iter().filter(|it| it.1.is_none_or(|end| end + AFTERMATH >= entry.since));
            lines.extend(faults.map(|it| {
                let end = it.1.map_or(f64::INFINITY, |end| end.as_secs_f64());
                (it.0, format!("nemesis {} until {end:.3}", it.2))
            }));
        }
        lines.sort();
        lines.into_iter().map(|(at, line)| format!("{:12.3} {line}", at.as_secs_f64())).collect()
    }
}

/// A check that failed, and what it saw.
type Broken = (&'static str, String);

impl Inner {
    fn read_ledger(&mut self) -> Result<(), Violation> {
        let unread = |it: std::io::Error| Violation { check: "ledger", what: it.to_string(), name: None };
        let rows = self.ledger.news().map_err(unread)?;
        let mut broken = Ok(());
        let mut blame = |check, what: &str, name: &Name| {
            broken = Err(Violation { check, what: what.to_owned(), name: Some(name.clone()) });
        };
        for row in rows {
            let name = row.name.clone();
            let rows = match self.entries.get_mut(&name) {
                Some(entry) => &mut entry.rows,
                None => self.strange.entry(name.clone()).or_default(),
            };
            let (kind, fence) = (row.kind, row.fence);
            let before = rows.iter().filter(|it| it.kind == kind);
            match kind {
                Kind::Effect if before.clone().count() > 0 => {
                    blame("two effects", "the effect has happened before", &name);
                }
                Kind::Arrived if before.map(|it| it.fence).max() >= Some(fence) => {
                    blame("fences", &format!("the fence {fence} is not higher than the last"), &name);
                }
                Kind::Effect | Kind::Arrived => {}
            }
            rows.push(row);
        }
        broken
    }

    fn check(&mut self, op: &Op, sent: Duration, told: &Told, reply: Option<&Reply>) -> Result<(), Broken> {
        let received = now();
        let Some(entry) = self.entries.get_mut(&op.name()) else { return Ok(()) };
        let line = match reply {
            Some(it) => format!("{told:?} {} {} bytes, replay {}", it.status, it.body.len(), it.is_replay()),
            None => "got nothing, or left".to_owned(),
        };
        entry.told.push((sent, received, line));
        let payload = op.payload();
        if let (Told::Answer, Some(reply)) = (told, reply) {
            return entry.answered(payload, received, reply);
        }
        let Some(seen) = &entry.answer else { return Ok(()) };
        // What was under way when the answer was told may say what was so before.
        if sent < seen.at || received >= seen.until {
            return Ok(());
        }
        let lost = match told {
            Told::Answer | Told::Nothing => false,
            Told::Released | Told::Unknown => true,
            Told::Problem(problem) => match problem.as_str() {
                "in-progress" | "unresolved" | "answer-gone" | "answer-not-kept" | "outcome-unresolved" => {
                    true
                }
                "key-reused" => payload == seen.payload,
                _ => false,
            },
        };
        if lost {
            return Err((
                "lost answer",
                format!("an answer was seen, and now the same request gets {told:?}"),
            ));
        }
        Ok(())
    }
}

impl Entry {
    fn answered(&mut self, payload: u64, received: Duration, reply: &Reply) -> Result<(), Broken> {
        let receipt = reply.header("crash-receipt").unwrap_or_default();
        let row = self.rows.iter().find(|it| it.kind == Kind::Effect && it.receipt == receipt);
        let is_void = reply.header("crash-kind") == Some("void");
        let effect = match row {
            Some(row) if row.payload != payload => {
                return Err(("payload", "an answer to another payload was told".to_owned()));
            }
            Some(row) => row.at,
            None if is_void => received,
            None => {
                return Err(("foreign answer", format!("no effect of this record has receipt {receipt:?}")));
            }
        };
        let digest = reply.digest();
        let until = effect + retention(self.op.path);
        match &self.answer {
            Some(seen) if seen.digest != digest => {
                Err(("changed answer", format!("another answer was seen before; this one: {reply:.400?}")))
            }
            Some(_) => Ok(()),
            None => {
                self.answer = Some(Seen { digest, at: received, until, payload });
                Ok(())
            }
        }
    }
}

fn kind_of(reply: Option<&Reply>) -> Told {
    let Some(reply) = reply else { return Told::Nothing };
    if let Some(problem) = reply.problem() {
        return Told::Problem(problem);
    }
    match reply.header("crash-kind") {
        Some("answer" | "void") => Told::Answer,
        Some("release") => Told::Released,
        Some("unknown") => Told::Unknown,
        _ => Told::Problem(format!("something strange: {}", reply.status)),
    }
}
