//! Code that is broken on purpose, to see that the simulation finds it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use onceward_core::store::{DueCursor, DuePage, Insert, Loaded, Put, Replace};
use onceward_core::{Entropy, Fence, Record, RecordId, Result, Revision, Store};
use onceward_gateway::network::{Dialer, Wire};
use onceward_testkit::Wrapper;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::network::SimDialer;

/// A break that a run is given. None is in the product; each is something that others have shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Break {
    /// A claim looks first and writes then.
    GetThenSet,
    /// The store says that an answer is kept before it is.
    ToldBeforeStored,
    /// The records go with the process of a gateway.
    RecordsDieWithGateway,
    /// Every attempt makes the same owner token.
    SameOwner,
    /// Every grant has the same fence.
    SameFence,
    /// The store forgets what was asked.
    NoFingerprint,
    /// A library under the gateway repeats a request whose connection broke.
    RepeatsRequests,
    /// An answer that leaves the outcome open frees the key.
    AmbiguousReleases,
    /// A gateway waits for callers and upstreams for as long as they like.
    NoTimeLimits,
}

/// A store whose `insert` looks first and writes then.
#[derive(Debug)]
pub(crate) struct GetThenSet(pub(crate) Arc<dyn Store>);

#[async_trait]
impl Wrapper for GetThenSet {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        let there = self.0.load(id).await?;
        if let Some(found) = there.record {
            return Ok(Insert::Found(found, there.now));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        match self.0.insert(id, put).await? {
            Insert::Found(found, now) => match self.0.replace(id, found.revision, put).await? {
                Replace::Kept(record) => Ok(Insert::Kept(record)),
                Replace::Lost(..) | Replace::Late(_) => Ok(Insert::Late(now)),
            },
            told => Ok(told),
        }
    }
}

/// A store that shows one and the same fence whoever was granted.
#[derive(Debug)]
pub(crate) struct SameFence(pub(crate) Arc<dyn Store>);

fn same_fence(record: Arc<Record>) -> Arc<Record> {
    Arc::new(Record { fence: Fence(1), ..Arc::unwrap_or_clone(record) })
}

#[async_trait]
impl Wrapper for SameFence {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        Ok(match self.0.insert(id, put).await? {
            Insert::Kept(record) => Insert::Kept(same_fence(record)),
            Insert::Found(record, now) => Insert::Found(same_fence(record), now),
            Insert::Late(now) => Insert::Late(now),
        })
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        Ok(match self.0.replace(id, seen, put).await? {
            Replace::Kept(record) => Replace::Kept(same_fence(record)),
            Replace::Lost(record, now) => Replace::Lost(record.map(same_fence), now),
            Replace::Late(now) => Replace::Late(now),
        })
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        let Loaded { record, now } = self.0.load(id).await?;
        Ok(Loaded { record: record.map(same_fence), now })
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        let DuePage { records, next, now } = self.0.due(from, limit).await?;
        Ok(DuePage { records: records.into_iter().map(same_fence).collect(), next, now })
    }
}

/// Randomness that is none.
#[derive(Debug)]
pub(crate) struct SameEntropy;

impl Entropy for SameEntropy {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(7);
        Ok(())
    }
}

/// Makes connections that repeat what was sent on them, once, when they break before a byte came back.
#[derive(Debug)]
pub(crate) struct RepeatingDialer;

impl Dialer for RepeatingDialer {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        Box::pin(async move {
            let wire = SimDialer.dial(to).await?;
            Ok(Box::new(Repeating { to, wire, sent: Vec::new(), unsent: 0, again: None }) as Box<dyn Wire>)
        })
    }
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

struct Repeating {
    to: SocketAddr,
    wire: Box<dyn Wire>,
    /// What was sent since a byte came back.
    sent: Vec<u8>,
    /// From where on it must be sent again.
    unsent: usize,
    again: Option<Dialling>,
}

impl std::fmt::Debug for Repeating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Repeating")
    }
}

impl AsyncRead for Repeating {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(dialling) = &mut self.again {
                self.wire = ready!(dialling.as_mut().poll(cx))?;
                self.again = None;
                self.unsent = 0;
                let sent = std::mem::take(&mut self.sent);
                while self.unsent < sent.len() {
                    let from = &sent[self.unsent..];
                    match Pin::new(&mut self.wire).poll_write(cx, from) {
                        Poll::Ready(Ok(count)) => self.unsent += count,
                        _ => break,
                    }
                }
            }
            let before = to.filled().len();
            let read = ready!(Pin::new(&mut self.wire).poll_read(cx, to));
            let broke = read.is_err() || to.filled().len() == before;
            if !broke {
                self.sent.clear();
            }
            if !broke || self.sent.is_empty() {
                return Poll::Ready(read);
            }
            self.again = Some(SimDialer.dial(self.to));
        }
    }
}

impl AsyncWrite for Repeating {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.wire).poll_write(cx, from))?;
        self.sent.extend_from_slice(&from[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
