//! What runs inside the transaction.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use onceward_core::Answer;

/// The work of an operation, which gives its answer (or nothing, where that is known before), as a future that may borrow the connection (`'c`) and what is around it (`'env`).
///
/// It stands in a box, because the compiler cannot yet see that the future of an async closure may go from thread to thread,
/// as handlers of axum do.
#[must_use]
pub struct Work<'c, 'env, E, T = Answer> {
    future: Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>,
    /// The work ends before what is around it.
    around: PhantomData<&'c &'env ()>,
}

impl<'c, E, T> Work<'c, '_, E, T> {
    /// The work that `future` does.
    pub fn new(future: impl Future<Output = Result<T, E>> + Send + 'c) -> Self {
        Self { future: Box::pin(future), around: PhantomData }
    }
}

impl<E, T> Future for Work<'_, '_, E, T> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<E, T> fmt::Debug for Work<'_, '_, E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}
