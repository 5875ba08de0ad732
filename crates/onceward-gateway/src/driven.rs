//! Connections of HTTP/1 that are not woken for nothing.
//!
//! hyper wakes the task of a connection whenever somebody takes a piece of a body that came over it, so that it reads
//! the next one. It does so for the last piece, too, when the connection is done with that body: the body of a request
//! and the body of its answer each had a connection polled once more, from top to bottom, to find nothing to do.
//!
//! So a connection is polled with a waker of ours ([`Driven`]), and whoever takes a piece ([`poll_frame`]) holds back a
//! wake-up that comes out of the taking until it is known whether more pieces are to come.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

thread_local! {
    /// What is taken on this thread just now.
    static TAKING: RefCell<Taking> = const { RefCell::new(Taking::Nothing) };
}

#[derive(Debug)]
enum Taking {
    Nothing,
    /// A piece of a body, and who was to be woken since.
    Piece(Option<Arc<Gate>>),
}

/// A connection whose wake-ups can be held back.
#[derive(Debug)]
pub(crate) struct Driven<C> {
    connection: C,
    /// The task that polls it, and the waker that it is polled with.
    gate: Option<(Arc<Gate>, Waker)>,
}

impl<C> Driven<C> {
    pub(crate) fn new(connection: C) -> Self {
        Self { connection, gate: None }
    }

    pub(crate) fn connection(&mut self) -> &mut C {
        &mut self.connection
    }
}

impl<C: Future + Unpin> Future for Driven<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let Self { connection, gate } = self.get_mut();
        let (_, waker) = match gate.take_if(|(gate, _)| !gate.0.will_wake(cx.waker())) {
            None if gate.is_some() => gate.as_ref().expect("it was looked at just now"),
            None | Some(_) => {
                let new = Arc::new(Gate(cx.waker().clone()));
                gate.insert((Arc::clone(&new), Waker::from(new)))
            }
        };
        Pin::new(connection).poll(&mut Context::from_waker(waker))
    }
}

/// Wakes a task, except while a piece of a body is taken on this thread: then it waits there.
#[derive(Debug)]
struct Gate(Waker);

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        let mut gate = Some(self);
        // A thread that is ending takes no pieces.
        let _ = TAKING.try_with(|taking| {
            if let Taking::Piece(waiting @ None) = &mut *taking.borrow_mut() {
                *waiting = gate.take();
            }
        });
        if let Some(gate) = gate {
            gate.0.wake_by_ref();
        }
    }
}

/// As [`http_body::Body::poll_frame`], without waking the connection when it has nothing left to read for this body.
pub(crate) fn poll_frame(
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let held_back = HeldBack::begin();
    let polled = Pin::new(&mut *body).poll_frame(cx);
    if body.is_end_stream() {
        held_back.take();
    }
    polled
}

/// Holds wake-ups back. When it is dropped they are made up for.
struct HeldBack;

impl HeldBack {
    fn begin() -> Self {
        TAKING.replace(Taking::Piece(None));
        Self
    }

    fn take(&self) -> Option<Arc<Gate>> {
        match TAKING.replace(Taking::Nothing) {
            Taking::Piece(waiting) => waiting,
            Taking::Nothing => None,
        }
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        if let Some(gate) = self.take() {
            gate.0.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
