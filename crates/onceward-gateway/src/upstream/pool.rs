//! Idle HTTP/1.1 connections, the warmest first.
//!
//! Reusing a connection that the upstream is about to close is what makes an outcome unknown, so a
//! connection stays here for a few seconds only, and never as long as the upstream said it would keep it.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lent::RequestBody;

/// One HTTP/1.1 connection.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    /// Cancelled once the task that drives the connection has ended.
    pub(super) gone: CancellationToken,
    /// Where it leads.
    pub(super) peer: IpAddr,
}

/// The idle connections of one upstream.
pub(super) struct Pool {
    idle: Mutex<Idle>,
    tracker: TaskTracker,
    /// From then on nothing is kept.
    closed: CancellationToken,
}

#[derive(Default)]
struct Idle {
    /// The one used last stands last.
    connections: Vec<Resting>,
    /// Whether a task is waiting to close what grows too old.
    reaping: bool,
}

struct Resting {
    connection: Connection,
    until: Instant,
}

impl Pool {
    pub(super) fn new(tracker: TaskTracker, closed: CancellationToken) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), tracker, closed })
    }

    /// The connection that was used last, if one is young enough, still open as far as we know, and leads to
    /// one of `addresses`. Those that lead elsewhere are closed.
    pub(super) fn take(&self, addresses: &[IpAddr]) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.lock();
        while let Some(Resting { connection, until }) = idle.connections.pop() {
            let leads_there = addresses.contains(&connection.peer);
            if now < until && leads_there && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps `connection` for at most `idle_for`; the oldest gives way when there are more than `max`.
    pub(super) fn put(self: &Arc<Self>, connection: Connection, idle_for: Duration, max: usize) {
        let mut idle = self.lock();
        idle.connections.push(Resting { connection, until: Instant::now() + idle_for });
        if idle.connections.len() > max {
            idle.connections.remove(0);
        }
        // Once the pool is closed the reaper's first look drops them all.
        if !std::mem::replace(&mut idle.reaping, true) {
            self.tracker.spawn(Arc::clone(self).reap());
        }
    }

    /// Closes connections when their time is over; ends when none is left or the pool is closed.
    async fn reap(self: Arc<Self>) {
        while let Some(next) = self.drop_old() {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(next) => {}
                () = self.closed.cancelled() => {}
            }
        }
    }

    /// Drops what is too old or closed; tells when to look again, or that nothing is left to watch.
    fn drop_old(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.lock();
        let closed = self.closed.is_cancelled();
        idle.connections.retain(|it| !closed && now < it.until && !it.connection.sender.is_closed());
        let next = idle.connections.iter().map(|it| it.until).min();
        idle.reaping = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.lock().connections.len()).finish_non_exhaustive()
    }
}

/// How long the connection of this response may idle: a second less than its `Keep-Alive: timeout`, since our
/// request needs time to arrive, and never more than `idle_max`. None: it must not be used again.
pub(super) fn idle_for(response: &HeaderMap, idle_max: Duration) -> Option<Duration> {
    let promised = response
        .get_all("keep-alive")
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
