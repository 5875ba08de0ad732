//! A client that makes random calls to a few records and notes them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use onceward_core::store::{CALL_BUDGET_MAX, Grant, Insert, Put, Replace, SETTLE};
use onceward_core::{Answer, ErrorKind, Owner, Policy, RecordId, Result, Revision, State, Store, Timestamp};

use super::calls::{Event, Log, What};
use super::one_record::{Ask, Facts, Kind, Told, Write};
use crate::clock::HandClock;
use crate::patience::for_polls;
use crate::sample::claim_with_key;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What its choices are drawn from.
    pub seed: u64,
    /// Its name; no other client of the history has it. Below 2^32.
    pub who: u64,
    /// How many records there are. They are the same for every client.
    pub records: u8,
    /// One call of so many is left before its reply; 0 for none.
    pub leaves: u32,
    /// The clock of the store, which it moves on from time to time so that records end.
    pub clock: Option<HandClock>,
}

impl Plan {
    /// Client `who` of the clients of `seed`: four records, one call of twelve is left, time stands still.
    #[must_use]
    pub fn new(seed: u64, who: u64) -> Self {
        Self { seed, who, records: 4, leaves: 12, clock: None }
    }
}

/// Calls one after another.
pub struct Client {
    store: Arc<dyn Store>,
    log: Arc<dyn Log>,
    plan: Plan,
    random: Rng,
    /// How many writes it has named.
    writes: u64,
    /// What it was last shown of each record, and the store's time that it was last told.
    seen: Vec<Option<Facts>>,
    now: Timestamp,
    /// Whether its last call was refused.
    refused: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Short, so that hands on the clock end them.
const MOMENT: Duration = Duration::from_secs(1);

impl Client {
    /// A client of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, log: Arc<dyn Log>, plan: Plan) -> Self {
        let random = Rng::with_seed(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(plan.who));
        let seen = vec![None; usize::from(plan.records)];
        Self { store, log, plan, random, writes: 0, seen, now: Timestamp::ZERO, refused: false }
    }

    /// Makes so many calls.
    pub async fn calls(&mut self, count: usize) {
        for _ in 0..count {
            self.call().await;
        }
    }

