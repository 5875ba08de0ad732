//! What runs inside the transaction.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use onceward_core::Answer;

/// The work of an operation, as a future that may borrow the connection (`'c`) and what is around it (`'env`).
///
/// It stands in a box, because the compiler cannot yet see that the future of an async closure may go from thread to thread,
/// as handlers of axum do.
#[must_use]
pub struct Work<'c, 'env, E> {
    future: Pin<Box<dyn Future<Output = Result<Answer, E>> + Send + 'c>>,
    /// The work ends before what is around it.
    around: PhantomData<&'c &'env ()>,
}

impl<'c, E> Work<'c, '_, E> {
    /// The work that `future` does.
    pub fn new(future: impl Future<Output = Result<Answer, E>> + Send + 'c) -> Self {
        Self { future: Box::pin(future), around: PhantomData }
    }
}

impl<E> Future for Work<'_, '_, E> {
    type Output = Result<Answer, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<E> fmt::Debug for Work<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}
