//! Whether the other side speaks HTTP/2 at all: it must greet with a SETTINGS frame.
//!
//! A request waits for that greeting. To a server that speaks something else it is never sent, and an outcome
//! that would have been unknown is none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::sync::oneshot;

/// The kind of a frame stands at its fourth byte; SETTINGS is 4.
const KIND_AT: usize = 3;
const SETTINGS: u8 = 4;

/// A connection that tells when the greeting has come.
#[derive(Debug)]
pub(super) struct Greeted<T> {
    inner: T,
    read_bytes: usize,
    tell: Option<oneshot::Sender<()>>,
}

impl<T> Greeted<T> {
    /// The receiver hears of the greeting; it fails when the connection ends or greets otherwise.
    pub(super) fn new(inner: T) -> (Self, oneshot::Receiver<()>) {
        let (tell, told) = oneshot::channel();
        (Self { inner, read_bytes: 0, tell: Some(tell) }, told)
    }

    fn look(&mut self, read: &[u8]) {
        let at = KIND_AT.checked_sub(self.read_bytes);
        self.read_bytes = self.read_bytes.saturating_add(read.len());
        if let Some(&kind) = at.and_then(|it| read.get(it)) {
            // Without a word the receiver hears that it was something else.
            if let Some(tell) = self.tell.take().filter(|_| kind == SETTINGS) {
                let _ = tell.send(());
            }
        }
    }
}

impl<T: Read + Unpin> Read for Greeted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.tell.is_none() {
            return Pin::new(&mut self.inner).poll_read(cx, to);
        }
        // Only the first few bytes take this way.
        let mut bytes = [0; 16];
        let room = bytes.len().min(to.remaining());
        let mut buffer = hyper::rt::ReadBuf::new(&mut bytes[..room]);
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer.unfilled());
        to.put_slice(buffer.filled());
        let filled = buffer.filled();
        self.look(filled);
        if filled.is_empty() && read.is_ready() {
            self.tell = None;
        }
        read
    }
}

impl<T: Write + Unpin> Write for Greeted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, from)
    }
}
