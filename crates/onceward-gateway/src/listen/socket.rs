//! The socket of a caller: it lasts as long as its place is taken, and it is cut when nobody reads from it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::counters::{Count, Counters};
use super::linger::Lingering;
use super::places::Place;
use crate::network::CallerSocket;

/// A stream whose writes fail when the other end takes nothing for `patience`.
#[derive(Debug)]
pub(super) struct Socket<C> {
    stream: Lingering<C>,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    counters: Counters,
    /// Also after an upgrade, when nothing but the stream is left of the connection.
    _place: Place,
}

impl<C: CallerSocket> Socket<C> {
    pub(super) fn new(stream: Lingering<C>, patience: Duration, counters: Counters, place: Place) -> Self {
        Self { stream, patience, waiting: None, counters, _place: place }
    }

    /// Waits for a write only so long.
    fn bounded(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.waiting = None;
            return wrote;
        }
        let patience = self.patience;
        let waiting =
            self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        if waiting.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.waiting = None;
        self.counters.note(Count::WriteTimeout);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller did not take its answer")))
    }
}

impl<C: CallerSocket> AsyncRead for Socket<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<C: CallerSocket> AsyncWrite for Socket<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, from);
        self.bounded(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, from);
        self.bounded(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
