//! Calls that wait for a connection. Whoever has one takes what waits: alone while there is little to do, together
//! while all are busy.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::store::{Insert, Loaded, Put, Replace};
use onceward_core::{Error, ErrorKind, RecordId, Result, Revision};
use tokio::sync::{Notify, oneshot};
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

use crate::fault::Cause;
use crate::puts::{self, Values};

/// How many calls that write one statement carries.
const WRITES_MAX: usize = 128;
/// How many calls that read: each may bring an answer back.
const READS_MAX: usize = 64;
/// How many bytes one statement carries, unless a single call has more.
const BYTES_MAX: usize = 4 << 20;
/// How far into the queue a statement looks for its like.
const LOOK_MAX: usize = 1024;

/// What one call wants, and where its answer goes.
pub(crate) enum Ask {
    Insert { id: RecordId, put: Box<Put>, reply: Reply<Insert> },
    Replace { id: RecordId, seen: Revision, put: Box<Put>, reply: Reply<Replace> },
    Load { id: RecordId, reply: Reply<Loaded> },
    Rows { text: Arc<str>, values: Values<'static>, reads: bool, reply: Reply<Vec<Row>> },
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Insert { .. } => "Insert",
            Self::Replace { .. } => "Replace",
            Self::Load { .. } => "Load",
            Self::Rows { .. } => "Rows",
        })
    }
}

/// The way back to a caller.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

impl Ask {
    fn id(&self) -> Option<RecordId> {
        match self {
            Self::Insert { id, .. } | Self::Replace { id, .. } | Self::Load { id, .. } => Some(*id),
            Self::Rows { .. } => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Insert { put, .. } | Self::Replace { put, .. } => puts::bytes(put),
            Self::Load { .. } | Self::Rows { .. } => 0,
        }
    }

    /// How many of its kind one statement carries.
    fn together(&self) -> usize {
        match self {
            Self::Insert { .. } | Self::Replace { .. } => WRITES_MAX,
            Self::Load { .. } => READS_MAX,
            Self::Rows { .. } => 1,
        }
    }

    /// Whether nobody waits for it any more.
    fn is_left(&self) -> bool {
        match self {
            Self::Insert { reply, .. } => reply.is_closed(),
            Self::Replace { reply, .. } => reply.is_closed(),
            Self::Load { reply, .. } => reply.is_closed(),
            Self::Rows { reply, .. } => reply.is_closed(),
        }
    }

