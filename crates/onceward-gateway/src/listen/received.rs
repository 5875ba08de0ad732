//! The body of a request on its way in, which must not stall.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::counters::{Count, Counters};
use super::line::{Fault, Line};
use crate::notice::Notice;

/// The body of a request as the listener hands it to the service.
///
/// It fails when the caller sends nothing of it for `body_timeout` while somebody waits for more, and when its
/// framing turns out to be none.
#[derive(Debug)]
pub struct Received {
    body: Incoming,
    watch: Option<Watch>,
    waiting: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why a body is not whole.
#[derive(Debug)]
pub struct BodyError(Cause);

#[derive(Debug)]
enum Cause {
    Stalled,
    Broken(hyper::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cause::Stalled => "the body of a request stalled",
            Cause::Broken(_) => "the body of a request broke off",
        })
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Cause::Stalled => None,
            Cause::Broken(error) => Some(error),
        }
    }
}

/// What a body needs to know of its request.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) line: Arc<Line>,
    /// Its number on a connection of HTTP/1.
    pub(super) number: Option<usize>,
    pub(super) patience: Duration,
    pub(super) spoiled: Spoiled,
    pub(super) counters: Counters,
}

/// Says once what is wrong with a body, to whoever answers the request.
pub(super) type Spoiled = Notice<Fault>;

impl Received {
    pub(super) fn new(body: Incoming, watch: Option<Watch>) -> Self {
        Self { body, watch, waiting: false, timer: None }
    }

    /// Ready when nothing has come for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(watch) = &self.watch else { return Poll::Pending };
        if !self.waiting {
            self.waiting = true;
            let due = Instant::now() + watch.patience;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(due),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(due))),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |it| it.as_mut().poll(cx))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                if let Some(watch) = &self.watch
                    && let Some(fault) = watch.number.and_then(|it| watch.line.fault(it))
                {
                    watch.spoiled.say(fault);
                }
                Poll::Ready(Some(Err(BodyError(Cause::Broken(error)))))
            }
            Poll::Ready(frame) => {
                self.waiting = false;
                Poll::Ready(frame.map(|it| it.map_err(|error| BodyError(Cause::Broken(error)))))
            }
            Poll::Pending => {
                std::task::ready!(self.poll_stalled(cx));
                if let Some(watch) = &self.watch {
                    watch.counters.note(Count::BodyTimeout);
                    watch.spoiled.say(Fault::BodyTimeout);
                }
                Poll::Ready(Some(Err(BodyError(Cause::Stalled))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
