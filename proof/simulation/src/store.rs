//! The one store of all gateways, and the line that leads there.
//!
//! The store outlives every gateway: it stands for a shared, durable one. A call travels to it, is carried out
//! there, and its reply travels back; each of the three can go wrong. What a gateway sent lands also when the
//! gateway has died meanwhile.

mod serve;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Insert, Loaded, Page, Put, Replace, Swept, Traits,
};
use onceward_core::{Error, ErrorKind, Record, RecordId, Result, Revision, State, Store};
use onceward_testkit::Wrapped;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::serve::serve;
use crate::breaks::Break;
use crate::world::World;

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
    Due(DueCursor, usize),
    List(Filter, Option<Cursor>, usize),
    Sweep(usize),
    Check,
}

#[derive(Debug)]
enum Told {
    Insert(Insert),
    Replace(Replace),
    Load(Loaded),
    Due(DuePage),
    List(Page),
    Swept(Swept),
    Checked,
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
        Some(Replace::Kept(Arc::new(put.stamp(id, Some(&found), there.now))))
    }

    /// The break of a store that forgets what was asked.
    fn seen(&self, record: Arc<Record>) -> Arc<Record> {
        match self.broken {
            Some(Break::NoFingerprint) => {
                Arc::new(Record { fingerprint: None, ..Arc::unwrap_or_clone(record) })
            }
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

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        match self.ask(Ask::Due(from, limit)).await? {
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

/// What the simulated store keeps its records in; a break may stand in front of it.
pub(crate) fn shelf(memory: Arc<dyn Store>, broken: Option<Break>) -> Arc<dyn Store> {
    match broken {
        Some(Break::GetThenSet) => Arc::new(Wrapped(crate::breaks::GetThenSet(memory))),
        Some(Break::SameFence) => Arc::new(Wrapped(crate::breaks::SameFence(memory))),
        _ => memory,
    }
}
