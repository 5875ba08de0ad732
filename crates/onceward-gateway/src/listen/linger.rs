//! A caller that is refused while it still sends its body gets to hear why.
//!
//! A socket that is closed with unread bytes resets its connection, and the reset takes with it the answer
//! that the other end has not read yet. So the end of the answer is sent first, and what still comes in is
//! read and dropped for a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::line::Line;
use crate::network::CallerSocket;

/// How long the caller may be silent before nothing more is expected of it.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How much is dropped at most; who sends more does not listen.
const DROPPED_BYTES_MAX: usize = 64 << 20;
/// How much is dropped between two looks at the clock.
const SCRATCH_BYTES: usize = 16 << 10;

/// A stream whose shutdown waits until the caller, too, has ended or fallen silent, where a body is unread.
#[derive(Debug)]
pub(super) struct Lingering<C> {
    stream: C,
    line: Arc<Line>,
    ended: bool,
    dropped_bytes: usize,
    silence: Option<Pin<Box<Sleep>>>,
}

impl<C: CallerSocket> Lingering<C> {
    pub(super) fn new(stream: C, line: Arc<Line>) -> Self {
        Self { stream, line, ended: false, dropped_bytes: 0, silence: None }
    }

    /// Ready when nothing more comes, for whatever reason.
    fn poll_drop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; SCRATCH_BYTES];
        while self.dropped_bytes < DROPPED_BYTES_MAX {
            let mut read = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    self.dropped_bytes += read.filled().len();
                    self.silence = None;
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    let silence =
                        self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE_MAX)));
                    return silence.as_mut().poll(cx);
                }
            }
        }
        Poll::Ready(())
    }
}

impl<C: CallerSocket> AsyncRead for Lingering<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<C: CallerSocket> AsyncWrite for Lingering<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.ended = true;
        }
        if self.line.unread.load(Ordering::Relaxed) {
            ready!(self.poll_drop(cx));
        }
        Poll::Ready(Ok(()))
    }
}
