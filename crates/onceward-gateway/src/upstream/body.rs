//! What is watched while a request and its response pass, and the body of the response.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use onceward_http::BoxError;
use tokio::time::{Instant, Sleep};

use super::exchange::Over;
use super::slot::Slot;

/// When the request last moved: the response time-out counts from there, so that a long upload is not cut
/// and a stalled one is.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    moved_ms: AtomicU64,
    client_is_due: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            moved_ms: AtomicU64::new(0),
            client_is_due: AtomicBool::new(false),
        })
    }

    pub(super) fn mark(&self) {
        let elapsed_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.fetch_max(elapsed_ms, Ordering::Relaxed);
    }

    /// Notes whether it is the client who lets us wait for more of the request, or broke off.
    pub(super) fn wait_for_client(&self, waiting: bool) {
        self.client_is_due.store(waiting, Ordering::Relaxed);
    }

    /// Whether a failure now is the client's doing and says nothing about the upstream.
    pub(super) fn client_is_due(&self) -> bool {
        self.client_is_due.load(Ordering::Relaxed)
    }

    /// Returns once nothing has moved for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let deadline = self.start + moved + limit;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// What a response keeps in use until it has ended.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) _slot: Slot,
    pub(super) _over: Over,
}

/// The upstream fell silent in the middle of a response body.
#[derive(Debug, thiserror::Error)]
#[error("the upstream sent nothing more of its response for {0:?}")]
struct Stalled(Duration);

/// The body of a response on its way to the client. It ends with an error when it is cut or falls silent, so
/// that half an answer is never taken for a whole one.
#[derive(Debug)]
pub(super) struct ResponseBody {
    /// None once it stalled: letting go of it closes the connection.
    inner: Option<Incoming>,
    /// None: it may be silent for as long as it likes.
    idle_max: Option<Duration>,
    /// What counts as in use until the body has ended.
    held: Option<Held>,
    /// Runs only while we wait for the upstream, not while the client is slow to read.
    idle: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    pub(super) fn new(inner: Incoming, idle_max: Option<Duration>, held: Held) -> Self {
        Self { inner: Some(inner), idle_max, held: Some(held), idle: None }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            this.idle = None;
            if !matches!(frame, Some(Ok(_))) {
                this.held = None;
            }
            return Poll::Ready(frame.map(|it| it.map_err(Into::into)));
        }
        let Some(idle_max) = this.idle_max else { return Poll::Pending };
        ready!(this.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_max))).as_mut().poll(cx));
        (this.inner, this.held) = (None, None);
        Poll::Ready(Some(Err(Stalled(idle_max).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
