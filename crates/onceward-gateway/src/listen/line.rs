//! What the parts of one connection tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::violation::Violation;

/// Why a request on a connection of HTTP/1 is answered by the listener itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Violation(Violation),
    HeaderTimeout,
    BodyTimeout,
}

/// What a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

/// The state of one connection, shared by its reader, its requests and whoever may close it.
#[derive(Debug)]
pub(super) struct Line {
    started: Instant,
    /// Known since the first bytes.
    speaks: OnceLock<Speaks>,
    /// A head has begun and is not passed on.
    head_begun: AtomicBool,
    /// Requests whose head has begun and whose answer is not handed over yet.
    busy: AtomicUsize,
    /// Since when there is none, in milliseconds from `started`.
    quiet_since_ms: AtomicU64,
    /// Heads that the reader passed on. The requests come out of the server in the same order.
    heads: AtomicUsize,
    /// Requests that came out of the server.
    requests: AtomicUsize,
    /// The bytes are none of HTTP any more.
    tunnel: AtomicBool,
    /// A reader that waits for the end of a request.
    reader: Mutex<Option<Waker>>,
    /// What became of the head or the body with this number.
    fault: Mutex<Option<(usize, Fault)>>,
    /// The connection ends after the request that is under way.
    pub(super) leaving: AtomicBool,
    /// Whether the last answer may have left a body unread.
    pub(super) unread: AtomicBool,
    /// Finish and close.
    pub(super) leave: CancellationToken,
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            speaks: OnceLock::new(),
            head_begun: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            quiet_since_ms: AtomicU64::new(0),
            heads: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            tunnel: AtomicBool::new(false),
            reader: Mutex::new(None),
            fault: Mutex::new(None),
            leaving: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            leave: CancellationToken::new(),
        })
    }

    pub(super) fn speaks(&self) -> Option<Speaks> {
        self.speaks.get().copied()
    }

    /// Says what the caller speaks; the first word stands.
    pub(super) fn set_speaks(&self, speaks: Speaks) {
        let _ = self.speaks.set(speaks);
    }

    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn end(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.quiet_since_ms.store(now, Ordering::Release);
        self.busy.fetch_sub(1, Ordering::AcqRel);
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        reader.into_iter().for_each(Waker::wake);
    }

    /// Wakes the reader when a request ends.
    pub(super) fn wake_at_end(&self, reader: &Waker) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader.clone());
    }

    /// Since when no request is under way.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let is_quiet = self.busy.load(Ordering::Acquire) == 0 && !self.is_tunnel();
        let since = Duration::from_millis(self.quiet_since_ms.load(Ordering::Acquire));
        is_quiet.then(|| self.started + since)
    }

    /// Whether a request came whole out of the server.
    pub(super) fn was_asked(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0
    }

    /// Who is asked to leave first: the smallest. `None`: a request is under way.
    pub(super) fn rank(&self) -> Option<(bool, Instant)> {
        if !self.was_asked() {
            return Some((false, self.started));
        }
        self.quiet_since().map(|since| (true, since))
    }

    /// Whether an answer is still to come for a head that was passed on.
    pub(super) fn is_answering(&self) -> bool {
        self.busy.load(Ordering::Acquire) > usize::from(self.is_head_begun())
    }

    pub(super) fn is_head_begun(&self) -> bool {
        self.head_begun.load(Ordering::Acquire)
    }

    /// The first byte of a head is here: a request is under way.
    pub(super) fn head_began(&self) {
        self.head_begun.store(true, Ordering::Release);
        self.begin();
    }

    /// From here on its answer keeps the connection busy.
    pub(super) fn head_passed(&self) {
        self.head_begun.store(false, Ordering::Release);
        self.heads.fetch_add(1, Ordering::AcqRel);
    }

    /// The next request came out of the server; gives its number.
    pub(super) fn request_began(&self) -> usize {
        self.requests.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The head that is passed on next stands for a request that is refused.
    pub(super) fn refuse_next(&self, fault: Fault) {
        let number = self.heads.load(Ordering::Acquire) + 1;
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, fault));
    }

    /// The body of the last head that was passed on is not whole and will not be.
    pub(super) fn spoil_body(&self, fault: Fault) {
        let number = self.heads.load(Ordering::Acquire);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, fault));
    }

    /// What became of the request with this number.
    pub(super) fn fault(&self, number: usize) -> Option<Fault> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.and_then(|(at, fault)| (at == number).then_some(fault))
    }

    pub(super) fn become_tunnel(&self) {
        self.tunnel.store(true, Ordering::Release);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Acquire)
    }
}
