//! The one store of all gateways, and the line that leads there.
//!
//! The store outlives every gateway: it stands for a shared, durable one. A call travels to it, is carried out
//! there, and its reply travels back; each of the three can go wrong. What a gateway sent lands also when the
//! gateway has died meanwhile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::store::{Cursor, Due, Filter, Insert, Loaded, Page, Put, Replace, Swept, Traits};
use onceward_core::{Error, ErrorKind, Record, RecordId, Result, Revision, State, Store};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::breaks::Break;
use crate::plan::millis;
use crate::world::{Violation, World};

/// A call on its way.
pub(crate) struct Call {
    who: String,
    ask: Ask,
    reply: oneshot::Sender<Result<Told>>,
}

#[derive(Debug, Clone)]
enum Ask {
    Insert(RecordId, Put),
    Replace(RecordId, Revision, Put),
    Load(RecordId),
    Due(Due, usize),
    List(Filter, Option<Cursor>, usize),
    Sweep(usize),
    Check,
}

#[derive(Debug)]
enum Told {
    Insert(Insert),
    Replace(Replace),
    Load(Loaded),
    Due(Vec<Record>),
    List(Page),
    Swept(Swept),
    Checked,
}

/// What becomes of a call on its way there and back.
#[derive(Debug, Clone, Copy)]
struct Fate {
    before: Duration,
    carried: Carried,
    after: Duration,
    reply: Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    Never,
    Once,
    /// A copy of it lands so much later.
    Twice(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Arrives,
    /// The caller is told that nothing was written.
    Refused,
    /// The caller is told that nobody knows.
    Uncertain,
    /// The caller hears nothing.
    Lost,
}

/// The store as a gateway sees it.
pub(crate) struct RemoteStore {
    who: String,
    world: World,
    line: mpsc::UnboundedSender<Call>,
    broken: Option<Break>,
}

impl RemoteStore {
    pub(crate) fn new(
        who: String,
        world: World,
        line: mpsc::UnboundedSender<Call>,
        broken: Option<Break>,
    ) -> Self {
        Self { who, world, line, broken }
    }

    fn send(&self, ask: Ask) -> oneshot::Receiver<Result<Told>> {
        let (reply, told) = oneshot::channel();
        let _ = self.line.send(Call { who: self.who.clone(), ask, reply });
        told
    }

    async fn ask(&self, ask: Ask) -> Result<Told> {
        match self.send(ask).await {
            Ok(told) => told,
            // Its reply was lost, and nobody says so.
            Err(_) => std::future::pending().await,
        }
    }

    /// The break of a store that says "kept" before it is: what it would keep, judged by what is there now.
    async fn ahead(&self, id: RecordId, seen: Revision, put: &Put) -> Option<Replace> {
        let is_answer = matches!(put.state, State::Done(_));
        if self.broken != Some(Break::ToldBeforeStored) || !is_answer {
            return None;
        }
        let there = self.world.store().load(id).await.ok()?;
        let found = there.record.filter(|it| it.revision == seen)?;
        drop(self.send(Ask::Replace(id, seen, put.clone())));
        Some(Replace::Kept(put.stamp(id, Some(&found), there.now)))
    }

    /// The break of a store that forgets what was asked.
    fn seen(&self, record: Record) -> Record {
        match self.broken {
            Some(Break::NoFingerprint) => Record { fingerprint: None, ..record },
            _ => record,
        }
    }
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStore").field("who", &self.who).finish_non_exhaustive()
    }
}

fn wrong_reply() -> Error {
    Error::new(ErrorKind::Corrupt, "understand the simulated store")
}

