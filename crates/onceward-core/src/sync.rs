//! What waiters of one process meet over. It stands here alone so that a test can build the same code over locks that
//! try every interleaving (`tests/interleavings/`).

pub(crate) use std::sync::{Mutex, MutexGuard};
pub(crate) use tokio::sync::Notify;
pub(crate) use tokio::sync::futures::OwnedNotified;

/// Runs what is to be run over these locks.
#[cfg(test)]
pub(crate) fn model(run: impl Fn()) {
    run();
}
