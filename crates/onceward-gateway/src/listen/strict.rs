//! The reader between a socket and the server of HTTP/1: nothing gets through that is not plain.
//!
//! A request that is refused is not passed on. A harmless one is put in its place, so that the server, which
//! answers in order, asks the service for an answer when all earlier ones are given; there the refusal waits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::counters::{Count, Counters};
use super::framing::{Framing, Verdict};
use super::limits::Limits;
use super::line::{Fault, Line};
use super::violation::Violation;

/// What the server reads in the place of a request that is refused.
const STAND_IN: &[u8] = b"GET /refused HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
/// How much is read at once of a head that came in pieces.
const PIECE_BYTES: usize = 4 << 10;

/// A stream that gives only plain requests.
#[derive(Debug)]
pub(super) struct Strict<IO> {
    io: IO,
    line: Arc<Line>,
    counters: Counters,
    framing: Framing,
    /// Bytes that came and are not passed on yet.
    held: BytesMut,
    /// How many of them may be.
    cleared: usize,
    state: State,
    /// The request whose body is being read asks for another protocol.
    asks: bool,
    header_timeout: Duration,
    head_deadline: Option<Pin<Box<Sleep>>>,
    /// How much may be held before it is judged.
    held_bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Judging,
    /// The last request, now whole, asked for another protocol: what follows is judged when its answer says no.
    Asked,
    /// A stand-in was passed on; nothing comes behind it.
    Refused,
    /// A body broke a rule.
    Broken(Violation),
    /// This is HTTP/2, which has its own framing.
    Open,
}

impl<IO: AsyncRead + Unpin> Strict<IO> {
    /// Reads from `io`, after the bytes of `first`. The first head must end by `first_deadline`.
    pub(super) fn new(
        io: IO,
        first: BytesMut,
        first_deadline: Instant,
        limits: &Limits,
        line: Arc<Line>,
        counters: Counters,
    ) -> Self {
        line.head_began();
        Self {
            io,
            line,
            counters,
            framing: Framing::new(limits.into()),
            held: first,
            cleared: 0,
            state: State::Judging,
            asks: false,
            header_timeout: limits.header_timeout,
            head_deadline: Some(Box::pin(tokio::time::sleep_until(first_deadline))),
            held_bytes_max: limits.head_bytes_max + PIECE_BYTES,
        }
    }

    /// Judges nothing: gives the bytes of `first` and then those of `io`.
    pub(super) fn open(
        io: IO,
        first: BytesMut,
        limits: &Limits,
        line: Arc<Line>,
        counters: Counters,
    ) -> Self {
        Self {
            io,
            line,
            counters,
            framing: Framing::new(limits.into()),
            cleared: first.len(),
            held: first,
            state: State::Open,
            asks: false,
            header_timeout: limits.header_timeout,
            head_deadline: None,
            held_bytes_max: 0,
        }
    }

    /// Judges `bytes`, as far as that can be done; gives how many of them may be passed on.
    fn clear(&mut self, bytes: &[u8]) -> usize {
        let mut cleared = 0;
        while self.state == State::Judging && cleared < bytes.len() {
            let at_head = self.framing.is_at_head();
            if at_head && !self.line.is_head_begun() {
                self.line.head_began();
            }
            match self.framing.judge(&bytes[cleared..]) {
                Ok(Verdict::Pass(count)) => cleared += count,
                Ok(Verdict::Head { bytes, upgrade }) => {
                    cleared += bytes;
                    self.line.head_passed();
                    self.head_deadline = None;
                    self.asks = upgrade;
                }
                Ok(Verdict::More) => break,
                Err(violation) => {
                    self.counters.note_violation(violation);
                    tracing::debug!(violation = violation.as_str(), "a request was refused");
                    if at_head {
                        self.refuse(Fault::Violation(violation));
                    } else {
                        self.line.spoil_body(Fault::Violation(violation));
                        self.state = State::Broken(violation);
                    }
                }
            }
            // The body, if there is one, is still of this protocol, and the answer may wait for it.
            if self.asks && self.state == State::Judging && self.framing.is_at_head() {
                self.asks = false;
                self.state = State::Asked;
            }
        }
        if self.line.is_head_begun() && self.head_deadline.is_none() && self.state == State::Judging {
            // Only a head that comes in pieces needs a timer.
            self.restart_timer();
        }
        cleared
    }