#[async_trait]
impl Store for RemoteStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        match self.ask(Ask::Insert(id, put.clone())).await? {
            Told::Insert(Insert::Found(record, now)) => Ok(Insert::Found(self.seen(record), now)),
            Told::Insert(it) => Ok(it),
            _ => Err(wrong_reply()),
        }
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        if let Some(told) = self.ahead(id, seen, put).await {
            return Ok(told);
        }
        match self.ask(Ask::Replace(id, seen, put.clone())).await? {
            Told::Replace(Replace::Lost(record, now)) => {
                Ok(Replace::Lost(record.map(|it| self.seen(it)), now))
            }
            Told::Replace(it) => Ok(it),
            _ => Err(wrong_reply()),
        }
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        match self.ask(Ask::Load(id)).await? {
            Told::Load(it) => Ok(it),
            _ => Err(wrong_reply()),
        }
    }

    async fn due(&self, due: Due, limit: usize) -> Result<Vec<Record>> {
        match self.ask(Ask::Due(due, limit)).await? {
            Told::Due(it) => Ok(it),
            _ => Err(wrong_reply()),
        }
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        match self.ask(Ask::List(filter.clone(), cursor, limit)).await? {
            Told::List(it) => Ok(it),
            _ => Err(wrong_reply()),
        }
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        match self.ask(Ask::Sweep(limit)).await? {
            Told::Swept(it) => Ok(it),
            _ => Err(wrong_reply()),
        }
    }

    async fn check(&self) -> Result<()> {
        match self.ask(Ask::Check).await? {
            Told::Checked => Ok(()),
            _ => Err(wrong_reply()),
        }
    }

    fn traits(&self) -> Traits {
        Traits { name: "simulated", durable: true, shared: true }
    }
}

/// Serves calls for as long as the simulation goes on.
pub(crate) async fn serve(world: World, mut calls: mpsc::UnboundedReceiver<Call>) {
    let mut rng = world.rng("store", 0);
    let tasks = TaskTracker::new();
    while let Some(call) = calls.recv().await {
        let fate = fate(&world, &mut rng);
        let world = world.clone();
        tasks.spawn_local(async move { one(world, call, fate).await });
    }
}

fn fate(world: &World, rng: &mut fastrand::Rng) -> Fate {
    let plain = Fate {
        before: Duration::from_micros(rng.u64(0..3000)),
        carried: Carried::Once,
        after: Duration::from_micros(rng.u64(0..3000)),
        reply: Reply::Arrives,
    };
    match world.store_mood() {
        1 => return Fate { carried: Carried::Never, reply: Reply::Refused, ..plain },
        2 => return Fate { carried: Carried::Never, reply: Reply::Lost, ..plain },
        _ => {}
    }
    let trouble = if world.faults() { world.plan().store_trouble } else { 0 };
    if rng.u32(0..1000) >= trouble {
        return plain;
    }
    let budget = u64::try_from(world.plan().times.call_budget.as_millis()).expect("below a second");
    let late = millis(rng, 0..=2 * budget);
    let (fate, word) = match rng.u8(0..9) {
        0 => (Fate { carried: Carried::Never, reply: Reply::Refused, ..plain }, "refused"),
        1 => (Fate { carried: Carried::Never, reply: Reply::Lost, ..plain }, "call lost in silence"),
        2 => (Fate { carried: Carried::Never, reply: Reply::Uncertain, ..plain }, "call lost"),
        3 => (Fate { reply: Reply::Lost, ..plain }, "reply lost in silence"),
        4 => (Fate { reply: Reply::Uncertain, ..plain }, "reply lost"),
        5 => (Fate { before: late, ..plain }, "late"),
        6 => (
            Fate { before: late, reply: Reply::Uncertain, after: Duration::ZERO, ..plain },
            "late, reply lost",
        ),
        7 => (Fate { after: late, ..plain }, "late reply"),
        _ => (Fate { carried: Carried::Twice(late), ..plain }, "twice"),
    };
    world.count(&format!("store: {word}"));
    fate
}

