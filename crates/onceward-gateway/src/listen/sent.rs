//! The body of an answer on its way out: it knows when it is done, and whether a stream of HTTP/2 takes it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use onceward_http::{Body, BoxError};
use tokio::time::Instant;

use super::counters::UnderWay;
use super::line::Line;

/// The largest piece that is handed to a stream of HTTP/2, so that a slow caller is told from one that stands
/// still.
const PIECE_BYTES: usize = 16 << 10;

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) line: Arc<Line>,
    pub(super) under_way: Option<UnderWay>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.line.end();
    }
}

/// A body that holds on to its request until it is handed over.
#[derive(Debug)]
pub(super) struct Sent {
    body: Body,
    /// What is left of the last frame.
    rest: Bytes,
    pace: Option<Arc<Pace>>,
    _ending: Ending,
}

impl Sent {
    pub(super) fn new(body: Body, pace: Option<Arc<Pace>>, ending: Ending) -> Self {
        Self { body, rest: Bytes::new(), pace, _ending: ending }
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(pace) = &this.pace else { return Pin::new(&mut this.body).poll_frame(cx) };
        // Whoever asks for more has got rid of what it had.
        pace.taken();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        pace.handed();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let upper = hint.upper().map(|it| it + rest);
        hint = {
            let mut sum = SizeHint::new();
            sum.set_lower(hint.lower() + rest);
            if let Some(upper) = upper {
                sum.set_upper(upper);
            }
            sum
        };
        hint
    }
}

/// Since when a stream of HTTP/2 has bytes that it cannot get rid of.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    /// In milliseconds from `started`, and one more; 0: it has none.
    handed_ms: AtomicU64,
}

impl Pace {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), handed_ms: AtomicU64::new(0) })
    }

    fn handed(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.handed_ms.store(now + 1, Ordering::Release);
    }

    fn taken(&self) {
        self.handed_ms.store(0, Ordering::Release);
    }

    /// Waits until the same bytes have waited for `patience`.
    pub(super) async fn stuck(&self, patience: Duration) {
        loop {
            let due = match self.handed_ms.load(Ordering::Acquire) {
                0 => Instant::now() + patience,
                handed => self.started + Duration::from_millis(handed - 1) + patience,
            };
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}
