//! Which HTTP/2 connections there are, and how busy each is.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use tokio::time::Instant;

use crate::upstream::lent::RequestBody;

/// The connections that may get requests.
#[derive(Debug, Clone, Default)]
pub(super) struct List(Arc<Mutex<Vec<Entry>>>);

/// One connection.
pub(super) struct Entry {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) usage: Usage,
}

/// How busy one connection is. Clones mean the same connection.
#[derive(Debug, Clone)]
pub(super) struct Usage {
    peer: IpAddr,
    streams: Arc<Mutex<Streams>>,
}

#[derive(Debug)]
struct Streams {
    open: usize,
    /// How many the peer allows; zero before it has said so.
    allowed: usize,
    /// When the last one began or ended.
    used: Instant,
}

/// A stream that one request may open.
pub(in crate::upstream) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) streaming: Streaming,
}

/// An open stream, until it is dropped.
#[derive(Debug)]
pub(in crate::upstream) struct Streaming(Usage);

impl List {
    /// A free stream on the first connection that has one: those behind it may then fall idle and go.
    pub(super) fn lease(&self, addresses: &[IpAddr], idle_max: Duration) -> Option<Lease> {
        let mut list = self.lock();
        list.retain(|it| !it.sender.is_closed() && addresses.contains(&it.usage.peer));
        let free = |it: &&Entry| {
            let streams = it.usage.lock();
            let young = streams.open > 0 || streams.used.elapsed() < idle_max;
            young && streams.open < streams.allowed
        };
        list.iter().find(free).map(|it| Lease::new(it.sender.clone(), &it.usage))
    }

    pub(super) fn add(&self, entry: Entry) {
        self.lock().push(entry);
    }

    /// The connection gets no more requests; those on it go on.
    pub(super) fn remove(&self, usage: &Usage) {
        self.lock().retain(|it| !it.usage.is(usage));
    }

    /// As [`List::remove`], if it is known to have `ended` or turns out to have.
    pub(super) fn remove_if_ended(&self, usage: &Usage, ended: bool) {
        self.lock().retain(|it| !it.usage.is(usage) || !(ended || it.sender.is_closed()));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    pub(super) fn new(peer: IpAddr) -> Self {
        Self { peer, streams: Arc::new(Mutex::new(Streams { open: 0, allowed: 0, used: Instant::now() })) }
    }

    /// When it will have been idle for too long, as it looks now; None: it has.
    pub(super) fn idle_until(&self, idle_max: Duration) -> Option<Instant> {
        let (now, streams) = (Instant::now(), self.lock());
        // While a stream is open it is not idle; look again later.
        let since = if streams.open > 0 { now } else { streams.used };
        Some(since + idle_max).filter(|it| now < *it)
    }

    /// The peer allows this many streams at a time.
    pub(super) fn allow(&self, streams: usize) {
        self.lock().allowed = streams;
    }

    /// Returns once the peer allows any stream.
    pub(super) async fn allowed(&self) {
        while self.lock().allowed == 0 {
            // Between reading the greeting and minding it lies a moment that nobody tells of.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.streams, &other.streams)
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn new(sender: SendRequest<RequestBody>, usage: &Usage) -> Self {
        let mut streams = usage.lock();
        streams.open += 1;
        streams.used = Instant::now();
        drop(streams);
        Self { sender, streaming: Streaming(usage.clone()) }
    }
}

impl Streaming {
    pub(super) fn usage(&self) -> &Usage {
        &self.0
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let mut streams = self.0.lock();
        streams.open -= 1;
        streams.used = Instant::now();
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("usage", &self.usage).finish_non_exhaustive()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("streaming", &self.streaming).finish_non_exhaustive()
    }
}
