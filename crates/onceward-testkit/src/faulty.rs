//! A store that fails on cue: before or after the n-th call, late, twice, or never.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Hints, Insert, Loaded, Page, Put, Replace, Swept, Traits,
};
use onceward_core::{Error, ErrorKind, RecordId, Result, Revision, Store};

mod gate;

pub use gate::Gate;

/// Which promise of a store is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// [`Store::insert`]
    Insert,
    /// [`Store::replace`]
    Replace,
    /// [`Store::load`]
    Load,
    /// [`Store::due`]
    Due,
    /// [`Store::list`]
    List,
    /// [`Store::sweep`]
    Sweep,
    /// [`Store::check`]
    Check,
}

/// What goes wrong with a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// `Unavailable`; nothing is written.
    Refused,
    /// `Uncertain`; nothing is written, then or later.
    CallLost,
    /// It is carried out; the caller is told `Uncertain`.
    ReplyLost,
    /// `Uncertain` at once; it is carried out by [`FaultyStore::deliver_late`]. Only writes can be late.
    Late,
    /// It waits at the gate, then is carried out.
    Before(Gate),
    /// It is carried out; its reply waits at the gate.
    After(Gate),
    /// It is neither carried out nor answered.
    Hangs,
    /// It is carried out twice; the caller gets the first reply (a network that duplicates).
    Twice,
    /// It is carried out twice; the caller gets the second reply (a driver that repeats).
    Repeated,
    /// `Corrupt`; nothing is written.
    Corrupt,
}

/// A call that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Which promise.
    pub op: Op,
    /// On which record, where it is about one.
    pub id: Option<RecordId>,
}

/// What became of a write that arrived late.
#[derive(Debug)]
pub enum Landed {
    /// An insert.
    Insert(Insert),
    /// A replace.
    Replace(Replace),
}

/// Any store, with faults on cue and a log of what was called. Without a cue it is that store.
#[derive(Debug)]
pub struct FaultyStore {
    store: Arc<dyn Store>,
    script: Mutex<Script>,
    yields: bool,
    shared: bool,
}

#[derive(Debug, Default)]
struct Script {
    log: Vec<Call>,
    cues: Vec<Cue>,
    /// What befalls every call that no cue names.
    down: Option<Fault>,
    late: Vec<Write>,
    under_way: usize,
}

/// A call that has arrived and is not over. Dropping it ends the call, also where its caller has left.
struct UnderWay<'a>(&'a FaultyStore);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.script().under_way -= 1;
    }
}

#[derive(Debug)]
struct Cue {
    op: Op,
    /// How many calls of this kind are still let through.
    left: usize,
    fault: Fault,
}

#[derive(Debug, Clone)]
struct Write {
    id: RecordId,
    seen: Option<Revision>,
    put: Put,
}

