//! Idle HTTP/1.1 connections, the warmest first.
//!
//! Reusing a connection that the upstream is about to close is what makes an outcome unknown, so a
//! connection stays here for a few seconds only, and never as long as the upstream said it would keep it.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lent::RequestBody;
use crate::notice::Notice;
use crate::workers::seat;

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    /// Said once the task that drives the connection has ended.
    pub(super) gone: Notice<()>,
    /// Where it leads.
    pub(super) peer: IpAddr,
    /// Which worker drives it.
    pub(super) seat: usize,
}

/// The idle connections of one upstream, by the worker that drives them.
///
/// A worker that has connections uses those alone, and makes one more when all are in use: a connection of another
/// would be woken from thread to thread twice for each request. A worker that has none borrows, so that little
/// traffic over many workers makes few connections.
pub(super) struct Pool {
    shelves: [Shelf; SHELVES],
    tracker: TaskTracker,
    /// From then on nothing is kept.
    closed: CancellationToken,
    /// How many connections are idle.
    count: AtomicUsize,
    /// Whether a task is waiting to close what grows too old.
    is_reaping: AtomicBool,
}

/// As many workers have a shelf of their own; more share them.
const SHELVES: usize = 32;

#[derive(Default)]
struct Shelf {
    /// The one used last stands last.
    idle: Mutex<Vec<Resting>>,
    /// Connections that are open, idle or in use.
    open: Arc<AtomicUsize>,
}

struct Resting {
    connection: Connection,
    until: Instant,
}

/// A connection that counts as open until this is dropped.
pub(super) struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(tracker: TaskTracker, closed: CancellationToken) -> Arc<Self> {
        let shelves = std::array::from_fn(|_| Shelf::default());
        Arc::new(Self {
            shelves,
            tracker,
            closed,
            count: AtomicUsize::new(0),
            is_reaping: AtomicBool::new(false),
        })
    }

    /// Notes a connection that the worker in this seat drives.
    pub(super) fn opened(&self, seat: usize) -> Open {
        let open = &self.shelf(seat).open;
        open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(open))
    }

    /// The connection that was used last, if one is young enough, still open as far as we know, and leads to
    /// one of `addresses`. Those that lead elsewhere are closed.
    pub(super) fn take(&self, addresses: &[IpAddr]) -> Option<Connection> {
        let own = self.shelf(seat());
        if let Some(connection) = self.take_from(own, addresses) {
            return Some(connection);
        }
        if own.open.load(Ordering::Relaxed) > 0 || self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.shelves.iter().find_map(|it| self.take_from(it, addresses))
    }

    fn take_from(&self, shelf: &Shelf, addresses: &[IpAddr]) -> Option<Connection> {
        let mut idle = shelf.lock();
        if idle.is_empty() {
            return None;
        }
        let now = Instant::now();
        while let Some(Resting { connection, until }) = idle.pop() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            let leads_there = addresses.contains(&connection.peer);
            if now < until && leads_there && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps `connection` for at most `idle_for`; the oldest of its worker gives way when there are more than `max`.
    pub(super) fn put(self: &Arc<Self>, connection: Connection, idle_for: Duration, max: usize) {
        let mut idle = self.shelf(connection.seat).lock();
        idle.push(Resting { connection, until: Instant::now() + idle_for });
        if self.count.fetch_add(1, Ordering::Relaxed) >= max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            idle.remove(0);
        }
        drop(idle);
        // Once the pool is closed the reaper's first look drops them all.
        if !self.is_reaping.swap(true, Ordering::AcqRel) {
            self.tracker.spawn(Arc::clone(self).reap());
        }
    }

    /// Closes connections when their time is over; ends when none is left or the pool is closed.
    async fn reap(self: Arc<Self>) {
        loop {
            while let Some(next) = self.drop_old() {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(next) => {}
                    () = self.closed.cancelled() => {}
                }
            }
            self.is_reaping.store(false, Ordering::Release);
            // One that was put aside in between counted on this task.
            if self.count.load(Ordering::Acquire) == 0 || self.is_reaping.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    /// Drops what is too old or closed; tells when to look again, or that nothing is left to watch.
    fn drop_old(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for shelf in &self.shelves {
            let mut idle = shelf.lock();
            let closed = self.closed.is_cancelled();
            let before = idle.len();
            idle.retain(|it| !closed && now < it.until && !it.connection.sender.is_closed());
            self.count.fetch_sub(before - idle.len(), Ordering::AcqRel);
            next = idle.iter().map(|it| it.until).chain(next).min();
        }
        next
    }

    fn shelf(&self, seat: usize) -> &Shelf {
        &self.shelves[seat % SHELVES]
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Vec<Resting>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.count.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// How long the connection of this response may idle: a second less than its `Keep-Alive: timeout`, since our
/// request needs time to arrive, and never more than `idle_max`. None: it must not be used again.
pub(super) fn idle_for(response: &HeaderMap, idle_max: Duration) -> Option<Duration> {
    let promised = response
        .get_all(&KEEP_ALIVE)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .filter_map(|it| it.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))
        .filter_map(|(_, seconds)| seconds.trim().trim_matches('"').parse::<u64>().ok())
        .map(|seconds| Duration::from_secs(seconds.saturating_sub(1)))
        .min();
    Some(promised.map_or(idle_max, |it| it.min(idle_max))).filter(|it| !it.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keep_alive: &[&'static str], expected_secs: Option<u64>) {
        let mut headers = HeaderMap::new();
        for value in keep_alive {
            headers.append("keep-alive", http::HeaderValue::from_static(value));
        }
        let found = idle_for(&headers, Duration::from_secs(4));
        assert_eq!(found, expected_secs.map(Duration::from_secs), "{keep_alive:?}");
    }

    #[test]
    fn the_upstream_can_only_shorten_the_idle_time() {
        check(&[], Some(4));
        check(&["timeout=60"], Some(4));
        check(&["timeout=3, max=100"], Some(2));
        check(&["max=5,Timeout = \"2\""], Some(1));
        check(&["timeout=3", "timeout=2"], Some(1));
        check(&["timeout=1"], None);
        check(&["timeout=0"], None);
        check(&["timeout=soon"], Some(4));
    }
}