    async fn call(&mut self) {
        if std::mem::take(&mut self.refused) {
            // Only so that its calls last until the store is back.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let record = self.random.u8(0..self.plan.records);
        let seen = self.seen[usize::from(record)];
        match self.random.u32(0..100) {
            0..25 => {
                let write = self.write(&[Kind::Running, Kind::Running, Kind::Done], true);
                self.insert(record, write).await;
            }
            25..75 => {
                let grants = self.random.bool();
                let write = self.write(
                    &[Kind::Running, Kind::Running, Kind::Done, Kind::Released, Kind::Abandoned],
                    grants,
                );
                // Mostly what it was shown last; it may be stale by now, and once in a while it was never true.
                let near = if self.random.u8(0..10) == 0 { 1 } else { 0 };
                let seen = seen.map_or(0, |it| it.revision).saturating_add(near);
                self.replace(record, seen, write).await;
            }
            75..92 => self.load(record).await,
            92..96 => self.sweep().await,
            _ => {
                if let Some(clock) = &self.plan.clock {
                    clock.advance(if self.random.bool() { MOMENT } else { SETTLE });
                }
            }
        }
    }

    async fn insert(&mut self, record: u8, write: Write) {
        self.note(What::Asks(record, Ask::Insert(write)));
        let (store, put) = (Arc::clone(&self.store), self.put(&write));
        let told = self.hear(store.insert(id(record), &put)).await;
        self.heard(record, told, |it| match it {
            Insert::Kept(it) => (Told::Kept(Facts::of(&it)), it.updated),
            Insert::Found(it, now) => (Told::Shown(Some(Facts::of(&it)), now.as_millis()), now),
            Insert::Late(now) => (Told::Nothing, now),
        });
    }

    async fn replace(&mut self, record: u8, seen: u64, write: Write) {
        self.note(What::Asks(record, Ask::Replace(seen, write)));
        let (store, put) = (Arc::clone(&self.store), self.put(&write));
        let told = self.hear(store.replace(id(record), Revision(seen), &put)).await;
        self.heard(record, told, |it| match it {
            Replace::Kept(it) => (Told::Kept(Facts::of(&it)), it.updated),
            Replace::Lost(it, now) => (Told::Shown(it.as_deref().map(Facts::of), now.as_millis()), now),
            Replace::Late(now) => (Told::Nothing, now),
        });
    }

    async fn load(&mut self, record: u8) {
        self.note(What::Asks(record, Ask::Load));
        let store = Arc::clone(&self.store);
        let told = self.hear(store.load(id(record))).await;
        self.heard(record, told, |it| {
            (Told::Shown(it.record.as_deref().map(Facts::of), it.now.as_millis()), it.now)
        });
    }

    /// What it did is learnt from the calls that follow. Refused, or left half-way, it did less.
    async fn sweep(&mut self) {
        let (store, limit) = (Arc::clone(&self.store), self.random.usize(1..=4));
        let _ = self.hear(store.sweep(limit)).await;
    }

    /// The reply, unless the client leaves before.
    async fn hear<T>(&mut self, call: impl Future<Output = Result<T>>) -> Option<Result<T>> {
        let leaves = self.plan.leaves > 0 && self.random.u32(0..self.plan.leaves) == 0;
        // Also not a single poll: then it was never sent.
        let polls = self.random.usize(0..4);
        if leaves { for_polls(polls, call).await } else { Some(call.await) }
    }

    fn heard<T>(&mut self, record: u8, told: Option<Result<T>>, read: impl FnOnce(T) -> (Told, Timestamp)) {
        match told {
            Some(Ok(reply)) => {
                let (told, now) = read(reply);
                self.now = now;
                if let Told::Kept(facts) | Told::Shown(Some(facts), _) = told {
                    self.seen[usize::from(record)] = Some(facts);
                }
                self.note(What::Heard(told));
            }
            Some(Err(error)) if error.kind() == ErrorKind::Unavailable => {
                self.refused = true;
                self.note(What::Heard(Told::Nothing));
            }
            Some(Err(error)) if error.kind() == ErrorKind::Uncertain => self.note(What::Left),
            Some(Err(error)) => panic!("the store answers, but it said: {error}"),
            None => self.note(What::Left),
        }
    }

    fn note(&self, what: What) {
        self.log.note(Event { who: self.plan.who, what });
    }

    /// It is carried out in the budget of a call or not at all: so a late copy cannot claim for the dead.
    fn write(&mut self, kinds: &[Kind], grants: bool) -> Write {
        self.writes += 1;
        let name = (self.plan.who << 32) | self.writes;
        let kind = *self.random.choice(kinds).expect("there are kinds");
        let limit =
            if self.now == Timestamp::ZERO { Timestamp::MAX } else { self.now.after(CALL_BUDGET_MAX) };
        let grant = grants.then(|| self.random.u8(1..=u8::MAX));
        Write { name, grant, kind, not_after: limit.as_millis() }
    }

    fn put(&self, write: &Write) -> Put {
        Put {
            grant: write.grant.map(|it| Grant { owner: Owner::from_bytes([it; 16]), new_life: false }),
            state: match write.kind {
                Kind::Running => State::Running,
                Kind::Abandoned => State::Abandoned { reason: "it broke".into() },
                Kind::Released => State::Released,
                Kind::Done => State::Done(Answer::new("test", write.name.to_be_bytes().to_vec())),
                Kind::Tombstone => State::Tombstone,
            },
            policy: Policy {
                lease: MOMENT,
                run_max: MOMENT,
                retention: MOMENT,
                tombstone: MOMENT,
                ..Policy::default()
            },
            not_after: Timestamp::from_millis(write.not_after),
            ..claim_with_key(7, write.name.to_string())
        }
    }
}

fn id(record: u8) -> RecordId {
    RecordId::from_bytes([record; 32])
}