impl FaultyStore {
    /// `store` without any cue.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, script: Mutex::default(), yields: false, shared: false }
    }

    /// `store`, but every call takes two more polls, one before and one after it is carried out. So a caller
    /// can be dropped at both places.
    #[must_use]
    pub fn yielding(store: Arc<dyn Store>) -> Self {
        Self { yields: true, ..Self::new(store) }
    }

    /// The same, but it declares that other processes may write the same records: what a test needs that runs
    /// two engines over one store in memory.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    /// The store below: looked at without a fault and without an entry in the log.
    #[must_use]
    pub fn beneath(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Lets `fault` befall the `nth` call of `op` from now on; 1 is the next.
    ///
    /// # Panics
    /// When `nth` is 0, or a read is to be late.
    pub fn cue(&self, op: Op, nth: usize, fault: Fault) {
        let is_write = matches!(op, Op::Insert | Op::Replace);
        assert!(is_write || !matches!(fault, Fault::Late), "only writes can be late");
        let left = nth.checked_sub(1).expect("calls are counted from 1");
        self.script().cues.push(Cue { op, left, fault });
    }

    /// Stops the `nth` call of `op` before it is carried out, until the gate is opened.
    #[must_use]
    pub fn gate_before(&self, op: Op, nth: usize) -> Gate {
        let gate = Gate::new();
        self.cue(op, nth, Fault::Before(gate.clone()));
        gate
    }

    /// Stops the reply of the `nth` call of `op`, until the gate is opened.
    #[must_use]
    pub fn gate_after(&self, op: Op, nth: usize) -> Gate {
        let gate = Gate::new();
        self.cue(op, nth, Fault::After(gate.clone()));
        gate
    }

    /// Lets `fault` befall every call until [`up`](Self::up), reads included.
    pub fn down(&self, fault: Fault) {
        self.script().down = Some(fault);
    }

    /// Ends what [`down`](Self::down) began.
    pub fn up(&self) {
        self.script().down = None;
    }

    /// Carries out the writes whose callers were told `Uncertain` with [`Fault::Late`], in their order.
    ///
    /// # Errors
    /// The store below failed; the rest stays undelivered.
    pub async fn deliver_late(&self) -> Result<Vec<Landed>> {
        let late = std::mem::take(&mut self.script().late);
        let mut landed = Vec::new();
        for Write { id, seen, put } in late {
            landed.push(match seen {
                None => Landed::Insert(self.store.insert(id, &put).await?),
                Some(seen) => Landed::Replace(self.store.replace(id, seen, &put).await?),
            });
        }
        Ok(landed)
    }

    /// Every call that arrived since the last [`forget`](Self::forget), faulty ones included, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Call> {
        self.script().log.clone()
    }

    /// The kinds of the calls that arrived, in order.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        self.script().log.iter().map(|it| it.op).collect()
    }

    /// How many calls have arrived and are not over.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.script().under_way
    }

    /// Empties the log.
    pub fn forget(&self) {
        self.script().log.clear();
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call and finds what shall befall it.
    fn arrive(&self, op: Op, id: Option<RecordId>) -> Option<Fault> {
        let mut script = self.script();
        script.log.push(Call { op, id });
        script.under_way += 1;
        let mut hit = None;
        for (at, cue) in script.cues.iter_mut().enumerate().filter(|(_, it)| it.op == op) {
            match cue.left.checked_sub(1) {
                Some(left) => cue.left = left,
                None => hit = hit.or(Some(at)),
            }
        }
        hit.map(|at| script.cues.remove(at).fault).or_else(|| script.down.clone())
    }

    async fn step(&self) {
        if self.yields {
            tokio::task::yield_now().await;
        }
    }

    async fn call<'a, T>(
        &self,
        op: Op,
        write: Option<Write>,
        id: Option<RecordId>,
        carry_out: impl Fn() -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let fault = self.arrive(op, id);
        let _under_way = UnderWay(self);
        self.step().await;
        let uncertain = || Err(Error::new(ErrorKind::Uncertain, "hear from the store (on cue)"));
        let told = match fault {
            None => carry_out().await,
            Some(Fault::Refused) => Err(Error::new(ErrorKind::Unavailable, "reach the store (on cue)")),
            Some(Fault::Corrupt) => Err(Error::new(ErrorKind::Corrupt, "read the record (on cue)")),
            Some(Fault::CallLost) => uncertain(),
            Some(Fault::ReplyLost) => {
                carry_out().await?;
                uncertain()
            }
            Some(Fault::Late) => {
                // A read that is late under `down` is simply lost.
                self.script().late.extend(write);
                uncertain()
            }
            Some(Fault::Before(gate)) => {
                gate.stop().await;
                carry_out().await
            }
            Some(Fault::After(gate)) => {
                let told = carry_out().await;
                gate.stop().await;
                told
            }
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Twice) => {
                let told = carry_out().await;
                carry_out().await?;
                told
            }
            Some(Fault::Repeated) => {
                carry_out().await?;
                carry_out().await
            }
        };
        self.step().await;
        told
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        let write = Write { id, seen: None, put: put.clone() };
        self.call(Op::Insert, Some(write), Some(id), || self.store.insert(id, put)).await
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        let write = Write { id, seen: Some(seen), put: put.clone() };
        self.call(Op::Replace, Some(write), Some(id), || self.store.replace(id, seen, put)).await
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        self.call(Op::Load, None, Some(id), || self.store.load(id)).await
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.call(Op::Due, None, None, || self.store.due(from, limit)).await
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.call(Op::List, None, None, || self.store.list(filter, cursor, limit)).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        self.call(Op::Sweep, None, None, || self.store.sweep(limit)).await
    }

    async fn check(&self) -> Result<()> {
        self.call(Op::Check, None, None, || self.store.check()).await
    }

    fn traits(&self) -> Traits {
        let traits = self.store.traits();
        Traits { shared: traits.shared || self.shared, ..traits }
    }

    /// Of the store below.
    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.store.hints(id)
    }
}

#[cfg(test)]
mod tests;
