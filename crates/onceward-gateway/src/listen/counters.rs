//! What the listener counts, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::violation::Violation;

/// Numbers that only grow, except for [`open`](Self::open) and [`under_way`](Self::under_way). Clones count
/// together.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    accepted: AtomicU64,
    ended: AtomicU64,
    begun: AtomicU64,
    answered: AtomicU64,
    ends: [AtomicU64; Count::ALL.len()],
    violations: [AtomicU64; Violation::ALL.len()],
}

/// Something that went wrong with a connection or a request before the service was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Count {
    /// A connection closed to make room for another one.
    ClosedForRoom,
    /// A time when no connection could be accepted since all places were taken by requests.
    Full,
    /// A handshake of TLS that failed or took too long.
    HandshakeFailed,
    /// A request without TLS on a port with it.
    PlainOnTls,
    /// A head that took too long.
    HeaderTimeout,
    /// A connection closed because nothing was asked on it for long.
    IdleTimeout,
    /// A body that stalled.
    BodyTimeout,
    /// A caller that did not take its answer.
    WriteTimeout,
    /// A request that was refused because too many were under way.
    RequestsFull,
    /// A service that panicked; its connection, or its stream of HTTP/2, ended.
    Panicked,
}

impl Count {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::ClosedForRoom,
        Self::Full,
        Self::HandshakeFailed,
        Self::PlainOnTls,
        Self::HeaderTimeout,
        Self::IdleTimeout,
        Self::BodyTimeout,
        Self::WriteTimeout,
        Self::RequestsFull,
        Self::Panicked,
    ];

    /// A stable name for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClosedForRoom => "closed_for_room",
            Self::Full => "full",
            Self::HandshakeFailed => "handshake_failed",
            Self::PlainOnTls => "plain_on_tls",
            Self::HeaderTimeout => "header_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::RequestsFull => "requests_full",
            Self::Panicked => "panicked",
        }
    }
}

impl Counters {
    /// Connections that were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        let ended = self.0.ended.load(Ordering::Relaxed);
        self.accepted().saturating_sub(ended)
    }

    /// Requests that are under way.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        let answered = self.0.answered.load(Ordering::Relaxed);
        self.0.begun.load(Ordering::Relaxed).saturating_sub(answered)
    }

    /// How often this happened.
    #[must_use]
    pub fn count(&self, what: Count) -> u64 {
        self.0.ends[what as usize].load(Ordering::Relaxed)
    }

    /// How many requests were refused for this.
    #[must_use]
    pub fn violations(&self, what: Violation) -> u64 {
        self.0.violations[what.index()].load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, what: Count) {
        self.0.ends[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_violation(&self, what: Violation) {
        self.0.violations[what.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as open while the guard lives.
    pub(super) fn open_one(&self) -> Open {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Counts a request as under way while the guard lives; `None` when `max` (0: any number) are.
    pub(super) fn begin_one(&self, max: usize) -> Option<UnderWay> {
        let guard = UnderWay(self.clone());
        let before = self.0.begun.fetch_add(1, Ordering::AcqRel);
        let answered = self.0.answered.load(Ordering::Acquire);
        if max > 0 && before.saturating_sub(answered) >= max as u64 { None } else { Some(guard) }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Open(Counters);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay(Counters);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.answered.fetch_add(1, Ordering::AcqRel);
    }
}