    /// Tells the caller that it was not sent.
    fn refuse(self, error: Error) {
        // Whoever left does not want to know.
        match self {
            Self::Insert { reply, .. } => drop(reply.send(Err(error))),
            Self::Replace { reply, .. } => drop(reply.send(Err(error))),
            Self::Load { reply, .. } => drop(reply.send(Err(error))),
            Self::Rows { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// Whether a call was sent: its caller and the connections agree on it, so that a caller who gives up knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ticket(Arc<AtomicU8>);

const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Ticket {
    /// The connection takes it; false when the caller gave up before.
    fn send(&self) -> bool {
        self.0.compare_exchange(0, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The caller gives up; false when it was sent before.
    pub(crate) fn give_up(&self) -> bool {
        self.0.compare_exchange(0, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The calls that wait, and how many connections there are to take them.
#[derive(Debug)]
pub(crate) struct Queue {
    max: usize,
    inner: Mutex<Inner>,
    /// Somebody with a connection is to look.
    work: Notify,
    /// Somebody without one is to connect.
    more: Notify,
    /// Ends with the store.
    gone: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<(Ask, Ticket)>,
    /// Connections that wait for calls.
    idle: usize,
    /// Connections that there are.
    links: usize,
    /// Why the last attempt to connect failed, or the last connection ended.
    cause: Cause,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(max: usize) -> Self {
        let inner = Inner {
            waiting: VecDeque::new(),
            idle: 0,
            links: 0,
            cause: Cause("there is no connection yet".to_owned()),
            closed: false,
        };
        Self {
            max,
            inner: Mutex::new(inner),
            work: Notify::new(),
            more: Notify::new(),
            gone: CancellationToken::new(),
        }
    }

    /// Puts a call at the end.
    ///
    /// # Errors
    /// `Unavailable`: there is no connection now, the queue is full, or the store was closed.
    pub(crate) fn push(&self, ask: Ask, ticket: Ticket) -> Result<()> {
        let mut inner = self.inner();
        if inner.closed || inner.links == 0 {
            return Err(unreachable(&inner.cause));
        }
        if inner.waiting.len() >= self.max {
            let cause = Cause(format!("{} calls wait already", self.max));
            return Err(Error::new(ErrorKind::Unavailable, "wait for a connection").caused_by(cause));
        }
        inner.waiting.push_back((ask, ticket));
        let someone_is_idle = inner.idle > 0;
        drop(inner);
        if someone_is_idle {
            self.work.notify_one()
        } else {
            self.more.notify_one()
        }
        Ok(())
    }

    /// Waits for calls and takes as many as one statement carries. `None` once the store was closed and nothing waits.
    ///
    /// # Cancel safety
    /// Dropping it takes nothing.
    pub(crate) async fn take(&self) -> Option<Vec<Ask>> {
        loop {
            // Made before the look, so that nothing is missed in between.
            let called = self.work.notified();
            let idle = {
                let mut inner = self.inner();
                let batch = inner.cut();
                if !batch.is_empty() {
                    if !inner.waiting.is_empty() {
                        // Another one may take the rest.
                        if inner.idle > 0 { self.work.notify_one() } else { self.more.notify_one() }
                    }
                    return Some(batch);
                }
                if inner.closed {
                    return None;
                }
                inner.idle += 1;
                Idle(self)
            };
            called.await;
            drop(idle);
        }
    }

    /// Waits until there is more to do than the connections manage. False once the store was closed.
    pub(crate) async fn wanted(&self) -> bool {
        loop {
            let called = self.more.notified();
            {
                let inner = self.inner();
                if inner.closed {
                    return false;
                }
                if inner.idle == 0 && !inner.waiting.is_empty() {
                    return true;
                }
            }
            called.await;
        }
    }

    /// A connection is there.
    pub(crate) fn linked(&self) {
        self.inner().links += 1;
    }

    /// A connection is gone. When it was the last one, whoever waits is told so.
    pub(crate) fn unlinked(&self, cause: Cause) {
        let mut inner = self.inner();
        inner.links -= 1;
        inner.cause = cause;
        let left = if inner.links == 0 { std::mem::take(&mut inner.waiting) } else { VecDeque::new() };
        let cause = inner.cause.clone();
        drop(inner);
        for (ask, _) in left {
            ask.refuse(unreachable(&cause));
        }
    }

    /// It could not be connected.
    pub(crate) fn not_linked(&self, cause: Cause) {
        self.inner().cause = cause;
    }

    /// Takes no more calls. What waits is still carried out.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        if !inner.closed {
            inner.closed = true;
            inner.cause = Cause("the store was closed".to_owned());
        }
        drop(inner);
        self.gone.cancel();
        self.work.notify_waiters();
        self.more.notify_waiters();
    }

    /// What a connection does before it is used; `None` when the store is closed meanwhile.
    pub(crate) async fn before_use<F: Future>(&self, future: F) -> Option<F::Output> {
        self.gone.run_until_cancelled(future).await
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a connection as waiting for calls, until it is dropped.
struct Idle<'a>(&'a Queue);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.inner().idle -= 1;
    }
}

impl Inner {
    /// The oldest call and those of its kind behind it, each record once.
    fn cut(&mut self) -> Vec<Ask> {
        let (mut batch, mut ids, mut bytes) = (Vec::new(), HashSet::new(), 0);
        let mut left = Vec::new();
        for _ in 0..LOOK_MAX {
            let Some((ask, ticket)) = self.waiting.pop_front() else { break };
            if ask.is_left() {
                continue;
            }
            let first: Option<&Ask> = batch.first();
            let is_like = first.is_none_or(|it| std::mem::discriminant(it) == std::mem::discriminant(&ask));
            let is_new = ask.id().is_none_or(|it| !ids.contains(&it));
            let fits = first.is_none() || bytes + ask.bytes() <= BYTES_MAX;
            if !(is_like && is_new && fits) {
                left.push((ask, ticket));
                continue;
            }
            if !ticket.send() {
                continue;
            }
            bytes += ask.bytes();
            ids.extend(ask.id());
            batch.push(ask);
            if batch.len() == batch[0].together() {
                break;
            }
        }
        for it in left.into_iter().rev() {
            self.waiting.push_front(it);
        }
        batch
    }
}

fn unreachable(cause: &Cause) -> Error {
    Error::new(ErrorKind::Unavailable, "reach PostgreSQL").caused_by(cause.clone())
}