    /// The request whose head is being read is answered with a refusal.
    fn refuse(&mut self, fault: Fault) {
        self.line.refuse_next(fault);
        self.line.head_passed();
        self.head_deadline = None;
        self.state = State::Refused;
    }

    fn restart_timer(&mut self) {
        let deadline = Instant::now() + self.header_timeout;
        self.head_deadline = Some(Box::pin(tokio::time::sleep_until(deadline)));
    }

    /// Passes on what is cleared of what is held.
    fn give(&mut self, into: &mut ReadBuf<'_>) {
        let count = self.cleared.min(into.remaining());
        into.put_slice(&self.held[..count]);
        self.held.advance(count);
        self.cleared -= count;
    }

    /// Judges what is held.
    fn clear_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.cleared = self.clear(&held);
        self.held = held;
        self.put_stand_in();
    }

    /// Behind what is cleared comes the stand-in and nothing else.
    fn put_stand_in(&mut self) {
        match self.state {
            State::Refused => {
                self.held.truncate(self.cleared);
                self.held.extend_from_slice(STAND_IN);
                self.cleared = self.held.len();
            }
            State::Broken(_) => self.held.truncate(self.cleared),
            State::Judging | State::Asked | State::Open => {}
        }
    }

    /// Ready when the head took too long.
    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(deadline) = &mut self.head_deadline {
            ready!(deadline.as_mut().poll(cx));
            if !self.line.is_answering() {
                return Poll::Ready(());
            }
            // While an earlier request is answered nobody waits for the next one.
            self.restart_timer();
        }
        Poll::Pending
    }

    /// Reads more behind what is held; `Ok(false)` at the end.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut piece = [0; PIECE_BYTES];
        let mut read = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.held.extend_from_slice(read.filled());
        Poll::Ready(Ok(!read.filled().is_empty()))
    }

    /// Reads straight into the server's buffer; what is not cleared is taken out again and held.
    fn poll_straight(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        let read = &into.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let cleared = self.clear(read);
        self.held.extend_from_slice(&read[cleared..]);
        into.set_filled(before + cleared);
        self.put_stand_in();
        Poll::Ready(Ok(true))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Strict<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        loop {
            if this.line.is_tunnel() {
                this.cleared = this.held.len();
            }
            if this.cleared > 0 {
                this.give(into);
                return Poll::Ready(Ok(()));
            }
            if this.line.is_tunnel() || this.state == State::Open {
                return Pin::new(&mut this.io).poll_read(cx, into);
            }
            if this.state == State::Asked {
                // The server looks again only when it is woken, and all bytes may be here already.
                this.line.wake_at_end(cx.waker());
            }
            match this.state {
                State::Asked if !this.line.is_answering() => this.state = State::Judging,
                State::Asked if this.held.len() >= this.held_bytes_max => return Poll::Pending,
                State::Judging | State::Asked | State::Open => {}
                // Whoever reads here looks whether the caller has left; the answer comes first.
                State::Refused => return Poll::Pending,
                State::Broken(violation) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation.as_str())));
                }
            }
            if this.state == State::Judging && !this.held.is_empty() {
                this.clear_held();
                if this.cleared > 0 || this.state != State::Judging {
                    continue;
                }
            }
            let straight = this.state == State::Judging && this.held.is_empty();
            let read = if straight { this.poll_straight(cx, into) } else { this.poll_hold(cx) };
            match read {
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(true)) if into.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(this.poll_head_deadline(cx));
                    this.counters.note(Count::HeaderTimeout);
                    if this.held.is_empty() {
                        // Nobody is there who could be told.
                        this.head_deadline = None;
                        return Poll::Ready(Ok(()));
                    }
                    this.refuse(Fault::HeaderTimeout);
                    this.put_stand_in();
                }
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Strict<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