async fn one(world: World, call: Call, fate: Fate) {
    let Call { who, ask, reply } = call;
    world.count("store: calls");
    let unknown = || Err(Error::new(ErrorKind::Uncertain, "hear from the simulated store"));
    let mut reply = Some(reply);
    if fate.reply == Reply::Uncertain && fate.after.is_zero() {
        // The caller is told before the call lands.
        let _ = reply.take().map(|it| it.send(unknown()));
    }
    tokio::time::sleep(fate.before).await;
    let told = match fate.carried {
        Carried::Never => unknown(),
        Carried::Once | Carried::Twice(_) => carry_out(&world, &who, &ask).await,
    };
    tokio::time::sleep(fate.after).await;
    if let Some(reply) = reply {
        let _ = match fate.reply {
            Reply::Arrives => reply.send(told),
            Reply::Refused => {
                reply.send(Err(Error::new(ErrorKind::Unavailable, "reach the simulated store")))
            }
            Reply::Uncertain => reply.send(unknown()),
            Reply::Lost => Ok(drop(reply)),
        };
    }
    if let Carried::Twice(later) = fate.carried {
        tokio::time::sleep(later).await;
        drop(carry_out(&world, &who, &ask).await);
    }
}

/// Carries a call out, and judges what it changed.
async fn carry_out(world: &World, who: &str, ask: &Ask) -> Result<Told> {
    let store = world.store();
    let told = match ask {
        Ask::Insert(id, put) => {
            let before = store.load(*id).await?.record;
            let told = store.insert(*id, put).await?;
            world.note("store", || format!("{who}: insert {} {:?} -> {}", id.prefix(), put, inserted(&told)));
            if let Insert::Kept(after) = &told {
                judge(world, before.as_ref(), after);
            }
            Told::Insert(told)
        }
        Ask::Replace(id, seen, put) => {
            let before = store.load(*id).await?.record;
            let told = store.replace(*id, *seen, put).await?;
            world.note("store", || {
                format!("{who}: replace {} {:?} {seen} -> {}", id.prefix(), put, replaced(&told))
            });
            if let Replace::Kept(after) = &told {
                if before.as_ref().is_none_or(|it| it.revision != *seen) {
                    world.violated(Violation::NotGrown, "a swap on another revision was kept".into());
                }
                judge(world, before.as_ref(), after);
            }
            Told::Replace(told)
        }
        Ask::Load(id) => Told::Load(store.load(*id).await?),
        Ask::Due(due, limit) => Told::Due(store.due(*due, *limit).await?),
        Ask::List(filter, cursor, limit) => Told::List(store.list(filter, *cursor, *limit).await?),
        Ask::Sweep(limit) => Told::Swept(store.sweep(*limit).await?),
        Ask::Check => Told::Checked,
    };
    Ok(told)
}

fn judge(world: &World, before: Option<&Record>, after: &Record) {
    world.count(match &after.state {
        State::Running if before.is_none_or(|it| it.fence != after.fence) => "store: granted",
        State::Running => "store: renewed",
        State::Abandoned { .. } => "store: abandoned",
        State::Released => "store: released",
        State::Done(_) => "store: done",
        State::Tombstone => "store: tombstone",
    });
    if before.is_some_and(|it| it.fence != after.fence && it.state != State::Released) {
        world.count("store: taken over");
    }
    world.changed(before, after);
}

fn inserted(it: &Insert) -> String {
    match it {
        Insert::Kept(record) => format!("kept {record:?}"),
        Insert::Found(record, now) => format!("found {record:?} at {}", now.as_millis()),
        Insert::Late(now) => format!("late at {}", now.as_millis()),
    }
}

fn replaced(it: &Replace) -> String {
    match it {
        Replace::Kept(record) => format!("kept {record:?}"),
        Replace::Lost(record, now) => format!("lost {record:?} at {}", now.as_millis()),
        Replace::Late(now) => format!("late at {}", now.as_millis()),
    }
}

/// What the simulated store keeps its records in; a break may stand in front of it.
pub(crate) fn shelf(memory: Arc<dyn Store>, broken: Option<Break>) -> Arc<dyn Store> {
    match broken {
        Some(Break::GetThenSet) => Arc::new(crate::breaks::GetThenSet(memory)),
        Some(Break::SameFence) => Arc::new(crate::breaks::SameFence(memory)),
        _ => memory,
    }
}
